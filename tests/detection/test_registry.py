"""Detectors are found by their files and folders, and told no more than they say."""

import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import write_yaml
from test_methods import bank, encoder, names, tokens

import baselines
from foundad.config.method import Method
from foundad.detection import protocol, registry
from foundad.detection.model import Model
from foundad.device import Compute
from foundad.errors import UserError
from foundad.plan.catalogue import load_one

SIMPLE = '''
"""Distance to the mean token."""

import numpy as np

from foundad.config.method import Method
from foundad.detection import protocol


class Settings(Method):
    power: float = 1.0


class Detector(protocol.Detector):
    settings: Settings

    def fit(self, bank):
        self.restore({"mean": bank.normal_vectors().mean(axis=0)})
        return {"images": len(bank.normal)}

    def score(self, tokens):
        return np.abs(tokens - self.learned["mean"]).mean(axis=2) ** self.settings.power
'''
TRAINED = {
    "settings": '''
"""Keys of a linear map that is trained on pairs."""

from foundad.config.method import Method
from foundad.detection.shared.training_settings import Training


class Settings(Method):
    training: Training = Training()

    @property
    def uses_device(self):
        return True

    def quick(self):
        return self.model_copy(update={"training": self.training.model_copy(update={"steps": 3})})
''',
    "network": '''
"""The network."""

from torch import nn


def network(channels):
    return nn.Linear(channels, channels)
''',
    "detector": '''
"""Trains a linear map from damaged to clean tokens."""

import torch

from baselines.trained.network import network
from baselines.trained.settings import Settings
from foundad.detection import protocol
from foundad.detection.shared import training


class Detector(protocol.Detector):
    settings: Settings

    def fit(self, bank):
        keys = self.settings.training
        torch.manual_seed(self.seed)
        self.network = network(bank.normal.shape[2])
        steps = training.steps_on(bank, keys, self.settings.id)
        batches = training.batches_of(bank, keys, torch.Generator().manual_seed(self.seed), torch.from_numpy)
        optimiser = training.AdamW(self.network.parameters(), keys.weight_decay)
        losses = training.minimise(self.loss, batches, optimiser, keys, steps, self.settings.id)
        return {"losses": training.loss_curve(losses)}

    def loss(self, batch):
        return (self.network(batch.inputs) - batch.clean).square().mean()

    @torch.inference_mode()
    def score(self, tokens):
        values = torch.from_numpy(tokens)
        return (self.network(values) - values).square().mean(dim=2).numpy()

    def state(self):
        return training.weights_of(self.network)

    def restore(self, state):
        self.network = network(state["bias"].shape[0])
        training.take_weights(self.network, state)
''',
    "helper": "raise ImportError('nobody imports this')\n",
}


@pytest.fixture
def dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A further folder of rivals, with a simple and a trained one, and what is none."""
    folder = tmp_path / "rivals"
    write(folder, {"simple": SIMPLE, "Upper": "", "_helper": ""})
    write(folder / "trained", TRAINED)
    write(folder / "half", {"settings": TRAINED["settings"]})
    write(folder / "other_half", {"detector": TRAINED["detector"]})
    monkeypatch.setattr(baselines, "__path__", [*baselines.__path__, str(folder)])
    known = set(sys.modules)
    forget()
    yield folder
    forget()
    for name in set(sys.modules) - known:
        if name.startswith("baselines."):
            del sys.modules[name]


def write(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)


def settings_of(name: str) -> Method:
    return registry.settings_of(name)(id="x", title="x", detector=name)


def forget() -> None:
    registry.detectors.cache_clear()
    registry.settings_of.cache_clear()


def test_a_file_and_a_folder_are_found_and_helpers_are_none(dropped):
    folder = Path(baselines.__file__).parent
    files, folders = folder.glob("[a-z]*.py"), folder.glob("[a-z]*/detector.py")
    before = {"foundad", *(path.stem for path in files), *(path.parent.name for path in folders)}
    assert set(registry.detectors()) - before == {"simple", "trained"}
    assert registry.detectors()["trained"] == ("baselines.trained.detector", "baselines.trained.settings")
    assert registry.detectors()["foundad"] == ("foundad.method.detector", "foundad.method.settings")


@pytest.mark.parametrize("name", ["simple", "trained"])
def test_a_dropped_rival_is_read_fitted_saved_and_scored(dropped, name, tmp_path):
    write_yaml(tmp_path / f"config/methods/{name}.yaml", {"title": "New", "detector": name, "scope": "category"})
    settings = load_one(tmp_path / "config", "methods", name).quick()
    model = Model(settings, encoder(), 1, 3)
    record = model.fit(bank(categories=2))
    assert set(record) == {"c0", "c1"}
    model.save(tmp_path / "model.safetensors")
    images = tokens(3, 7)
    found = model.score({"": {"patch": images}}, "c1")[0]
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(
        Model.load(tmp_path / "model.safetensors").score({"": {"patch": images}}, "c1")[0], found
    )


def test_settings_of_a_folder_are_read_without_its_detector(dropped):
    for name in ("detector", "network"):
        (dropped / f"trained/{name}.py").write_text("raise ImportError('too early')\n")
    assert settings_of("trained").uses_device
    with pytest.raises(ImportError, match="too early"):
        registry.build(settings_of("trained"), 0, Compute())


@pytest.mark.parametrize("name", ["knn", "foundad", "simple"])
def test_two_detectors_of_one_name_are_a_line(dropped, name):
    write(dropped / name, TRAINED)
    with pytest.raises(UserError, match=f"there are two detectors called '{name}'; rename one"):
        registry.detectors()


def test_what_is_no_detector_is_a_line(dropped):
    write(dropped, {"keyless": SIMPLE.replace("Settings", "Keys"), "simple": SIMPLE.replace("(protocol.Detector)", "")})
    with pytest.raises(
        UserError, match=r"keyless: defines no class 'Settings' that is a foundad\.config\.method\.Method"
    ):
        registry.settings_of("keyless")
    with pytest.raises(UserError, match=r"simple: defines no class 'Detector' that is a foundad\.detection\.protocol"):
        registry.build(settings_of("simple"), 0, Compute())


def test_every_detector_is_given_how_to_compute():
    compute = Compute(threads=3, precision="bfloat16")
    for name in registry.detectors():
        detector = registry.build(settings_of(name), 5, compute)
        assert (detector.settings, detector.seed, detector.compute) == (settings_of(name), 5, compute)
        assert isinstance(detector, protocol.Detector)


def test_only_what_is_declared_is_told(dropped):
    named = SIMPLE.replace("def score(self, tokens):", "def score_pictures(self, pictures):")
    named = named.replace("np.abs(tokens", "np.abs(pictures.tokens")
    named = named.replace("** self.settings.power", "+ len(pictures.ids[0]), None")
    needs = "@property\n    def needs(self):\n        return frozenset({'bank', 'features', 'ids'})"
    write(dropped, {"silent": named, "declared": named.replace("power: float = 1.0", needs)})
    with pytest.raises(IndexError):
        Model(settings_of("silent"), encoder(), 0, 3).fit(bank())
    model, images = Model(settings_of("declared"), encoder(), 0, 3), tokens(2, 7)
    model.fit(bank())
    assert model.method.label == "x (image ids)"
    assert model.score({"": {"patch": images}}, None, image_ids=names(images))[0].min() > 64
    with pytest.raises(UserError, match="x: its scores come from the images' ids"):
        model.score({"": {"patch": images}}, None)
