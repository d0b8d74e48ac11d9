"""What a notebook needs: load or fit a detector, score pictures, evaluate anomaly maps, read the results of a study.

It calls the code of the stages, so its numbers are those of a run, bit for bit, on the same pictures in the same order
and with the same number of threads. ``foundad predict`` is built on it. Importing it imports neither torch nor pandas.

    from foundad.api import Detector, evaluate, results

    detector = Detector.load("results/cells/textures/efficientnet-lite0/foundad/k4-s0")
    found = detector.predict(["a.png", "b.png"], category="brick")
    found.scores, found.verdicts, found.maps
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, cast

import numpy as np

from foundad.config.dataset import Dataset
from foundad.config.encoder import Encoder
from foundad.config.method import Method
from foundad.data.given import listed, mask_of, name_of, picture_of
from foundad.device import Compute, Precision, choose_device, threads_limited
from foundad.errors import BrokenFile, MachineError, UserError
from foundad.paths import PATCH, Results

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

    from foundad.data.draws import Draw
    from foundad.data.given import Mask, Picture
    from foundad.detection.bank import BankTokens
    from foundad.detection.model import Model
    from foundad.metrics.category import Value

TOP_K: int = Dataset.model_fields["top_k"].default


class Options(TypedDict, total=False):
    """How to compute.

    device: ``auto`` (default), ``cpu``, ``mps``, ``cuda`` or ``cuda:N``. precision: of the encoder; the default of a
    loaded model is that of its run, else float32. threads: of the CPU (default 1, as the workflow's fits). batch_size:
    images per call of the encoder on a GPU (default 32).
    """

    device: str
    precision: Precision | None
    threads: int
    batch_size: int


@dataclass(frozen=True)
class Prediction:
    """What a detector says of n pictures.

    names: of the pictures; the path, or ``picture 3``. scores: [n] float32, higher = more anomalous. thresholds: [n]
    float32, the score above which a picture is called anomalous; NaN if the model learned none. patch_scores: [n,G,G]
    float32. sizes: width and height of the pictures in pixels. windows: [n,4] float64, where each picture lies on the
    encoder's input (:mod:`foundad.data.frame`); None if all fill it. encoder: the encoder's config. smoothing: of the
    maps, in pixels of the encoder's input. problems: a line for each picture that could not be scored, which is in none
    of the arrays.
    """

    names: list[str]
    scores: np.ndarray
    thresholds: np.ndarray
    patch_scores: np.ndarray
    sizes: list[tuple[int, int]]
    windows: np.ndarray | None
    encoder: Encoder
    smoothing: float = 0.0
    problems: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def verdicts(self) -> list[str]:
        """``anomalous``, ``normal``, or a dash where the model has no threshold."""
        return [
            "-" if np.isnan(threshold) else "anomalous" if score > threshold else "normal"
            for score, threshold in zip(self.scores, self.thresholds, strict=True)
        ]

    @cached_property
    def maps(self) -> np.ndarray:
        """Anomaly maps [n,S,S] float32 as the stage ``evaluate`` compares them with masks; S: side of the encoder's input."""
        from foundad.metrics.pixels import Maps

        size = (self.encoder.image_size, self.encoder.image_size)
        return Maps(self.patch_scores, size, self.smoothing, self.windows).part(slice(None))

    def map_of(self, number: int) -> np.ndarray:
        """The anomaly map [H,W] float32 of one picture, at the picture's own size."""
        from foundad.metrics.maps import smooth, upsample

        width, height = self.sizes[number]
        row = slice(number, number + 1)
        found = upsample(self.patch_scores[row], (height, width), None if self.windows is None else self.windows[row])
        if self.smoothing:  # counted in pixels of the encoder's input
            found = smooth(found, self.smoothing * height / self.encoder.image_size)
        return found[0]

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and the highest patch score of all pictures, without padding."""
        from foundad.data.frame import patches_inside

        inside = patches_inside(self.windows, self.encoder.grid)
        shown = self.patch_scores.ravel() if inside is None else self.patch_scores.ravel()[inside.ravel()]
        return (float(shown.min()), float(shown.max())) if len(shown) else (0.0, 0.0)


class Detector:
    """A fitted method with its encoder: pictures in, scores and maps out. Made by :meth:`load` or :meth:`fit`."""

    def __init__(self, model: "Model") -> None:
        from foundad.encoders import build_encoder

        self.model = model
        self._encoder = build_encoder(model.encoder, model.compute)

    @classmethod
    def load(cls, source: "str | os.PathLike[str]", **options: Unpack[Options]) -> "Detector":
        """The detector of a cell, ``results/cells/<dataset>/<encoder>/<method>/k<shots>-s<seed>``, or of a model's file.

        Raises:
            UserError: there is no model, or the encoder's weights are not the expected ones.
            BrokenFile: the file is damaged.
            MachineError: device or weights are not on this machine.
        """
        path = Path(source)
        file = path / "model.safetensors" if path.is_dir() else path
        if not file.is_file():
            raise UserError(_no_model(path))
        compute = _compute(options)  # before torch is imported
        from dataclasses import replace

        from foundad.method.checkpoint import read_model

        model, wanted = read_model(file, compute), options.get("precision")
        if wanted not in (None, model.precision):
            told = f"computes in {wanted}; the threshold was learned in {model.precision} and may not fit these scores"
            print(told, file=sys.stderr)
        precision = wanted or model.precision
        if precision != compute.precision:
            model = read_model(file, replace(compute, precision=precision))
        return cls(model)

    @classmethod
    def fit(
        cls,
        images: "Sequence[Picture] | Mapping[str, Sequence[Picture]]",
        encoder: str | Encoder = "efficientnet-lite0",
        method: str | Method = "foundad",
        name: str = "pictures",
        seed: int = 0,
        **options: Unpack[Options],
    ) -> "Detector":
        """A detector that learns from normal pictures.

        Args:
            images: normal pictures of one category, or category -> its pictures.
            encoder, method: ids of ``config/`` in the working folder at size demo, or the settings themselves.
            name: of the dataset. It seeds the synthetic anomalies: with the name of a study's dataset, the pictures of
                its draw and its seed, the model is that of the cell.
            seed: everything random derives from it.

        Raises:
            UserError: there are no pictures, one cannot be read, or the method needs more than normal pictures.
        """
        compute = _compute(options)
        from foundad.detection.model import Model

        settings = _settings("methods", method)
        if "truth" in settings.needs:
            raise UserError(
                f"{settings.file}: learns from the test set's truth; choose a method that learns from pictures"
            )
        model = Model(settings, _settings("encoders", encoder), seed, settings.top_k or TOP_K, compute)
        drawn, pictures = _drawn(images, name, seed)
        with threads_limited(compute.threads):
            model.fit(_bank(model, drawn, pictures))
        return cls(model)

    @property
    def threshold(self) -> float | None:
        """Score above which a picture is called anomalous; None if the model has none, or one for each category."""
        found = set(self.model.thresholds.values())
        return found.pop() if len(found) == 1 else None

    def save(self, path: "str | os.PathLike[str]") -> None:
        """Write the model as one file that :meth:`load` and ``foundad predict --run`` read."""
        self.model.save(Path(path))

    def predict(
        self,
        images: "Picture | Sequence[Picture]",
        category: str | Sequence[str] | None = None,
        strict: bool = True,
    ) -> Prediction:
        """Score pictures, in batches; files are decoded while others are encoded, and only a few are in memory.

        Args:
            images: paths, PIL images or uint8 arrays ([H,W], [H,W,3] or [H,W,4]; uint16 if grey), or a single one.
            category: of all pictures, or one for each; needed by models with one detector per category.
            strict: False leaves out pictures that cannot be scored and says so in ``problems`` of the result.

        Raises:
            UserError: a picture cannot be read, its score is not finite, or the model does not know the category.
        """
        from tqdm import tqdm

        pictures = _Pictures(listed(images))
        count = len(pictures.given)
        categories = [category] * count if category is None or isinstance(category, str) else list(category)
        if len(categories) != count:
            raise UserError(f"category: {len(categories)} categories are given for {count} pictures; give one for each")
        thresholds = {name: self.model.threshold(name) for name in dict.fromkeys(categories)}
        grid = self.model.encoder.grid
        patch_scores, scores = np.zeros((count, grid * grid), np.float32), np.zeros(count, np.float32)
        with (
            threads_limited(self.model.compute.threads),
            tqdm(total=count, desc="pictures", disable=None, file=sys.stderr) as progress,
        ):
            for rows, found, image_scores in self._scored(pictures, categories):
                patch_scores[rows], scores[rows] = found, image_scores
                progress.update(len(rows))
        kept, problems = pictures.sound(np.isfinite(patch_scores).all(axis=1) & np.isfinite(scores))
        if problems and strict:
            raise UserError("\n".join(problems))
        limits = [thresholds[categories[row]] for row in kept]
        return Prediction(
            [pictures.name(row) for row in kept],
            scores[kept],
            np.array([np.nan if value is None else value for value in limits], np.float32),
            patch_scores[kept].reshape(-1, grid, grid),
            [pictures.sizes[row] for row in kept],
            pictures.windows(self.model.encoder, kept),
            self.model.encoder,
            self.model.method.smoothing,
            problems,
        )

    def _scored(
        self, pictures: "_Pictures", categories: Sequence[str | None]
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Rows [b], patch scores [b,N] and image scores [b] of one batch after the other, grouped as in the stage ``fit``.

        Tokens wait until the last picture of their batch is encoded.
        """
        from foundad.data.frame import patches_inside
        from foundad.detection.fitting import score_batches
        from foundad.encoders.extraction import encode_files

        model, compute, grid = self.model, self.model.compute, self.model.encoder.grid
        given = range(len(categories))
        streams = [
            encode_files(self._encoder, given, compute, view, model.arrays, pictures.load) for view in model.views
        ]
        batches = {int(rows[-1]): (category, rows) for category, rows in score_batches(model, categories)}
        waiting: dict[int, tuple[dict[str, np.ndarray], ...]] = {}  # row -> its arrays under each view
        encoded = (row for parts in zip(*streams, strict=True) for row in zip(*map(_rows, parts), strict=True))
        for number, row in enumerate(encoded):
            waiting[number] = row
            if number not in batches:
                continue
            category, rows = batches[number]
            held = [waiting.pop(number) for number in rows.tolist()]
            seen = {
                view: {name: np.stack([arrays[name] for arrays in found]) for name in model.arrays}
                for view, found in zip(model.views, zip(*held, strict=True), strict=True)
            }
            inside = patches_inside(pictures.windows(model.encoder, rows.tolist()), grid)
            ids = [Path(pictures.name(number)).name for number in rows.tolist()]
            yield rows, *model.score(seen, category, inside, ids)


def _rows(arrays: Mapping[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """The arrays of one picture after the other, of arrays of a batch."""
    for values in zip(*arrays.values(), strict=True):
        yield dict(zip(arrays, values, strict=True))


def evaluate(
    maps: np.ndarray,
    masks: "Sequence[Mask] | None",
    scores: np.ndarray | None = None,
    labels: Sequence[int] | None = None,
    thresholds: np.ndarray | None = None,
    mask_threshold: int = 0,
) -> "dict[str, Value]":
    """Every metric of the pictures of one category, under both protocols, exact: id of the metric -> its value or the reason.

    >>> maps = np.zeros((2, 4, 4), np.float32)
    >>> mask = np.zeros((4, 4), np.uint8)
    >>> maps[0, :2] = mask[:2] = 1
    >>> evaluate(maps, [mask, None])["strict/p_auroc"].value
    1.0

    Args:
        maps: [n,H,W] float32, higher = more anomalous; their size is that of the evaluation.
        masks: of each picture at any size: a path, a PIL image, an array [H,W] (above ``mask_threshold`` = defect), or
            None where there is no defect. None for all: no pixel metrics.
        scores: image scores [n]; without them there are no image metrics.
        labels: 1 = anomalous; by default the pictures with a defect in their mask.
        thresholds: [n], the model's own, for the rate of false alarms.

    Raises:
        UserError: numbers of maps, masks, scores or labels differ, or a mask cannot be read.
    """
    from foundad.metrics.category import Category, evaluate_category
    from foundad.metrics.masks import find_defects

    maps = np.asarray(maps, np.float32)
    _require_whole(maps, {"masks": masks, "scores": scores, "labels": labels, "thresholds": thresholds})

    anomalous: list[int] = []

    def loaded(given: "Sequence[Mask]") -> Iterator[np.ndarray | None]:
        for one in given:
            mask = None if one is None else mask_of(one, mask_threshold)
            anomalous.append(int(mask is not None and bool(mask.any())))
            yield mask

    defects = None if masks is None else find_defects(loaded(masks), (maps.shape[1], maps.shape[2]))
    category = Category(
        np.zeros(len(maps), np.float32) if scores is None else np.asarray(scores, np.float32),
        np.asarray(anomalous if labels is None else labels),
        maps,
        defects,
        thresholds=thresholds,
    )
    return {value.metric: value for value in evaluate_category(category) if scores is not None or "/" in value.metric}


def _require_whole(maps: np.ndarray, beside: Mapping[str, Any]) -> None:
    """UserError unless there is one map per picture, one of everything ``beside`` it, and masks or labels."""
    if maps.ndim != 3:
        raise UserError(f"maps: have the shape {list(maps.shape)}; give one map [H,W] for each picture, [n,H,W]")
    for name, given in beside.items():
        if given is not None and len(given) != len(maps):
            raise UserError(f"{name}: {len(given)} are given for {len(maps)} maps; give one for each")
    if beside["masks"] is None and beside["labels"] is None:
        raise UserError("masks and labels: give at least one of them")


def results(
    folder: "str | os.PathLike[str]" = "results", table: Literal["metrics", "runs"] = "metrics"
) -> "pd.DataFrame":
    """The results of a study: a row per cell, category and metric, or per cell with its record (``runs``).

    Raises:
        UserError: the study has no such table yet.
        BrokenFile: the file is damaged.
    """
    from foundad.sealed import read_run_table

    paths = Results(Path(folder))
    found = read_run_table(paths.metrics if table == "metrics" else paths.runs)
    return cast("pd.DataFrame", found.to_pandas(use_threads=False))


# ---------------------------------------------------------------------------------------------------- pictures


class _Pictures:
    """The given pictures, loaded when they are encoded; notes their sizes, and why some cannot be loaded."""

    def __init__(self, given: "Sequence[Picture]") -> None:
        self.given = given
        self.sizes: dict[int, tuple[int, int]] = {}
        self.problems: dict[int, str] = {}

    def name(self, row: int) -> str:
        return name_of(self.given[row], row)

    def load(self, row: int) -> "Image.Image":
        """Picture ``row`` as RGB; a black one in place of one that cannot be read, so that the others' batches stay."""
        from PIL import Image

        try:
            picture = picture_of(self.given[row], row)
        except (MachineError, BrokenFile):
            raise
        except UserError as error:
            self.problems[row] = str(error)
            picture = Image.new("RGB", (64, 64))
        self.sizes[row] = picture.size
        return picture

    def sound(self, finite: np.ndarray) -> tuple[list[int], list[str]]:
        """The rows that were read and have ``finite`` [n] bool scores, and a line for each of the others."""
        for row in np.flatnonzero(~finite).tolist():
            line = f"{self.name(row)}: its score is not a finite number; check encoder and model"
            self.problems.setdefault(row, line)
        kept = [row for row in range(len(self.given)) if row not in self.problems]
        return kept, [self.problems[row] for row in sorted(self.problems)]

    def windows(self, encoder: Encoder, rows: Sequence[int]) -> np.ndarray | None:
        """Where each of ``rows`` lies on the encoder's input, as :func:`foundad.data.frame.windows` says it."""
        from foundad.data.frame import windows

        return windows(encoder, [self.sizes[row] for row in rows])


# ---------------------------------------------------------------------------------------------------- fitting


def _compute(options: Options) -> Compute:
    """How to compute; claims a GPU if the device is one, so it comes before torch is imported."""
    return Compute(
        choose_device(options.get("device", "auto")),
        options.get("threads", Compute.threads),
        options.get("batch_size", Compute.batch_size),
        options.get("precision") or Compute.precision,
    )


def _settings(kind: str, given: Any) -> Any:
    """The settings that ``given`` is the id of; ``given`` itself if it is no id."""
    from foundad.plan.catalogue import FOLDER, load_one

    return load_one(FOLDER, kind, given) if isinstance(given, str) else given


def _drawn(images: Any, name: str, seed: int) -> "tuple[Draw, list[Image.Image]]":
    """The pictures and the draw that they would be, category by category."""
    from foundad.data.draws import Draw

    given = {key: listed(found) for key, found in images.items()} if isinstance(images, Mapping) else None
    given = {name: listed(images)} if given is None else dict(sorted(given.items()))
    if not given or not all(given.values()):
        raise UserError("images: there are none of a category; a detector learns from at least one picture")
    rows = [(category, picture) for category, found in given.items() for picture in found]
    names = [name_of(picture, row) for row, (_, picture) in enumerate(rows)]
    ids = [f"{category}/{row}" for row, (category, _) in enumerate(rows)]
    draw = Draw(name, max(map(len, given.values())), seed, [category for category, _ in rows], ids, names, ids)
    return draw, [picture_of(picture, row) for row, (_, picture) in enumerate(rows)]


def _bank(model: "Model", draw: "Draw", pictures: "Sequence[Image.Image]") -> "BankTokens":
    """What the method learns from, made of ``pictures`` as the stages ``bank`` and ``fit`` make it."""
    from foundad.detection.bank import BankTokens
    from foundad.detection.fitting import fresh_bank
    from foundad.pairs.encoder import PairEncoder, encode_bank

    method, encoder = model.method, model.encoder
    if "images" in method.needs:
        return fresh_bank(draw, pictures, method, encoder, model.compute)[0]
    if "bank" not in method.needs:
        return BankTokens.empty(encoder.grid**2, encoder.channels)
    found, facts = encode_bank(PairEncoder(draw, pictures, method.bank, encoder, model.compute), model.arrays)
    bank = BankTokens.of_arrays(found[PATCH], facts)
    for name in method.arrays:
        bank = bank.with_rows(name, found[name])
    return bank


def _no_model(run: Path) -> str:
    """The line for a ``run`` without a model: which is no cell, or one that is still to be made."""
    wanted = "results/cells/<dataset>/<encoder>/<method>/k<shots>-s<seed>"
    if re.fullmatch(r"k\d+-s\d+", run.name):
        made = f"snakemake --cores all {run / 'model.safetensors'} (with the run's --configfile)"
        return f"{run}: there is no model of this cell; make it with: {made}"
    missing = "holds no model.safetensors" if run.is_dir() else "there is no such folder"
    return f"{run}: {missing}; name the folder of a cell, {wanted}, which a run makes: snakemake --cores all"
