"""Road scenes drawn by a procedure: a SYNTHETIC set to try one's own folder with; no photograph, and nothing to conclude about roads."""

from pathlib import Path

import numpy as np

KINDS = ("straight", "left", "right", "junction")
WEATHER = ("day", "night", "rain")
# sky, ground, road, markings
COLOURS = {
    "day": ((150, 195, 235), (95, 135, 70), (95, 95, 100), (240, 240, 230)),
    "night": ((12, 14, 30), (18, 24, 18), (38, 38, 44), (150, 150, 120)),
    "rain": ((120, 126, 134), (72, 88, 68), (70, 73, 78), (185, 188, 190)),
}
FINE = 4  # drawn larger, then reduced, so that edges are smooth


def draw(kind: str, weather: str, rng: np.random.Generator, size: tuple[int, int] = (64, 48)):
    """A scene as a PIL picture: the road from below to the horizon, straight, bending left or right, or with a road across it.

    >>> draw("left", "rain", np.random.default_rng(0)).size
    (64, 48)
    """
    from PIL import Image, ImageDraw

    width, height = (FINE * side for side in size)
    tint = lambda colour: tuple(int(v) for v in np.array(colour) * rng.uniform(0.85, 1.1) * rng.uniform(0.96, 1.04, 3))  # noqa: E731
    sky, ground, road, marking = map(tint, COLOURS[weather])
    image = Image.new("RGB", (width, height), ground)
    pen = ImageDraw.Draw(image)
    horizon = rng.uniform(0.35, 0.5) * height
    pen.rectangle((0, 0, width, horizon), fill=sky)
    bend = {"left": -1, "right": 1}.get(kind, 0) * rng.uniform(0.25, 0.5) * width
    start, lean, half = width * rng.uniform(0.4, 0.6), width * rng.uniform(-0.08, 0.08), width * rng.uniform(0.28, 0.4)
    far = np.linspace(0, 1, 24)  # from the lower edge to the horizon
    rows, middle = height + far * (horizon - height), start + lean * far + bend * far**2
    edge = lambda side, share=1.0: list(zip(middle + side * share * half * (1 - 0.9 * far), rows, strict=True))  # noqa: E731
    if kind == "junction":
        at, thick = horizon + rng.uniform(0.25, 0.45) * (height - horizon), rng.uniform(0.12, 0.2) * (height - horizon)
        pen.rectangle((0, at - thick, width, at + thick), fill=road)
    pen.polygon(edge(-1) + edge(1)[::-1], fill=road)
    for k in range(0, 22, 4):  # the broken line in the middle
        pen.polygon(edge(-1, 0.05)[k : k + 3] + edge(1, 0.05)[k : k + 3][::-1], fill=marking)
    if kind == "junction":
        pen.rectangle((0, at - 0.6 * thick, width, at + 0.6 * thick), fill=road)  # no line where the roads cross
    if weather == "night":
        image = _headlights(image, horizon)
    if weather == "rain":
        pen = ImageDraw.Draw(image)
        for x, y in rng.uniform((0, 0), (width, height), (60, 2)):
            pen.line((x, y, x - 0.02 * width, y + 0.08 * height), fill=(165, 170, 176), width=FINE // 2)
    return image.resize(size, Image.Resampling.BOX)


def _headlights(image, horizon: float):
    """Light on what lies ahead, fading towards the horizon and the sides."""
    from PIL import Image

    values = np.asarray(image).astype(float)
    y, x = np.mgrid[: values.shape[0], : values.shape[1]]
    near = ((y - horizon) / (values.shape[0] - horizon)).clip(0, 1)
    light = near * np.exp(-(((x / values.shape[1] - 0.5) / 0.3) ** 2))
    return Image.fromarray((values * (1 + 1.8 * light[..., None])).clip(0, 255).astype(np.uint8))


def write(folder: str | Path, per_class: int = 120, seed: int = 0) -> Path:
    """Write the set as folder/<kind>/<weather> <number>.png, of several sizes; half as many junctions. The same seed, the same pictures.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sorted(path.relative_to(folder).as_posix() for path in write(folder, per_class=2).rglob("*.png"))[:4]
    ['junction/day 000.png', 'left/day 000.png', 'left/night 001.png', 'right/day 000.png']
    """
    folder, rng = Path(folder), np.random.default_rng(seed)
    for kind in KINDS:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(per_class // 2 if kind == "junction" else per_class):
            weather, side = WEATHER[number % len(WEATHER)], int(rng.integers(48, 80))
            path, scene = folder / kind / f"{weather} {number:03d}.png", draw(kind, weather, rng, (side, 3 * side // 4))
            if not path.exists():  # its date is part of what tells whether a folder has changed
                scene.save(path)
    return folder
