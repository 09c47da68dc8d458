"""The adversary findings for people: tables, the account in RESULTS, the caption that stands beside every number."""

from pathlib import Path

import numpy as np
import pandas as pd

from ..comparison import summary
from ..evaluate import unpack
from ..support.wording import cell, pipes, seeds_told
from .adversary_rules import abstentions, accuracies, budget_name, certified, checked, sets, shown_budgets, smoothed_at


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a method, in per cent with intervals over seeds: clean, within two budgets of each norm, certified at sigma, abstaining.

    >>> shown = table(sets()["digits"])
    >>> shown.index.tolist()
    ['normal', 'noisy', 'both', 'stability', 'discriminative', 'proposed']
    >>> shown.columns.tolist()
    ['clean', 'L∞ 0.1', 'L∞ 0.15', 'L2 0.5', 'L2 0.75', 'smoothed at 0.3: right', 'certified at radius 0.3', 'abstains']
    """
    sigma = smoothed_at(rows)
    columns = {"clean": (accuracies(rows, "linf"), 0.0)}
    columns |= {budget_name(n, level): (accuracies(rows, n), level) for n, levels in shown_budgets(rows).items() for level in levels}
    columns[f"smoothed at {sigma:g}: right"] = certified(rows, sigma, [0.0]), 0.0
    columns[f"certified at radius {sigma:g}"] = certified(rows, sigma, [sigma]), sigma
    cells = {name: _cells(found[np.isclose(found.level, level)]) for name, (found, level) in columns.items()}
    return pd.DataFrame(cells).assign(abstains=pd.Series(abstentions(rows, sigma)).map("{:.1%}".format)).rename_axis("method")


def _cells(held: pd.DataFrame) -> pd.Series:
    """Mean and interval of each method; a dagger where all seeds agree, as the interval is one over images then."""
    agree = held.groupby("method").accuracy.agg(np.ptp) < 1e-9
    told = summary(held).set_index("method")[["mean", "low", "high"]].apply(lambda r: cell(*r), axis=1)
    return told + agree[told.index].map({True: " †", False: ""})


def checks_table(rows: pd.DataFrame) -> pd.DataFrame:
    """`adversary_rules.checked` by method, the worst of its networks: per cent left at the large budget, points gained by more steps,
    points that a transferred attack leaves over a direct one, points that AutoAttack takes beyond APGD; networks unmasked, of how many of
    which all was tried.

    >>> checks_table(sets()["digits"]).columns.tolist()
    ['large budget (%)', 'gained by more steps', 'transferred − direct', 'APGD − AutoAttack', 'unmasked']
    """
    found = checked(rows)
    by_method = found.groupby("method", sort=False)
    worst = {
        "large budget (%)": by_method["large"].max(), "gained by more steps": by_method.gained.max(),
        "transferred − direct": by_method.transferred.min(), "APGD − AutoAttack": by_method.gap.max(),
    }  # fmt: skip
    points = pd.DataFrame({name: (100 * values).map("{:.1f}".format) for name, values in worst.items()}).replace("nan", "not run")
    kept, tried = by_method.unmasked.sum(), by_method.tried.sum()
    return points.assign(unmasked=[f"{k} of {n}" for k, n in zip(kept, tried, strict=True)]).rename_axis(None)


def autoattack_table(rows: pd.DataFrame) -> pd.DataFrame:
    """APGD and AutoAttack at the middle budgets on the same images, all seeds of a method that had it: images left, of how many.

    >>> held = autoattack_table(sets()["digits"])
    >>> held.loc["both"].index.tolist(), bool((held.AutoAttack <= held.APGD).all())  # the stronger attack
    (['L∞ 0.1', 'L2 0.5'], True)
    """
    found = {}
    for row in rows[rows.record.map(lambda r: r["settings"]["autoattack_images"] > 0)].itertuples():
        settings = row.record["settings"]
        for norm, packed in row.record["autoattack"].items():
            at, n = settings["budgets"][norm].index(settings["middle"][norm]), settings["autoattack_images"]
            left = np.array([row.apgd[norm][at][:n].sum(), unpack(packed).sum(), n])
            key = row.method, budget_name(norm, settings["middle"][norm])
            found[key] = found.get(key, 0) + left
    return pd.DataFrame(found, index=["APGD", "AutoAttack", "of images"]).T


def between_table(found: pd.DataFrame) -> pd.DataFrame:
    """`adversary_links.between` for people: a row for each measure; slopes in points a decade.

    >>> numbers = dict(panel="‖H‖²", mean=0.25, low=0.125, high=0.5, verdict="holds")
    >>> between_table(pd.DataFrame([numbers | {"what": "rho"}, numbers | {"what": "slope"}])).loc["‖H‖²"].to_dict()
    {'ρ over methods': '+0.25 [+0.12, +0.50] holds', 'points a decade': '+25.0 [+12.5, +50.0]'}
    """

    def shown(r) -> str:
        by = 100 if r.what == "slope" else 1
        digits = 1 if r.what == "slope" else 2
        numbers = f"{by * r.mean:+.{digits}f} [{by * r.low:+.{digits}f}, {by * r.high:+.{digits}f}]"
        return f"{numbers} {r.verdict}" if r.what == "rho" else numbers

    cells = found.assign(cell=[shown(r) for r in found.itertuples(name="Row")] if len(found) else [])
    names = {"rho": "ρ over methods", "slope": "points a decade"}
    wide = cells.pivot(index="panel", columns="what", values="cell").reindex(index=list(dict.fromkeys(found.panel)))
    return wide.rename(columns=names).rename_axis(None).rename_axis(None, axis=1)


def caption(rows: pd.DataFrame) -> str:
    """What stands beside every number: data, images, n, steps, smoothing, hardware.

    >>> caption(sets()["digits"]).partition(";")[0]
    'digits, 450 test images of a fixed shuffle'
    """
    first = rows.record.iloc[0]
    settings, seeds = first["settings"], rows.groupby("method", sort=False).seed.nunique()
    machines = ", ".join(sorted({f"{r['environment']['device']}, torch {r['environment']['torch']}" for r in rows.record}))
    return (
        f"{first['config']['dataset']}, {first['data']['test_images']:,} test images of a fixed shuffle; n = {seeds_told(seeds)}, "
        f"95 % t intervals over seeds (†: over images, as all seeds agree); "
        f"APGD, {settings['steps']} steps, one start; certificates on {settings['certified_images']} images, "
        f"n0 = {settings['n0']}, n = {settings['n']:,}, α = {settings['alpha']:g}; {machines}."
    )


def markdown(folder: str | Path | None = None) -> str:
    """The account, in RESULTS, of each data set.

    >>> markdown().splitlines()[0]
    'Per cent right, digits:'
    """
    parts = [f"Per cent right, {dataset}:\n\n{pipes(table(rows))}\n\n*{caption(rows)}*" for dataset, rows in sets(folder).items()]
    return "\n\n".join(parts)
