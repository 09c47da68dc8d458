"""What holds the project together: packages, ignore rules, README's code."""

import ast
import pkgutil
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

import penultimate
from penultimate import methods
from penultimate.commands import cli
from penultimate.data import HOME
from penultimate.methods import METHODS


def pins(name):
    return re.findall(r"^([\w.-]+)==([\w.]+)", (HOME / name).read_text(), re.M)


def test_every_package_is_pinned_without_an_address():
    for name in ("requirements.txt", "requirements-cuda.txt"):
        lines = [line for line in (HOME / name).read_text().splitlines() if line and not line.startswith(("#", "-c "))]
        assert len(lines) == len(pins(name)) and "://" not in "".join(lines)


def test_pins_cover_what_the_project_asks_for():
    project = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]
    asked = {re.match(r"[\w-]+", wanted)[0] for wanted in project["dependencies"] + project["optional-dependencies"]["test"]}
    assert asked <= {name for name, _ in pins("requirements.txt")}


def test_the_command_that_is_installed_exists():
    (entry,) = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]["scripts"].values()
    assert pkgutil.resolve_name(entry) is cli.main


def test_conda_users_get_the_same_set():
    environment = yaml.safe_load((HOME / "environment.yml").read_text())
    (through_pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert through_pip == ["-r requirements.txt", "-e ."]
    (python,) = (entry for entry in environment["dependencies"] if str(entry).startswith("python="))
    assert tuple(map(int, python.removeprefix("python=").split("."))) >= (3, 11)


def test_no_ignore_rule_swallows_the_library():
    for path in ("lib/penultimate/data.py", "lib/penultimate/new.py", "data/records/digits-digits/x.json", "tests/new.py"):
        assert subprocess.run(["git", "check-ignore", "-q", path], cwd=HOME).returncode == 1


def slug(heading):
    """The anchor that a heading gets: lower case, no punctuation, hyphens for blanks."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", ["README.md", "RESULTS.md", "CLUSTER.md", "data/README.md"])
def test_links_within_the_project_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", (HOME / page).read_text()):
        name, _, anchor = target.partition("#")
        path = (HOME / page).parent / name if name else HOME / page
        assert path.exists(), target
        if anchor:
            assert anchor in {slug(heading) for heading in re.findall(r"^#+ (.+)$", path.read_text(), re.M)}, target


def test_readmes_training_loop_runs():
    *_, block = re.findall(r"```python\n(.*?)```", (HOME / "README.md").read_text(), re.S)
    scope = {}
    exec(block, scope)
    assert scope["total"].isfinite() and scope["loss"].tracker.seen.all()


def test_what_the_library_offers_shows_its_use():
    """Every public function of the modules that all pages share, of what they stand on, and of what the study makes of runs has an example
    (or shows what it refuses), which runs as a doctest; in `methods` one serves all."""
    without = {"embed.embedding": "UMAP takes many seconds to import", "progress.no_bars": "its answer is the terminal's"}
    without |= dict.fromkeys(("engines.handed_out", "engines.watched", "engines.gone", "engines.cluster"), "needs a cluster")
    without |= dict.fromkeys(("devices.compiles", "devices.graphs_of", "memory.keep_freed"), "its answer is the machine's")
    without |= dict.fromkeys(("adversary.measure", "adversary.with_autoattack", "curvature_records.measure"), "needs a trained network")
    without |= dict.fromkeys(("transfer.severities", "transfer.measure"), "needs trained networks")
    judging = ("adversary_rules.claims", "curvature_rules.claims", "transfer_rules.claims", "evidence.explained")
    judging += ("claims_tables.table", "claims_tables.numbers")
    without |= dict.fromkeys(judging, "judges all records, which takes seconds")
    makers = ("claims_tables", "curvature_tables", "published", "rates", "switches", "transfer_tables")
    without |= {f"{name}.markdown": "a table of RESULTS, which shows it" for name in makers}
    shown_by = {"files.read_tensors": "write_tensors", "files.kept": "keep", "own.settings": "settle", "pictures.decode": "own.read"}
    shown_by |= dict.fromkeys(("integrity.finished", "integrity.damage", "integrity.clear"), "finish")
    shown_by |= {"adversary_rules.sets": "certified", "transfer_rules.sets": "caption"}
    lacking, home = set(), HOME / "lib" / "penultimate"
    for path in sorted([*home.glob("*.py"), *(home / "support").glob("*.py"), *(home / "study").glob("*.py")]):
        module = ast.parse(path.read_text())
        for node in module.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and ">>>" not in (ast.get_docstring(node) or ""):
                lacking.add(f"{path.stem}.{node.name}")
    assert lacking == {*without, *shown_by, *(f"methods.{name}" for name in METHODS)} and ">>>" in methods.__doc__


def test_each_module_knows_only_those_before_it():
    """In the order that __init__.py gives, which names every module of the library; what a function imports when called is left aside."""
    home = Path(penultimate.__file__).parent
    told = penultimate.__doc__.partition("Modules, each knowing only those before it:")[2]
    order = re.findall(r"\w+", re.split(r"\bcli\b", told)[0])
    modules = {path.stem: path for path in home.rglob("[a-z]*.py") if path.parent.name != "bench" and not path.stem.startswith("cli")}
    assert sorted(order) == sorted(["bench", *modules])
    for name, path in modules.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.level:
                named = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
                later = {*named} & set(order[order.index(name) :])
                assert not later, f"{name} uses {later}, which come after it"
