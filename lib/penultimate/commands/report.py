"""What a study leaves behind: records, executed notebooks, figures and one page; and the tables and pictures of README and RESULTS."""

import itertools
import re
from pathlib import Path

import pandas as pd

from .. import InputError, data, figures, records
from ..bench import compare, slider
from ..data import HOME, short
from ..runs import Run
from ..show import figures_features
from ..study import (
    adversary_tables,
    claims_tables,
    curvature_tables,
    experiments,
    films,
    published,
    rates,
    reliability,
    replays,
    switches,
    transfer_tables,
)
from ..support import files
from ..support.wording import counted
from . import execution

README, RESULTS = HOME / "README.md", HOME / "RESULTS.md"
SHOWN = {"digits": ("digits", "digits"), "cifar10": ("cifar10", "small")}  # README's marker -> data set and preset

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>penultimate: {{ dataset }}</title>
<style>body{font:16px/1.5 "Open Sans",Helvetica,Arial,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;margin:1em 0;font-size:13px}td,th{padding:.3em .7em;text-align:right;border-bottom:1px solid #ddd}
td{white-space:nowrap}
th:first-child,td:first-child{text-align:left}caption{text-align:left;font-weight:bold;padding:.4em 0}
.note{color:#555;font-size:14px}</style>
<h1>Does a tight penultimate layer make a classifier robust to noise?</h1>
<p>Ways of training on {{ dataset }} (preset {{ preset }}), after arXiv 2405.18499: {{ methods }}. Accuracies are on the test split.</p>
{% for picture in pictures %}{{ picture }}{% endfor %}
{% for study in studies %}<h2>{{ study.title }}</h2><p>{{ study.answer }}</p><p class="note">{{ study.caption }}</p>
{% for heading, table in study.tables %}<h3>{{ heading }}</h3>{{ table }}{% endfor %}{% endfor %}
</html>"""


def pictures(folder: Path | None, dataset: str, preset: str) -> dict:
    """The figures of a data set, from its records: name -> figure."""
    rows, found = records.headline(folder, dataset, preset), records.read(folder, dataset, preset)
    sigma, asked = records.trained_at(rows), [found[0]["config"][name] for name in ("delta_v", "delta_d")]
    named = short(dataset)
    scale = "" if preset == named else f", preset {preset}, width {found[0]['config']['width']}"
    on = f"{named}{scale}, n = {records.seeds_told(rows.groupby('method', sort=False).seed.nunique())}, 95 % intervals"
    planes = plane_picture(films.read(folder or records.COMMITTED, dataset, preset))
    return planes | {
        f"{named}-accuracy": figures.accuracy_curves(rows, f"Accuracy under Gaussian noise ({on})", sigma),
        f"{named}-gains": figures.gains(rows, [0.0, sigma], f"Difference to normal training, paired ({on})"),
        f"{named}-against": figures.against_each(rows, [0.0, sigma], f"proposed minus each rival, paired ({on})"),
        f"{named}-geometry": figures_features.radius_and_margin(
            records.geometry(found), *asked, f"Radius and margin of the classes ({named}{scale}, one mark per run)"
        ),
    }


def plane_picture(reels: dict[str, dict]) -> dict:
    """The centroid planes at the end of training, where there are films of it."""
    if not reels:
        return {}
    config = next(iter(reels.values()))
    title = f"The centroid plane at the end of training ({short(config['config']['dataset'])}, one seed of each)"
    scenes = {method: films.scenes(reel)[-1] for method, reel in reels.items()}
    deltas = config["config"]["delta_v"], config["config"]["delta_d"]
    return {f"{short(config['config']['dataset'])}-planes": figures_features.planes_beside(scenes, *deltas, title, config["classes"])}


def page(out: Path, folder: Path | None, dataset: str, preset: str) -> None:
    """One HTML file that needs nothing else: tables of these records, the committed ones beside them, interactive figures."""
    from jinja2 import Template

    sources = {"This study": folder} if folder else {}
    if records.COMMITTED.is_dir() and records.read(None, dataset, preset):  # not there where the library alone is installed
        sources["The committed records"] = None
    for source in sources.values():
        if lacking := {"normal", "proposed"} - set(records.headline(source, dataset, preset).method):
            raise InputError(f"a report compares proposed with normal: there are no records of {' and '.join(sorted(lacking))}")
    studies = [
        dict(
            title=title,
            answer=records.answer(records.headline(f, dataset, preset)).replace("`", ""),
            caption=records.caption(records.read(f, dataset, preset)),
            tables=_tables(f, dataset, preset),
        )
        for title, f in sources.items()
    ]
    if not studies:
        raise InputError(
            f"no records of {dataset} with preset {preset}: name the folder of a study as --records (its default: {data.CACHE / 'study'}), "
            "or train it first (python -m penultimate train --help)"
        )
    if len(sources) == 2:
        studies.insert(
            0,
            dict(
                title="Side by side",
                caption="Mean accuracy in per cent: this study / committed.",
                tables=[("", _beside(folder, dataset, preset))],
            ),
        )
    drawn = pictures(folder, dataset, preset).values()
    methods = ", ".join(records.headline(folder, dataset, preset).method.unique())
    html = [figure.to_html(full_html=False, include_plotlyjs=not i) for i, figure in enumerate(drawn)]
    files.write(out, Template(PAGE).render(dataset=short(dataset), preset=preset, methods=methods, studies=studies, pictures=html).encode())


def _tables(folder: Path | None, dataset: str, preset: str) -> list[tuple[str, str]]:
    rows = records.headline(folder, dataset, preset)
    even = []
    if rows.balanced.notna().all():
        even = [("Balanced accuracy (the mean over classes) in per cent", _html(records.wide(records.summary(rows, "balanced"))))]
    return [
        ("Accuracy in per cent, mean [95 % interval]", _html(records.wide(records.summary(rows)))),
        *even,
        ("Difference to normal training in points, paired", _html(records.wide(records.differences(rows), signed=True))),
    ]


def _beside(folder: Path, dataset: str, preset: str) -> str:
    means = [records.summary(records.headline(f, dataset, preset)).set_index(["method", "level"])["mean"].mul(100) for f in (folder, None)]
    joined = pd.concat(means, axis=1, keys=["ours", "committed"]).dropna()
    cells = (joined.ours.map("{:.1f}".format) + " / " + joined.committed.map("{:.1f}".format)).unstack()
    cells.columns = [records.level_name(level) for level in cells.columns]
    return _html(cells.loc[list(dict.fromkeys(joined.index.get_level_values("method")))])


def _html(table: pd.DataFrame) -> str:
    return table.rename_axis(None).to_html(border=0)


def study(runs: list[Run], out: Path, device: str = "cpu") -> Path:
    """Records, figures, report.html and executed notebooks of these runs, under `out`; returns the page's path."""
    dataset, preset = runs[0].config.dataset, runs[0].config.preset
    records.collect([run.record for run in runs], out / "records")
    if (more := len(records.read(out / "records", dataset, preset)) - len(runs)) > 0:
        print(f"{counted(more, 'record')} more of earlier studies of this data in {out / 'records'}: the report tells of them too")
    films.collect(runs, out / "records")
    drawn = pictures(out / "records", dataset, preset)
    if not figures.export(list(drawn.values()), [out / "figures" / f"{name}.png" for name in drawn]):
        print("No Chrome or Chromium found: figures are in report.html only. With one installed they are also written as pictures.")
    page(out / "report.html", out / "records", dataset, preset)
    given = {"dataset": dataset, "preset": preset, "seed": runs[0].config.seed, "device": device}
    given["trained"] = ",".join(dict.fromkeys(run.config.method for run in runs))
    try:
        execution.run(out.resolve(), given)
    except InputError as error:
        raise InputError(f"{error}; {out / 'report.html'} and the figures are written") from error
    return out / "report.html"


def outcome(found: list[dict]) -> str:
    """The account of runs at their last epoch: accuracy per method and noise level, the answer and differences to `normal`, the caption."""
    rows = _last(found)
    accuracy, gained = records.wide(records.summary(rows)), records.wide(records.differences(rows), signed=True)
    parts = [
        "Test accuracy in per cent, by standard deviation of the Gaussian noise:", records.pipes(accuracy),
        "<details><summary>Differences in points, paired: <code>proposed</code> minus each, each minus <code>normal</code></summary>",
        records.answer(rows), "Minus `normal`:", records.pipes(gained), "</details>",
        f"*{records.caption(found)}*",
    ]  # fmt: skip
    return "\n\n".join(parts)


def _last(found: list[dict]) -> pd.DataFrame:
    return records.table(found).query("checkpoint == 'last'")


def in_short() -> str:
    """What the claim comes down to: `proposed` minus plain cross-entropy on clean images, and on the same two views, at every scale; bold
    where the interval leaves zero out."""
    scales = {}
    for found in (*(records.read(None, *which) for which in SHOWN.values()), published.found("brief")):
        config = found[0]["config"]
        scales[f"{config['dataset']}, width {config['width']}, {config['epochs']} epochs"] = _last(found)
    columns, rows = ["clean images", "at 8/255", "at the noise trained with", "at the strongest"], []
    for rival, (scale, own) in itertools.product(("normal", "both"), scales.items()):
        row = {"proposed minus": f"`{rival}`", "on": scale} | dict.fromkeys(columns, "")
        for column, level in zip(columns, (0.0, 8 / 255, records.trained_at(own), own.level.max()), strict=True):
            nearest = min(own.level, key=lambda known, level=level: abs(known - level))
            if abs(nearest - level) < 1e-5:  # digits were not measured at 8/255
                apart = records.against(own, nearest).loc[rival]
                cell = records.cell(apart["mean"], apart.low, apart.high, signed=True)
                row |= {column: f"**{cell}**" if apart.low * apart.high > 0 else cell, "seeds": f"{apart.n:.0f}"}
        rows.append(row)
    return records.pipes(pd.DataFrame(rows).set_index("proposed minus"))


def full_width() -> dict:
    """README's first picture: accuracy at full width, from the committed records; its caption there tells seeds and hardware."""
    found = published.found("brief")
    own, title = _last(found), f"Accuracy under Gaussian noise: CIFAR-10, ResNet18 of full width, {found[0]['config']['epochs']} epochs"
    return {"full-width-accuracy": figures.accuracy_curves(own, title, records.trained_at(own))}


MAKERS = {marker: lambda which=which: outcome(records.read(None, *which)) for marker, which in SHOWN.items()} | {
    "short": in_short, "brief": lambda: outcome(published.found("brief")), "rates": rates.markdown,
    "ablation": experiments.markdown, "added": experiments.added, "switches": switches.markdown, "transfer": transfer_tables.markdown,
    "curvature": curvature_tables.markdown, "adversary": adversary_tables.markdown, "claims": claims_tables.markdown,
    "published": published.markdown, "bench": compare.committed, "sliders": slider.markdown, "reliability": reliability.markdown,
    "replays": replays.markdown,
}  # fmt: skip


def renew(text: str) -> str:
    """The text of README or RESULTS with every table between its markers made again from the committed records."""
    for marker, make in MAKERS.items():
        pattern = rf"(<!-- {marker}: generated -->\n).*?(<!-- end -->)"
        if re.search(pattern, text, re.S):
            text = re.sub(pattern, lambda found, make=make: f"{found[1]}{make()}\n{found[2]}", text, flags=re.S)
    return text


def publish() -> None:
    """Renew the tables of README and RESULTS, and in figures/ the pictures that README shows, from the committed records."""
    if not README.exists():
        raise InputError(f"no README.md in {HOME}: clone the project and install it with pip install -e .")
    for told in (README, RESULTS):
        files.write(told, renew(told.read_text(encoding="utf-8")).encode())
    text = README.read_text(encoding="utf-8")
    for dataset, preset in SHOWN.values():
        reels = films.read(records.COMMITTED, dataset, preset)
        if f"(figures/{dataset}-training.gif)" in text:
            epochs = range(len(next(iter(reels.values()))["epochs"]))
            figures.animate([figures_features.film_frame(reels, i) for i in epochs], HOME / "figures" / f"{dataset}-training.gif")
    named = set(re.findall(r"\(figures/([\w-]+)\.png\)", text))
    made = full_width() | {name: figure for dataset, preset in SHOWN.values() for name, figure in pictures(None, dataset, preset).items()}
    drawn = {name: figure for name, figure in made.items() if name in named}
    if not figures.export(list(drawn.values()), [HOME / "figures" / f"{name}.png" for name in drawn]):
        raise InputError("figures/ needs Chrome or Chromium to be drawn: install one; the tables are renewed")
    print(f"renewed README.md, RESULTS.md and {', '.join(f'figures/{name}.png' for name in drawn)}")
