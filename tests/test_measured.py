"""Records that commands measure of stored runs: made where none is, and found again where they were put."""

import dataclasses
import itertools

import pytest

from penultimate import InputError, cli, experiments, explanation, files, jobs, measured, records, resistance, shifts
from penultimate.runs import Config, Run

READERS = {"curvature": explanation.read, "transfer": shifts.read, "adversary": resistance.read}


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
    for config in of_a_folder:
        files.write_json(measured.path_of(config, tmp_path), committed(kind, config))
    severities = records.COMMITTED / "transfer" / "digits-digits" / measured.SEVERITIES
    files.write_json(tmp_path / "my_pictures-digits" / measured.SEVERITIES, files.read_json(severities))
    for config in of_a_folder:
        found = READERS[kind](tmp_path, config.dataset, config.preset)
        runs = [record["config"] for record in (found.records if kind == "transfer" else found.record)]
        assert [(run["method"], run["seed"]) for run in runs] == [("normal", 2), ("normal", 10), ("proposed", 2), ("proposed", 10)]
    again = of_a_folder[0].name.replace("-s10-", "-s10-again-")
    record = committed(kind, of_a_folder[0])
    records.collect([record | {"name": again}], tmp_path)
    with pytest.raises(InputError, match=rf"2 {kind} records of .*method proposed, seed 10 \(.*{again}.*\): keep one in the folder"):
        READERS[kind](tmp_path, of_a_folder[0].dataset, "digits")


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

    (tmp_path / "pics").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jobs, "train_all", asked)
    names = []
    for dataset in ("pics", str(tmp_path / "pics")):
        with pytest.raises(InputError, match="enough"):
            cli.app([command, "--dataset", dataset, "--preset", "small"], standalone_mode=False)
    assert names[0] == names[1] and all(name.startswith("pics-small-") for name in names[0])
