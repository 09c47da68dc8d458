"""A real JupyterLab on loopback in a real browser, headless: what a reader meets, for the browser test and the slider's bench."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TOKEN = "loopback"
# No question about news from the net; every cell in the page, also those out of sight.
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
}


def browser() -> str | None:
    """The path of an installed Chromium or Chrome."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@contextmanager
def lab(folder: Path, port: int = 18_888) -> Iterator[str]:
    """JupyterLab over a folder, with an empty configuration of its own; gives its address, stops it at the end."""
    settings = folder / ".jupyter"
    settings.mkdir()
    (settings / "overrides.json").write_text(json.dumps(SETTINGS))
    own = {f"JUPYTER_{name}_DIR": str(settings) for name in ("CONFIG", "DATA", "RUNTIME")} | {"JUPYTERLAB_SETTINGS_DIR": str(settings)}
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", f"--IdentityProvider.token={TOKEN}"]
    options += [f"--ServerApp.root_dir={folder}", f"--LabApp.app_settings_dir={settings}"]
    with (folder / "lab.log").open("w") as log:
        server = subprocess.Popen([sys.executable, "-m", "jupyter", "lab", *options], stdout=log, stderr=log, env=os.environ | own)
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for(f"{address}/api?token={TOKEN}", server)
            yield address
        finally:
            server.terminate()
            server.wait(20)


def _wait_for(url: str, server: subprocess.Popen, seconds: float = 90) -> None:
    deadline = time.time() + seconds
    while time.time() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.3)
    raise RuntimeError(f"JupyterLab did not answer within {seconds:.0f} s (exit code {server.poll()})")


class Notebook:
    """One notebook, open in the browser: `page` is Playwright's page, `errors` what the browser's console complained of."""

    def __init__(self, context, address: str, name: str):
        self.errors, self.page = [], context.new_page()
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(f"{address}/lab/tree/{name}?token={TOKEN}&reset")
        self.page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=90_000)

    def run_all(self, seconds: float = 600) -> None:
        """Run all cells and wait until the last has run, or one has failed."""
        self.page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']", timeout=90_000)
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        finished = """() => {
            const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputArea-prompt')].map(prompt => prompt.innerText)
            const failed = document.querySelector("[data-mime-type='application/vnd.jupyter.error']")
            return !prompts.includes('[*]:') && (failed || /[0-9]/.test(prompts.at(-1)))
        }"""
        self.page.wait_for_timeout(500)
        self.page.wait_for_function(finished, timeout=1000 * seconds)

    def dialogs(self) -> int:
        return self.page.locator(".jp-Dialog").count()

    def error_outputs(self) -> list[str]:
        return self.page.locator(
            ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr'], .jp-RenderedText[data-mime-type='application/vnd.jupyter.error']"
        ).all_inner_texts()


@contextmanager
def opened(folder: Path) -> Iterator:
    """JupyterLab over a folder and a browser beside it; gives a function that opens a notebook by its name."""
    from playwright.sync_api import sync_playwright

    with lab(folder) as address, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser(), args=["--no-sandbox"])
        context = chromium.new_context(viewport=dict(width=1500, height=1000))
        yield lambda name: Notebook(context, address, name)
        chromium.close()
