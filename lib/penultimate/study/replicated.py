"""What has been run of the comparison that `replication` lays out: trials, steps, searches."""

from pathlib import Path

import pandas as pd

from .. import records
from ..metrics import TRIAL_SEED
from . import rates, replication


def progress(dataset: str = "cifar10", folder: str | Path | None = None) -> pd.DataFrame:
    """How many runs of each step of `replication.steps` have a record, and how many broke off: step, runs, finished, broke off.

    >>> rows = progress().set_index("step")
    >>> rows.columns.tolist(), int(rows.runs["brief: learning rates"])  # four rates for each of six methods
    (['runs', 'finished', 'broke off'], 24)
    """
    kept = {sub: _kept(folder, sub, dataset) for sub in ("", "rehearsal", "search")}
    base = Path(folder) if folder else records.COMMITTED
    broken = replication.broken_off(base, dataset)
    done, lost = {sub: {record["name"] for record in own} for sub, own in kept.items()}, {record["name"] for record in broken}
    rows = []
    for step in replication.steps(replication.rates(base, dataset), dataset):
        names = {config.name for config in step.configs}
        rows.append((step.name, len(names), len(names & done[step.folder]), len(names & lost)))
    return pd.DataFrame(rows, columns=["step", "runs", "finished", "broke off"])


def rehearsed(dataset: str = "cifar10", folder: str | Path | None = None) -> pd.DataFrame:
    """Trials of a few steps of the preset `paper`, kept apart from results: method, width, steps, loss (mean over them), seconds a step,
    device. The smoke runs of `replicate` are no such trials.

    >>> rehearsed().columns.tolist()
    ['width', 'steps', 'loss', 'seconds a step', 'device']
    """
    kept, rows = _kept(folder, "rehearsal", dataset), []
    for record in (r for r in kept if r["config"]["preset"] == "paper" and r["config"]["seed"] < TRIAL_SEED):
        config, last = record["config"], record["history"][-1]
        steps = record["data"]["images"]["train"] // config["batch"]
        rows.append((config["method"], config["width"], steps, last["total"], last["seconds"] / steps, record["environment"]["device"]))
    return pd.DataFrame(rows, columns=["method", "width", "steps", "loss", "seconds a step", "device"]).set_index("method")


def searched(preset: str, dataset: str = "cifar10", folder: str | Path | None = None) -> pd.DataFrame:
    """`rates.by_rate` of the runs by which a preset's learning rates were chosen (`replication.search`); nan where one broke off.

    >>> from penultimate.methods import METHODS
    >>> shown = searched("brief")
    >>> shown.index.tolist() == list(METHODS), bool(shown["noisy"][0.03].notna().all())  # no method broke off at 0.03
    (True, True)
    """
    names = {config.name for config in replication.search(preset, dataset)}
    return rates.by_rate([record for record in _kept(folder, "search", dataset) if record["name"] in names])


def _kept(folder: str | Path | None, sub: str, dataset: str) -> list[dict]:
    """The records in a folder below that of results; none where there is no such folder."""
    path = (Path(folder) if folder else records.COMMITTED) / sub
    return records.read(path, dataset) if path.is_dir() else []
