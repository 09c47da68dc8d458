"""What the losses are meant to shape, measured on the penultimate features: radius, margin, and their scale-free relatives.

Radius and margin alone can be had without any change of a prediction, by scaling features and weights (the paper's proposition 5.3):
`ratio` and `gap` do not move with the scale.
"""

import torch
from torch import Tensor

from .centroids import class_means
from .losses import signed_distances


@torch.no_grad()
def describe(features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor) -> dict[str, float]:
    """radius: mean over classes of mean ||q_i - m_c||. margin: mean over classes of -max_j s_cj, the distance of the
    centroid to its nearest boundary. ratio: margin / radius, unchanged when features grow by s and weights by 1/s.
    gap: mean over classes of the smallest (z_c - z_j)(m_c) / std_i of (z_c - z_j)(q_i), unchanged by any invertible q -> Aq, W -> W A^-1;
    not finite where a class has a single sample.

    features (N,d), labels (N,), weight (C,d), bias (C,); the means are over the classes present.

    >>> q = torch.tensor([[3.0], [5.0], [-3.0], [-5.0]])
    >>> describe(q, torch.tensor([0, 0, 1, 1]), torch.tensor([[1.0], [-1.0]]), torch.zeros(2))
    {'radius': 1.0, 'margin': 4.0, 'ratio': 4.0, 'gap': 4.0}
    """
    q, w, b = features.double(), weight.double(), bias.double()
    itself = torch.eye(len(w), dtype=torch.bool, device=w.device)
    centroids, counts = class_means(q, labels, len(w))
    distance = torch.linalg.vector_norm(q - centroids[labels], dim=1)
    present = counts > 0
    radius = float((distance / counts[labels]).sum() / present.sum())
    margin = float(-signed_distances(centroids, w, b).masked_fill(itself, -torch.inf).amax(1)[present].mean())
    logits = q @ w.T + b
    lead = logits.gather(1, labels[:, None]) - logits  # z_c - z_j of every sample, (N,C)
    mean_lead, _ = class_means(lead, labels, len(w))
    spread = class_means((lead - mean_lead[labels]).square(), labels, len(w))[0].sqrt()
    gap = float((mean_lead / spread.masked_fill(itself, 1.0)).masked_fill(itself, torch.inf).amin(1)[present].mean())
    return {"radius": radius, "margin": margin, "ratio": margin / radius if radius else float("nan"), "gap": gap}
