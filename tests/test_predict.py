"""``foundad predict``: every picture its own heatmap, nothing said of numbers that are none, the run's precision."""

from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_ENCODER, picture, save

from foundad.cli import main
from foundad.config.encoder import Encoder
from foundad.detection.bank import Preparation
from foundad.detection.model import Model, Part
from foundad.detection.registry import settings_of
from foundad.encoders import build_encoder
from foundad.encoders.extraction import encode
from foundad.errors import UserError
from foundad.predict import LONGEST, heatmap_paths


@pytest.fixture(scope="module")
def model_file(tmp_path_factory) -> Path:
    """A nearest-neighbour model of one tiny picture."""
    from foundad.detection import registry

    encoder = Encoder.model_validate(TINY_ENCODER | {"id": "tiny"})
    method = settings_of("knn").model_validate({"id": "knn", "title": "Nearest", "detector": "knn"})
    tokens = encode(build_encoder(encoder), picture(1, 64)[0][None], "")
    model = Model(method, encoder, 0, 5)
    detector = registry.build(method, 0, model.compute)
    from foundad.detection.bank import BankTokens

    none = np.empty((0, *tokens.shape[1:]), np.float16)
    preparation = Preparation.of("unit", tokens)
    detector.fit(BankTokens(tokens, ["c"], none, none, []).prepared(preparation))
    model.parts[Part()] = (preparation, detector)
    model.thresholds = {None: 1.0}
    path = tmp_path_factory.mktemp("cell") / "model.safetensors"
    model.save(path)
    return path


def test_heatmaps_do_not_meet_and_lie_beside_no_picture(model_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    long = "x" * 240
    names = ["a/000.png", "b/000.png", f"a/{long}.png"]
    for number, name in enumerate(names):
        save(picture(number)[0], Path(name))
    Path("a/bad.png").write_text("no picture")
    arguments = [*names, "./a/000.png", "a/bad.png"]
    assert main(["predict", "--run", str(model_file), "--device", "cpu", *arguments]) == 1
    printed = capsys.readouterr()
    rows = [line.split("\t") for line in printed.out.splitlines()]
    assert [row[0] for row in rows] == names
    assert len({row[3] for row in rows}) == 3
    assert all(Path(row[3]).parent == Path("predictions") and Path(row[3]).is_file() for row in rows)
    assert len(printed.err.splitlines()) == 1
    assert "a/bad.png" in printed.err
    assert len(list(Path("a").iterdir())) == 3


def test_names_of_heatmaps():
    def names(*paths: str) -> list[str]:
        return [path.name for path in heatmap_paths([Path(p) for p in paths], Path("out")).values()]

    assert names("/d/x.png") == ["x_anomaly.png"]
    assert names("/d/a/0.png", "/d/b/0.png") == ["a_0_anomaly.png", "b_0_anomaly.png"]
    long = names("/d/" + "x" * 240 + "1.png", "/d/" + "x" * 240 + "2.png")
    assert len(set(long)) == 2
    assert max(map(len, long)) <= LONGEST
    with pytest.raises(UserError, match="its heatmap would be that of"):
        names("/d/0.png", "/d/0.bmp")


def test_a_score_that_is_no_number_is_a_line(model_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save(picture(3)[0], Path("photo.png"))
    original = Model.score
    monkeypatch.setattr(Model, "score", lambda *a: tuple(part * np.float32("nan") for part in original(*a)))
    assert main(["predict", "--run", str(model_file), "--device", "cpu", "photo.png"]) == 1
    printed = capsys.readouterr()
    assert "normal" not in printed.out
    assert printed.err.startswith("photo.png: its score is not a finite number")


def test_scores_are_computed_in_the_precision_of_the_run(model_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save(picture(3)[0], Path("photo.png"))
    cell = tmp_path / "cell"
    cell.mkdir()
    (cell / "model.safetensors").write_bytes(model_file.read_bytes())

    def score(*options: str) -> str:
        assert main(["predict", "--run", str(cell), "--device", "cpu", *options, "photo.png"]) == 0
        return capsys.readouterr().out.splitlines()[-1].split("\t")[1]

    exact = score()
    coarse = score("--precision", "bfloat16")
    assert exact != coarse
    fitted = Model.load(model_file)
    fitted.precision = "bfloat16"
    fitted.save(cell / "model.safetensors")
    assert score() == coarse
    assert score("--precision", "float32") == exact
