"""``foundad predict``: scores pictures with the model of a cell and writes a heatmap beside each."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from foundad.data.frame import patches_inside, to_input, windows
from foundad.data.images import load_image
from foundad.detector import Model
from foundad.device import Compute
from foundad.encoders import build_encoder
from foundad.errors import UserError
from foundad.failures import require
from foundad.features import encode
from foundad.files import write_beside
from foundad.metrics.maps import smooth, upsample

SUFFIX = "_anomaly.png"


def predict(run: Path, images: Sequence[Path], category: str | None, out: Path | None, device: str) -> None:
    """Print score and verdict of every picture and write its heatmap, at its own size, beside it or into ``out``.

    The verdict is that of the model's threshold, learned from normal images alone. The heatmaps' colours run from the
    lowest patch score of all given pictures to the highest.

    Raises:
        UserError: ``run`` is no cell, or some pictures cannot be read (the others are scored first).
    """
    from foundad.report.gallery import overlay

    path = run / "model.safetensors" if run.is_dir() else run
    if not path.is_file():
        raise UserError(f"{run}: holds no model.safetensors; name the folder of a cell, such as results/cells/…/k4-s0")
    require([path])
    compute = Compute(device)
    model = Model.load(path, compute)
    encoder = build_encoder(model.encoder, compute)
    grid, size = model.encoder.grid, model.encoder.image_size
    errors, scored, limits = [], [], []
    for name in images:
        try:
            picture = load_image(name)
        except UserError as error:
            errors.append(str(error))
            continue
        pixels = to_input(picture, model.encoder)[None].copy()
        tokens = {view: encode(encoder, pixels, view) for view in model.views}
        window = windows(model.encoder, [picture.size])
        inside = patches_inside(window, grid)
        patch_scores, image_scores = model.score(tokens.pop(""), category, tokens, inside, [name.name])
        shown = patch_scores if inside is None else patch_scores[inside]
        limits += [float(shown.min()), float(shown.max())]
        scored.append((name, picture, patch_scores.reshape(1, grid, grid), window, float(image_scores[0])))
    if scored:
        scale = (min(limits), max(limits))
        for name, picture, patch_scores, window, score in scored:
            anomaly_map = upsample(patch_scores, (picture.height, picture.width), window)[0]
            if model.method.smoothing:
                # The key counts pixels at the encoder's image size.
                anomaly_map = smooth(anomaly_map[None], model.method.smoothing * picture.height / size)[0]
            heatmap = (out or name.parent) / f"{name.stem}{SUFFIX}"
            with write_beside(heatmap) as temporary:
                Image.fromarray(overlay(np.asarray(picture), anomaly_map, scale)).save(temporary, format="PNG")
            print(f"{name}\t{score:.6g}\t{verdict(score, model.threshold(category))}\t{heatmap}")
    if errors:
        raise UserError("\n".join(errors))


def verdict(score: float, threshold: float | None) -> str:
    """``normal``, ``anomalous``, or a dash where the model had too few normal images for a threshold."""
    if threshold is None:
        return "-"
    return "anomalous" if score > threshold else "normal"
