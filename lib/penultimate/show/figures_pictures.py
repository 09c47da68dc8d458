"""Pictures of pictures: what the network is given, in rows."""

import numpy as np
import plotly.graph_objects as go

from ..figures import WIDTH, blank
from ..support.wording import level_name

GAP = 2  # white pixels between pictures


def sheet(rows: list[np.ndarray], names, title: str, wide: int = 800) -> go.Figure:
    """Rows of pictures of one size, each row with its name. rows: uint8 (n,H,W,C), C = 1 or 3; n may differ.

    >>> figure = sheet([np.zeros((3, 8, 8, 1), np.uint8), np.zeros((2, 8, 8, 1), np.uint8)], ["cats", "dogs"], "Pets")
    >>> figure.data[0].z.shape[0] / figure.data[0].z.shape[1] == (2 * 8 + GAP) / (3 * 8 + 2 * GAP)
    True
    """
    height, width = rows[0].shape[1:3]
    columns = max(map(len, rows))
    ground = np.full((len(rows) * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for r, row in enumerate(rows):
        for c, picture in enumerate(row):
            top, left = r * (height + GAP), c * (width + GAP)
            ground[top : top + height, left : left + width] = picture
    times = max(1, wide // ground.shape[1])  # whole pixels, so that none is blurred
    large = ground.repeat(times, 0).repeat(times, 1)
    margin = dict(l=150, r=10, t=60, b=10)
    figure = blank(title, width=large.shape[1] + 160, height=large.shape[0] + 70, margin=margin).add_image(z=large, hoverinfo="skip")
    for r, name in enumerate(names):
        middle = (r * (height + GAP) + height / 2) * times
        figure.add_annotation(x=-6, y=middle, text=str(name)[:20].replace("<", "&lt;"), showarrow=False, xanchor="right", font_size=14)
    return figure.update_xaxes(visible=False).update_yaxes(visible=False)


def noise_strip(images: np.ndarray, levels, verdicts: dict[str, np.ndarray], labels: np.ndarray, title: str) -> go.Figure:
    """Images as the network sees them: a row for each image, a column for each level, under each what the methods say.

    images (levels, n, H, W) in [0,1]; verdicts: method -> predicted classes (levels, n); a wrong one is struck out in red.
    """
    count, n, height, width = images.shape
    pitch, room = 1.35 * width, 0.5 * height  # between columns; below each image, for the predictions
    figure = blank(title, width=WIDTH, height=130 + 172 * n)
    for row in range(n):
        for column in range(count):
            x, y = column * pitch, -row * (height + room)
            if not column:
                figure.add_annotation(x=x - 1, y=y - height / 2, text=f"a {labels[row]}", showarrow=False, xanchor="right", font_size=14)
            figure.add_heatmap(
                z=images[column, row], x0=x, y0=y, dx=1, dy=-1, colorscale="gray", zmin=0, zmax=1, showscale=False, hoverinfo="skip"
            )
            said = []
            for method, predicted in verdicts.items():
                colour, mark = ("#222222", "") if predicted[column, row] == labels[row] else ("#C00000", "✗ ")
                said.append(f"<span style='color:{colour}'>{method} {mark}{predicted[column, row]}</span>")
            figure.add_annotation(
                x=x + width / 2 - 0.5, y=y - height + 0.3, text="<br>".join(said), showarrow=False, yanchor="top", font_size=12
            )
    for column, level in enumerate(levels):
        figure.add_annotation(
            x=column * pitch + width / 2 - 0.5,
            y=1.2,
            text=level_name(level).replace(" ", "<br>"),
            showarrow=False,
            yanchor="bottom",
            font_size=13,
        )
    hidden = dict(visible=False)
    return figure.update_layout(xaxis=hidden, yaxis=hidden | dict(scaleanchor="x"), margin=dict(l=45, r=20, t=70, b=10))
