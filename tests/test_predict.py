"""``foundad predict``: every picture its own heatmap, nothing said of numbers that are none, the run's precision."""

import shutil
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
    tokens = encode(build_encoder(encoder), picture(1, 64)[0][None])["patch"]
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


def test_a_second_call_overwrites_no_heatmap(model_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("a/000.png", "b/000.png", "b/001.png")):
        save(picture(number)[0], Path(name))
    call = ["predict", "--run", str(model_file), "--device", "cpu"]
    assert main([*call, "a/000.png"]) == 0
    first = Path("predictions/000_anomaly.png").read_bytes()
    capsys.readouterr()
    assert main([*call, "b/001.png", "b/000.png"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    line = "predictions/000_anomaly.png: is there already; choose another folder with --out, or remove what is there\n"
    assert printed.err == line
    assert Path("predictions/000_anomaly.png").read_bytes() == first
    assert main([*call, "b/001.png", "b/000.png", "--out", "b-maps"]) == 0
    assert main([*call, "b/001.png", "b/000.png", "--out", "b-maps"]) == 1
    assert "is there already, and 1 more are; choose" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("run", "line"),
    [
        (
            "results/cells/d/e/m/k4-s0",
            "make it with: snakemake --cores all results/cells/d/e/m/k4-s0/model.safetensors",
        ),
        ("nowhere", "nowhere: there is no such folder; name the folder of a cell, results/cells/<dataset>/<encoder>/"),
        (".", ".: holds no model.safetensors; name the folder of a cell"),
    ],
)
def test_a_run_that_is_missing_is_named_with_its_cure(run, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["predict", "--run", run, "--device", "cpu", "photo.png"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith(f"{run}: ")
    assert line in error


def test_names_of_heatmaps():
    def names(*paths: str) -> list[str]:
        return [path.name for path in heatmap_paths([Path(p) for p in paths], Path("out")).values()]

    assert names("/d/x.png") == ["x_anomaly.png"]
    assert names("/d/a/0.png", "/d/b/0.png") == ["a_0_anomaly.png", "b_0_anomaly.png"]
    long = names("/d/" + "x" * 240 + "1.png", "/d/" + "x" * 240 + "2.png")
    assert len(set(long)) == 2
    assert max(map(len, long)) <= LONGEST
    with pytest.raises(UserError, match=r"its heatmap .* would overwrite that of"):
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
        shutil.rmtree("predictions", ignore_errors=True)
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


def test_a_page_of_all_pictures_takes_the_place_of_heatmaps(model_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("a/000.png", "b/000.png")):
        save(picture(number)[0], Path(name))
    call = ["predict", "--run", str(model_file), "--device", "cpu", "--page", "page.html", "a/000.png", "b/000.png"]
    assert main(call) == 0
    assert not Path("predictions").exists()
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    text = Path("page.html").read_text()
    assert all(row[3] == "page.html" and f'"score":{float(row[1])}' in text for row in rows)
    assert main(call) == 1
    assert "page.html: is there already; choose another" in capsys.readouterr().err
    Path("page.html").unlink()
    assert main([*call, "--out", "maps"]) == 0
    assert len(list(Path("maps").iterdir())) == 2
