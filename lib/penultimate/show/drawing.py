"""Figures as files and in notebooks: PNGs and GIFs by the browser that Kaleido drives."""

import io
import logging
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import plotly.graph_objects as go
import plotly.io as pio

from ..support import files

PATIENCE = 180  # seconds for a browser to draw a batch of figures


def export(figures: list[go.Figure], paths: list[Path]) -> bool:
    """Write PNGs at twice the size in one batch (each start of the browser takes seconds); False where no Chrome runs.

    Of browsers that start at once on a busy machine one may never answer, and Kaleido would wait for ever: after PATIENCE it is ended, and
    another one tries, once.
    """
    from choreographer.errors import BrowserClosedError, BrowserDepsError, BrowserFailedError, ChromeNotFoundError

    logging.getLogger("choreographer.channels.pipe").addFilter(_matters)
    sizes = {side: [figure.layout[side] for figure in figures] for side in ("width", "height")}
    with tempfile.TemporaryDirectory() as folder:
        drawn = [Path(folder) / f"{i}.png" for i in range(len(paths))]  # an older picture at its path must not pass for a new one
        for _ in range(2):
            ended = threading.Event()
            watch = threading.Timer(PATIENCE, _end_browsers, [ended])
            watch.daemon = True
            watch.start()
            try:
                pio.write_images(figures, [str(path) for path in drawn], scale=2, **sizes)  # says nothing of a figure that it cannot draw
            except (ChromeNotFoundError, BrowserDepsError, BrowserFailedError, BrowserClosedError):
                if not ended.is_set():
                    return False
            finally:
                watch.cancel()
            if not ended.is_set():
                break
        for figure, new, path in zip(figures, drawn, paths, strict=True):
            if not new.exists():
                raise RuntimeError(f"plotly could not draw {path.name} ({figure.layout.title.text}): figure.to_image() says why")
            files.write(path, new.read_bytes())
    return True


def _matters(record: logging.LogRecord) -> bool:
    """Whether to say what the browser's pipe logs: not, with a traceback, that a message came in pieces and is ignored."""
    return "JSONError decoding message" not in record.getMessage()


def _end_browsers(ended: threading.Event) -> None:
    """Set the event, and end every Chrome or Chromium that this process has started."""
    import psutil

    ended.set()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "chrom" in child.name():
                child.kill()


def animate(figures: list[go.Figure], path: Path, milliseconds: int = 450) -> bool:
    """Write figures as the frames of a GIF that holds its last frame for three seconds; False where no Chrome runs."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i:03d}.png" for i in range(len(figures))]
        if not export(figures, paths):
            return False
        frames = [Image.open(frame).convert("RGB").reduce(2).quantize(256, dither=Image.Dither.NONE) for frame in paths]
    path.parent.mkdir(parents=True, exist_ok=True)
    times = [milliseconds] * (len(frames) - 1) + [3000]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=times, loop=0, optimize=True)
    return True


def _palette(path: Path) -> bytes:
    """A PNG in 128 colours: a chart does not miss the others, and has a quarter of the size, so that notebooks stay small."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.open(path).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def show(*figures: go.Figure) -> None:
    """Static pictures in a notebook, readable where no kernel runs; without a Chrome or Chromium the interactive ones and a hint."""
    from IPython.display import Image, display

    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i}.png" for i in range(len(figures))]
        drawn = export(list(figures), paths)
        for figure, path in zip(figures, paths, strict=True):
            display(Image(_palette(path), width=figure.layout.width) if drawn else figure)
    if not drawn:
        print("No Chrome or Chromium found: the figures above need a running JupyterLab. With one installed they are pictures.")
