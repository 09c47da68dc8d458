"""Pictures of pictures: what the network is given, in rows."""

import numpy as np
import plotly.graph_objects as go

from .figures import blank

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
