"""Which part of the method does the work: a small record of every run of the grids, and what tables and pictures make of it."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from .. import InputError
from ..evaluate import seed_interval
from ..metrics import SAME
from ..progress import no_bars
from ..runs import Config, Run
from ..support import files
from ..support.wording import cell, pipes
from . import checks, measured
from .centroid_trace import trace_centroids
from .films import along

# Of these experiments the records also follow each run through its training.
ALONG = ("ablation",)
TRACED, TRACED_SEEDS = ("centroids",), 3  # tracing trains a run once more
SHAPE = ("radius", "margin", "ratio", "gap")  # columns in units of the feature space, or in none


def row(arm: str, run: Run) -> dict:
    """What tables and pictures need of a run: what it changes, accuracies (mean over draws) and geometry of the last epoch, validation.

    >>> from penultimate import records
    >>> record = records.read(None, "digits", "digits")[0]
    >>> found = row("longer", Run(Config(**record["config"] | {"epochs": 80}), Path(), record))
    >>> found["changes"], list(found["accuracy"]), list(found["geometry"])
    ({'epochs': 80}, ['0', '0.1', '0.2', '0.3', '0.4', '0.5'], ['radius', 'margin', 'ratio', 'gap'])
    """
    config, metrics, last = run.config, run.record["metrics"], run.history[-1]
    plain = Config(dataset=config.dataset, preset=config.preset, method=config.method, seed=config.seed)
    changes = {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if getattr(config, f.name) != getattr(plain, f.name)}
    found = {"arm": arm, "seed": config.seed, "name": config.name, "method": config.method, "changes": changes}
    found |= {"accuracy": _means(metrics["last"]), "geometry": metrics["last"]["geometry"], "seconds": run.record["seconds"]["training"]}
    found |= {name: last[name] for name in ("validation", "validation_noisy")}
    if "best_on_test" in metrics:
        found["best_on_test"] = {"epoch": metrics["best_on_test"]["epoch"], "accuracy": _means(metrics["best_on_test"])}
    return found


def _means(measured: dict) -> dict[str, float]:
    """Level -> mean accuracy over the draws."""
    pairs = zip(measured["gaussian"]["levels"], measured["gaussian"]["accuracy"], strict=True)
    return {f"{level:g}": round(sum(draws) / len(draws), 6) for level, draws in pairs}


def collect(experiment: str, runs: dict[tuple[str, int], Run], folder: Path, root=None, failed=None) -> Path:
    """Write the rows of an experiment as <folder>/<dataset>-<preset>/<experiment>.json and return the path.

    failed: (arm, seed) -> why that run has no result, kept in the record.

    >>> import tempfile
    >>> from penultimate import records
    >>> record = records.read(None, "digits", "digits")[0]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = collect("switches", {("normal", 0): Run(Config(**record["config"]), Path(), record)}, Path(folder))
    ...     path.relative_to(folder).as_posix(), table(read("switches", folder=folder)).arm.tolist()
    ('digits-digits/switches.json', ['normal'])
    """
    rows = [row(arm, run) for (arm, _), run in runs.items()]
    for one, run in zip(rows, tqdm(runs.values(), desc=experiment, unit="run", disable=no_bars()), strict=True):
        if experiment in ALONG:
            one["along"] = along(run, root)
        if experiment in TRACED and run.config.seed < TRACED_SEEDS:
            one["trace"] = _trace(run, root)
    first = next(iter(runs.values()))
    environments = {json.dumps(run.record["environment"], sort_keys=True) for run in runs.values()}
    path = measured.home("experiments", folder, first.config.dataset, first.config.preset) / f"{experiment}.json"
    sigma = Config(dataset=first.config.dataset, preset=first.config.preset).sigma
    content = {"experiment": experiment, "sigma": sigma, "data": first.record["data"]}
    content |= {"failed": [{"arm": arm, "seed": seed, "reason": reason} for (arm, seed), reason in (failed or {}).items()]}
    files.write_json(path, content | {"environments": [json.loads(one) for one in sorted(environments)], "rows": rows})
    return path


def path(experiment: str, dataset: str = "digits", preset: str = "digits", folder: str | Path | None = None) -> Path:
    """Where `collect` writes (default: among the committed records).

    >>> path("ablation", "cifar10", "small", "found").as_posix()
    'found/cifar10-small/ablation.json'
    """
    return measured.home("experiments", folder, dataset, preset) / f"{experiment}.json"


def read(experiment: str, dataset: str = "digits", preset: str = "digits", folder: str | Path | None = None) -> dict:
    """What `collect` wrote (default: the committed records). Raises InputError where there is none, or where an arm has a seed twice.

    >>> list(read("ablation"))
    ['experiment', 'sigma', 'data', 'failed', 'environments', 'rows']
    """
    found = path(experiment, dataset, preset, folder)
    if not found.exists():
        raise InputError(f"{found} is missing: make it with python -m penultimate experiments --names {experiment} --dataset {dataset}")
    record = checks.read(found, table, "record of an experiment")
    named = [(one["arm"], one["seed"]) for one in record["rows"]]
    if len(set(named)) < len(named):
        raise InputError(f"{found} holds an arm and seed twice: delete it and make it again")
    return record


def table(found: dict) -> pd.DataFrame:
    """One row per run: arm, seed, method, the changed fields, clean and noisy accuracy (at the experiment's sigma), every level as
    `at_<level>`, validation and validation_noisy, radius, margin, ratio, gap; best_clean where the epoch best on test was kept too.

    >>> one = {"arm": "margin", "seed": 0, "method": "proposed", "changes": {"compact": 0.0}, "geometry": {"radius": 1.5}}
    >>> one |= {"accuracy": {"0": 0.9, "0.3": 0.8}, "validation": 0.9, "validation_noisy": 0.7}
    >>> table({"sigma": 0.3, "rows": [one]})[["arm", "compact", "clean", "noisy", "at_0.3", "radius"]].to_numpy().tolist()
    [['margin', 0.0, 0.9, 0.8, 0.8, 1.5]]
    """
    rows = []
    for one in found["rows"]:
        levels = {f"at_{level}": value for level, value in one["accuracy"].items()}
        named = {"clean": levels["at_0"], "noisy": _at(one["accuracy"], found["sigma"])}
        run = {key: one[key] for key in ("arm", "seed", "method", "validation", "validation_noisy")}
        best = {"best_clean": one["best_on_test"]["accuracy"]["0"]} if "best_on_test" in one else {}
        rows.append(run | one["changes"] | one["geometry"] | levels | named | best)
    return pd.DataFrame(rows)


def _at(accuracy: dict[str, float], sigma: float) -> float:
    """The accuracy at a level, which records have in six digits."""
    (found,) = (value for level, value in accuracy.items() if abs(float(level) - sigma) < SAME)
    return found


def difference(rows: pd.DataFrame, arm: str, against: str, column: str = "noisy") -> tuple[float, float, float, int]:
    """One arm minus another, paired by seed: mean, 95 % t interval, n seeds. Raises InputError where they share no seed.

    >>> rows = pd.DataFrame({"arm": list("aabb"), "seed": [0, 1, 0, 1], "noisy": [0.8, 0.9, 0.7, 0.8]})
    >>> [round(v, 3) for v in difference(rows, "a", "b")]
    [0.1, 0.1, 0.1, 2]
    """
    left, right = (rows[rows.arm == name].set_index("seed")[column] for name in (arm, against))
    apart = (left - right).dropna()
    if not len(apart):
        raise InputError(f"{arm!r} and {against!r} share no seed: known arms are {', '.join(dict.fromkeys(rows.arm))}")
    return *seed_interval(apart), len(apart)


def chosen(rows: pd.DataFrame) -> dict[str, str]:
    """Method -> its arm that is best on the validation split, by noisy, then by clean accuracy (means over seeds); of those that have as
    many seeds as any of the method: where training broke off on some, the mean would be over those that lived.

    >>> accuracies = {"validation_noisy": [0.8, 0.8, 0.7, 0.9], "validation": [0.9, 0.9, 1.0, 1.0]}
    >>> chosen(pd.DataFrame({"method": "m", "arm": list("aabb")} | accuracies))
    {'m': 'b'}
    """
    seeds = rows.groupby(["method", "arm"], sort=False).arm.transform("size")
    whole = rows[seeds == seeds.groupby(rows.method).transform("max")]
    means = whole.groupby(["method", "arm"], sort=False)[["validation_noisy", "validation"]].mean().round(9).reset_index("arm")
    return {method: max(own.to_numpy(), key=lambda one: (one[1], one[2]))[0] for method, own in means.groupby("method", sort=False)}


def effects(rows: pd.DataFrame, pairs: dict[str, str], columns=("clean", "noisy")) -> pd.DataFrame:
    """Differences of accuracy, in points, of each arm to its partner: panel (the column), row (the arm), mean, low, high, n.

    >>> rows = pd.DataFrame({"arm": ["low rate", "plain"], "seed": 0, "clean": [0.75, 0.5], "noisy": [0.5, 0.25]})
    >>> effects(rows, {"low rate": "plain"})[["panel", "row", "mean"]].to_numpy().tolist()
    [['clean', 'low rate', 25.0], ['noisy', 'low rate', 25.0]]
    """
    found = [(column, arm, *difference(rows, arm, against, column)) for column in columns for arm, against in pairs.items()]
    table = pd.DataFrame(found, columns=["panel", "row", "mean", "low", "high", "n"])
    return table.assign(**{name: 100 * table[name] for name in ("mean", "low", "high")})


def summary(rows: pd.DataFrame, columns) -> pd.DataFrame:
    """For people: one row an arm, means over seeds with 95 % t intervals; accuracies in per cent, geometry in its own units.

    >>> rows = pd.DataFrame({"arm": ["margin"] * 3, "noisy": [0.49, 0.5, 0.51], "radius": [1.0, 2.0, 3.0]})
    >>> summary(rows, ["noisy", "radius"]).loc["margin"].to_dict()
    {'noisy': '50.0 [47.5, 52.5]', 'radius': '2.00 [-0.48, 4.48]'}
    """

    def shown(column: str, values) -> str:
        mean, low, high = seed_interval(values)
        return f"{mean:.2f} [{low:.2f}, {high:.2f}]" if column in SHAPE else cell(mean, low, high)

    own = {arm: {column: shown(column, part[column]) for column in columns} for arm, part in rows.groupby("arm", sort=False)}
    return pd.DataFrame(own).T.rename_axis("arm")


def followed(found: dict, key: str, column: str, arms) -> pd.DataFrame:
    """What an experiment's runs did during training, as a long table: arm, seed, epoch, value. key: along or trace.

    >>> found = {"rows": [{"arm": "margin", "seed": 0, "along": {"epoch": [0, 1], "radius": [0.5, 2.0]}}, {"arm": "other", "seed": 0}]}
    >>> followed(found, "along", "radius", ["margin", "other"]).to_numpy().tolist()
    [['margin', 0, 0, 0.5], ['margin', 0, 1, 2.0]]
    """
    rows = [
        (one["arm"], one["seed"], epoch, value)
        for arm in arms
        for one in found["rows"]
        if one["arm"] == arm and key in one
        for epoch, value in zip(one[key]["epoch"], one[key][column], strict=True)
    ]
    return pd.DataFrame(rows, columns=["arm", "seed", "epoch", "value"])


def caption(found: dict) -> str:
    """What stands beside every number: data, n, hardware.

    >>> caption(read("ablation")).partition(";")[0]
    '1,212 training, 135 validation, 450 test images'
    """
    seeds = {one["seed"] for one in found["rows"]}
    images, machines = found["data"]["images"], {f"{e['device']}, torch {e['torch']}" for e in found["environments"]}
    lost = Counter(one["arm"] for one in found["failed"])
    why = ", as the loss was not finite" if all("not finite" in one["reason"] for one in found["failed"]) else ""
    without = f"; without a result{why}: " + ", ".join(f"{arm} ({n} seeds)" for arm, n in lost.items()) if lost else ""
    return (
        f"{images['train']:,} training, {images['validation']:,} validation, {images['test']:,} test images; noise {found['sigma']:g} "
        f"({255 * found['sigma']:g}/255); last epoch; n = {len(seeds)} seeds, 95 % t intervals over seeds; {'; '.join(sorted(machines))}"
        f"{without}"
    )


def markdown() -> str:
    """The account, in RESULTS, of the ablation on digits.

    >>> markdown().splitlines()[0]
    '| arm | clean | noise 0.3 | radius | margin | ratio |'
    """
    found = read("ablation")
    shown = summary(table(found), ["clean", "noisy", "radius", "margin", "ratio"]).rename(columns={"noisy": f"noise {found['sigma']:g}"})
    return f"{pipes(shown)}\n\n*digits, {caption(found)}.*"


def added() -> str:
    """The account, in RESULTS, of what parts of the loss change where they are added to `both`, on each data set, in points.

    >>> added().splitlines()[0]
    '| added to both | clean images | at 8/255 | noise trained with | strongest noise | seeds |'
    """
    told, captions = {}, []
    for dataset, preset in measured.PLACES.items():
        rows = table(found := read("added", dataset, preset))
        strongest = max((name for name in rows if name.startswith("at_")), key=lambda name: float(name[3:]))
        columns = {"clean": "clean images", f"at_{round(8 / 255, 6):g}": "at 8/255", "noisy": "noise trained with"}
        columns[strongest] = "strongest noise"
        pairs = {arm: "both" for arm in dict.fromkeys(rows.arm) if arm != "both"}
        for one in effects(rows, pairs, [name for name in columns if name in rows]).itertuples():
            row = told.setdefault(f"{dataset}: {one.row.removeprefix('both + ')}", dict.fromkeys((*columns.values(), "seeds"), ""))
            row |= {columns[one.panel]: cell(one.mean / 100, one.low / 100, one.high / 100, signed=True), "seeds": str(one.n)}
        captions.append(f"{dataset}, {caption(found)}")
    return f"{pipes(pd.DataFrame(told).T.rename_axis('added to both'))}\n\n*{'. '.join(captions)}.*"


def _trace(run: Run, root) -> dict[str, list[float]]:
    """`trace_centroids`, kept beside the run."""
    path = run.folder / "centroids.json"
    if not path.exists():
        files.write_json(path, trace_centroids(run.config, root))
    return files.read_json(path)
