"""Files that appear whole or not at all: written beside their place, flushed to the disk, then renamed; tensors carry a seal."""

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from .. import InputError

SEAL = "sha256"  # in a tensor file's metadata: of everything else that it holds


def write(path: Path, content: bytes) -> None:
    """Write a file atomically; InputError names the path where the disk is full or read-only.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(Path(folder, "new", "a.txt"), b"whole")
    ...     [(path.name, path.read_bytes()) for path in Path(folder, "new").iterdir()]
    [('a.txt', b'whole')]
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, path)
        _flush_names(path.parent)
    except OSError as error:
        raise InputError(
            f"cannot write {path} ({error.strerror}): free space or make it writable and call again; what was finished before is safe"
        ) from error
    finally:
        if temporary:
            temporary.unlink(missing_ok=True)


def _flush_names(folder: Path) -> None:
    """Flush a folder, so that a rename outlives a power cut; Windows cannot open folders and does without."""
    if os.name == "posix":
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def sweep(folder: Path) -> None:
    """Remove what a killed process left half-written in a folder; for whoever holds its lock.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     half, whole = Path(folder, ".a.txt.x7"), Path(folder, "a.txt")
    ...     half.touch()
    ...     whole.touch()
    ...     sweep(Path(folder))
    ...     half.exists(), whole.exists()
    (False, True)
    """
    for path in folder.glob(".*"):
        if path.is_file():  # JupyterLab leaves folders of its own
            path.unlink()


def digest(tensor: Tensor) -> str:
    """First 16 digits of the sha256 of a tensor's values.

    >>> digest(torch.zeros(2)) == digest(torch.zeros(2)), digest(torch.zeros(2)) == digest(torch.ones(2))
    (True, False)
    """
    return hashlib.sha256(tensor.detach().cpu().contiguous().numpy().tobytes()).hexdigest()[:16]


def write_json(path: Path, content: dict) -> None:
    """One line for each top-level key: small files, readable differences.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_json(Path(folder, "a.json"), {"n": 3})
    ...     read_json(Path(folder, "a.json"))
    {'n': 3}
    """
    write(path, as_json(content))


def as_json(content: dict) -> bytes:
    """The text that `write_json` writes.

    >>> print(as_json({"name": "a", "levels": [0, 0.1]}).decode(), end="")
    {
    "name": "a",
    "levels": [0, 0.1]
    }
    """
    lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in content.items())
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def read_json(path: Path) -> dict:
    """Read a JSON object; InputError names a damaged file.

    >>> read_json(Path("nowhere.json"))
    Traceback (most recent call last):
    penultimate.InputError: cannot read nowhere.json ([Errno 2] No such file or directory: 'nowhere.json'): delete it, and it is made again
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read {path} ({error}): delete it, and it is made again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, expected a JSON object: delete it, and it is made again")
    return content


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors, sealed: no pickle, so reading a stranger's file runs nothing.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_tensors(Path(folder, "a.safetensors"), {"x": torch.ones(2)}, {"epoch": "3"})
    ...     read_tensors(Path(folder, "a.safetensors"))
    ({'x': tensor([1., 1.])}, {'epoch': '3'})
    """
    tensors, metadata = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}, metadata or {}
    write(path, safetensors.torch.save(tensors, metadata | {SEAL: _seal(tensors, metadata)}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; InputError names a damaged file. One without a seal (an older version's) is read.

    They are copies: of a file that is mapped, later changes would reach tensors that were verified before.
    """
    try:
        content = path.read_bytes()
        tensors = safetensors.torch.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (OSError, safetensors.SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"cannot read {path} ({error}): delete it, and it is made again") from error
    metadata = header.get("__metadata__") or {}
    seal = metadata.pop(SEAL, None)
    if seal not in (None, _seal(tensors, metadata)):
        raise InputError(f"{path} is damaged (not what its seal says was written): delete it, and it is made again")
    return tensors, metadata


def _seal(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """sha256 over metadata and every tensor's name, type, shape and bytes."""
    found = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def keep(path: Path, tensors: dict[str, Tensor], named: dict[str, str]) -> None:
    """Write what can be computed again; where that fails (a full disk, a read-only store) a line says so, and the work goes on.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path, x = Path(folder, "a.safetensors"), torch.ones(2)
    ...     keep(path, {"x": x}, {"of": "a run"})
    ...     kept(path, {"of": "a run"}, {"x": (2,)}), kept(path, {"of": "another"}, {"x": (2,)})
    ({'x': tensor([1., 1.])}, None)
    """
    try:
        write_tensors(path, tensors, named)
    except InputError as error:
        print(f"not kept, and computed again next time: {error}", file=sys.stderr)


def kept(path: Path, named: dict[str, str], shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor] | None:
    """What `keep` wrote under these names; None where it is not there, is damaged or is of something else.

    shapes: of each tensor its first sizes, as far as the caller relies on them.
    """
    if not path.exists():
        return None
    try:
        tensors, metadata = read_tensors(path)
    except InputError as error:
        print(f"making it again: {error}", file=sys.stderr)
        return None
    fits = tensors.keys() == shapes.keys() and all(tuple(tensors[name].shape[: len(shape)]) == shape for name, shape in shapes.items())
    return tensors if metadata == named and fits else None
