"""The grids of the experiments: what is taken away from the method, and what is turned. Written for the preset digits."""

from .. import InputError, one_of
from ..runs import Config

ABLATION = {
    "neither": dict(method="discriminative", compact=0.0, margin=0.0),
    "compactness": dict(method="discriminative", margin=0.0),
    "margin": dict(method="discriminative", compact=0.0),
    "compactness + margin": dict(method="discriminative"),
    "alignment": dict(method="proposed", compact=0.0, margin=0.0),
    "compactness + alignment": dict(method="proposed", margin=0.0),
    "margin + alignment": dict(method="proposed", compact=0.0),
    "proposed": dict(method="proposed"),
    "proposed + noisy CE": dict(method="proposed", ce_noisy=0.5),
}
DELTA_V, DELTA_D = (0.1, 0.5, 1.5, 4.0, 8.0), (1.0, 2.0, 5.0, 15.0)
DELTAS = {f"{v:g}, {d:g}": dict(method="proposed", delta_v=v, delta_d=d) for d in DELTA_D for v in DELTA_V}
# What moves each method along its front of clean against noisy accuracy: one field, several values.
FRONTS = {
    "proposed, λ": ("proposed", "noisy", (0.1, 0.5, 2.0, 8.0, 32.0)),
    "stability, weight": ("stability", "stability", (0.1, 0.3, 1.0, 3.0, 10.0)),
    **{f"{method}, σ": (method, "sigma", (0.1, 0.3, 0.45)) for method in ("noisy", "both", "stability", "proposed")},
}
FRONT = {f"{front} = {value:g}": {"method": method, field: value} for front, (method, field, values) in FRONTS.items() for value in values}
CENTROIDS = {
    "naive": dict(method="proposed", tracking="naive"),
    **{f"momentum, μ = {mu:g}": dict(method="proposed", tracking="momentum", mu=mu) for mu in (0.9, 0.99, 0.999)},
    **{f"partial, μ = {mu:g}": dict(method="proposed", tracking="partial", mu=mu) for mu in (0.9, 0.99, 0.999)},
}
TWICE = "normal, twice the epochs"  # of the preset: matched compute, as two views are twice the work
SWITCHES = {
    **{f"{method}, best on test": dict(method=method, best_on_test=True) for method in ("normal", "both", "proposed")},
    **{
        f"{method}, {crops} crops": dict(method=method, pad=1, crops=crops)
        for method in ("stability", "proposed")
        for crops in ("shared", "independent")
    },
    **{f"{method}, bn {bn}": dict(method=method, bn=bn) for method in ("both", "stability", "proposed") for bn in ("separate", "clean")},
    **{f"{method}, low rate": dict(method=method, lr=0.002) for method in ("normal", "both", "proposed")},
    TWICE: dict(method="normal"),
}
BASELINES = {method: dict(method=method) for method in ("normal", "noisy", "both", "stability", "discriminative", "proposed")}
RATES = {f"{method}, {lr:g}": dict(method=method, lr=lr) for method in BASELINES for lr in (0.01, 0.02, 0.05, 0.1, 0.2)}
# Which arm a switch is compared with.
AGAINST = {
    **{name: name.split(",")[0] for name in SWITCHES if ", bn " in name or name.endswith("low rate")},
    **{f"{method}, independent crops": f"{method}, shared crops" for method in ("stability", "proposed")},
    TWICE: "normal",
}
# The rows that the others hang on, few enough for real images on a CPU.
DECISIVE = {name: BASELINES[name] for name in ("normal", "both")}
DECISIVE |= {name: ABLATION[name] for name in ("compactness + margin", "alignment", "proposed")}
# What is added to `both`, half of the cross-entropy on noisy logits: the whole loss, its alignment alone, a fifth of all its weights.
ON_BOTH = dict(method="proposed", ce_noisy=0.5)
ADDED = {
    "both": BASELINES["both"],
    "both + the loss": ON_BOTH,
    "both + alignment": ON_BOTH | dict(compact=0.0, margin=0.0),
    "both + a fifth of the loss": ON_BOTH | dict(compact=0.1, noisy=0.1, margin=0.2, reg=2e-4),
}
EXPERIMENTS = {
    "ablation": ABLATION | {name: BASELINES[name] for name in ("normal", "both")},
    "centroids": CENTROIDS,
    "switches": SWITCHES | BASELINES,
    "deltas": DELTAS,
    "fronts": FRONT | BASELINES,
    "rates": RATES,
    "added": ADDED,
    "decisive": DECISIVE,
}
DEFAULT = tuple(name for name in EXPERIMENTS if name != "decisive")


def arms(experiment: str, seeds, dataset: str = "digits", preset: str | None = None) -> dict[tuple[str, int], Config]:
    """(arm, seed) -> configuration, seeds outermost, so that every arm has a first seed early. The values suit the preset digits.

    Raises InputError for an unknown experiment, and for a preset without a validation split.

    >>> list(arms("centroids", [0, 1]))[6:8]
    [('partial, μ = 0.999', 0), ('naive', 1)]
    """
    one_of("experiment", experiment, EXPERIMENTS)
    plain = Config(dataset=dataset, preset=preset)
    if plain.train_on_all:
        raise InputError(f"preset {plain.preset} trains on the validation images too, by which experiments are read: take another")
    twice = {"epochs": 2 * plain.epochs}
    return {
        (arm, seed): Config(dataset=dataset, preset=preset, seed=seed, **fields | (twice if arm == TWICE else {}))
        for seed in dict.fromkeys(seeds)
        for arm, fields in EXPERIMENTS[experiment].items()
    }
