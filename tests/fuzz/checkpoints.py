"""Checkpoints in the authors' format, as zip and as plain pickle; those that would run code are among the seeds."""

import io
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import torch
from mutators import either, of_bytes, of_tree, of_zip
from target import Target, new_folder

from foundad.config.encoder import Encoder
from foundad.method import checkpoint
from foundad.method.projector import Projector
from foundad.method.settings import Settings

CHANNELS = 8
ENCODER = {
    "id": "small",
    "title": "Small",
    "library": "timm",
    "model": "tf_efficientnet_lite0",
    "weights": "random",
    "image_size": 32,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "features": {"kind": "stages", "strides": [16], "grid": 2},
    "channels": CHANNELS,
    "licence": "none",
    "source": "none",
}
METHOD = {"id": "small", "title": "Small", "projector": {"depth": 1, "width": 8, "heads": 2}}


class Evil:
    """Makes a folder where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (Path("/tmp/fuzz-canary"),)


def weights_of(method: Settings) -> dict[str, torch.Tensor]:
    """The state of a fresh projector, under the authors' names."""
    network = Projector(CHANNELS, 4, method.projector, generator=torch.Generator().manual_seed(0))
    return checkpoint.to_released(network.state_dict())


def saved(value: Any, **options: Any) -> bytes:
    """What torch.save writes."""
    out = io.BytesIO()
    torch.save(value, out, **options)
    return out.getvalue()


def seeds() -> list[bytes]:
    """A right checkpoint in both forms, wrong ones, and some that run code."""
    state = weights_of(Settings.model_validate(METHOD))
    right = {"predictor": state, "projector": None, "epoch": 3, "lr": 0.1}
    deeper = state | {name.replace("blocks.0", "blocks.1"): tensor for name, tensor in state.items()}
    return [
        saved(right),
        saved(right, _use_new_zipfile_serialization=False),
        saved(right | {"predictor": deeper}),
        saved(right | {"predictor": {name: tensor.half() for name, tensor in state.items()}}),
        saved(right | {"epoch": Evil()}),
        saved(Evil(), _use_new_zipfile_serialization=False),
        pickle.dumps(right),
        pickle.dumps(Evil()),
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 123456\n",
        b"<!DOCTYPE html><html><body>Not found</body></html>",
        b"",
    ]


def of_state(data: bytes, random: Random, others: object = ()) -> bytes:
    """Another tree of values in a right file: tensors of other kinds, names and nesting."""
    stored = torch.load(io.BytesIO(data), weights_only=True)
    kind = random.randrange(4)
    if kind == 0:
        return saved(of_tree(stored, random))
    state = dict(stored["predictor"])
    name = random.choice(list(state))
    if kind == 1:
        tensor = state[name]
        odd = (
            tensor.to(
                random.choice((torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64, torch.float64))
            ),
            tensor.to_sparse() if tensor.dim() > 1 else tensor[:0],
            tensor.expand(2, *tensor.shape),
            tensor.flatten(),
            torch.empty(0),
            torch.nn.Parameter(tensor),
            tensor * float("nan"),
            torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
        )
        state[name] = random.choice(odd)
    elif kind == 2:
        state = of_tree(state, random)
    else:
        state[random.choice((name + "x", "embed", "predictor_blocks.7.norm1.weight", "", 3))] = state.pop(name)
    return saved(stored | {"predictor": state})


def imported() -> Target:
    """Imported as a model; what comes out must be a model of ours, and go back."""
    folder = new_folder("checkpoint")
    path, out, back = folder / "theirs.pth.tar", folder / "model.safetensors", folder / "back.pth.tar"
    method, encoder = Settings.model_validate(METHOD), Encoder.model_validate(ENCODER)

    def read(data: bytes) -> None:
        path.write_bytes(data)
        checkpoint.import_checkpoint(path, method, encoder, 3, out)
        checkpoint.export_checkpoint(out, back)

    names = (path.name, "config/")
    return Target("checkpoints", seeds(), read, either(of_state, of_zip, of_bytes), names, folder)


TARGETS: dict[str, Callable[[], Target]] = {"checkpoints": partial(imported)}
