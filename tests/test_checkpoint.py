"""The authors' checkpoints come in, and go back bit for bit; nothing in a file is executed."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY_ENCODER

from foundad.checkpoint import export_checkpoint, import_checkpoint
from foundad.cli import main
from foundad.config import Encoder, FoundAD
from foundad.detector import Model
from foundad.errors import UserError

SMALL = np.load(Path(__file__).parent / "golden/projector_small.npz")


def checkpoint(path: Path, tag: str) -> dict:
    """A file in the authors' format, of weights that their code produced."""
    prefix = f"{tag}/state/"
    state = {k.removeprefix(prefix): torch.from_numpy(SMALL[k]) for k in SMALL.files if k.startswith(prefix)}
    stored = {"predictor": state, "projector": None, "epoch": 1999, "lr": 0.001}
    torch.save(stored, path)
    return stored


def method(tag: str) -> FoundAD:
    projector = {"depth": 3, "width": 24, "heads": 12, "position_embedding": tag == "pe"}
    return FoundAD.model_validate({"id": "released", "title": "Released", "projector": projector})


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
    np.testing.assert_allclose(model.score(tokens, None)[0], expected, atol=1e-5)

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
        (lambda stored: stored["predictor"].update(other=torch.zeros(1)), "other is no weight of FoundAD's projector"),
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
    with pytest.raises(UserError, match=r"no checkpoint, or a truncated one|could run code"):
        import_checkpoint(tmp_path / "theirs.pth", method("base"), ENCODER, 10, tmp_path / "model.safetensors")


def test_the_commands(tmp_path, capsys):
    """A checkpoint of the published size for a published encoder."""
    from foundad.checkpoint import to_released
    from foundad.config import Projector as Settings
    from foundad.projector import Projector

    state = to_released(Projector(384, 1024, Settings(width=384, heads=12)).state_dict())
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
    assert "is for 384 channels, config/encoders/dinov3-vitb16.yaml has 768" in capsys.readouterr().err
