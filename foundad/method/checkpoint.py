"""Reads checkpoints of FoundAD's authors into our models and writes them back; no code in a file is executed.

Their file is ``torch.save`` of a dict: ``predictor`` (state dict), ``projector`` (None, or the extra linear layer of
dinosiglip), ``epoch``, ``lr``. Tensors are kept bit for bit in both directions, and so is the mask token, which they
save and never use.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from foundad.config.encoder import Encoder
from foundad.detection.bank import Preparation
from foundad.detection.model import Model, Part
from foundad.device import ON_CPU, Compute
from foundad.encoders.tensors import as_state, cannot_read, kind_of, load_stored
from foundad.errors import BrokenFile, MachineError, UserError
from foundad.failures import require
from foundad.files import write_beside
from foundad.method.detector import MASK_TOKEN, Detector
from foundad.method.settings import Settings

NAMES = {  # their name -> our name, up to the first dot
    "predictor_embed": "embed",
    "predictor_blocks": "blocks",
    "predictor_norm": "norm",
    "predictor_proj": "head",
    "predictor_pos_embed": "position_embedding",
    MASK_TOKEN: MASK_TOKEN,
}


def to_ours(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state dict under our names; raises KeyError with the first unknown name."""
    return {_renamed(name, NAMES): value for name, value in state.items()}


def to_released(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state dict under the authors' names."""
    return {_renamed(name, {ours: theirs for theirs, ours in NAMES.items()}): value for name, value in state.items()}


def import_checkpoint(path: Path, method: Settings, encoder: Encoder, top_k: int, out: Path) -> None:
    """Write the authors' checkpoint ``path`` as a model that ``foundad predict`` reads.

    Raises:
        UserError: the file is not a checkpoint in the authors' format, or does not fit ``method`` or ``encoder``.
    """
    stored = _read(path)
    try:
        state = to_ours(stored["predictor"])
    except KeyError as error:
        raise UserError(f"{path}: {error.args[0]!a} is not a weight of FoundAD's projector") from None
    if stored.get("projector") is not None:
        raise UserError(f"{path}: holds a second projector (dinosiglip); that layer is not part of this method")
    for name, tensor in state.items():
        if tensor.layout != torch.strided or not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{path}: {name!a} does not hold finite floating-point numbers; get the file again")
    detector = Detector(method, seed=0)
    try:
        detector.restore({name: tensor.float().contiguous().numpy() for name, tensor in state.items()})
    except (RuntimeError, KeyError, ValueError, IndexError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: does not fit {method.file}, key 'projector': {reason}") from None
    channels = state["embed.weight"].shape[1]
    if channels != encoder.channels:
        raise UserError(f"{path}: is for {channels} channels, but {encoder.file} has {encoder.channels}")
    if encoder.tokens != "raw":
        raise UserError(f"{encoder.file}: key 'tokens' is {encoder.tokens}; the authors' checkpoints need raw tokens")
    model = Model(method, encoder, 0, top_k)
    none = np.empty((0, encoder.grid**2, channels), np.float32)
    model.parts[Part()] = (Preparation.of("raw", none), detector)
    model.origin = {key: stored[key] for key in ("epoch", "lr") if _is_number(stored.get(key))}
    _written(out, lambda: model.save(out))


def export_checkpoint(path: Path, out: Path) -> None:
    """Write the model ``path`` as a checkpoint in the authors' format.

    Raises:
        UserError: the model is not FoundAD, has one projector per category, or has an MLP projector.
    """
    model = read_model(path)
    if not isinstance(model.method, Settings) or list(model.parts) != [Part()]:
        raise UserError(f"{path}: is not a pooled FoundAD model; the authors' format holds only one projector")
    if model.method.projector.type != "vit":
        raise UserError(f"{path}: has an MLP projector, which the authors' format cannot hold")
    state = model.parts[Part()][1].state()
    if MASK_TOKEN not in state:
        state = {MASK_TOKEN: np.zeros((1, 1, state["embed.weight"].shape[0]), np.float32)} | state
    checkpoint = {
        "predictor": {name: torch.from_numpy(array.copy()) for name, array in to_released(state).items()},
        "projector": None,
        "epoch": model.origin.get("epoch", 0),
        "lr": model.origin.get("lr", model.method.training.learning_rate),
    }

    def write() -> None:
        with write_beside(out) as temporary:
            torch.save(checkpoint, temporary)

    _written(out, write)


def read_model(path: Path, compute: Compute = ON_CPU) -> Model:
    """Read the model of a cell, or an imported one, and check that its numbers are finite.

    Raises:
        UserError: the file is not a model of this program.
        BrokenFile: the file is a model, but damaged.
        UpstreamFailure: the fit failed; the message is its reason.
        MachineError: the file cannot be read on this machine.
    """
    try:
        require([path])
    except OSError as error:
        raise cannot_read(path, error) from None
    except ValueError:
        raise BrokenFile(f"{path}: is damaged; delete it and make it again") from None
    if kind_of(path) != "safetensors":
        raise UserError(f"{path}: is a file of torch.save, not a model of this program; see foundad import-checkpoint")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
        if not metadata or not any("foundad" in key for key in metadata):
            raise UserError(f"{path}: holds tensors, but not a model of this program; name a cell's model.safetensors")
        model = Model.load(path, compute)
    except (UserError, MemoryError):
        raise
    except OSError as error:
        raise MachineError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # a damaged file, or wrong settings in it, can raise anything
        reason = " ".join(str(error).split())[:160] or "no reason given"
        raise BrokenFile(
            f"{path}: is a damaged model ({type(error).__name__}: {reason}); delete it and make it again"
        ) from None
    for preparation, detector in model.parts.values():
        for array in (preparation.mean, preparation.deviation, *detector.state().values()):
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise BrokenFile(f"{path}: holds numbers that are not finite; delete it and make it again")
    return model


def _read(path: Path) -> dict[str, Any]:
    """The authors' checkpoint as a dict whose ``predictor`` is a dict of tensors."""
    stored = load_stored(path)
    if not isinstance(stored, dict) or not isinstance(stored.get("predictor"), dict):
        raise UserError(f"{path}: is not a checkpoint of FoundAD's authors: there is no state dict 'predictor' in it")
    return stored | {"predictor": as_state(stored["predictor"], path)}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _written(out: Path, write: Callable[[], None]) -> None:
    """Call ``write`` for ``out``; raises UserError if ``out`` is a folder, MachineError if it cannot be written."""
    if out.is_dir():
        raise UserError(f"{out}: is a folder; name a file with --out")
    try:
        write()
    except OSError as error:
        raise MachineError(f"{out}: cannot be written: {error.strerror or error}") from None


def _renamed(name: str, names: Mapping[str, str]) -> str:
    head, dot, rest = name.partition(".")
    if head not in names:
        raise KeyError(name)
    return names[head] + dot + rest
