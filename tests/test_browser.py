"""The notebooks with sliders in a real JupyterLab in a real browser: no dialog, no error, and what moves, moves."""

import importlib.util
import shutil
import time

import pytest

from penultimate.bench import lab
from penultimate.data import CACHE, HOME

SHOTS = CACHE / "screenshots"  # to be looked at
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(lab.browser() is None, reason="needs Chromium: apt-get install chromium"),
    pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="needs Playwright: pip install -e '.[test]'"),
]
# Notebook -> the sliders to be moved, by their names, and the keys that move them.
MOVED = {
    "01_losses_by_hand": {"δ_d, wanted margin": "ArrowLeft", "its angle (degrees)": "ArrowRight"},
    "03_penultimate_layer": {"noise σ": "ArrowRight", "epoch": "ArrowRight"},
    "04_noise_sweep": {"Gaussian noise σ": "ArrowRight", "deviation": "ArrowRight"},
}


@pytest.fixture(scope="module")
def open_notebook(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    for name in MOVED:
        shutil.copy(HOME / "notebooks" / f"{name}.ipynb", folder)
    with lab.opened(folder) as opened:
        yield opened


def soon(happened, seconds=30):
    """Whether something is seen within a while: a busy machine may draw long after the key."""
    deadline = time.monotonic() + seconds
    while not (seen := happened()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return seen


@pytest.mark.parametrize("name", MOVED)
def test_sliders_move_pictures_and_numbers(open_notebook, name):
    notebook = open_notebook(f"{name}.ipynb")
    assert notebook.dialogs() == 0  # such as the question for a kernel
    notebook.run_all()
    assert notebook.error_outputs() == []
    for slider, key in MOVED[name].items():
        widget = notebook.widget(slider)
        widget.scroll_into_view_if_needed()
        picture, numbers = widget.picture(), widget.numbers()
        widget.screenshot(SHOTS / f"{name}-{slider}-before.png")
        widget.press(key, times=3)
        assert soon(lambda: widget.picture() != picture), f"{slider}: the picture stands still"  # noqa: B023
        assert soon(lambda: widget.numbers() != numbers), f"{slider}: the numbers stand still"  # noqa: B023
        widget.screenshot(SHOTS / f"{name}-{slider}-after.png")
    assert notebook.errors == [] and notebook.error_outputs() == []
