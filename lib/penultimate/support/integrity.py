"""What a finished run's folder holds: every file's length and sha256 are listed beside them, so that a damaged run is found out."""

import hashlib
import shutil
from pathlib import Path

from .. import InputError
from . import files

SUMS, RECORD, WEIGHTS = "sums.json", "record.json", "weights.safetensors"


def finish(folder: Path, record: dict) -> None:
    """Write a run's sums, then its record: a run is finished once its record is there, and then everything else is.

    >>> import tempfile
    >>> record = {part: "" for part in ("config", "environment", "data", "metrics", "history", "seconds")} | {"name": "run"}
    >>> with tempfile.TemporaryDirectory() as name:
    ...     files.write(Path(name, WEIGHTS), b"weights")
    ...     finish(Path(name), record)
    ...     before = finished(Path(name)), damage(Path(name), "run")
    ...     files.write(Path(name, WEIGHTS), b"weighty")
    ...     after = damage(Path(name), "run")
    ...     clear(Path(name))
    ...     left = list(Path(name).iterdir())
    >>> before, after.endswith("weights.safetensors is not what was written there"), left
    ((True, None), True, [])
    """
    files.write_json(folder / SUMS, _sums(folder, record))
    files.write_json(folder / RECORD, record)


def replace_record(folder: Path, record: dict) -> None:
    """Another record for a finished run. Where that stops in between, the run has no sums, as of an older version, but is not lost.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     files.write(Path(name, WEIGHTS), b"weights")
    ...     finish(Path(name), {"name": "run", "seconds": 3})
    ...     replace_record(Path(name), {"name": "run", "seconds": 4})
    ...     files.read_json(Path(name, RECORD)), sorted(path.name for path in Path(name).iterdir())
    ({'name': 'run', 'seconds': 4}, ['record.json', 'sums.json', 'weights.safetensors'])
    """
    (folder / SUMS).unlink(missing_ok=True)
    files.write_json(folder / RECORD, record)
    files.write_json(folder / SUMS, _sums(folder, record))


def _sums(folder: Path, record: dict) -> dict[str, dict]:
    paths = [folder / WEIGHTS, *sorted((folder / "features").glob("epoch-*.safetensors"))]
    listed = {path.relative_to(folder).as_posix(): _sum(path.read_bytes()) for path in paths}
    return listed | {RECORD: _sum(files.as_json(record))}


def _sum(content: bytes) -> dict:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def finished(folder: Path) -> bool:
    return (folder / RECORD).exists()


def damage(folder: Path, name: str) -> str | None:
    """What is wrong with the finished run of that name, for people, or None.

    Where an older version wrote no sums, the files must at least be readable.
    """
    try:
        if (folder / SUMS).exists():
            wrong = [part for part, wanted in files.read_json(folder / SUMS).items() if _sum(_content(folder / part)) != wanted]
            if wrong:
                return f"{folder / wrong[0]} is not what was written there"
        else:
            files.read_tensors(folder / WEIGHTS)
        found = files.read_json(folder / RECORD)
    except InputError as error:
        return str(error).partition(": delete it")[0]
    whole = {"name", "config", "environment", "data", "metrics", "history", "seconds"} <= found.keys()
    return None if whole and found["name"] == name else f"{folder / RECORD} is not the record of {name}"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def clear(folder: Path) -> None:
    """Remove a damaged run, its record first: what is interrupted here is no finished run."""
    (folder / RECORD).unlink()
    shutil.rmtree(folder)
    folder.mkdir()
