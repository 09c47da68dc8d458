"""Notebooks, executed: for a study with papermill on its records, or in place as they are committed."""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from .. import InputError
from ..data import CACHE, HOME, is_own, load
from ..support import files

ON_OWN_DATA = ("00", "02", "03", "04")  # the notebooks that read well on any data; the others are about digits and CIFAR-10


def run(out: Path, given: dict) -> None:
    """Execute the notebooks with papermill on the records under `out`, two at a time on half of the cores each, into out/notebooks.

    given: values for those of the notebooks' parameters that have these names.
    """
    from tqdm.auto import tqdm

    sources = sorted((HOME / "notebooks").glob("[0-9]*.ipynb"))
    if missing := [name for name in ("timm", "pytorch_lightning") if not find_spec(name)]:
        sources = [source for source in sources if source.stem[:2] != "11"]
        print(f"11_your_training_loop is left out: {' and '.join(missing)} not installed (pip install -e '.[backbones]')")
    if is_own(given.get("dataset", "digits")):
        sources = [source for source in sources if source.stem[:2] in ON_OWN_DATA]
        if len(load(given["dataset"]).test.labels.unique()) < 3:
            sources = [source for source in sources if source.stem[:2] != "03"]
            print("03_penultimate_layer is left out: the plane through three class centroids needs test images of three classes")
    if not sources:
        print(f"no notebooks in {HOME}: none is executed (they come with the project's folder, installed by pip install -e .)")
        return
    (out / "notebooks").mkdir(parents=True, exist_ok=True)
    running: list[subprocess.Popen] = []
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // 2))}  # with more, threads of the two wait for each other
    here = {"PENULTIMATE_CACHE": str(CACHE)}  # they run in their own folder, where a relative path leads elsewhere
    given = given | {"records_folder": str(out / "records"), "findings_folder": str(out / "findings")}

    def execute(source: Path) -> None:
        wanted = json.loads(source.read_text(encoding="utf-8"))
        cell = next("".join(c["source"]) for c in wanted["cells"] if "parameters" in c["metadata"].get("tags", []))
        options = [
            word
            for name, value in given.items()
            if re.search(rf"^{name} =", cell, re.M)
            for word in ("-p" if isinstance(value, int) else "-r", name, str(value))
        ]
        target = out / "notebooks" / source.name
        papermill = [sys.executable, "-m", "papermill", source.name, str(target), "--no-progress-bar", "-k", "python3", *options]
        quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        started = subprocess.Popen(papermill, cwd=source.parent, env=threads | os.environ | here, **quiet)
        running.append(started)
        _, said = started.communicate()
        if started.returncode:
            raise InputError(f"notebook {source.name} failed: {(said.strip() or 'stopped').splitlines()[-1]} (see {target})")
        still(target)
        bar.write(f"executed {source.name}")
        bar.update()

    with tqdm(total=len(sources), desc="notebooks", unit="notebook", disable=not sys.stderr.isatty()) as bar, ThreadPoolExecutor(2) as pool:
        try:
            list(pool.map(execute, sources))
        except BaseException:  # Ctrl-C and SIGTERM too: nothing further is begun, and what runs is not waited for
            pool.shutdown(wait=False, cancel_futures=True)
            for one in running:
                one.terminate()
            raise


def renew(folder: Path = HOME / "notebooks") -> None:
    """Execute the notebooks of a folder in place, as they are committed. Raises InputError where there are none, and for one that fails."""
    paths = sorted(folder.glob("[0-9]*.ipynb"))
    if not paths:
        raise InputError(f"no notebooks in {folder}: clone the project and install it with pip install -e .")
    options = ["--to", "notebook", "--execute", "--inplace", "--ExecutePreprocessor.record_timing=False"]
    for path in paths:
        if subprocess.run([sys.executable, "-m", "nbconvert", *options, str(path)]).returncode:
            raise InputError(f"notebook {path.name} failed, as said above: it is as it was, and those before it are renewed")
        still(path)


def still(path: Path) -> None:
    """Take live widgets out of an executed notebook: without a kernel they would be error boxes, and their state is megabytes."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    notebook["metadata"].pop("widgets", None)
    for cell in notebook["cells"]:
        if "outputs" in cell:
            cell["outputs"] = [o for o in cell["outputs"] if "application/vnd.jupyter.widget-view+json" not in o.get("data", {})]
    files.write(path, (json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode())
