"""Reads files of weights from any source as named tensors; no code in a file is executed.

The weights of every library and the authors' checkpoints are read here. If a file is not what its name says, one line
says what it is. The files of the libraries check whether the tensors fit a network.
"""

import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from foundad.config.encoder import Blocks, Encoder
from foundad.errors import MachineError, UserError

Kind = Literal["safetensors", "torch"]
AGAIN = "get it again"
# Keys under which training scripts store the weights, in timm's order.
NESTED = ("state_dict_ema", "model_ema", "state_dict", "model")
WRAPPERS = re.compile(r"^(_orig_mod\.|module\.)+")  # prefixes of torch.compile and of data-parallel training

# Tensors that a file may hold besides the network's: none of them changes patch tokens.
HARMLESS = re.compile(
    r"num_batches_tracked$"
    r"|(^|\.)(mask_token|position_ids|relative_position_index|attn_mask)$"
    r"|(^|\.)rope(_embed)?\.(periods|inv_freq)$|\.bias_mask$"  # buffers that follow from the configuration
    r"|^(head|head_dist|fc|classifier|last_linear|pre_logits|fc_norm|attn_pool|pooler|lm_head)\."  # classes, pooling
    r"|^(vision_model|visual)\.(head|attn_pool|proj)\b"  # pooling heads of SigLIP and CLIP
    r"|^(text|text_model|text_projection|visual_projection|logit_scale|logit_bias)\b"  # the text towers
    r"|^(transformer\.|token_embedding|positional_embedding$|ln_final)"  # the text tower of CLIP as published
)

TEXT = re.compile(r"^(text|transformer\.)|decoder")  # blocks outside the image tower
BLOCK = re.compile(r"(^|\.)(blocks|resblocks|encoder\.layers?|layers?|h)\.(\d+)\.")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file of weights by name, on the CPU; unpacks a nested state dict and removes wrappers' prefixes.

    Raises:
        UserError: the file is not a file of weights, or is damaged; the message says what it is instead.
        MachineError: it cannot be read on this machine.
    """
    stored = load_stored(path)
    if isinstance(stored, Mapping):
        nested = next((key for key in NESTED if isinstance(stored.get(key), Mapping)), None)
        stored = stored if nested is None else stored[nested]
    tensors = as_state(stored, path)
    return {WRAPPERS.sub("", name): tensor for name, tensor in tensors.items()}


def load_in_order(network: nn.Module, path: Path, settings: Encoder) -> None:
    """Load tensors into ``network`` by position: the file has the same tensors in the same order under other names.

    Raises:
        UserError: number or shapes of the tensors differ.
    """
    tensors = read_tensors(path)
    own = network.state_dict()
    if len(tensors) != len(own):
        raise UserError(f"{path}: holds {len(tensors)} tensors, {settings.model} has {len(own)}")
    for (theirs, tensor), (name, parameter) in zip(tensors.items(), own.items(), strict=True):
        if tensor.shape != parameter.shape:
            raise UserError(
                f"{path}: {theirs} is {tuple(tensor.shape)}, {name} of {settings.model} is {tuple(parameter.shape)}"
            )
    network.load_state_dict(dict(zip(own, tensors.values(), strict=True)))


def as_state(stored: object, path: Path) -> dict[str, Tensor]:
    """``stored`` as named tensors, weights and biases in floating point.

    Raises:
        UserError: it is something else.
    """
    if not isinstance(stored, Mapping) or not stored:
        raise UserError(f"{path}: holds no named tensors; use a file with the weights of a model")
    for name, tensor in stored.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise UserError(f"{path}: {_short(name)} is a {type(tensor).__name__}, not a tensor; {AGAIN}")
        if name.endswith((".weight", ".bias")) and not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise UserError(f"{path}: {_short(name)} holds {kind}, not floating point numbers; {AGAIN}")
    return dict(stored)


def load_stored(path: Path) -> object:
    """What a file of safetensors or of ``torch.save`` holds: tensors and plain values alone.

    Raises:
        UserError, MachineError: as :func:`read_tensors`.
    """
    kind = kind_of(path)
    try:
        if kind == "safetensors":
            return load_file(path)
        return cast(object, torch.load(path, map_location="cpu", weights_only=True))
    except UnpicklingError:
        raise UserError(
            f"{path}: holds more than tensors or is damaged, and is not loaded: it could run code; {AGAIN}, as safetensors"
        ) from None
    except OSError as error:
        raise cannot_read(path, error) from None
    except MemoryError:
        raise MachineError(f"{path}: does not fit into the memory of this machine") from None
    except SafetensorError as error:
        raise UserError(f"{path}: is a damaged safetensors file ({_short(error)}); {AGAIN}") from None
    except Exception as error:  # torch's readers raise nearly everything on a damaged file
        if "allocate memory" in str(error):
            raise MachineError(f"{path}: does not fit into the memory of this machine") from None
        raise UserError(f"{path}: is a damaged file of torch.save ({type(error).__name__}); {AGAIN}") from None


def _is_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except (zipfile.BadZipFile, OSError, ValueError):
        return False


def kind_of(path: Path) -> Kind:
    """What kind of file of weights lies at ``path``, by its first bytes and its size.

    Raises:
        UserError: it is not a file of weights, is empty or truncated, or has the wrong suffix (libraries read by suffix).
        MachineError: it cannot be read on this machine.
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            head = file.read(1024)
    except OSError as error:
        raise cannot_read(path, error) from None
    if not size:
        raise UserError(f"{path}: is empty; {AGAIN}")
    if head.startswith(b"version https://git-lfs"):
        raise UserError(f"{path}: is a pointer of git-lfs, not the file itself; run: git lfs pull")
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        raise UserError(f"{path}: is a web page, not a file of weights; {AGAIN}, with the address of the file itself")
    if head.startswith(b"PK"):
        if not _is_zip(path):
            raise UserError(f"{path}: is a truncated file of torch.save, its end is missing; {AGAIN}")
        found: Kind = "torch"
    elif head[8:9] == b"{":
        _whole(path, int.from_bytes(head[:8], "little"), size)
        found = "safetensors"
    elif head[:1] == b"\x80":
        found = "torch"
    elif path.suffix == ".safetensors":
        raise UserError(f"{path}: is not a safetensors file; {AGAIN}")
    else:
        raise UserError(f"{path}: is not a file of weights (neither safetensors nor of torch.save); {AGAIN}")
    if (found == "safetensors") != (path.suffix == ".safetensors"):
        right = "a safetensors file: let its name end in .safetensors" if found == "safetensors" else "of torch.save"
        right += "" if found == "safetensors" else ": let its name end in .pth"
        raise UserError(f"{path}: is {right}")
    return found


def cannot_read(path: Path, error: OSError) -> UserError:
    """The error for a file that cannot be opened: UserError if there is no such file, else MachineError."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return UserError(f"{path}: there is no such file")
    if isinstance(error, IsADirectoryError):
        return UserError(f"{path}: is a folder; name a file in it")
    return MachineError(f"{path}: cannot be read: {error.strerror or error}")


def require_known(unexpected: Iterable[str], path: Path, model: str, source: str) -> None:
    """Raise UserError if a file holds weights that ``model`` has no place for: those of another or a deeper network."""
    foreign = [name for name in unexpected if not HARMLESS.search(name)]
    if foreign:
        raise UserError(
            f"{path}: does not fit {model} of {source}: it holds {len(foreign)} more tensors, such as "
            f"{_short(foreign[0])}; it is of another model"
        )


def require_blocks(names: Iterable[str], path: Path, settings: Encoder) -> None:
    """Raise UserError if a file holds more transformer blocks than the config says.

    Some libraries read only as many blocks as the network has and ignore the others.
    """
    if not isinstance(settings.features, Blocks):
        return
    found = [int(match[3]) for name in names if not TEXT.search(name) and (match := BLOCK.search(name))]
    count = max(found, default=0) + 1
    if count > settings.features.depth:
        raise UserError(
            f"{path}: does not fit {settings.model} of {settings.file}: it holds {count} blocks, "
            f"key 'features.depth' says {settings.features.depth}"
        )


def require_finite(network: nn.Module, path: Path) -> None:
    """Raise UserError if a loaded network holds NaN or infinity: it would score every picture as normal."""
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{path}: {name} holds numbers that are not finite; {AGAIN}")


def _whole(path: Path, length: int, size: int) -> None:
    """Raise UserError unless the header of ``length`` bytes and all its data lie within a file of ``size`` bytes."""
    if 8 + length > size:
        raise UserError(f"{path}: is a truncated safetensors file, shorter than its header; {AGAIN}")
    with open(path, "rb") as file:
        file.seek(8)
        text = file.read(length)
    try:
        entries: dict[str, Any] = json.loads(text)
        ends = [int(entry["data_offsets"][1]) for name, entry in entries.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        raise UserError(f"{path}: is a damaged safetensors file, its header cannot be read; {AGAIN}") from None
    announced = 8 + length + max(ends, default=0)
    if announced > size:
        raise UserError(f"{path}: is a truncated safetensors file, {size} bytes of {announced}; {AGAIN}")


def _short(value: object) -> str:
    return " ".join(str(value).split())[:120]
