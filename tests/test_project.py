"""What holds the project together: packages, ignore rules, README's code."""

import re
import subprocess
import tomllib

import yaml

from penultimate.data import HOME


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


def test_conda_users_get_the_same_set():
    environment = yaml.safe_load((HOME / "environment.yml").read_text())
    (through_pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert through_pip == ["-r requirements.txt", "-e ."]
    (python,) = (entry for entry in environment["dependencies"] if str(entry).startswith("python="))
    assert tuple(map(int, python.removeprefix("python=").split("."))) >= (3, 11)


def test_no_ignore_rule_swallows_the_library():
    for path in ("lib/penultimate/data.py", "lib/penultimate/new.py", "data/records/digits-digits/x.json", "tests/new.py"):
        assert subprocess.run(["git", "check-ignore", "-q", path], cwd=HOME).returncode == 1


def test_readmes_training_loop_runs():
    (block,) = re.findall(r"```python\n(.*?)```", (HOME / "README.md").read_text(), re.S)
    scope = {}
    exec(block, scope)
    assert scope["total"].isfinite() and scope["loss"].tracker.seen.all()
