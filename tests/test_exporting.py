"""An exported model gives onnxruntime the scores, maps and verdicts that it gives us, for batches of any size."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, picture
from PIL import Image

from foundad.api import Detector
from foundad.cli import main
from foundad.detection.model import Model
from foundad.encoders.base import to_input
from foundad.plan.catalogue import load_one

onnx = pytest.importorskip("onnx", reason="the optional package onnx is not installed")
runtime = pytest.importorskip("onnxruntime", reason="the optional package onnxruntime is not installed")

QUICK = {"foundad": {"training": {"steps": 20}}, "knn": {}, "anomalydino-same-features": {"smoothing": 4.0}}


def detector_of(name: str, **changed) -> Detector:
    """A quickly fitted detector on the embedded encoder."""
    method = load_one(ROOT / "config", "methods", name)
    encoder = load_one(ROOT / "config", "encoders", "efficientnet-lite0")
    values = method.model_dump() | changed
    for key, inner in QUICK.get(name, {}).items():
        values[key] = values[key] | inner if isinstance(inner, dict) else inner
    settings = type(method).model_validate(values)
    return Detector.fit([picture(seed, 300)[0] for seed in range(2)], encoder, settings, device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.mark.parametrize("name", QUICK)
def test_onnxruntime_agrees_with_us(name, folder, capsys):
    detector = detector_of(name)
    detector.save(folder / f"{name}.safetensors")
    out = folder / f"{name}.onnx"
    assert main(["export", str(folder / f"{name}.safetensors"), "--onnx", str(out)]) == 0
    session = runtime.InferenceSession(out, providers=["CPUExecutionProvider"])
    pictures = [picture(seed, 200 + seed, spot=seed % 2 == 1)[0] for seed in range(50, 55)]
    ours = detector.predict(pictures)
    pixels = np.stack([to_input(Image.fromarray(one), detector.model.encoder) for one in pictures])
    for rows in (slice(0, 5), slice(1, 2)):
        score, maps, anomalous = session.run(None, {"pixels": pixels[rows]})
        np.testing.assert_allclose(score, ours.scores[rows], rtol=1e-4)
        np.testing.assert_allclose(maps, ours.maps[rows], rtol=1e-4, atol=1e-4 * ours.maps.max())
        assert ["anomalous" if verdict else "normal" for verdict in anomalous] == ours.verdicts[rows]
    facts = {name: json.loads(value) for name, value in session.get_modelmeta().custom_metadata_map.items()}
    assert facts["threshold"] == detector.threshold
    assert facts["method"]["id"] == name
    assert facts["resize"] == {"side": 256, "interpolation": "bicubic", "mode": "squash"}


@pytest.mark.parametrize(
    ("name", "changed", "line"),
    [
        ("patchcore-same-features", {}, "only anomalydino, foundad, knn have a graph"),
        ("anomalydino-same-features", {"mask": True}, "it masks the background"),
        ("knn", {"score_size": 64}, "its image score is read from the map"),
    ],
)
def test_what_cannot_be_exported_says_why(name, changed, line, folder, capsys):
    detector = detector_of(name, **changed)
    detector.save(folder / "other.safetensors")
    assert main(["export", str(folder / "other.safetensors"), "--onnx", str(folder / "other.onnx")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"cannot be exported: {line}" in error
    assert not (folder / "other.onnx").exists()


def test_an_encoder_that_pads_is_refused(folder, capsys):
    path = folder / "padded.safetensors"
    detector = detector_of("knn")
    detector.model.encoder = detector.model.encoder.model_copy(update={"size_mode": "pad"})
    detector.save(path)
    assert Model.load(path).encoder.size_mode == "pad"
    assert main(["export", str(path), "--onnx", str(folder / "padded.onnx")]) == 1
    assert "fits pictures by pad" in capsys.readouterr().err
