"""The notebooks as committed (executed, clean, readable) and under papermill; pytest runs them under nbval as well."""

import json
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
import yaml

from penultimate.data import HOME
from penultimate.methods import METHODS

NOTEBOOKS = sorted((HOME / "notebooks").glob("*.ipynb"))
SMALL = yaml.safe_load((HOME / "tests" / "notebooks.yaml").read_text())


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def committed(request):
    return nbformat.read(request.param, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell):
    return cell.metadata.get("tags", [])


def test_every_cell_was_executed_in_order_without_error_or_warning(committed):
    """nbval passes silently on a cell that never ran."""
    assert [cell.execution_count for cell in code(committed)] == list(range(1, len(code(committed)) + 1))
    for output in (output for cell in code(committed) for output in cell.outputs):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text


def test_strictly_compared_cells_have_something_to_compare(committed):
    strict = [cell for cell in code(committed) if "nbval-check-output" in tags(cell)]
    assert len(strict) >= 2
    assert all(cell.outputs for cell in strict)


def test_a_page_without_a_kernel_shows_pictures(committed):
    assert any("image/png" in output.get("data", {}) for cell in code(committed) for output in cell.outputs)


def test_no_live_widget_is_committed(committed):
    """Without a kernel it would be an error box; the pictures before it tell the story."""
    assert "widgets" not in committed.metadata
    outputs = (output for cell in code(committed) for output in cell.outputs)
    assert not any("application/vnd.jupyter.widget-view+json" in output.get("data", {}) for output in outputs)


def test_layout(committed):
    assert committed.metadata.kernelspec.name == "python3"
    assert committed.cells[0].source.startswith("# ") and "parameters" in tags(committed.cells[1])
    assert len(code(committed)) <= 20
    assert max(len(cell.source.splitlines()) for cell in code(committed)) <= 15
    assert "write_findings" in code(committed)[-1].source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_size_and_no_path_of_a_machine(path):
    text = path.read_text(encoding="utf-8")
    assert len(text) < 1_000_000
    assert not re.search(r"""["' (=](/home/|/root/|/tmp/|/Users/|/work/|/var/)""", text)


def executed(path, folder, **further) -> dict:
    """What a page finds under papermill."""
    given = [word for name, value in (SMALL[path.stem] | further).items() for word in ("-p", name, str(value))]
    command = [sys.executable, "-m", "papermill", path.name, str(folder / path.name), "-k", "python3", "--no-progress-bar", *given]
    done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads((folder / "findings" / f"{path.stem}.json").read_text())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.slow
def test_papermill(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PENULTIMATE_CACHE", str(tmp_path))
    ASSERTED[path.stem](executed(path, tmp_path))


@pytest.mark.parametrize("kind, page", [("transfer", "06_transfer"), ("adversary", "12_adversary")])
@pytest.mark.slow
def test_a_folder_with_one_data_set_is_enough(kind, page, tmp_path, monkeypatch):
    """As the command that a page names makes it."""
    monkeypatch.setenv("PENULTIMATE_CACHE", str(tmp_path))
    shutil.copytree(HOME / "data" / "records" / kind / "digits-digits", tmp_path / "mine" / "digits-digits")
    findings = executed(HOME / "notebooks" / f"{page}.ipynb", tmp_path, **{f"{kind}_folder": tmp_path / "mine"})
    told = findings["gains" if kind == "transfer" else "networks"]
    assert told.keys() == {"digits"}


def start_here(findings):
    assert findings["seeds"] >= 5
    assert findings["gain_at_training_noise"]["both"] > 0 and findings["gain_at_training_noise"]["proposed"] > 0


def losses_by_hand(findings):
    assert findings["compactness"] == pytest.approx(findings["compactness_by_loop"], abs=1e-4) and findings["compactness"] > 0.15
    assert findings["compact_falls_when_shrinking"] and findings["margin_falls_when_growing"]


def train(findings):
    assert findings["epochs"] == 2
    assert findings["loss_falls"] == dict.fromkeys(METHODS, True)


def penultimate_layer(findings):
    assert findings["epochs"] == [0, 1, 2]
    for numbers, terms in zip(findings["numbers"].values(), findings["terms"].values(), strict=True):
        (clean, noisy), (_, away) = numbers["silhouette"], numbers["to clean centroid"]
        assert -1 < noisy < clean < 1 and away > numbers["to clean centroid"][0] > 0
        assert len(terms["compact"]) == 3 and min(terms["margin"]) >= 0
    assert all(0 <= share < 1 for shares in findings["misleading"].values() for share in shares)


def noise_sweep(findings):
    assert findings["tolerated"]["both"] > findings["tolerated"]["normal"]
    assert findings["images"] == 450 and findings["misread"].keys() == set(METHODS)
    assert all(0 < wrong < 450 for wrong in findings["misread"].values())  # two epochs: neither perfect nor nothing
    assert len(findings["others"]) == 5 and all(0 < row["proposed"] < 1 for row in findings["others"].values())
    assert len(findings["gain_cifar10"]) >= 2 * 5


def curvature(findings):
    twin, relu = (findings["eq21_at_authors_step"][f"normal, {kind}"]["ratio"] for kind in ("softplus twin", "ReLU"))
    assert twin == pytest.approx(1, abs=0.2) and relu > twin
    assert all(link["link 2 broken (share)"] == 0 for link in findings["links"])
    assert all(0.5 < link["E[S²] / 2nd order"] < 2 for link in findings["links"] if link["at"].endswith(" 2/255"))
    assert all(row["ratio"] == pytest.approx(1, abs=0.1) for row in findings["kurtosis"].values())
    for by_layer in findings["by_layer"].values():
        measured, bound, estimate = (by_layer[name].values() for name in ("measured D", "bound D / L", "estimate D / L local"))
        assert all(0 < b <= 1.001 * min(m, e) for m, b, e in zip(measured, bound, estimate, strict=True))
    assert len(findings["flatter"]["digits"]) == 5 * 7 and set(findings["linked"]["digits"]) == set(METHODS)
    assert len(findings["theorem"]) == 3 * len(METHODS) and len(findings["kinks"]["digits"]) == 2 * len(METHODS)
    assert len(findings["by_run"]) == 3 * findings["seeds"]


def transfer(findings):
    assert findings["gains"].keys() == findings["ece"].keys() == {"digits", "cifar10"}
    for gained in findings["gains"].values():  # under ten perturbations, and nine of them together
        assert len(gained) == 11 and gained["gaussian"]["both"] > 0 and gained["gaussian"]["proposed"] > 0
    assert findings["matrix"].keys() == {"none", "gaussian", "uniform", "laplace", "salt_pepper"}
    assert all(0 < ece < 0.5 for of in findings["ece"].values() for by_method in of.values() for ece in by_method.values())
    assert sum(findings["verdicts"]["specific"].values()) == sum(findings["verdicts"]["protects"].values()) == 2 * 4


def ablation(findings):
    assert findings["moved"] == 0  # proposition 5.3: no prediction changes with the scale
    for name in ("L_compact", "L_margin"):
        assert findings["falls_with_scale"][name] == (name == "L_margin")
    assert len(findings["arms"]["ablation"]) == 11 and findings["arms"]["ablation"]["normal"]["clean"] > 0.95
    assert findings["rescaling"]["margin"]["radius"] > 1.2 > 1 > findings["rescaling"]["compactness"]["radius"]


def claims(findings):
    assert findings["lines"] >= len(findings["verdicts"]) >= 30
    assert findings["verdicts"]["More robust to the noise it is trained with than normal training"] == "holds"


def adversary(findings):
    clean, *within = findings["fooled"]
    assert clean <= within[0] <= within[-1] and within[-1] > 0
    assert findings["networks"]["digits"] >= 12 and findings["unmasked"]["digits"] >= findings["networks"]["digits"] - 1
    for linked in findings["linked"]["digits"].values():
        assert linked["rho"] < 0 < linked["rho of distance"]
    apart = {(one["dataset"], one["against"]) for one in findings["apart"]}
    assert {("digits", "proposed − normal"), ("digits", "proposed − both")} <= apart


def your_images(findings):
    assert findings["synthetic"] and findings["classes"] == {"junction": 22, "left": 43, "right": 43, "straight": 43}
    tried = list(findings["suggested"].values())
    lost = [tried[0] - accuracy for accuracy in tried]
    assert all(points < 0.05 for points in lost[1:-1]) and (lost[-1] >= 0.05 - 1e-4 or len(tried) == 16)
    assert findings["trained_at"] == pytest.approx(findings["sigma"], abs=1e-6)
    assert findings["accuracy"].keys() == findings["balanced"].keys() and len(findings["accuracy"]) == 3 * 5
    assert findings["accuracy"] != findings["balanced"]  # there are half as many junctions
    assert findings["verdicts"].keys() == {"both", "proposed"}


def your_training_loop(findings):
    assert findings["width"] == 512 and findings["steps"] == 2 * 4 and findings["seen"]
    own, both, without, foreign = findings["totals"].values()
    assert len(own) == len(foreign) == 2 and own[1] < own[0] and own[0] > without[0] + 1  # the loss is there, and missing
    assert both[1] < both[0] and both[0] > without[0] + 0.5  # a cross-entropy more
    assert all(0 <= value <= 1 for values in findings["accuracy"].values() for value in values) and len(findings["accuracy"]) == 5


def paper_vs_ours(findings):
    assert 0 <= findings["finished"] <= findings["runs"]
    (gain,) = (one for one in findings["gains"] if one["what"] == "small, last epoch" and one["rival"] == "normal")
    assert gain["n"] >= 3 and gain["low"] < gain["mean"] < gain["high"]
    assert gain["lies"] == "", "the printed gain is of another scale"
    assert gain["verdict"] == ("holds" if gain["low"] > 0 else "does not hold" if gain["high"] < 0 else "undecided")


ASSERTED = {
    "00_start_here": start_here,
    "01_losses_by_hand": losses_by_hand,
    "02_train": train,
    "03_penultimate_layer": penultimate_layer,
    "04_noise_sweep": noise_sweep,
    "05_ablation": ablation,
    "06_transfer": transfer,
    "07_curvature": curvature,
    "08_paper_vs_ours": paper_vs_ours,
    "09_claims": claims,
    "10_your_images": your_images,
    "11_your_training_loop": your_training_loop,
    "12_adversary": adversary,
}
