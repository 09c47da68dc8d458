"""Records that commands measure of stored runs: made where none is, and found again where they were put."""

import copy
import dataclasses
import itertools
import re

import pytest

from penultimate import InputError, jobs, records
from penultimate.commands import cli
from penultimate.runs import Config, Run, load_or_train
from penultimate.study import (
    adversary,
    adversary_rules,
    curvature_records,
    curvature_rules,
    experiments,
    measured,
    roads,
    transfer,
    transfer_rules,
)
from penultimate.support import files  # fmt: skip

READERS = {"curvature": curvature_rules.read, "transfer": transfer_rules.read, "adversary": adversary_rules.read}


def committed(kind, config):
    """What was measured of a committed run of the configuration's method, as if it were of this configuration."""
    path = next(records.COMMITTED.glob(f"{kind}/digits-digits/*-{config.method}-s0-*.json"))
    return files.read_json(path) | {"name": config.name, "config": dataclasses.asdict(config)}


@pytest.fixture
def of_a_folder(tmp_path):
    """Configurations of a data set given by its path, the seeds and methods in disorder."""
    own = dict(dataset=str(tmp_path / "my pictures"), preset="digits")
    return [Config(**own, method=method, seed=seed) for seed, method in itertools.product((10, 2), ("proposed", "normal"))]


@pytest.mark.parametrize("kind", READERS)
def test_records_of_a_data_set_given_by_its_path_are_found_and_ordered(kind, of_a_folder, tmp_path):
    with pytest.raises(InputError, match=f"no {kind} records of .*my pictures with preset digits: make them with .* {kind}$"):
        READERS[kind](tmp_path, of_a_folder[0].dataset)
    for config in of_a_folder:
        files.write_json(measured.path_of(config, tmp_path), committed(kind, config))
    severities = records.COMMITTED / "transfer" / "digits-digits" / measured.SEVERITIES
    files.write_json(tmp_path / "my_pictures-digits" / measured.SEVERITIES, files.read_json(severities))
    found = READERS[kind](tmp_path, config.dataset)
    runs = [record["config"] for record in (found.records if kind == "transfer" else found.record)]
    assert [(run["method"], run["seed"]) for run in runs] == [("normal", 2), ("normal", 10), ("proposed", 2), ("proposed", 10)]
    again = config.name.replace("-s2-", "-s2-again-")
    records.collect([committed(kind, config) | {"name": again}], tmp_path)
    with pytest.raises(InputError, match=rf"2 {kind} records of .*method normal, seed 2 \(.*{again}.*\): keep one in the folder"):
        READERS[kind](tmp_path, config.dataset)


def test_an_experiment_on_a_data_set_given_by_its_path_is_found(of_a_folder, tmp_path):
    runs = {}
    for config in of_a_folder:
        path = next(records.COMMITTED.glob(f"digits-digits/*-{config.method}-s0-*.json"))
        runs[config.method, config.seed] = Run(config, tmp_path, files.read_json(path))
    path = experiments.collect("tiny", runs, tmp_path)
    assert path.parent == tmp_path / "my_pictures-digits"
    assert experiments.read("tiny", of_a_folder[0].dataset, "digits", tmp_path) == files.read_json(path)


@pytest.mark.parametrize("command", [*READERS, "train", "experiments"])
def test_a_folder_is_the_same_data_set_by_its_relative_and_its_absolute_path(command, tmp_path, monkeypatch):
    def asked(configs, *given, **options):
        names.append([config.name for config in configs])
        raise InputError("enough")

    roads.write(tmp_path / "pics", 12, 0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jobs, "train_all", asked)
    names = []
    for dataset in ("pics", str(tmp_path / "pics")):
        with pytest.raises(InputError, match="enough"):
            cli.app([command, "--dataset", dataset, "--preset", "small"], standalone_mode=False)
    assert names[0] == names[1] and all(name.startswith("pics-small-") for name in names[0])


def test_severities_of_another_data_set_are_refused(tmp_path):
    """Of two folders with the same name, whose records lie in one place."""
    for folder in ("one", "two"):
        roads.write(tmp_path / folder / "pics", 12, 0)
    chosen = files.read_json(records.COMMITTED / "transfer" / "digits-digits" / measured.SEVERITIES)
    kept = tmp_path / "pics-small" / measured.SEVERITIES
    files.write_json(kept, chosen | {"dataset": str(tmp_path / "one" / "pics")})
    with pytest.raises(InputError, match=f"{kept} is of .*one/pics, not of .*two/pics: give another folder as --records, or delete it"):
        cli.app(["transfer", "--dataset", str(tmp_path / "two" / "pics"), "--records", str(tmp_path)], standalone_mode=False)


@pytest.fixture
def trained(monkeypatch):
    """The names that are asked of `train_all`, call by call, where nothing is trained."""
    asked = []

    def train_all(configs, *given, **options):
        asked.append([f"{config.method} {config.seed}" for config in configs])
        return [Run(config, None, {}) for config in configs]

    monkeypatch.setattr(jobs, "train_all", train_all)
    return asked


def test_curvature_leaves_the_records_that_exist(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(curvature_records, "measure", lambda run, *given: committed("curvature", run.config))
    command = ["curvature", "--methods", "normal,proposed", "--records", str(tmp_path)]
    cli.app([*command, "--seeds", "0"], standalone_mode=False)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*.json")}
    capsys.readouterr()
    cli.app([*command, "--seeds", "0-1"], standalone_mode=False)
    assert trained == [["normal 0", "proposed 0"], ["normal 1", "proposed 1"]]
    told = re.sub(r"-\w{10}: measured in \d+ s", "", capsys.readouterr().out).splitlines()
    assert told == ["2 of 4 records exist", "[1/2] digits-digits-normal-s1", "[2/2] digits-digits-proposed-s1"]
    assert len(before) == 2 and all(path.stat().st_mtime_ns == then for path, then in before.items())
    assert len(curvature_rules.read(tmp_path)) == 4


def test_adversary_adds_autoattack_and_asks_for_the_sources_of_a_missing_record_alone(trained, tmp_path, monkeypatch, capsys):
    sources = {}

    def measure(run, others, *given, **sizes):
        sources[run.config.method, run.config.seed] = {name: f"{one.config.method} {one.config.seed}" for name, one in others.items()}
        record = committed("adversary", run.config)
        return record | {"autoattack": {}, "settings": record["settings"] | {"autoattack_images": 0}}

    def attacked(record, run, images, *given):
        return record | {"autoattack": {}, "settings": record["settings"] | {"autoattack_images": min(images, 450)}}

    monkeypatch.setattr(adversary, "measure", measure)
    monkeypatch.setattr(adversary, "with_autoattack", attacked)
    command = ["adversary", "--methods", "normal,both", "--records", str(tmp_path)]
    for seeds, images in (("0", 0), ("0-1", 0), ("0", 20), ("0", 20), ("1", 900), ("1", 900)):
        cli.app([*command, "--seeds", seeds, "--autoattack-images", str(images)], standalone_mode=False)
    assert [line for line in capsys.readouterr().out.splitlines() if "exist" in line] == [
        f"{found} records exist" for found in ("0 of 2", "2 of 4", "0 of 2", "2 of 2", "0 of 2", "2 of 2")
    ]
    assert sources["both", 0] == {"normal": "normal 0"} and sources["normal", 0] == {}
    assert sources["both", 1] == {"normal": "normal 1", "another seed": "both 0"} and sources["normal", 1] == {"another seed": "normal 0"}
    assert ["normal 1", "both 1"] in trained and trained[-1] == []


@pytest.mark.parametrize("kind", ["transfer", "adversary"])
def test_a_run_on_resized_images_is_measured_on_images_of_its_size(kind, tiny, tmp_path):
    config = tiny(image_size=6, epochs=1)
    run, seen = load_or_train(config, store=tmp_path), set()
    run.model.register_forward_pre_hook(lambda model, given: seen.add(given[0].shape[-1]))
    if kind == "transfer":
        transfer.measure(run, transfer.severities([run], draws=1), images=10, draws=1)
    else:
        adversary.measure(run, {}, images=4, checked=4, certified=2, n=60)
    assert seen == {6}


@pytest.mark.parametrize("part, name, value", [("data", "test_images", 7), ("data", "fingerprint", "f"), ("settings", "sigma", 0.5)])
def test_records_of_other_images_or_settings_are_not_compared(tmp_path, part, name, value):
    found = [r for r in measured.read("curvature", None, "digits", "digits") if r["config"]["seed"] == 0][:2]
    records.collect(found, tmp_path)
    assert len(measured.read("curvature", tmp_path, "digits", "digits")) == 2
    other = copy.deepcopy(found[1])
    other[part][name] = value
    if name == "test_images":
        other["images"] = {key: values[:7] for key, values in other["images"].items()}
    records.collect([other], tmp_path)
    with pytest.raises(InputError, match=rf"curvature records of different {part} \(.* has {name} = .*{value}\): keep those of one kind"):
        measured.read("curvature", tmp_path, "digits", "digits")
