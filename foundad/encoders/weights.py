"""Finds and verifies the weights of an encoder; loads them without executing code."""

import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn

from foundad.config import Encoder, PackageWeights
from foundad.errors import UserError
from foundad.files import sha256


def find_package_file(encoder: str, weights: PackageWeights) -> Path:
    """The verified file of weights inside an installed package.

    Raises:
        UserError: the package is not installed, the file is missing, or its SHA-256 is not the expected one.
    """
    source = f"config/encoders/{encoder}.yaml"
    spec = importlib.util.find_spec(weights.module)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{source}: the package {weights.package} is not installed: pip install {weights.package}")
    path = Path(spec.submodule_search_locations[0]) / weights.file
    if not path.is_file():
        raise UserError(f"{source}: key 'weights.file': the package {weights.package} holds no {weights.file}")
    found = sha256(path)
    if found != weights.sha256:
        raise UserError(f"{path}: SHA-256 is {found}, {source} expects {weights.sha256}; reinstall {weights.package}")
    return path


def load_in_order(network: nn.Module, path: Path, settings: Encoder) -> None:
    """Load tensors into ``network`` by position: the file has the same tensors in the same order under other names.

    Raises:
        UserError: number or shapes of the tensors differ.
    """
    tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    own = network.state_dict()
    if len(tensors) != len(own):
        raise UserError(f"{path}: holds {len(tensors)} tensors, {settings.model} has {len(own)}")
    for (theirs, tensor), (name, parameter) in zip(tensors.items(), own.items(), strict=True):
        if tensor.shape != parameter.shape:
            raise UserError(f"{path}: {theirs} is {tuple(tensor.shape)}, {name} of {settings.model} is not")
    network.load_state_dict(dict(zip(own, tensors.values(), strict=True)))
