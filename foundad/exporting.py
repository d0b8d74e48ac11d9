"""``foundad export --onnx``: the model of a cell as one ONNX file, from pixels to score, anomaly map and verdict.

The file holds the encoder, the preparation of its tokens, the detector, the image score and the map. Its input are
pictures resized to the encoder's input; decoding and resizing stay outside. It is written in float32, for batches of any
size. Exported are the methods of :data:`GRAPHS`, which have their scoring here as a torch module.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foundad.config.base import dump
from foundad.data.frame import bilinear_weights
from foundad.detection.model import Model, Part
from foundad.device import Compute
from foundad.encoders import build_encoder
from foundad.encoders.base import FrozenEncoder, normalised
from foundad.errors import MachineError, UserError
from foundad.files import write_beside
from foundad.method.checkpoint import read_model
from foundad.method.projector import patch_residuals

if TYPE_CHECKING:
    from foundad.detection.protocol import Detector

OPSET = 18
PIXELS, SCORE, MAP, VERDICT = "pixels", "score", "map", "anomalous"


class Refused(Exception):
    """A fitted detector cannot be exported; the message is the reason."""


class Residual(nn.Module):
    """FoundAD: mean squared residual of the projector, tokens [B,N,D] -> [B,N]."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.projector, self.normalise = detector.projector, detector.settings.normalise_tokens

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = F.normalize(tokens, dim=-1) if self.normalise else tokens
        return patch_residuals(self.projector(tokens), tokens)


class Nearest(nn.Module):
    """Distance of every token of [B,N,D] to the nearest one of a memory, [B,N], computed from differences.

    cosine: tokens are scaled to length one, and the distance is one minus the cosine.
    """

    memory: Tensor
    half_squares: Tensor

    def __init__(self, detector: Any, cosine: bool = False) -> None:
        super().__init__()
        self.cosine = cosine
        self.register_buffer("memory", torch.from_numpy(detector.memory.vectors.copy()))
        self.register_buffer("half_squares", torch.from_numpy(detector.memory.half_squares.copy()))

    def forward(self, tokens: Tensor) -> Tensor:
        if self.cosine:
            tokens = tokens / tokens.square().sum(-1, keepdim=True).clamp(min=1e-24).sqrt()
        queries = tokens.flatten(0, 1)
        rows = (queries @ self.memory.T - self.half_squares).argmax(1)
        squares = (queries - self.memory[rows]).square().sum(-1)
        distances = squares / 2 if self.cosine else squares.sqrt()
        return distances.view(tokens.shape[:2])


def _anomalydino(detector: Any) -> nn.Module:
    if detector.masks:
        raise Refused("it masks the background by the principal component of each picture; set its key mask to false")
    return Nearest(detector, cosine=True)


# Detector -> its scoring as a module from prepared tokens [B,N,D] to patch scores [B,N]; it may raise Refused.
GRAPHS: dict[str, Callable[["Detector"], nn.Module]] = {
    "foundad": Residual,
    "knn": Nearest,
    "anomalydino": _anomalydino,
}


class Whole(nn.Module):
    """uint8 pictures [B,S,S,3] -> image scores [B], anomaly maps [B,S,S] and whether each is anomalous [B] bool."""

    mean: Tensor
    std: Tensor
    shift: Tensor
    scale: Tensor
    spread: Tensor

    def __init__(self, model: Model, encoder: FrozenEncoder, category: str | None) -> None:
        super().__init__()
        preparation, detector = model.parts[Part(category)]
        settings, method = model.encoder, model.method
        self.network, self.scoring, self.kind = encoder.network, GRAPHS[method.detector](detector), preparation.kind
        self.grid = settings.grid
        tokens = settings.grid**2
        self.count = min(tokens, model.top_k if method.top_share is None else max(1, int(method.top_share * tokens)))
        threshold = model.threshold(category)
        self.threshold = float("inf") if threshold is None else threshold
        for name, array in (("mean", encoder.mean), ("std", encoder.std)):
            self.register_buffer(name, array.clone())
        for name, values in (
            ("shift", preparation.mean),
            ("scale", preparation.deviation),
            ("spread", _spread(settings.grid, settings.image_size, method.smoothing)),
        ):
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values, np.float32)))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # Through float16, in which features and banks store tokens.
        tokens = self.network(normalised(pixels, self.mean, self.std)).half().float()
        patch_scores = self.scoring(self.prepared(tokens))
        scores = patch_scores.topk(self.count, dim=1).values.mean(dim=1)
        maps = self.spread @ patch_scores.view(-1, self.grid, self.grid) @ self.spread.T
        return scores, maps, scores > self.threshold

    def prepared(self, tokens: Tensor) -> Tensor:
        """As :meth:`foundad.detection.bank.Preparation.apply`."""
        if self.kind == "standardised":
            return (tokens - self.shift) / self.scale
        if self.kind == "unit":
            return tokens / tokens.square().mean(-1, keepdim=True).clamp(min=1e-12).sqrt()
        return tokens


def _spread(grid: int, size: int, smoothing: float) -> np.ndarray:
    """[S,G]: the rows of a map from rows of patch scores, interpolated and smoothed as in :mod:`foundad.metrics.maps`."""
    weights = bilinear_weights(grid, size)
    if not smoothing:
        return weights
    from scipy import ndimage

    return np.asarray(ndimage.gaussian_filter1d(weights, smoothing, axis=0, output=np.float32))


def export_onnx(cell: Path, out: Path, category: str | None = None) -> None:
    """Write the model of ``cell``, a folder or a model's file, as ``out``.

    Metadata holds threshold, method, encoder, category and how pictures are resized, each as JSON.

    Raises:
        UserError: the method or the encoder's ``size_mode`` cannot be exported; the line says why.
        MachineError: the package onnx is not installed, or ``out`` cannot be written.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise MachineError(f"the package {error.name} is not installed; pip install 'foundad[onnx]'") from None
    model = read_model(cell / "model.safetensors" if cell.is_dir() else cell, Compute())
    reason = _refusal(model)
    if reason:
        raise UserError(f"{cell}: {model.method.label} cannot be exported: {reason}")
    settings = model.encoder
    category = category if Part() not in model.parts else None
    model.threshold(category)  # refuses an unknown category
    try:
        whole = Whole(model, build_encoder(settings, model.compute), category).eval()
    except Refused as error:
        raise UserError(f"{cell}: {model.method.label} cannot be exported: {error}") from None
    graph = _graph_of(whole, settings.image_size)
    facts = {
        "threshold": model.threshold(category),
        "method": dump(model.method),
        "encoder": dump(settings),
        "category": category,
        "resize": {"side": settings.image_size, "interpolation": settings.interpolation, "mode": settings.size_mode},
    }
    onnx.helper.set_model_props(graph, {name: json.dumps(value) for name, value in facts.items()})
    try:
        with write_beside(out) as temporary:
            temporary.write_bytes(graph.SerializeToString(deterministic=True))
    except OSError as error:
        raise MachineError(f"{out}: cannot be written: {error.strerror or error}") from None


def _refusal(model: Model) -> str:
    """Why the model cannot be exported; empty if it can."""
    method = model.method
    if "truth" in method.needs or "ids" in method.needs:
        return "its scores do not come from the pictures"
    if method.detector not in GRAPHS:
        return f"only {', '.join(sorted(GRAPHS))} have a graph in foundad/exporting.py"
    if method.bank.queries:
        return "it scores several views of a picture"
    if method.score_size is not None:
        return "its image score is read from the map (key score_size)"
    if model.encoder.size_mode != "squash":
        return f"its encoder fits pictures by {model.encoder.size_mode} (key size_mode); only squash is exported"
    return ""


def _graph_of(whole: Whole, side: int) -> Any:
    """The ONNX model of ``whole`` for pictures of ``side`` pixels, in batches of any size."""
    pixels = torch.zeros((2, side, side, 3), dtype=torch.uint8)
    with torch.inference_mode():
        program = torch.onnx.export(
            whole,
            (pixels,),
            input_names=[PIXELS],
            output_names=[SCORE, MAP, VERDICT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None, "nothing is written to a file here"
    return program.model_proto
