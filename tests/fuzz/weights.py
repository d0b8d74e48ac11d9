"""Weights of encoders, .pth and .safetensors: loaded in order, by transformers' and by timm's builder into tiny networks."""

import io
from collections.abc import Callable
from functools import partial
from random import Random

import torch
from checkpoints import ENCODER, Evil, saved
from mutators import either, of_bytes, of_safetensors, of_tree, of_zip
from safetensors.torch import save as to_safetensors
from target import Target, new_folder
from torch import nn

from foundad.config.encoder import Encoder
from foundad.encoders.libraries import timm, transformers
from foundad.encoders.tensors import load_in_order

TOWER = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 16,
}
BLOCKS = {"kind": "blocks", "patch": 16, "depth": 1, "layer": 1}
NARROW = {"embed_dim": 16, "depth": 1, "num_heads": 2}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 123456\n"
FOREIGN = [
    POINTER,
    b"<!DOCTYPE html><html></html>",
    b"",
    saved(Evil()),
    saved([1, 2]),
    saved(Evil(), _use_new_zipfile_serialization=False),
]


def of_pth(data: bytes, random: Random, others: object = ()) -> bytes:
    """Another tree of values in a right file."""
    return saved(of_tree(torch.load(io.BytesIO(data), weights_only=True), random))


def in_order() -> Target:
    """The tensors of an installed package's file, by position."""
    folder = new_folder("weights")
    path = folder / "weights.pth"
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    settings = Encoder.model_validate(ENCODER)

    def read(data: bytes) -> None:
        path.write_bytes(data)
        load_in_order(network, path, settings)

    state = network.state_dict()
    seeds = [saved(state), saved(state, _use_new_zipfile_serialization=False), *FOREIGN]
    return Target("weights-in-order", seeds, read, either(of_pth, of_zip, of_bytes), (path.name,), folder)


def built(name: str, suffix: str, make: Callable[[Encoder], nn.Module], values: dict[str, object]) -> Target:
    """A file of one's own for a tiny network of a library."""
    folder = new_folder("weights")
    path = folder / f"weights{suffix}"
    keys = ENCODER | {"features": BLOCKS, "weights": {"path": str(path)}} | values
    settings = Encoder.model_validate(keys)
    state = make(settings.model_copy(update={"weights": "random"})).state_dict()
    tensors = {key: tensor.contiguous().clone() for key, tensor in state.items()}
    right = to_safetensors(tensors) if suffix == ".safetensors" else saved(tensors)

    def read(data: bytes) -> None:
        path.write_bytes(data)
        make(settings)

    structured = (of_safetensors, of_safetensors) if suffix == ".safetensors" else (of_pth, of_zip)
    return Target(name, [right, *FOREIGN], read, either(*structured, of_bytes), (path.name, "config/"), folder)


def tower(name: str, suffix: str) -> Target:
    """A vision transformer of the library transformers."""
    values = {"library": "transformers", "model": "ViTModel", "options": TOWER}
    return built(name, suffix, transformers.create, values)


def narrow(name: str, suffix: str) -> Target:
    """A vision transformer of timm."""
    return built(name, suffix, timm.create, {"model": "vit_tiny_patch16_224", "options": NARROW})


TARGETS: dict[str, Callable[[], Target]] = {
    "weights-in-order": in_order,
    "weights-tower": partial(tower, "weights-tower", ".safetensors"),
    "weights-tower-pth": partial(tower, "weights-tower-pth", ".pth"),
    "weights-timm": partial(narrow, "weights-timm", ".safetensors"),
    "weights-timm-pth": partial(narrow, "weights-timm-pth", ".pth"),
}
