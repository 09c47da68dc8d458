"""UMAP of penultimate features, kept beside the run: a picture for the eye, whose distances and areas are not to scale."""

import numpy as np
import torch

from .progress import no_bars
from .runs import Run
from .study.lookup import Lookup
from .support import files


def embedding(run: Run, seen: Lookup, neighbors: int = 15) -> np.ndarray:
    """UMAP positions (L,N,2): fitted on the clean features (level 0), the features of each noise level transformed into that map.

    Kept in the run's folder; where it has to be made, a line says so (the first time takes the better part of a minute: the
    library is compiled). Positions depend on the machine and on the library's version; nothing should be tested on them.
    """
    path, named = (
        run.folder / "lookup" / "umap.safetensors",
        {"features": files.digest(torch.from_numpy(seen.features)), "neighbors": str(neighbors)},
    )
    if kept := files.kept(path, named, {"positions": (*seen.features.shape[:2], 2)}):
        return kept["positions"].numpy()
    from tqdm.auto import tqdm

    print(f"{run.config.method}: making a UMAP of {seen.features.shape[1]} images at {len(seen.features)} levels", flush=True)
    import umap  # takes many seconds

    clean = seen.features[0].astype(np.float32)
    fitted = umap.UMAP(n_neighbors=min(neighbors, len(clean) - 1), min_dist=0.2, random_state=0, n_jobs=1).fit(clean)
    steps = tqdm(seen.features[1:].astype(np.float32), desc="UMAP of noisy features", unit="level", leave=False, disable=no_bars())
    positions = np.stack([fitted.embedding_, *(fitted.transform(noisy) for noisy in steps)])
    files.keep(path, {"positions": torch.from_numpy(positions.astype(np.float32))}, named)
    return positions
