"""What the runs of full size say beyond Gaussian noise, from records: other perturbations, the feature layer, flatness, resistance."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from .. import records
from ..comparison import verdict
from ..evaluate import seed_interval, unpack
from ..methods import METHODS
from ..metrics import FULL_SIZE, KINDS
from ..support.wording import cell
from . import checks
from .adversary_rules import budget_name
from .curvature_decades import apart, by_means, by_medians
from .published import COLUMNS, NOT_RUN, ONE_SEED, TITLES, every, found, under
from .replication import arm

FLATNESS = {"eq. 21": "kappa", "‖H‖²": "frobenius"}
NO_PAIR = "no seed in common"
LAYER = ("radius", "margin", "ratio")


def perturbed(dataset: str = "cifar10", folder: str | Path | None = None) -> pd.DataFrame:
    """Accuracy under `metrics.KINDS` in per cent, with the 95 % interval over seeds and n: a row for each full-size preset, choice of the
    epoch and perturbation that was measured, a column for each method.

    >>> rows = perturbed().index
    >>> rows.unique("perturbation").tolist(), rows.unique("level").tolist()[:2]
    (['uniform', 'occlusion', 'low resolution', 'occlusion+gaussian'], ['8/255', '16/255'])
    """
    shown = {}
    for key, reached in _by_perturbation(dataset, folder):
        values = {method: list(reached[method].values()) for method in METHODS}
        shown[key] = {method: f"{cell(*seed_interval(own))}, n={len(own)}" if own else NOT_RUN for method, own in values.items()}
    return pd.DataFrame(shown).T.rename_axis(["what", "perturbation", "level"] if shown else None)


def carried(dataset: str = "cifar10", folder: str | Path | None = None) -> pd.DataFrame:
    """`proposed` minus each rival in the rows of `perturbed`: points, paired by seed, with 95 % interval, n and the verdict.

    >>> shown = carried()
    >>> shown.columns.tolist()
    ['normal', 'noisy', 'both', 'stability', 'discriminative']
    >>> {told.rpartition(": ")[2] for told in shown["normal"]} <= {"holds", "undecided", "does not hold", ONE_SEED, NO_PAIR}
    True
    """
    shown = {}
    for key, reached in _by_perturbation(dataset, folder):
        for rival in (method for method in METHODS if method != "proposed"):
            seeds = sorted(reached["proposed"].keys() & reached[rival].keys())
            apart = [100 * (reached["proposed"][seed] - reached[rival][seed]) for seed in seeds]
            shown.setdefault(key, {})[rival] = _judged(*seed_interval(apart), len(apart)) if apart else NO_PAIR
    return pd.DataFrame(shown).T.rename_axis(["what", "perturbation", "level"] if shown else None)


def _judged(mean: float, low: float, high: float, n: int, digits: int = 1) -> str:
    told = f"{mean:+.{digits}f}"
    return f"{told} [{low:+.{digits}f}, {high:+.{digits}f}], n={n}: {verdict(low, high)}" if n > 1 else f"{told}, n=1: {ONE_SEED}"


def _by_perturbation(dataset: str, folder: str | Path | None) -> Iterator[tuple[tuple[str, str, str], dict[str, dict[int, float]]]]:
    """Of each preset, choice of the epoch and perturbation that was measured: their names, and method -> seed -> accuracy."""
    severities = [(kind, level) for kind, levels in KINDS.items() for level in levels]
    for preset, checkpoint in (column for column in COLUMNS if column[0] in FULL_SIZE):
        own = found(preset, dataset, folder)
        for kind, level in severities:
            reached = {method: {} for method in METHODS}
            for record in own:
                for value in under(record["metrics"].get(checkpoint, {}).get(kind), level):
                    reached[record["config"]["method"]][record["config"]["seed"]] = value
            if any(reached.values()):
                named = kind.replace("_", " "), " + ".join(map(_severity, kind.split("+"), np.atleast_1d(level)))
                yield (f"{preset}, {TITLES[checkpoint]}", *named), reached


def _severity(kind: str, level: float) -> str:
    """A level for people: a patch's side as a share of the image, a resolution as one of so many, noise in grey levels."""
    return {"occlusion": f"{level:g}", "low_resolution": f"1/{level:g}"}.get(kind) or f"{255 * level:.4g}/255"


def further(dataset: str = "cifar10", folder: str | Path | None = None) -> pd.DataFrame:
    """Flatness and resistance of the full-size runs at their last epoch: a row for each preset and method of which any was measured, mean
    over seeds with 95 % interval and n. eq. 21 and ‖H‖²: log10 of the median over images. Where runs were attacked, APGD: accuracy in per
    cent within the middle budget; radius: the mean one certified to the smoothed classifier, 0 where it is wrong (L2, pixel units).

    >>> [column for column in further() if "log10" in column]
    ['eq. 21 (log10)', '‖H‖² (log10)']
    """
    return _by_method(lambda record: _flatness(record) | _resistance(record, folder), dataset, folder)


def layer(dataset: str = "cifar10", folder: str | Path | None = None) -> pd.DataFrame:
    """Radius, margin and their ratio (`geometry.describe`) of the full-size runs at their last epoch, as `further` has its numbers.

    >>> layer().columns.tolist()
    ['radius', 'margin', 'ratio']
    """
    return _by_method(lambda record: {name: record["metrics"]["last"]["geometry"][name] for name in LAYER}, dataset, folder)


def _by_method(measured, dataset: str, folder: str | Path | None) -> pd.DataFrame:
    """A row for each full-size preset and method, a column for each number that measured(record) names: mean, interval and n."""
    seen = {}
    for record in (record for preset in FULL_SIZE for record in found(preset, dataset, folder)):
        own = seen.setdefault((record["config"]["preset"], record["config"]["method"]), {})
        for what, value in measured(record).items():
            own.setdefault(what, []).append(value)
    shown = {key: {what: _told(values) for what, values in own.items()} for key, own in seen.items() if own}
    return pd.DataFrame(shown).T.fillna(NOT_RUN).rename_axis(["preset", "method"] if shown else None)


def flatter(dataset: str = "cifar10", folder: str | Path | None = None) -> pd.DataFrame:
    """Decades by which `proposed` is flatter than each rival, by the rule of `curvature_rules`: the median over images of
    log10(rival / own), mean over common seeds; and between the means over images; as the networks stand, at their own confidence.
    Rivals: the other methods, and `normal` with more epochs, at matched compute.

    >>> import tempfile
    >>> first = [r for r in records.read(None, "cifar10", "brief") if r["config"]["seed"] == 0 and not records.changed(r["config"])]
    >>> runs = [r for r in first if r["config"]["method"] in ("normal", "proposed")]
    >>> for run, kappa in zip(runs, (100.0, 1.0), strict=True):
    ...     run["metrics"]["last"]["curvature"]["kappa"] = [kappa] * run["metrics"]["last"]["curvature"]["images"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     records.collect(runs, Path(folder))
    ...     flatter(folder=folder).loc[("brief", "normal"), "eq. 21"]
    '+2.00, n=1: one seed'
    """
    shown = {}
    for preset in FULL_SIZE:
        runs = [(arm(r["config"]), r["config"]["seed"], r["metrics"]["last"].get("curvature")) for r in every(preset, dataset, folder)]
        curved = {(named, seed): measured for named, seed, measured in runs if measured}
        longer = sorted({named for named, _ in curved if named.startswith("normal, epochs=")})
        for rival in (*(method for method in METHODS if method != "proposed"), *longer):
            seeds = [seed for named, seed in curved if named == rival and ("proposed", seed) in curved]
            for what, name in FLATNESS.items() if seeds else ():
                pairs = [tuple(np.array(curved[one, seed][name]) for one in (rival, "proposed")) for seed in seeds]
                for column, by in ((what, by_medians), (f"{what}, means", by_means)):
                    shown.setdefault((preset, rival), {})[column] = _judged(**apart(pairs, by), digits=2)
    return pd.DataFrame(shown).T.rename_axis(["preset", "method"] if shown else None)


def _flatness(record: dict) -> dict[str, float]:
    """Nothing for a run that an older version measured."""
    measured = record["metrics"]["last"].get("curvature", {})
    return {f"{what} (log10)": float(np.log10(np.median(measured[name]))) for what, name in FLATNESS.items() if measured}


def _resistance(record: dict, folder: str | Path | None) -> dict[str, float]:
    path = (Path(folder) if folder else records.COMMITTED) / "adversary" / checks.place(record)
    if not path.exists():
        return {}
    attacked = checks.read(path, checks.adversary_record, "adversary record")
    middle, budgets = attacked["settings"]["middle"], attacked["settings"]["budgets"]
    shares = {
        f"APGD {budget_name(norm, middle[norm])}": unpack(attacked["apgd"][norm])[budgets[norm].index(middle[norm])] for norm in middle
    }
    radii = {f"radius at {sigma}": unpack(one["right"]) * np.array(one["radius"]) for sigma, one in attacked["certified"].items()}
    return {what: 100 * float(share.mean()) for what, share in shares.items()} | {what: float(r.mean()) for what, r in radii.items()}


def _told(values: list[float]) -> str:
    mean, low, high = seed_interval(values)
    return f"{mean:.2f}{f' [{low:.2f}, {high:.2f}]' * (len(values) > 1)}, n={len(values)}"
