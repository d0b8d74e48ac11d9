"""The authors' checkpoints come in, and go back bit for bit; nothing in a file is executed."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY_ENCODER
from safetensors.torch import load_file, save_file

from foundad.cli import main
from foundad.config.encoder import Encoder
from foundad.detection.model import Model
from foundad.errors import UserError
from foundad.method.checkpoint import export_checkpoint, import_checkpoint, read_model
from foundad.method.settings import Settings

SMALL = np.load(Path(__file__).parent.parent / "golden/projector_small.npz")


def checkpoint(path: Path, tag: str) -> dict:
    """A file in the authors' format, of weights that their code produced."""
    prefix = f"{tag}/state/"
    state = {k.removeprefix(prefix): torch.from_numpy(SMALL[k]) for k in SMALL.files if k.startswith(prefix)}
    stored = {"predictor": state, "projector": None, "epoch": 1999, "lr": 0.001}
    torch.save(stored, path)
    return stored


def method(tag: str) -> Settings:
    projector = {"depth": 3, "width": 24, "heads": 12, "position_embedding": tag == "pe"}
    return Settings.model_validate({"id": "released", "title": "Released", "projector": projector})


ENCODER = Encoder.model_validate(
    TINY_ENCODER
    | {"id": "tiny", "tokens": "raw", "channels": 48, "features": {"kind": "stages", "strides": [16], "grid": 4}}
)


@pytest.mark.parametrize("tag", ["base", "pe"])
def test_weights_come_back_bit_for_bit_and_score_as_the_reference(tag, tmp_path):
    stored = checkpoint(tmp_path / "theirs.pth.tar", tag)
    import_checkpoint(tmp_path / "theirs.pth.tar", method(tag), ENCODER, 10, tmp_path / "model.safetensors")
    model = Model.load(tmp_path / "model.safetensors")
    tokens = SMALL["input"]
    expected = ((SMALL[f"{tag}/output"] - tokens) ** 2).mean(axis=2)
    np.testing.assert_allclose(model.score({"": {"patch": tokens}}, None)[0], expected, atol=1e-5)

    export_checkpoint(tmp_path / "model.safetensors", tmp_path / "back.pth.tar")
    back = torch.load(tmp_path / "back.pth.tar", weights_only=True)
    assert {key: back[key] for key in ("projector", "epoch", "lr")} == {"projector": None, "epoch": 1999, "lr": 0.001}
    assert set(back["predictor"]) == set(stored["predictor"])
    for name, tensor in stored["predictor"].items():
        assert torch.equal(back["predictor"][name], tensor), name


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("executed"),)


def test_a_file_that_would_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"predictor": Evil()}, "evil.pth")
    Path("old.pth").write_bytes(pickle.dumps({"predictor": Evil()}, protocol=2))
    for name in ("evil.pth", "old.pth"):
        with pytest.raises(UserError, match="it could run code"):
            import_checkpoint(Path(name), method("base"), ENCODER, 10, Path("model.safetensors"))
    assert not Path("executed").exists()
    assert not Path("model.safetensors").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda stored: stored.pop("predictor"), "there is no state dict 'predictor' in it"),
        (
            lambda stored: stored["predictor"].update(other=torch.zeros(1)),
            "'other' is not a weight of FoundAD's projector",
        ),
        (lambda stored: stored.update(projector={"weight": torch.zeros(1)}), "second projector"),
        (
            lambda stored: stored["predictor"].pop("predictor_norm.bias"),
            "does not fit .*released.yaml, key 'projector'",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(change, message, tmp_path):
    stored = checkpoint(tmp_path / "theirs.pth", "base")
    change(stored)
    torch.save(stored, tmp_path / "theirs.pth")
    with pytest.raises(UserError, match=message):
        import_checkpoint(tmp_path / "theirs.pth", method("base"), ENCODER, 10, tmp_path / "model.safetensors")
    (tmp_path / "theirs.pth").write_bytes((tmp_path / "theirs.pth").read_bytes()[:500])
    with pytest.raises(UserError, match="is a truncated file of"):
        import_checkpoint(tmp_path / "theirs.pth", method("base"), ENCODER, 10, tmp_path / "model.safetensors")


def test_the_commands(tmp_path, capsys):
    """A checkpoint of the published size for a published encoder."""
    from foundad.method.checkpoint import to_released
    from foundad.method.projector import Projector
    from foundad.method.settings import Projector as ProjectorSettings

    state = to_released(Projector(384, 1024, ProjectorSettings(width=384, heads=12)).state_dict())
    torch.save({"predictor": state, "projector": None, "epoch": 3, "lr": 0.005}, tmp_path / "theirs.pth")
    config = ["--config", str(ROOT / "config")]
    options = ["--encoder", "dinov3-vits16", "--out", str(tmp_path / "model.safetensors")]
    assert main(["import-checkpoint", str(tmp_path / "theirs.pth"), *options, *config]) == 0
    back = ["--out", str(tmp_path / "back.pth"), *config]
    assert main(["export-checkpoint", str(tmp_path / "model.safetensors"), *back]) == 0
    found = torch.load(tmp_path / "back.pth", weights_only=True)
    assert all(torch.equal(found["predictor"][name], tensor) for name, tensor in state.items())
    wrong = ["--encoder", "dinov3-vitb16", "--out", str(tmp_path / "other.safetensors"), *config]
    assert main(["import-checkpoint", str(tmp_path / "theirs.pth"), *wrong]) == 1
    assert "is for 384 channels, but config/encoders/dinov3-vitb16.yaml has 768" in capsys.readouterr().err


HTML = b"<!DOCTYPE html><html><body>Sign in</body></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"
FILES = {
    "empty": (b"", "is empty"),
    "text": (b"hello there", "is not a file of weights|is not a safetensors file"),
    "page": (HTML, "is a web page"),
    "pointer": (POINTER, "git lfs pull"),
    "pickle": (pickle.dumps({"predictor": Evil()}, protocol=2), "could run code|end in .pth|not a model of this"),
    "zip": (b"PK\x03\x04" + bytes(200), "its end is missing"),
    "header": ((1 << 60).to_bytes(8, "little") + b'{"a":', "shorter than its header"),
    "no json": ((5).to_bytes(8, "little") + b"{nope", "header cannot be read"),
}


@pytest.mark.parametrize("kind", FILES)
def test_every_command_says_what_a_file_is(kind, tmp_path, capsys):
    data, message = FILES[kind]
    config = ["--config", str(ROOT / "config")]
    for name in ("file.pth", "file.safetensors"):
        path, out = tmp_path / name, tmp_path / "out"
        path.write_bytes(data)
        for command in (
            ["import-checkpoint", str(path), "--encoder", "dinov3-vits16", "--out", str(out), *config],
            ["export-checkpoint", str(path), "--out", str(out), *config],
            ["predict", "--run", str(path), "photo.png", "--device", "cpu", "--out", str(out), *config],
        ):
            assert main(command) == 1
            (line,) = capsys.readouterr().err.splitlines()
            assert line.startswith(f"{path}: ")
            assert re.search(message, line), line
            assert "weights_only" not in line
            assert not out.exists()


def changed(name: str, change):
    def apply(stored: dict) -> None:
        stored["predictor"][name] = change(stored["predictor"][name])

    return apply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("predictor_norm.weight", lambda t: t * float("nan")), "finite"),
        (changed("predictor_norm.weight", lambda t: t.int()), "not floating point"),
        (changed("predictor_norm.weight", lambda t: 3), "is a int, not a tensor"),
        (changed("predictor_norm.weight", lambda t: t[:5]), "does not fit"),
        (changed("predictor_embed.weight", lambda t: t[0]), "does not fit"),
        (lambda stored: stored.update(predictor={}), "no named tensors"),
        (lambda stored: stored["predictor"].pop("predictor_embed.weight"), "does not fit"),
        (
            lambda stored: stored["predictor"].update(
                {k.replace(".2.", ".3."): v for k, v in stored["predictor"].items() if "blocks.2." in k}
            ),
            "does not fit .*blocks.3",
        ),
    ],
)
def test_other_tensors_are_one_line_and_no_file(change, message, tmp_path):
    path, out = tmp_path / "theirs.pth", tmp_path / "model.safetensors"
    stored = checkpoint(path, "base")
    change(stored)
    torch.save(stored, path)
    with pytest.raises(UserError, match=message):
        import_checkpoint(path, method("base"), ENCODER, 10, out)
    assert not out.exists()


def test_half_precision_is_taken(tmp_path):
    stored = checkpoint(tmp_path / "theirs.pth", "base")
    stored["predictor"] = {name: tensor.half() for name, tensor in stored["predictor"].items()}
    torch.save(stored, tmp_path / "theirs.pth")
    import_checkpoint(tmp_path / "theirs.pth", method("base"), ENCODER, 10, tmp_path / "model.safetensors")
    assert np.isfinite(read_model(tmp_path / "model.safetensors").score({"": {"patch": SMALL["input"]}}, None)[0]).all()


def test_damaged_and_foreign_models_are_one_line(tmp_path):
    path, whole = tmp_path / "model.safetensors", tmp_path / "whole.safetensors"
    checkpoint(tmp_path / "theirs.pth", "base")
    import_checkpoint(tmp_path / "theirs.pth", method("base"), ENCODER, 10, whole)
    data = whole.read_bytes()
    with pytest.raises(UserError, match="there is no such file"):
        read_model(tmp_path)
    path.write_bytes(data[:-100])
    with pytest.raises(UserError, match="is a truncated safetensors file"):
        read_model(path)
    tensors = load_file(whole)
    save_file(tensors, path)
    with pytest.raises(UserError, match="not a model of this program"):
        read_model(path)
    for text in ("", "[]", "3", "{}", '{"method": 3}', "{" * 9):
        save_file(tensors, path, metadata={"foundad": text})
        with pytest.raises(UserError, match=f"^{path}: "):
            read_model(path)


def test_flips_of_bytes_never_end_in_a_traceback(tmp_path):
    checkpoint(tmp_path / "theirs.pth", "base")
    import_checkpoint(tmp_path / "theirs.pth", method("base"), ENCODER, 10, tmp_path / "whole.safetensors")
    generator = np.random.default_rng(0)
    for source, name, read in (
        ("theirs.pth", "other.pth", lambda p: import_checkpoint(p, method("base"), ENCODER, 10, tmp_path / "out")),
        ("whole.safetensors", "other.safetensors", read_model),
    ):
        data = np.frombuffer((tmp_path / source).read_bytes(), np.uint8)
        for _ in range(40):
            flipped = data.copy()
            places = generator.integers(0, min(len(data), 3000), 2)
            flipped[places] ^= generator.integers(1, 256, 2, dtype=np.uint8)
            (tmp_path / name).write_bytes(flipped.tobytes())
            message = ""
            try:
                read(tmp_path / name)
            except UserError as error:
                message = str(error)
            assert not message or (len(message.splitlines()) == 1 and message.startswith(str(tmp_path)))
