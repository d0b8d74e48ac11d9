"""Models of cells: model.safetensors of a trained projector and of every kind of memory, loaded and used once."""

from collections.abc import Callable
from functools import partial

import numpy as np
from checkpoints import CHANNELS, ENCODER, METHOD
from mutators import either, of_bytes, of_safetensors
from target import Target, new_folder

from foundad.config.encoder import Encoder
from foundad.detection import registry
from foundad.detection.bank import BankTokens
from foundad.detection.model import Model

TRAINED = METHOD | {"detector": "foundad", "training": {"steps": 1, "batch_size": 2}}
RIVALS = ("knn", "patchcore", "padim", "subspacead", "anoco", "random")


def fitted(values: dict[str, object]) -> Model:
    """A model fitted to a bank of noise."""
    method = registry.settings_of(str(values["detector"])).model_validate(values)
    tokens = np.random.default_rng(0).normal(size=(4, 4, CHANNELS)).astype(np.float16)
    bank = BankTokens(tokens, ["cat"] * 4, tokens, tokens + np.float16(1), ["cat"] * 4)
    model = Model(method, Encoder.model_validate(ENCODER), 0, 2)
    model.fit(bank)
    return model


def loaded() -> Target:
    """Loaded; a model that is taken must score pictures of its encoder's size."""
    folder = new_folder("model")
    path = folder / "model.safetensors"
    seeds = []
    for values in (TRAINED, *({"id": name, "title": name, "detector": name, "scope": "category"} for name in RIVALS)):
        fitted(values).save(path)
        seeds.append(path.read_bytes())
    tokens = np.zeros((1, 4, CHANNELS), np.float32)

    def read(data: bytes) -> None:
        path.write_bytes(data)
        model = Model.load(path)
        if model.encoder.grid == 2 and model.encoder.channels == CHANNELS:
            arrays = {"patch": tokens, "class": tokens[:, 0]}
            model.score(dict.fromkeys(model.views, arrays), "cat", None, ["picture"])

    return Target(
        "models", seeds, read, either(of_safetensors, of_safetensors, of_bytes), (path.name, "category"), folder
    )


TARGETS: dict[str, Callable[[], Target]] = {"models": partial(loaded)}
