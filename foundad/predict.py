"""``foundad predict``: scores pictures with the model of a cell and writes a heatmap for each."""

import hashlib
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from foundad.data.frame import patches_inside, windows
from foundad.data.images import load_image
from foundad.detection.model import Model
from foundad.device import Compute, Precision
from foundad.encoders import build_encoder
from foundad.encoders.base import FrozenEncoder, to_input
from foundad.encoders.extraction import encode
from foundad.errors import MachineError, UserError
from foundad.files import write_beside
from foundad.method.checkpoint import read_model
from foundad.metrics.maps import smooth, upsample

SUFFIX = "_anomaly.png"
OUT = Path("predictions")  # a folder of its own: a heatmap beside a picture would become a picture of the dataset
LONGEST = 200  # bytes of a heatmap's name; file systems allow 255, and the temporary file's name is longer


@dataclass(frozen=True)
class Scored:
    """A picture with its score: patch scores [1,G,G] float32, and where the picture lies in them."""

    name: Path
    picture: Image.Image
    patch_scores: np.ndarray
    window: np.ndarray | None
    score: float


def predict(
    run: Path,
    images: Sequence[Path],
    category: str | None,
    out: Path | None,
    device: str,
    precision: Precision | None = None,
) -> None:
    """Print score and verdict of every picture and write its heatmap, at the picture's size, into the folder ``out``.

    The verdict compares the score with the model's threshold, which is learned from normal images alone. Scores are
    computed in the precision of the model's run unless another ``precision`` is given. The colours of all heatmaps run
    from the lowest to the highest patch score of all given pictures.

    Raises:
        UserError: ``run`` is not a cell, a heatmap is there already, or some pictures cannot be read or scored (the others
            are scored first).
    """
    path = run / "model.safetensors" if run.is_dir() else run
    if not path.is_file():
        raise UserError(_no_model(run))
    model = _at_run_precision(path, Compute(device), precision)
    names = list(dict.fromkeys(Path(os.path.normpath(name)) for name in images))
    heatmaps = heatmap_paths(names, out or OUT)
    _require_free(heatmaps.values())
    model.threshold(category)  # refuses an unknown category before anything is encoded
    encoder = build_encoder(model.encoder, model.compute)
    errors, scored, limits = [], [], []
    for name in names:
        try:
            found, shown = _score(model, encoder, name, category)
        except MachineError:
            raise
        except UserError as error:
            errors.append(str(error))
            continue
        limits += [float(shown.min()), float(shown.max())]
        scored.append(found)
    for found in scored:
        heatmap = heatmaps[found.name]
        _write_heatmap(model, found, (min(limits), max(limits)), heatmap)
        print(f"{found.name}\t{found.score:.6g}\t{verdict(found.score, model.threshold(category))}\t{heatmap}")
    if errors:
        raise UserError("\n".join(errors))


def _no_model(run: Path) -> str:
    """The line for a ``run`` without a model: which is no cell, or one that is still to be made."""
    wanted = "results/cells/<dataset>/<encoder>/<method>/k<shots>-s<seed>"
    if re.fullmatch(r"k\d+-s\d+", run.name):
        made = f"snakemake --cores all {run / 'model.safetensors'} (with the run's --configfile)"
        return f"{run}: there is no model of this cell; make it with: {made}"
    missing = "holds no model.safetensors" if run.is_dir() else "there is no such folder"
    return f"{run}: {missing}; name the folder of a cell, {wanted}, which a run makes: snakemake --cores all"


def _require_free(heatmaps: Iterable[Path]) -> None:
    """UserError where a heatmap is there already: it may be that of another picture or model."""
    taken = [path for path in heatmaps if os.path.lexists(path)]
    if taken:
        more = f", and {len(taken) - 1} more are" if len(taken) > 1 else ""
        raise UserError(
            f"{taken[0]}: is there already{more}; choose another folder with --out, or remove what is there"
        )


def _at_run_precision(path: Path, compute: Compute, precision: Precision | None) -> Model:
    """The model in the precision of its run: a threshold for bfloat16 scores does not fit float32 scores."""
    model = read_model(path, compute)
    wanted = precision or model.precision
    if wanted != model.precision:
        told = f"computes in {wanted}; the threshold was learned in {model.precision} and may not fit these scores"
        print(told, file=sys.stderr)
    return model if wanted == compute.precision else read_model(path, replace(compute, precision=wanted))


def _score(model: Model, encoder: FrozenEncoder, name: Path, category: str | None) -> tuple[Scored, np.ndarray]:
    """A picture with its score, and its patch scores without the padding [n] float32.

    Raises:
        UserError: it cannot be read, or its score is not a number.
    """
    picture = load_image(name)
    grid = model.encoder.grid
    pixels = to_input(picture, model.encoder)[None].copy()
    seen = {view: encode(encoder, pixels, view, model.arrays) for view in model.views}
    window = windows(model.encoder, [picture.size])
    inside = patches_inside(window, grid)
    patch_scores, image_scores = model.score(seen, category, inside, [name.name])
    if not (np.isfinite(patch_scores).all() and np.isfinite(image_scores).all()):
        raise UserError(f"{name}: its score is not a finite number; check encoder and model")
    shown = patch_scores.ravel() if inside is None else patch_scores[inside]
    return Scored(name, picture, patch_scores.reshape(1, grid, grid), window, float(image_scores[0])), shown


def _write_heatmap(model: Model, found: Scored, scale: tuple[float, float], path: Path) -> None:
    """The picture with its anomaly map laid over it, colours from ``scale``."""
    from foundad.report.overlay import overlay

    picture = found.picture
    anomaly_map = upsample(found.patch_scores, (picture.height, picture.width), found.window)[0]
    if model.method.smoothing:
        # The key smoothing counts pixels at the encoder's image size.
        deviation = model.method.smoothing * picture.height / model.encoder.image_size
        anomaly_map = smooth(anomaly_map[None], deviation)[0]
    try:
        with write_beside(path) as temporary:
            Image.fromarray(overlay(np.asarray(picture), anomaly_map, scale)).save(temporary, format="PNG")
    except OSError as error:
        raise MachineError(
            f"{path}: cannot be written: {error.strerror or error}; choose a folder with --out"
        ) from None


def heatmap_paths(names: Sequence[Path], out: Path) -> dict[Path, Path]:
    """The path of every picture's heatmap in ``out``: its stem, after the folders needed to tell the pictures apart.

    Names that are too long for a file system are cut, and a hash replaces the rest.

    Raises:
        UserError: two pictures would share a heatmap, or a heatmap would overwrite a picture.
    """
    parts = {name: Path(os.path.abspath(name)).with_suffix("").parts for name in names}
    for count in range(1, max(map(len, parts.values()), default=1) + 1):
        found = {name: out / _file_name("_".join(own[-count:]).replace("/", "")) for name, own in parts.items()}
        if len(set(found.values())) == len(names):
            break
    taken: dict[Path, Path] = {}
    for name, path in found.items():
        if path in taken:
            raise UserError(
                f"{name}: its heatmap {path} would overwrite that of {taken[path]}; predict one of them with another --out"
            )
        if os.path.abspath(path) in {os.path.abspath(other) for other in names}:
            raise UserError(f"{name}: its heatmap would overwrite the picture {path}; choose another folder with --out")
        taken[path] = name
    return found


def _file_name(stem: str) -> str:
    """``stem`` as the name of a heatmap, at most ``LONGEST`` bytes."""
    data = os.fsencode(stem)
    if len(data) + len(SUFFIX) > LONGEST:
        digest = hashlib.sha256(data).hexdigest()[:12]
        stem = data[: LONGEST - len(SUFFIX) - 13].decode("utf-8", "ignore") + f"-{digest}"
    return stem + SUFFIX


def verdict(score: float, threshold: float | None) -> str:
    """``normal``, ``anomalous``, or a dash if the model had too few normal images for a threshold."""
    if threshold is None:
        return "-"
    return "anomalous" if score > threshold else "normal"
