"""Files that appear whole or not at all: written beside their place, flushed to the disk, then renamed."""

import hashlib
import json
import os
import tempfile
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from . import InputError


def write(path: Path, content: bytes) -> None:
    """Write a file atomically; InputError names the path where the disk is full or read-only."""
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
    except OSError as error:
        raise InputError(
            f"cannot write {path} ({error.strerror}): free space or make it writable and call again; what was finished before is safe"
        ) from error
    finally:
        if temporary:
            temporary.unlink(missing_ok=True)


def digest(tensor: Tensor) -> str:
    """First 16 digits of the sha256 of a tensor's values."""
    return hashlib.sha256(tensor.detach().cpu().contiguous().numpy().tobytes()).hexdigest()[:16]


def write_json(path: Path, content: dict) -> None:
    """One line for each top-level key: small files, readable differences."""
    lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in content.items())
    write(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def read_json(path: Path) -> dict:
    """Read a JSON object; InputError names a damaged file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path} ({error}): delete it, and it is made again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, expected a JSON object: delete it, and it is made again")
    return content


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors: no pickle, so reading a stranger's file runs nothing."""
    write(path, safetensors.torch.save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; InputError names a damaged file."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"cannot read {path} ({error}): delete it, and it is made again") from error
