"""A real JupyterLab on loopback in a real browser, headless: what a reader meets, for the browser test and the slider's bench."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# No question about news from the net; every cell in the page, also those out of sight.
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
}


def browser() -> str | None:
    """The path of an installed Chromium or Chrome."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@contextmanager
def lab(folder: Path) -> Iterator[tuple[str, str]]:
    """JupyterLab over a folder, with an empty configuration of its own; gives its address and token, stops it at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port, token = free.getsockname()[1], secrets.token_hex(16)
    settings = folder / ".jupyter"
    settings.mkdir()
    (settings / "overrides.json").write_text(json.dumps(SETTINGS))
    own = {f"JUPYTER_{name}_DIR": str(settings) for name in ("CONFIG", "DATA", "RUNTIME")} | {"JUPYTERLAB_SETTINGS_DIR": str(settings)}
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"]
    options += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}", f"--LabApp.app_settings_dir={settings}"]
    with (folder / "lab.log").open("w") as log:
        server = subprocess.Popen([sys.executable, "-m", "jupyter", "lab", *options], stdout=log, stderr=log, env=os.environ | own)
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for(f"{address}/api?token={token}", server)
            yield address, token
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

    def __init__(self, context, address: str, token: str, name: str):
        self.errors, self.page = [], context.new_page()
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(f"{address}/lab/tree/{name}?token={token}&reset")
        self.page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=90_000)

    def run_all(self, seconds: float = 600) -> None:
        """Run all cells and wait until the last has run, or one has failed."""
        self.page.get_by_text("| Idle").first.wait_for(timeout=90_000)  # asked before the kernel is there, the lab asks which one
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
        kinds = (f"[data-mime-type='application/vnd.jupyter.{kind}']" for kind in ("stderr", "error"))
        return self.page.locator(", ".join(kinds)).all_inner_texts()

    def widget(self, slider: str) -> "Widget":
        return Widget(self.page, slider)


class Widget:
    """The output cell around a slider, which is found by its name and moved by the keyboard."""

    def __init__(self, page, slider: str):
        self.page = page
        row = page.locator(".widget-inline-hbox", has=page.locator("label", has_text=slider)).first
        self.handle = row.locator("[role='slider']")
        self.output = page.locator(".jp-OutputArea-output", has=row).first

    def scroll_into_view_if_needed(self) -> None:
        self.handle.scroll_into_view_if_needed()

    def picture(self) -> str:
        """What is drawn: the marks and lines of every trace."""
        return "".join(self.output.locator(".js-plotly-plot .cartesianlayer").evaluate_all("plots => plots.map(p => p.innerHTML)"))

    def numbers(self) -> str:
        return "\n".join(self.output.locator(".widget-readout, .widget-html-content").all_inner_texts())

    def press(self, key: str, times: int = 1) -> list[tuple[float, float]]:
        """Press a key on the slider; for each, milliseconds by the browser's clock to the redrawn picture, and of them Plotly's drawing."""
        plot = self.output.locator(".js-plotly-plot").first
        self.handle.focus()
        taken = []
        for _ in range(times):
            plot.evaluate("""plot => {
                window.drawn = new Promise(resolve => {
                    let pressed = null, begun = null
                    addEventListener('keydown', () => { pressed = performance.now() }, {capture: true, once: true})
                    const before = () => { begun = begun ?? performance.now() }
                    const after = () => requestAnimationFrame(() => {
                        plot.removeListener('plotly_beforeplot', before); plot.removeListener('plotly_afterplot', after)
                        resolve([performance.now() - pressed, performance.now() - begun])
                    })
                    plot.on('plotly_beforeplot', before)
                    plot.on('plotly_afterplot', after)
                })
            }""")
            self.page.keyboard.press(key)
            never = "new Promise(resolve => setTimeout(resolve, 5000, [1e9, 1e9]))"
            taken.append(self.page.evaluate(f"() => Promise.race([window.drawn, {never}])"))
        return taken

    def screenshot(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.output.screenshot(path=path)


@contextmanager
def opened(folder: Path) -> Iterator:
    """JupyterLab over a folder and a browser beside it; gives a function that opens a notebook by its name."""
    from playwright.sync_api import sync_playwright

    with lab(folder) as (address, token), sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser(), args=["--no-sandbox"])
        context = chromium.new_context(viewport=dict(width=1500, height=1000))
        yield lambda name: Notebook(context, address, token, name)
        chromium.close()
