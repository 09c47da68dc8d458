"""Committed results, one JSON per run, read into one tidy table; what is said of them, from `comparison`."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from . import InputError
from .comparison import ALIKE, CLEAN_TOLERANCE, against, differences, summary, verdict, wide  # noqa: F401  names that the pages use
from .data import CACHE, HOME, is_own, load, short
from .evaluate import unpack
from .methods import METHODS
from .runs import Config
from .study import checks
from .support import files
from .support.wording import cell, counted, level_name, pipes, seeds_told, tidy  # noqa: F401  so are these

COMMITTED = HOME / "data" / "records"
KEYS = [*checks.KEYS]


def read(folder: str | Path | None = None, dataset: str | None = None, preset: str | None = None) -> list[dict]:
    """The records under a folder (default: the committed ones), in a fixed order.

    dataset: of this one alone; preset: that preset's own runs alone, with nothing changed. Raises InputError where there is no folder.

    >>> first = read(None, "digits", "digits")[0]
    >>> first["config"]["method"], list(first)
    ('normal', ['name', 'config', 'environment', 'data', 'seconds', 'metrics', 'history'])
    """
    folder = Path(folder) if folder else COMMITTED
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: expected records there, as <dataset>-<preset>/<name>.json")
    paths = [path for path in sorted(folder.glob("*/*.json")) if path.parent.name != "bench"]
    found = [checks.read(path, checks.run_record, "record of a run") for path in paths]
    wanted = [r for r in found if dataset in (None, r["config"]["dataset"])]
    if preset:
        wanted = [r for r in wanted if r["config"]["preset"] == preset and not changed(r["config"])]
    return sorted(
        wanted,
        key=lambda r: (r["config"]["dataset"], r["config"]["preset"], list(METHODS).index(r["config"]["method"]), r["config"]["seed"]),
    )


def changed(config: dict) -> str:
    """What a configuration changes in its preset, for people: '' for the preset itself.

    >>> changed(Config(method="both", epochs=3).__dict__), changed(Config(schedule="multistep", milestones=(1, 2)).__dict__)
    ('epochs=3', 'schedule=multistep, milestones=1/2')
    """
    plain = Config(**{key: config[key] for key in KEYS})
    differing = ((name, config[name]) for name in plain.__dataclass_fields__ if name in config and name not in KEYS)
    tupled = ((name, tuple(value) if isinstance(value, list) else value) for name, value in differing)  # JSON has no tuples
    return ", ".join(
        f"{name}={'/'.join(map(str, value)) if isinstance(value, tuple) else value}"
        for name, value in tupled
        if value != getattr(plain, name)
    )


def collect(records: list[dict], folder: Path) -> None:
    """Write records under a folder, as <dataset>-<preset>/<name>.json.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     collect(read(None, "digits", "digits")[:3], Path(folder))
    ...     len(read(folder))
    3
    """
    for record in records:
        files.write_json(folder / checks.place(record), record)


def table(found: list[dict]) -> pd.DataFrame:
    """Under Gaussian noise, one row per run, checkpoint and level: KEYS, changed, checkpoint, level, accuracy (mean over draws), correct.

    correct: of each draw and image, bool (draws, N). balanced: the balanced accuracy, where it was measured (on one's own data), else nan.

    >>> rows = table(read(None, "digits", "digits")[:1])
    >>> rows.level.tolist(), rows.correct[0].shape
    ([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], (5, 450))
    """
    rows = []
    for record in found:
        run = {key: record["config"][key] for key in KEYS} | {"changed": changed(record["config"])}
        for checkpoint, metrics in record["metrics"].items():
            measured = metrics["gaussian"]
            balanced = iter(measured.get("balanced") or [np.nan] * len(measured["levels"]))
            for level, accuracy, correct in zip(measured["levels"], measured["accuracy"], unpack(measured["correct"]), strict=True):
                means = {"accuracy": float(np.mean(accuracy)), "balanced": float(np.mean(next(balanced)))}
                rows.append(run | {"checkpoint": checkpoint, "level": level, **means, "correct": correct})
    return pd.DataFrame(rows, columns=[*KEYS, "changed", "checkpoint", "level", "accuracy", "balanced", "correct"])


def headline(folder: str | Path | None = None, dataset: str = "digits", preset: str = "digits") -> pd.DataFrame:
    """`table` of the preset's own runs (nothing changed), last epoch. Raises InputError where there are none, and for two sets of images.

    >>> headline().method.unique().tolist()
    ['normal', 'noisy', 'both', 'stability', 'discriminative', 'proposed']
    """
    found = read(folder, dataset, preset)
    if not found:
        raise InputError(f"no records of {dataset} with preset {preset}, unchanged, in {folder or COMMITTED}: see penultimate train --help")
    if len(prints := {r["data"]["fingerprint"] for r in found}) > 1:
        told = ", ".join(sorted(one[:10] for one in prints))
        raise InputError(f"the records of {short(dataset)} in {folder} are of different images (sha256 {told}): keep those of one")
    rows = table(found)
    return rows[rows.checkpoint == "last"].reset_index(drop=True)


def same_images(folder: Path, config: Config, preset: str | None = None, root=None) -> None:
    """Raise InputError where a folder has records of other images than the configuration's data set has now: no table may mix them.

    preset: look at that preset's own runs alone.

    >>> same_images(Path("nowhere"), Config())  # nothing there yet
    """
    found = read(folder, config.dataset, preset) if folder.is_dir() else []
    prints = [r["data"]["fingerprint"] for r in found if r["config"].get("image_size", 0) == config.image_size]
    now = load(config.dataset, root, config.image_size).fingerprint if prints else ""
    if other := sum(one != now for one in prints):
        raise InputError(
            f"{folder} holds {counted(other, 'record')} of other images than {config.dataset} has now: delete them, or give another folder"
        )


def write_findings(name: str, findings: dict, folder: str | Path | None = None) -> Path:
    """What a notebook found, as JSON for tests and reports, in `folder` (default: data/cache/findings).

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_findings("page", {"gain": 7.5}, folder).name
    'page.json'
    """
    path = (Path(folder) if folder else CACHE / "findings") / f"{name}.json"
    files.write_json(path, findings)
    return path


def geometry(found: list[dict]) -> pd.DataFrame:
    """One row per run: KEYS and the feature geometry of the last epoch (radius, margin, ratio, gap).

    >>> geometry(read(None, "digits", "digits")[:1]).columns.tolist()
    ['dataset', 'preset', 'method', 'seed', 'radius', 'margin', 'ratio', 'gap']
    """
    return pd.DataFrame([{key: r["config"][key] for key in KEYS} | r["metrics"]["last"]["geometry"] for r in found])


def trained_at(rows: pd.DataFrame) -> float:
    """The measured level that is the training noise of these runs (or the nearest to it).

    >>> trained_at(headline(None, "digits", "digits"))
    0.3
    """
    sigma = Config(**rows.iloc[0][["dataset", "preset", "method"]]).sigma
    return min(rows.level, key=lambda level: abs(level - sigma))


def answer(rows: pd.DataFrame) -> str:
    """The outcome in two sentences, made from the numbers.

    >>> answer(headline())
    'Accuracy of `proposed` minus that of each rival, in points, with its 95 % interval, paired. At the noise trained with, 0.3 ...
    """

    def said(level: float) -> str:
        return ", ".join(f"`{rival}` {cell(*row[:3], signed=True)}" for rival, row in against(rows, level).T.items())

    level = trained_at(rows)
    return (
        f"Accuracy of `proposed` minus that of each rival, in points, with its 95 % interval, paired. At the noise trained with, "
        f"{level_name(level)}: {said(level)}. On clean images: {said(0.0)}."
    )


def caption(found: list[dict], seeds: str | None = None) -> str:
    """What stands beside every number: n (or what `seeds` says in its place), data, draws, hardware.

    >>> caption(read(None, "digits", "digits"))
    "digits (scikit-learn's copy ...), 1,212 training and 450 test images, last epoch; n = 5 seeds, 5 noise draws each; 95 % t ..."
    """
    if not found:
        raise InputError("no records of this data set and preset: train it first (python -m penultimate train --help)")
    counts = Counter(method for method, _ in dict.fromkeys((r["config"]["method"], r["config"]["seed"]) for r in found))
    over = {True: "t intervals over seeds" + _agreeing(found), False: "bootstrap intervals over test images"}
    interval = " or, where n = 1, ".join(over[several] for several in sorted({n > 1 for n in counts.values()}, reverse=True))
    machine = lambda r: f"{r['environment']['device']}, {counted(r['environment']['threads'], 'thread')}, torch {r['environment']['torch']}"  # noqa: E731
    devices, first = " and ".join(sorted({machine(r) for r in found})), found[0]
    sizes, draws = first["data"]["images"], len(first["metrics"]["last"]["gaussian"]["accuracy"][0])
    n = seeds or f"n = {seeds_told(counts)}"
    return (
        f"{short(first['config']['dataset'])} ({first['data']['provenance']}), {sizes['train']:,} training and {sizes['test']:,} test "
        f"images{_classes(first)}, last epoch; {n}, {draws} noise draws each; 95 % {interval}; {devices}."
        f"{_exactness(found)}"
    )


def _agreeing(found: list[dict]) -> str:
    """Said where the seeds of a method do not differ at some level: see `comparison._interval`."""
    rows = table(found).query("checkpoint == 'last'").groupby(["method", "changed", "level"]).accuracy
    return ", over images where the seeds do not differ" * bool(((rows.size() > 1) & (rows.max() - rows.min() <= ALIKE)).any())


def _classes(record: dict) -> str:
    """The number of classes and the smallest and largest, for one's own data."""
    counts = record["data"].get("classes", {}).values() if is_own(record["config"]["dataset"]) else ()
    return f", {len(counts)} classes of {min(counts):,} to {max(counts):,} training images" if counts else ""


def _exactness(found: list[dict]) -> str:
    """How far the accuracies on byte-exact test images lie from those on all, where some were rebuilt."""
    measured = [
        (r["metrics"]["last"]["gaussian"], r["data"]["exact_test"]) for r in found if "accuracy_exact" in r["metrics"]["last"]["gaussian"]
    ]
    if not measured:
        return ""
    apart = max(np.abs(np.mean(m["accuracy_exact"], axis=1) - np.mean(m["accuracy"], axis=1)).max() for m, _ in measured)
    most = math.ceil(1000 * apart) / 10
    return f" On the {measured[0][1]:,} byte-exact test images no run's mean accuracy differs by more than {most:.1f} points."
