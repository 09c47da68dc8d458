"""What the tracking of the centroids does while a run trains: how far they drift, how strong the gradient of the margin is."""

import copy
from contextlib import nullcontext

import torch

from .. import data, losses
from ..centroids import class_means
from ..jobs import NARROW, one_thread
from ..model import penultimate_features
from ..runs import Config
from ..support.splits import shuffled
from ..train import Trainer, kept_epochs


def trace_centroids(config: Config, root=None) -> dict[str, list[float]]:
    """Train once more, and at some epochs measure what the tracking of the centroids does, over the batches of one epoch.

    drift: mean over batches and classes of ||m_c - mean of q over the training images of c||, m_c as L_compact would see it; in units of
    the class radius. gradient: mean ||dL_margin / dq|| over ||dCE / dq||. Features in evaluation mode.

    >>> found = trace_centroids(Config(method="proposed", width=4, dim=8, images=64, batch=32, epochs=2))
    >>> found["epoch"], list(found)
    ([1, 2], ['epoch', 'drift', 'gradient'])
    """
    splits = data.load(config.dataset, root, config.image_size)
    trainer, rows = Trainer(config, splits, "cpu"), []
    with one_thread() if config.width <= NARROW else nullcontext():
        for epoch in range(config.epochs):
            trainer.epoch(epoch)
            if epoch + 1 in kept_epochs(config.epochs):
                rows.append({"epoch": epoch + 1} | _centroids_now(trainer))
    return {name: [one[name] for one in rows] for name in rows[0]}


def _centroids_now(trainer: Trainer) -> dict[str, float]:
    labels, head = trainer.train.labels, trainer.model.head
    q = penultimate_features(trainer.model, data.to_unit(trainer.train.images))
    means, counts = class_means(q, labels, len(head.bias))
    radius = torch.linalg.vector_norm(q - means[labels], dim=1).mean()
    drifts, shares = [], []
    for rows in shuffled(len(q)).split(trainer.config.batch)[: trainer.batches]:
        batch = q[rows].clone().requires_grad_()
        tracker = copy.deepcopy(trainer.loss.tracker)  # the look must not move what the training goes on with
        anchor, mean, present = tracker(batch, labels[rows])
        apart = losses.margin(mean, present, head.weight, head.bias, trainer.config.delta_d)
        ce = torch.nn.functional.cross_entropy(head(batch), labels[rows])
        slopes = [torch.autograd.grad(term, batch, retain_graph=True)[0].norm() for term in (apart, ce)]
        shares.append(slopes[0] / slopes[1])
        drifts.append(torch.linalg.vector_norm(anchor.detach() - means, dim=1)[present > 0].mean() / radius)
    return {"drift": round(float(torch.stack(drifts).mean()), 5), "gradient": round(float(torch.stack(shares).mean()), 6)}
