"""The transfer records for people: severities, reliability curves, and RESULTS' account."""

from pathlib import Path

import numpy as np
import pandas as pd

from ..evaluate import seed_interval
from ..support.wording import cell, counted, pipes, seeds_told
from .transfer import NEAR
from .transfer_rules import Transfer, averages, calibrations, own, sets

FEWEST = 20  # predictions of a seed in a bin of confidence, below which it is not drawn


def reliabilities(found: Transfer) -> pd.DataFrame:
    """Reliability curves over seeds: condition, method, confidence, accuracy, low, high, share (of the predictions), for bins in which
    every seed has FEWEST predictions.

    >>> bins = {"count": [1, 100], "confidence": [0.5, 75.0], "correct": [0, 50]}  # too few predictions in the first
    >>> record = {"config": dict(method="both", noise="gaussian", seed=0), "calibration": {"clean": bins}}
    >>> reliabilities(Transfer([record], {}, None))[["confidence", "accuracy"]].to_numpy().tolist()
    [[0.75, 0.5]]
    """
    rows = []
    for (condition, method), runs in calibrations(found).groupby(["condition", "method"], sort=False):
        count, confidence, correct = (np.array([bins[name] for bins in runs.bins]) for name in ("count", "confidence", "correct"))
        for b in np.flatnonzero(count.min(0) >= FEWEST):
            mean, low, high = seed_interval(correct[:, b] / count[:, b])
            at, share = (confidence[:, b] / count[:, b]).mean(), (count[:, b] / count.sum(1)).mean()
            rows.append(dict(condition=condition, method=method, confidence=at, accuracy=mean, low=low, high=high, share=share))
    return pd.DataFrame(rows)


def strengths(found: Transfer) -> pd.DataFrame:
    """The severities for people: a row for each perturbation, a column for each target; in brackets what `normal` kept, where that lies
    further than NEAR from the target with a mark.

    >>> rows = [{"target": 0.9, "level": 0.42, "share": 0.91}, {"target": 0.5, "level": 2.3, "share": 0.61}]
    >>> strengths(Transfer([], {"perturbations": {"blur": rows}}, None)).loc["blur"].to_dict()
    {'90 %': '0.42 (91 %)', '50 %': '2.3 (61 %, not reached)'}
    """

    def shown(row: dict) -> str:
        level = "+".join(f"{part:.3g}" for part in np.atleast_1d(row["level"]))
        return f"{level} ({100 * row['share']:.0f} %{', not reached' * (abs(row['share'] - row['target']) > NEAR)})"

    rows = {name: {f"{100 * row['target']:.0f} %": shown(row) for row in rows} for name, rows in found.severities["perturbations"].items()}
    return pd.DataFrame(rows).T.rename_axis("perturbation")


def caption(found: Transfer) -> str:
    """What stands beside every number: data, n, draws, hardware.

    >>> caption(sets()["digits"]).partition(";")[0]
    'digits, 450 test images, 5 draws of what is random'
    """
    runs, first = own(found.table), found.records[0]
    seeds = runs.groupby("method", sort=False).seed.nunique()
    machines = ", ".join(sorted({f"{r['environment']['device']}, torch {r['environment']['torch']}" for r in found.records}))
    interval = "t intervals over seeds" if seeds.max() > 1 else "bootstrap intervals over test images"
    draws, chosen = counted(first["settings"]["draws"], "draw"), found.severities
    by = f"{counted(len(chosen['seeds']), 'seed')} of `normal`"
    return (
        f"{first['config']['dataset']}, {first['data']['test_images']:,} test images, {draws} of what is "
        f"random; severities chosen on {chosen['images']:,} validation images by {by}; n = {seeds_told(seeds)}, 95 % "
        f"{interval}; {machines}"
    )


def markdown(folder: str | Path | None = None) -> str:
    """The account, in RESULTS, of each data set: difference to `normal` under each perturbation, averaged over severities."""
    parts = []
    for dataset, found in sets(folder).items():
        table = averages(found.table).assign(cell=lambda t: [cell(*row, signed=True) for row in t[["mean", "low", "high"]].to_numpy()])
        shown = table.pivot(index="perturbation", columns="method", values="cell")
        shown = shown.loc[list(dict.fromkeys(table.perturbation)), list(dict.fromkeys(table.method))].rename_axis("perturbation")
        parts.append(f"Difference to `normal` in points, mean over severities, {dataset}:\n\n{pipes(shown)}\n\n*{caption(found)}.*")
    return "\n\n".join(parts)
