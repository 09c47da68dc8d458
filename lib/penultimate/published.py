"""The paper's printed accuracies beside ours, from records: each preset and each choice of the epoch in a column of its own."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from . import InputError, checks, records, replication
from .adversary_rules import budget_name
from .evaluate import seed_interval, unpack
from .methods import METHODS
from .metrics import FULL_SIZE, KINDS
from .records import cell, verdict
from .runs import Config

# Test accuracies as printed, by data set and standard deviation of the Gaussian noise; of the others none is known here.
PUBLISHED = {("cifar10", 8 / 255): {"normal": 0.9006, "proposed": 0.9115}}
COLUMNS = [("paper", "last"), ("paper", "best_on_test"), ("tuned", "last"), ("small", "last")]
TITLES = {"last": "last epoch", "best_on_test": "best on test"}
NOT_RUN, ONE_SEED = "not run", "one seed"


def found(preset: str, dataset: str = "cifar10", folder: str | Path | None = None) -> list[dict]:
    """The records of a preset's six methods as they are, `tuned` at each one's own learning rate."""
    own = _once([r for r in records.read(folder, dataset) if r["config"]["preset"] == preset])
    return [r for r in own if replication.arm(r["config"]) == r["config"]["method"]]


def _once(found: list[dict]) -> list[dict]:
    """The records, or InputError where an arm has a seed twice: at two learning rates it would count twice."""
    seen = {}
    for record in found:
        key = replication.arm(record["config"]), record["config"]["seed"]
        if key in seen:
            raise InputError(f"{seen[key]} and {record['name']} are the same arm and seed at two learning rates: take one of them out")
        seen[key] = record["name"]
    return found


def at(own: list[dict], level: float, checkpoint: str = "last", exact: bool = False) -> pd.DataFrame:
    """The rows of `records.table` at a noise level. exact: accuracy on the byte-exact test images alone."""
    rows = records.table(own)
    rows = rows[(rows.checkpoint == checkpoint) & np.isclose(rows.level, level, atol=1e-5)]
    if not exact or not len(rows):
        return rows
    named = {(r["config"]["method"], r["config"]["seed"]): r["metrics"][checkpoint]["gaussian"] for r in own}
    return rows.assign(accuracy=[_exact(named[row.method, row.seed], level) for row in rows.itertuples()])


def _exact(measured: dict, level: float) -> float:
    """The mean over draws; where all test images are byte-exact, of all."""
    (index,) = np.flatnonzero(np.isclose(measured["levels"], level, atol=1e-5))
    return float(np.mean(measured.get("accuracy_exact", measured["accuracy"])[index]))


def beside(level: float, dataset: str = "cifar10", folder: str | Path | None = None) -> pd.DataFrame:
    """A row for each method: what is printed, and in per cent with 95 % interval and n what each preset and choice of the epoch gave."""
    printed = next((row for (name, at_level), row in PUBLISHED.items() if name == dataset and np.isclose(at_level, level, atol=1e-5)), {})
    shown = {"published": {method: f"{100 * value:.2f}" for method, value in printed.items()}}
    for preset, checkpoint in COLUMNS:
        rows = at(found(preset, dataset, folder), level, checkpoint)
        cells = {row.method: f"{cell(row.mean, row.low, row.high)}, n={row.n}" for row in records.summary(rows).itertuples()}
        shown[f"{preset}, {TITLES[checkpoint]}"] = {method: cells.get(method, NOT_RUN) for method in METHODS}
    return pd.DataFrame(shown, index=list(METHODS)).fillna("").rename_axis("method")


def gains(level: float, rival: str = "normal", dataset: str = "cifar10", folder: str | Path | None = None) -> pd.DataFrame:
    """`proposed` minus a rival, in points, paired, one row for each preset and choice of the epoch that has a seed of both: what, mean,
    low, high, n, exact (the mean on the byte-exact test images), verdict (whether it exceeds zero; none of one seed alone)."""
    rows = []
    for preset, checkpoint in COLUMNS:
        own = [r for r in found(preset, dataset, folder) if r["config"]["method"] in ("proposed", rival) and checkpoint in r["metrics"]]
        here, exact = (at(own, level, checkpoint, only) for only in (False, True))
        paired = exact.pivot(index="seed", columns="method", values="accuracy").reindex(columns=["proposed", rival]).dropna()
        if len(paired):
            apart = records.differences(here, rival).iloc[0]
            judged = verdict(apart.low, apart.high) if apart.n > 1 else ONE_SEED
            numbers = [100 * float(value) for value in (apart["mean"], apart.low, apart.high)]
            moved = 100 * float((paired.proposed - paired[rival]).mean())
            rows.append((f"{preset}, {TITLES[checkpoint]}", *numbers, int(apart.n), moved, judged))
    return pd.DataFrame(rows, columns=["what", "mean", "low", "high", "n", "exact", "verdict"])


def switched(dataset: str = "cifar10", folder: str | Path | None = None, level: float = 8 / 255) -> pd.DataFrame:
    """What one switch of `tuned` changes, and `proposed` against `normal` at matched compute, in points, paired by seed: what, mean, low,
    high, n."""
    by_arm = {}
    for record in _once([r for r in records.read(folder, dataset) if r["config"]["preset"] == "tuned"]):
        accuracy = at([record], level).accuracy.iloc[0]
        by_arm.setdefault(replication.arm(record["config"]), {})[record["config"]["seed"]] = 100 * accuracy
    pairs = [(name, name.partition(",")[0]) for name in by_arm if "," in name]
    pairs += [("proposed", name) for name in by_arm if name.startswith("normal, epochs=")]
    rows = []
    for one, other in pairs:
        apart = [by_arm[one][seed] - by_arm[other][seed] for seed in by_arm.get(one, {}).keys() & by_arm.get(other, {}).keys()]
        if apart:
            rows.append((f"{one} − {other}", *seed_interval(apart), len(apart)))
    return pd.DataFrame(rows, columns=["what", "mean", "low", "high", "n"])


def perturbed(dataset: str = "cifar10", folder: str | Path | None = None) -> pd.DataFrame:
    """Accuracy under `metrics.KINDS` in per cent, with the 95 % interval over seeds and n: a row for each full-size preset, choice of the
    epoch and perturbation, a column for each method."""
    shown, severities = {}, [(kind, level) for kind, levels in KINDS.items() for level in levels]
    for preset, checkpoint in (column for column in COLUMNS if column[0] in FULL_SIZE):
        own = found(preset, dataset, folder)
        for kind, level in severities:
            reached = {method: [] for method in METHODS}
            for record in own:
                reached[record["config"]["method"]] += _under(record["metrics"].get(checkpoint, {}).get(kind), level)
            named = kind.replace("_", " "), " + ".join(map(_severity, kind.split("+"), np.atleast_1d(level)))
            shown[(f"{preset}, {TITLES[checkpoint]}", *named)] = {
                method: f"{cell(*seed_interval(values))}, n={len(values)}" if values else NOT_RUN for method, values in reached.items()
            }
    return pd.DataFrame(shown).T.rename_axis(["what", "perturbation", "level"])


def _under(measured: dict | None, level) -> list[float]:
    """The mean over draws at a level, as a list of one; of none where that was not measured."""
    levels = measured["levels"] if measured else []
    return [float(np.mean(measured["accuracy"][i])) for i, at in enumerate(levels) if np.allclose(at, level, atol=1e-5)]


def _severity(kind: str, level: float) -> str:
    """A level for people: a patch's side as a share of the image, a resolution as one of so many, noise in grey levels."""
    return {"occlusion": f"{level:g}", "low_resolution": f"1/{level:g}"}.get(kind) or f"{255 * level:.4g}/255"


def further(dataset: str = "cifar10", folder: str | Path | None = None) -> pd.DataFrame:
    """Flatness and resistance of the full-size runs at their last epoch: a row for each preset and method that has runs, mean over seeds
    with 95 % interval and n. eq. 21 and ‖H‖²: log10 of the median over images. Where runs were attacked, APGD: accuracy in per cent within
    the middle budget; radius: the mean one certified to the smoothed classifier, 0 where it is wrong (L2, pixel units)."""
    seen = {}
    for record in (record for preset in FULL_SIZE for record in found(preset, dataset, folder)):
        own = seen.setdefault((record["config"]["preset"], record["config"]["method"]), {})
        for what, value in (_flatness(record) | _resistance(record, folder)).items():
            own.setdefault(what, []).append(value)
    shown = {key: {what: _told(values) for what, values in own.items()} for key, own in seen.items()}
    return pd.DataFrame(shown).T.fillna(NOT_RUN).rename_axis(["preset", "method"] if shown else None)


def _flatness(record: dict) -> dict[str, float]:
    """Nothing for a run that an older version measured."""
    measured = record["metrics"]["last"].get("curvature", {})
    names = {"eq. 21": "kappa", "‖H‖²": "frobenius"}
    return {f"{what} (log10)": float(np.log10(np.median(measured[name]))) for what, name in names.items() if measured}


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
    return f"{mean:.3g}{f' [{low:.3g}, {high:.3g}]' * (len(values) > 1)}, n={len(values)}"


def differing(one: str = "paper", other: str = "tuned", dataset: str = "cifar10") -> pd.DataFrame:
    """The fields of Config in which two presets differ, for `proposed`: field, what it means, and each preset's value."""
    configs = [Config(dataset=dataset, preset=preset, method="proposed") for preset in (one, other)]
    rows = []
    for field in dataclasses.fields(Config):
        values = [getattr(config, field.name) for config in configs]
        if field.name != "preset" and values[0] != values[1]:
            rows.append((field.name, field.metadata["help"], *map(str, values)))
    return pd.DataFrame(rows, columns=["field", "meaning", one, other]).set_index("field")


def rehearsed(dataset: str = "cifar10", folder: str | Path | None = None) -> pd.DataFrame:
    """Trials of the preset `paper`, kept apart from results: method, width, steps, loss (mean over them), seconds a step, device."""
    kept = records.read((Path(folder) if folder else records.COMMITTED) / "rehearsal", dataset)
    rows = []
    for record in (r for r in kept if r["config"]["preset"] == "paper"):
        config, last = record["config"], record["history"][-1]
        steps = record["data"]["images"]["train"] // config["batch"]
        rows.append((config["method"], config["width"], steps, last["total"], last["seconds"] / steps, record["environment"]["device"]))
    return pd.DataFrame(rows, columns=["method", "width", "steps", "loss", "seconds a step", "device"]).set_index("method")


def progress(dataset: str = "cifar10", folder: str | Path | None = None) -> pd.DataFrame:
    """How many runs of each step of `replication.steps` have a committed record: step, runs, finished."""
    base = Path(folder) if folder else records.COMMITTED
    kept = {sub: records.read(base / sub, dataset) if (base / sub).is_dir() else [] for sub in ("", "rehearsal", "search")}
    done = {sub: {record["name"] for record in own} for sub, own in kept.items()}
    steps = replication.steps(replication.chosen(replication.searched(kept["search"])), dataset)
    rows = [(step.name, len(step.configs), sum(config.name in done[step.folder] for config in step.configs)) for step in steps]
    return pd.DataFrame(rows, columns=["step", "runs", "finished"])


def markdown() -> str:
    """README's table of the published level: what is printed, what was run."""
    run = {preset: own for preset in dict.fromkeys(preset for preset, _ in COLUMNS) if (own := found(preset))}
    said = " ".join(f"{preset}: {records.caption(own)}" for preset, own in run.items())
    return f"{records.pipes(beside(8 / 255))}\n\n*Printed: one run each, at the epoch that was best on the test set. {said}*"
