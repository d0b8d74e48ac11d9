"""Frozen encoders: images in, patch tokens and class tokens out.

Each file in libraries/ is one library, named by the key ``library``.
"""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from foundad import discovery
from foundad.config.encoder import Encoder
from foundad.device import ON_CPU, Compute
from foundad.errors import UserError

if TYPE_CHECKING:  # torch is imported when an encoder is built
    from torch import nn

    from foundad.encoders.base import FrozenEncoder


def build_encoder(settings: Encoder, compute: Compute = ON_CPU) -> "FrozenEncoder":
    """The encoder that ``settings`` describe, weights loaded, on the device of ``compute``, in evaluation mode.

    Raises:
        UserError: the weights are not the expected ones, or the model does not match the config.
        MachineError: the weights are not on this machine; nothing is downloaded here.
    """
    from foundad.encoders.base import FrozenEncoder

    return FrozenEncoder(settings, build_network(settings), compute.precision, compute.compiled).to(compute.device)


def build_network(settings: Encoder) -> "nn.Module":
    """The network of ``settings``: a module from normalised images [B,3,S,S] to patch tokens [B,N,D].

    Its method ``named(images, names)`` gives several arrays of one pass by name: ``patch``, the same patch tokens, and
    ``class``, the class token [B,C] float32 or what the network has in its place (docs/encoders.md). A network without
    this method gives patch tokens alone.

    Raises:
        UserError: the library's file defines no ``build``, or as :func:`build_encoder`.
    """
    module = discovery.libraries()[settings.library]
    build: Callable[[Encoder], nn.Module] | None = getattr(import_module(module), "build", None)
    if build is None:
        raise UserError(f"{module.replace('.', '/')}.py: defines no build(settings), see docs/adding.md")
    return build(settings)


def modules_of(settings: Encoder) -> tuple[str, ...]:
    """The modules of the libraries of an encoder and of its parts, sorted; no import leads to them, so keys name them."""
    own = {discovery.libraries()[settings.library]}
    return tuple(sorted(own.union(*(modules_of(part) for part in settings.parts))))
