"""Files that would run code or write elsewhere, planted wherever the library reads: nothing runs, nothing is written outside."""

import contextlib
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np

from penultimate import InputError, data, records
from penultimate.runs import Run, load_or_train
from penultimate.study import curvature_rules, films

from . import Row, row, runs


class Bomb:
    """Unpickled, it writes a file."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch '{self.trace}'",)


def pickled(trace: Path) -> bytes:
    return pickle.dumps(Bomb(trace))


def npz_of(path: Path, member: bytes) -> None:
    """An npz whose x_train is these bytes."""
    arrays = {"y_train": np.arange(40) % 2, "x_test": np.zeros((4, 5, 5), np.uint8), "y_test": np.arange(4) % 2}
    np.savez(path, **arrays)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_train.npy", member)


def object_array(trace: Path) -> bytes:
    packed = io.BytesIO()
    np.save(packed, np.array([Bomb(trace)] * 40, dtype=object), allow_pickle=True)
    return packed.getvalue()


def cifar_batches(root: Path, trace: Path) -> None:
    """torchvision's folder of CIFAR-10, every batch of it a pickle that runs code."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"):
        (folder / name).write_bytes(pickled(trace))


def record_named(folder: Path, name: str) -> list[dict]:
    """A committed record under another name."""
    record = records.read(None, "digits")[0] | {"name": name}
    (folder / "set").mkdir(parents=True)
    (folder / "set" / "r.json").write_text(json.dumps(record))
    return [record]


NAMES = (
    "../../outside-normal-s0",
    "/tmp/outside-normal-s0",
    "..\\outside-normal-s0",
    "a/../../b-normal-s0",
    "a\0b-normal-s0",
    "-normal-s0",
)
YAML = "!!python/object/apply:os.system ['touch TRACE']"


def tries(folder: Path, trace: Path) -> dict:
    """name -> a call that reads what was planted."""
    asked = runs.config(folder, 0)
    run = load_or_train(asked, store=folder / "whole")

    def weights(content: bytes, name: str):
        here = folder / name / asked.name
        here.mkdir(parents=True)
        (here / "weights.safetensors").write_bytes(content)
        (here / "checkpoint.safetensors").write_bytes(content)
        (here / "record.json").write_text(json.dumps(run.record))
        with contextlib.suppress(InputError):
            _ = Run(asked, here, run.record).model
        return load_or_train(asked, store=folder / name)

    def npz(member: bytes, name: str):
        npz_of(folder / f"{name}.npz", member)
        return data.load(str(folder / f"{name}.npz"))

    def cifar():
        cifar_batches(folder / "cifar", trace)
        return data.load("cifar10", folder / "cifar")

    def collected(name: str, number: int):
        records.collect(record_named(folder / f"named-{number}", name), folder / "inside" / "deep")

    def yaml(where: str):
        (folder / where).mkdir(parents=True, exist_ok=True)
        (folder / where / "x.json").write_text(YAML.replace("TRACE", str(trace)))

    def notebook():
        """A parameter with a tag and one with code: papermill hands both on as words."""
        import nbformat

        cells = [nbformat.v4.new_code_cell('dataset = ""', metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell("print(dataset)")]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "n.ipynb")
        word = YAML.replace("TRACE", str(trace)) + f"\"\nimport os; os.system('touch {trace}')"
        command = [sys.executable, "-m", "papermill", "n.ipynb", "out.ipynb", "-k", "python3", "--no-progress-bar", "-r", "dataset", word]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)

    return {
        "weights and checkpoint that are a pickle": lambda: weights(pickled(trace), "pickle"),
        "weights that are a PyTorch archive": lambda: weights(_torch_archive(trace), "archive"),
        "npz with an object array": lambda: npz(object_array(trace), "object"),
        "npz with a bare pickle": lambda: npz(pickled(trace), "bare"),
        "a pickle named .npz": lambda: (folder / "p.npz").write_bytes(pickled(trace)) and data.load(str(folder / "p.npz")),
        "CIFAR-10 batches with another checksum": cifar,
        **{f"a record named {name!r}": lambda name=name, i=i: collected(name, i) for i, name in enumerate(NAMES)},
        "YAML with tags as a record": lambda: (yaml("yaml/set"), records.read(folder / "yaml")),
        "YAML with tags as a film": lambda: (yaml("films/digits-digits"), films.read(folder)),
        "YAML with tags as a curvature record": lambda: (yaml("curved/digits-digits"), curvature_rules.read(folder / "curved")),
        "a notebook's parameter with a tag and code": notebook,
    }


def _torch_archive(trace: Path) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(trace))
        archive.writestr("archive/version", "3")
    return packed.getvalue()


def malice(folder: Path) -> Row:
    """Everything above, once; what appears outside the folders that were given is named."""
    folder.mkdir(parents=True, exist_ok=True)
    trace, lost, refused = folder / "it-ran", [], 0
    planted = tries(folder, trace)
    for name, read in planted.items():
        inside = {path for path in folder.rglob("*outside*") if path.is_file()}
        try:
            with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
                read()
        except InputError:
            refused += 1
        lost += [f"{name}: code ran"] * trace.exists()
        trace.unlink(missing_ok=True)
        lost += [f"{name}: wrote {path}" for path in {path for path in folder.rglob("*outside*") if path.is_file()} - inside]
    lost += [f"wrote {path}" for path in (Path("/tmp/outside-normal-s0.json"), folder.parent / "outside-normal-s0.json") if path.exists()]
    return row(
        "files planted to run code or to write elsewhere", len(planted), f"{refused} refused in one line, the others without effect", lost
    )
