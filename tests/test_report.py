"""The study's notebooks get the parameters that they know, and one that fails is named."""

import nbformat
import pytest

from penultimate import InputError, report


def notebook(folder, name, body):
    cells = [nbformat.v4.new_code_cell('dataset = "none"', metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell(body)]
    (folder / "notebooks").mkdir(exist_ok=True)
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "notebooks" / name)


def test_parameters_arrive_where_the_notebook_has_them(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "HOME", tmp_path)
    notebook(tmp_path, "00_good.ipynb", 'print(dataset, "preset" in globals())')
    report.run_notebooks(tmp_path / "out", {"dataset": "cifar10", "preset": "small"})
    executed = nbformat.read(tmp_path / "out" / "notebooks" / "00_good.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text == "cifar10 False\n"


def test_a_notebook_that_fails_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "HOME", tmp_path)
    notebook(tmp_path, "00_bad.ipynb", "raise RuntimeError(dataset)")
    with pytest.raises(InputError, match="notebook 00_bad.ipynb failed: RuntimeError: cifar10") as error:
        report.run_notebooks(tmp_path / "out", {"dataset": "cifar10", "preset": "small"})
    assert "\n" not in str(error.value)
