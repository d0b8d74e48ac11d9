"""The stage features: the same bytes on any number of threads and after a kill, in bounded memory."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY_ENCODER, picture, save

from foundad import resumable
from foundad.config.dataset import Dataset
from foundad.config.encoder import Encoder
from foundad.data.images import load_image
from foundad.data.manifest import Manifest
from foundad.data.verify import build_manifest
from foundad.device import Compute
from foundad.encoders import build_encoder
from foundad.encoders import extraction as features
from foundad.encoders.base import to_input
from foundad.encoders.extraction import extract_features
from foundad.errors import UserError
from foundad.paths import CLASS, PATCH, Array
from foundad.resumable import ResumableArray

ENCODER = Encoder.model_validate(TINY_ENCODER | {"id": "tiny"})
IMAGES = 30
KILLED = """
import sys, time
from pathlib import Path
sys.path[:0] = [sys.argv[3], str(Path(sys.argv[3]).parent)]
from foundad import resumable
from foundad.encoders import extraction as features
from foundad.device import Compute
from test_features import ENCODER, manifest_of
from foundad.paths import Array
resumable.SAVE_SECONDS = 0
encode = features.encode
features.encode = lambda *arguments: (time.sleep(0.3), encode(*arguments))[1]
root, out = map(Path, sys.argv[1:3])
features.extract_features(manifest_of(root), ENCODER, [Array(out)], Compute(batch_size=4))
"""


def manifest_of(root: Path) -> Manifest:
    values = {"id": "small", "title": "Small", "layout": "mvtec", "root": str(root), "licence": "CC0", "source": "here"}
    return build_manifest(Dataset.model_validate(values), 1).at(root)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One category with 30 test images."""
    folder = tmp_path / "data"
    save(picture(1000)[0], folder / "bolt/train/good/000.png")
    for number in range(IMAGES):
        save(picture(number, size=40 + number)[0], folder / f"bolt/test/good/{number:03}.png")
    return folder


def extract(root: Path, out: Path, threads: int = 1, **changes) -> np.ndarray:
    extract_features(
        manifest_of(root), ENCODER.model_copy(update=changes), [Array(out)], Compute(threads=threads, batch_size=4)
    )
    return np.load(out, mmap_mode="r")


def test_the_tokens_are_those_of_every_image_by_itself(root, tmp_path):
    found = extract(root, tmp_path / "tiny.npy", threads=3)
    facts = json.loads((tmp_path / "tiny.json").read_text())
    assert found.shape == (IMAGES, 64, 40) == tuple(facts["shape"])
    assert found.dtype == np.float16
    encoder = build_encoder(ENCODER)
    for row, name in zip(found, manifest_of(root).test, strict=True):
        pixels = to_input(load_image(root / name.image_path), ENCODER)
        tokens = encoder(encoder.normalise(pixels[None].copy()))[0]
        torch.testing.assert_close(torch.from_numpy(row.astype(np.float32)), tokens, rtol=2e-3, atol=2e-3)
    assert [path.name for path in sorted(tmp_path.glob("*tiny*")) + sorted(tmp_path.glob(".*"))] == [
        "tiny.json",
        "tiny.npy",
    ]


def beside(folder: Path) -> list[Array]:
    return [Array(folder / "a.npy", PATCH, "aa"), Array(folder / "a.class.npy", CLASS, "cc")]


def test_class_tokens_come_from_the_pass_of_the_patch_tokens(root, tmp_path, monkeypatch):
    """The second job finds its rows; the bytes are those of a job of its own, and of patch tokens alone."""
    manifest = manifest_of(root)
    extract_features(manifest, ENCODER, beside(tmp_path), Compute(batch_size=4))
    assert sorted(path.name for path in tmp_path.glob("*a.*") if not path.name.startswith(".")) == ["a.json", "a.npy"]
    with monkeypatch.context() as patch:
        patch.setattr(features, "build_encoder", None)  # nothing is left to encode
        extract_features(manifest, ENCODER, beside(tmp_path)[1:], Compute(batch_size=4))
    assert not list(tmp_path.glob(".a*"))
    found = np.load(tmp_path / "a.class.npy")
    assert (found.shape, found.dtype) == ((IMAGES, 1280), np.float16)
    facts = json.loads((tmp_path / "a.class.json").read_text())
    assert (facts["shape"], facts["key"], len(facts["checksums"])) == ([IMAGES, 1280], "cc", IMAGES)

    for number, array in enumerate(beside(tmp_path / "alone")):
        extract_features(manifest, ENCODER, [array], Compute(batch_size=4))
        assert array.path.read_bytes() == beside(tmp_path)[number].path.read_bytes()


def test_arrays_that_stopped_at_different_rows_go_on_together(root, tmp_path, monkeypatch):
    manifest = manifest_of(root)
    for array in beside(tmp_path / "whole"):
        extract_features(manifest, ENCODER, [array], Compute(batch_size=4))
    patch, described = beside(tmp_path)
    broken = root / "bolt/test/good/020.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:100])
    with pytest.raises(UserError, match=r"020\.png"):
        extract_features(manifest, ENCODER, [described], Compute(batch_size=4))
    broken.write_bytes(whole)
    decoded = []
    monkeypatch.setattr(features, "load_image", lambda path: (decoded.append(path), load_image(path))[1])
    extract_features(manifest, ENCODER, [patch, described], Compute(batch_size=4))
    extract_features(manifest, ENCODER, [described], Compute(batch_size=4))
    assert len(decoded) == IMAGES
    for array, expected in zip((patch, described), beside(tmp_path / "whole"), strict=True):
        assert array.path.read_bytes() == expected.path.read_bytes()


def test_class_tokens_of_another_key_are_not_taken(root, tmp_path, monkeypatch):
    manifest = manifest_of(root)
    extract_features(manifest, ENCODER, beside(tmp_path), Compute(batch_size=4))
    decoded = []
    monkeypatch.setattr(features, "load_image", lambda path: (decoded.append(path), load_image(path))[1])
    extract_features(manifest, ENCODER, [Array(tmp_path / "a.class.npy", CLASS, "dd")], Compute(batch_size=4))
    assert len(decoded) == IMAGES


def test_the_number_of_threads_changes_no_byte(root, tmp_path):
    before = torch.get_num_threads()
    for threads in (1, 2, 5):
        extract(root, tmp_path / f"{threads}.npy", threads)
    assert torch.get_num_threads() == before
    assert len({(tmp_path / f"{threads}.npy").read_bytes() for threads in (1, 2, 5)}) == 1


def test_a_killed_job_goes_on_in_the_middle_and_ends_with_the_same_bytes(root, tmp_path, monkeypatch):
    extract(root, tmp_path / "whole.npy")
    out = tmp_path / "killed.npy"
    process = subprocess.Popen([sys.executable, "-c", KILLED, root, out, Path(__file__).parent])
    progress = tmp_path / ".killed.npy.progress.json"
    deadline = time.monotonic() + 60
    while not progress.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(json.loads(progress.read_text())["checksums"])
    assert 0 < done < IMAGES
    assert not out.exists()

    with open(tmp_path / ".killed.npy.partial", "ab") as file:
        file.write(b"half a row that was not called safe")
    decoded = []
    monkeypatch.setattr(features, "load_image", lambda path: (decoded.append(path), load_image(path))[1])
    extract(root, out)
    assert len(decoded) == IMAGES - done
    assert out.read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert not list(tmp_path.glob(".killed*"))


def test_rows_of_other_settings_are_not_gone_on_with(root, tmp_path, monkeypatch):
    monkeypatch.setattr(resumable, "SAVE_SECONDS", 0)
    broken = root / "bolt/test/good/020.png"
    manifest, whole = manifest_of(root), broken.read_bytes()
    broken.write_bytes(whole[:100])
    out = tmp_path / "tiny.npy"
    with pytest.raises(UserError, match=r"020\.png"):
        extract_features(manifest, ENCODER, [Array(out)], Compute(batch_size=4))
    assert len(json.loads((tmp_path / ".tiny.npy.progress.json").read_text())["checksums"]) == 20
    broken.write_bytes(whole)
    decoded = []
    monkeypatch.setattr(features, "load_image", lambda path: (decoded.append(path), load_image(path))[1])
    other = extract(root, out, mean=(0.4, 0.5, 0.6))
    assert len(decoded) == IMAGES
    np.testing.assert_array_equal(other, extract(root, tmp_path / "new.npy", mean=(0.4, 0.5, 0.6)))


def test_an_array_goes_on_from_the_rows_that_are_safe(tmp_path):
    expected = np.arange(60, dtype=np.float16).reshape(10, 2, 3)
    out = tmp_path / "folder/array.npy"
    for start, stop in ((0, 4), (4, 5), (5, 10)):
        with ResumableArray(out, (10, 2, 3), "key") as array:
            assert array.rows == start
            array.append(expected[start:stop])
            if stop == 10:
                array.finish()
            else:
                assert not out.exists()
    np.testing.assert_array_equal(np.load(out, mmap_mode="r"), expected)
    with ResumableArray(out, (10, 2, 3), "key") as array:
        assert array.rows == 0


def test_batches_that_are_decoded_ahead_come_back_whole_and_in_order():
    encoder = build_encoder(ENCODER)
    pixels = np.random.default_rng(0).integers(0, 256, (10, 64, 64, 3), np.uint8)
    parts = [pixels[start : start + 4] for start in range(0, 10, 4)]
    ahead = features.in_order(lambda part: (time.sleep(0.02 * len(part)), part)[1], parts, 3)
    found = [part[PATCH] for part in features._encode_on_gpu(encoder, ahead, "", (PATCH,))]  # what needs no CUDA of it
    assert [len(part) for part in found] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate(found), features.encode(encoder, pixels)[PATCH])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("threads", [1, 3])
def test_cuda_gives_the_tokens_of_the_cpu(root, tmp_path, threads):
    on_cpu = extract(root, tmp_path / "cpu.npy")
    extract_features(manifest_of(root), ENCODER, [Array(tmp_path / "cuda.npy")], Compute("cuda", threads, 4))
    np.testing.assert_allclose(np.load(tmp_path / "cuda.npy"), on_cpu, atol=5e-3 * np.abs(on_cpu).max())
