"""``foundad predict``: scores pictures with the model of a cell and writes a heatmap for each."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Unpack

import numpy as np
from PIL import Image

from foundad.api import Detector, Options, Prediction
from foundad.data.given import picture_of
from foundad.errors import MachineError, UserError
from foundad.files import write_beside

SUFFIX = "_anomaly.png"
OUT = Path("predictions")  # a folder of its own: a heatmap beside a picture would become a picture of the dataset
LONGEST = 200  # bytes of a heatmap's name; file systems allow 255, and the temporary file's name is longer


def predict(
    run: Path,
    images: Sequence[Path],
    category: str | None,
    out: Path | None,
    page: Path | None = None,
    **options: Unpack[Options],
) -> None:
    """Print score and verdict of every picture and write its heatmap, at the picture's size, into the folder ``out``.

    ``page`` is a file for one page of all pictures; heatmaps are written beside it only if ``out`` is given.

    The verdict compares the score with the model's threshold, which is learned from normal images alone. Scores are
    computed in the precision of the model's run unless another ``precision`` is given. The colours of all heatmaps run
    from the lowest to the highest patch score of all given pictures.

    Raises:
        UserError: ``run`` is not a cell, a heatmap is there already, or some pictures cannot be read or scored (the others
            are scored first).
    """
    detector = Detector.load(run, **options)
    names = list(dict.fromkeys(Path(os.path.normpath(name)) for name in images))
    heatmaps = heatmap_paths(names, out or OUT) if out or page is None else {}
    _require_free([*heatmaps.values(), *([page] if page else [])])
    found = detector.predict(names, category, strict=False)
    limits, rows = found.limits, zip(found.names, found.scores, found.verdicts, strict=True)
    for number, (name, score, verdict) in enumerate(rows):
        heatmap = heatmaps.get(Path(name))
        if heatmap is not None:
            _write_heatmap(found, number, limits, heatmap)
        print(f"{name}\t{score:.6g}\t{verdict}\t{heatmap or page}")
    if page is not None:
        write_page(found, f"{detector.model.method.label}, {detector.model.encoder.title}: {run}", page)
    if found.problems:
        raise UserError("\n".join(found.problems))


def _require_free(heatmaps: Iterable[Path]) -> None:
    """UserError where a heatmap or page is there already: it may be that of another picture or model."""
    taken = [path for path in heatmaps if os.path.lexists(path)]
    if taken:
        more = f", and {len(taken) - 1} more are" if len(taken) > 1 else ""
        raise UserError(
            f"{taken[0]}: is there already{more}; choose another folder with --out, or remove what is there"
        )


def write_page(found: Prediction, model: str, path: Path, title: str = "Predictions") -> None:
    """One page of all pictures of ``found``, with a threshold to move; ``model`` says in a line what scored them."""
    from foundad.report.predictions import Heading, Scored, write_predictions

    def scored(number: int) -> Scored:
        pixels, shown = _shown(found, number, found.limits)
        return Scored(found.names[number], float(found.scores[number]), float(found.thresholds[number]), pixels, shown)

    try:
        write_predictions(path, Heading(title, model, found.problems), map(scored, range(len(found))))
    except OSError as error:
        raise MachineError(f"{path}: cannot be written: {error.strerror or error}; choose another --page") from None


def _shown(found: Prediction, number: int, scale: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Picture ``number`` [H,W,3] uint8, and the same with its anomaly map laid over it, colours from ``scale``."""
    from foundad.report.overlay import overlay

    # Read again: all pictures together may not fit in memory.
    pixels = np.asarray(picture_of(found.names[number]))
    return pixels, overlay(pixels, found.map_of(number), scale)


def _write_heatmap(found: Prediction, number: int, scale: tuple[float, float], path: Path) -> None:
    """Picture ``number`` with its anomaly map laid over it, colours from ``scale``."""
    try:
        with write_beside(path) as temporary:
            Image.fromarray(_shown(found, number, scale)[1]).save(temporary, format="PNG")
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
