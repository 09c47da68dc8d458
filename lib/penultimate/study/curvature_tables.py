"""The curvature findings for people: cells, tables, the account in RESULTS, the caption that stands beside every number."""

from pathlib import Path

import numpy as np
import pandas as pd

from ..comparison import verdict
from ..support.wording import level_name, pipes, seeds_told
from .curvature_decades import by_means, by_medians
from .curvature_rules import QUANTITIES, complete, flatter_than_each, quantity, sets


def shown(found: dict) -> str:
    """An estimate for a table, with its interval and, where a rule judges it, its verdict.

    >>> shown(dict(mean=0.5123, low=0.41, high=0.62, n=5, verdict="holds"))
    '+0.51 [+0.41, +0.62] holds'
    """
    return f"{found['mean']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}] {found.get('verdict', '')}".strip()


def table(found: pd.DataFrame) -> pd.DataFrame:
    """`flatter_than_each` for people: a row for each rival, a column for each quantity.

    >>> numbers = dict(mean=1.0, low=0.5, high=1.5, verdict="holds")
    >>> table(pd.DataFrame([{"panel": panel, "row": "both"} | numbers for panel in ("eq. 21", "‖H‖²")])).loc["both"].to_dict()
    {'eq. 21': '+1.00 [+0.50, +1.50] holds', '‖H‖²': '+1.00 [+0.50, +1.50] holds'}
    """
    return found.assign(cell=found.apply(shown, axis=1)).pivot(index="row", columns="panel", values="cell").rename_axis(None).rename_axis(
        None, axis=1
    ).loc[list(dict.fromkeys(found.row)), list(dict.fromkeys(found.panel))]  # fmt: skip


def linked_table(found: dict[str, dict]) -> pd.DataFrame:
    """`curvature_rules.links` of several methods for people: a row each; where a rule judges, of how many seeds the own interval, over
    images, gives the same verdict.

    >>> seeds = [(-0.5, -0.7, -0.3), (-0.1, -0.3, 0.1)]  # value, low, high over images: of the second seed alone undecided
    >>> link = dict(mean=-0.3, low=-0.5, high=-0.1, n=2, by_seed=seeds, verdict="holds")
    >>> linked_table({"both": {"rho": link}}).loc["both", "rho"]
    '-0.30 [-0.50, -0.10] holds, 1 of 2 seeds'
    """

    def cell(link: dict) -> str:
        if "verdict" not in link:
            return shown(link)
        alike = sum(verdict(-high, -low) == link["verdict"] for _, low, high in link["by_seed"])
        return f"{shown(link)}, {alike} of {link['n']} seeds"

    return pd.DataFrame({method: {key: cell(link) for key, link in links.items()} for method, links in found.items()}).T


def markdown(folder: str | Path | None = None) -> str:
    """The account, in RESULTS, of each data set: decades by which `proposed` is flatter than each rival, raw and at matched confidence, on
    the median image and between the means over images."""
    parts = []
    for (dataset, _), rows in sets(folder).items():
        rows, here = complete(rows), [name for name in QUANTITIES if name.startswith(("eq. 21", "‖H‖²")) and "twin" not in name]
        medians, means = (pipes(table(flatter_than_each(rows, by=by))[here]) for by in (by_medians, by_means))
        parts.append(f"Decades by which `proposed` is flatter than, {dataset}, median over images:\n\n{medians}")
        parts.append(f"The same between the means over images, {dataset}:\n\n{means}\n\n*{caption(rows)}*")
    return "\n\n".join(parts)


def carried(rows: pd.DataFrame, name: str = "eq. 21", share: float = 0.05) -> pd.Series:
    """By method, the part of the sum of a curvature over images that the most curved `share` of them hold, mean over seeds.

    >>> rows = pd.DataFrame([dict(method="both", network={}, images={"kappa": np.array([6.0, 2.0, 1.0, 1.0])})])
    >>> carried(rows, share=0.25).to_dict()  # one image of four
    {'both': 0.6}
    """

    def part(row) -> float:
        values = np.sort(quantity(row, name))
        return values[-max(1, round(share * len(values))) :].sum() / values.sum()

    return rows.assign(part=[part(row) for row in rows.itertuples()]).groupby("method", sort=False).part.mean()


def caption(rows: pd.DataFrame) -> str:
    """What stands beside every number: data, n, space, noise, hardware.

    >>> caption(sets()["digits", "digits"]).partition(";")[0]
    'digits, 450 test images'
    """
    first = rows.record.iloc[0]
    settings, seeds = first["settings"], rows.groupby("method", sort=False).seed.nunique()
    machines = ", ".join(sorted({f"{r['environment']['device']}, torch {r['environment']['torch']}" for r in rows.record}))
    over = {True: "t intervals over seeds", False: "bootstrap intervals over images"}
    interval = " or, where n = 1, ".join(over[several] for several in sorted(set(seeds > 1), reverse=True))
    return (
        f"{first['config']['dataset']}, {first['data']['test_images']:,} test images; n = {seeds_told(seeds)}, 95 % {interval}; "
        f"curvature in {settings['space']} space, h = {settings['step']:g}, {settings['probes']} probes; "
        f"‖H‖² is the squared Frobenius norm that automatic differentiation sees; "
        f"robustness: {settings['draws']} views at noise {level_name(settings['sigma'])}; {machines}."
    )
