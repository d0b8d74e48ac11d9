"""``foundad run`` on real folders of tiny pictures, through the real workflow to table, recommendation, model and page."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT, picture, save

from foundad.api import Detector, results
from foundad.cli import main


@pytest.fixture
def config(project: Path) -> Path:
    """A config folder with a tiny encoder and quick methods."""
    for name in ("anomalydino", "anomalydino-same-features"):
        shutil.copy(ROOT / f"config/methods/{name}.yaml", project / "config/methods")
    shutil.copytree(ROOT / "results/reference", project / "results/reference")
    return project / "config"


def put(root: Path, folder: str, count: int, spot: bool = False) -> None:
    for number in range(count):
        pixels, mask = picture(len(folder) * 100 + number, spot=spot)
        save(pixels, root / folder / f"{number}.png")
        if spot:
            save(mask, root / folder / f"{number}_mask.png")


def run(config: Path, root: Path, out: Path, *options: str) -> int:
    arguments = ["run", str(root), "--out", str(out), "--encoder", "tiny", "--device", "cpu", "--cores", "2"]
    return main([*arguments, "--config", str(config), *options])


def test_labelled_pictures_end_with_a_table_and_a_method(config, tmp_path, capsys):
    root, out = tmp_path / "photos", tmp_path / "out"
    put(root, "good", 5), put(root, "bad", 2, spot=True)
    assert run(config, root, out, "--shots", "2", "--seeds", "1") == 0
    text = capsys.readouterr().out
    assert "2 defective (bad), to test, with masks" in text
    for title in ("Random (control)", "FoundAD", "AnomalyDINO, same features", "Nearest neighbour"):
        assert re.search(rf"\| {re.escape(title)} \|", text)
    table = results(out / "results")
    assert set(table["method"]) == {"random", "oracle", "foundad", "anomalydino-same-features", "knn"}
    best = table[(table["metric"] == "i_auroc") & ~table["method"].isin(["random", "oracle"])]["value"].max()
    assert f"{100 * best:.1f} %" in re.search("^take .*", text, re.MULTILINE)[0]
    assert "one seed and one category tell nothing about significance" in text
    model = Path(re.search(r"^model +(.+)$", text, re.MULTILINE)[1])
    page = (out / "gallery.html").read_text()
    found = Detector.load(model, device="cpu").predict([root / "bad/0.png", root / "bad/1.png"])
    assert all(f'"score":{float(f"{score:.6g}")}' in page for score in found.scores)
    assert (out / "results/report/index.html").is_file()
    assert len(list(out.glob("results/figures/own/gallery-*.png"))) == 3


def test_normal_pictures_alone_end_with_false_alarms_and_score_what_has_no_label(config, tmp_path, capsys):
    root, out = tmp_path / "photos", tmp_path / "out"
    put(root, "train", 3), put(root, "test", 2)
    assert run(config, root, out) == 0  # four shots are asked for, and a fold leaves two
    text = capsys.readouterr().out
    assert "2 unlabelled: scored at the end" in text
    assert "left out of one of 3 further models" in text
    table = results(out / "results")
    left_out = [f"photos-without-0{number}" for number in (1, 2, 3)]
    assert sorted(set(table["dataset"])) == ["photos", *left_out]
    for method, title in (("knn", "Nearest neighbour"), ("foundad", "FoundAD")):
        rates = table[(table["metric"] == "i_fpr") & (table["method"] == method) & table["dataset"].isin(left_out)]
        assert f"| {rates['value'].sum():.0f} of 3 (" in re.search(rf"\| {title} \|.*", text)[0]
    assert "no picture with a defect here" in text
    assert re.search(r"unlabelled pictures: .* calls \d of 2 anomalous", text)
    assert text.count(str(root / "test")) == 2
    lists = [(out / f"data/{name}/images.csv").read_text() for name in left_out]
    tested = [line.split(",")[0] for text in lists for line in text.splitlines() if ",test," in line]
    assert sorted(tested) == [f"pictures/train/{number}.png" for number in range(3)]
    experiment = yaml.safe_load((out / "config/experiments/own.yaml").read_text())
    assert experiment["cells"][0]["shots"] == [2]


def test_nothing_runs_that_cannot(config, tmp_path, capsys):
    root = tmp_path / "photos"
    put(root, "good", 3)
    assert run(config, root, tmp_path / "out", "--dry-run") == 0
    assert "next: cd " in capsys.readouterr().out
    assert not (tmp_path / "out/results/metrics.parquet").exists()
    away = {"path": str(tmp_path / "nowhere.pth")}
    encoder = yaml.safe_load((config / "encoders/tiny.yaml").read_text()) | {"weights": away}
    (config / "encoders/tiny.yaml").write_text(yaml.safe_dump(encoder))
    assert run(config, root, tmp_path / "other") == 1
    assert "there is no file" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
    save(np.zeros((8, 8), np.uint8), tmp_path / "one/a.png")


def test_a_method_that_fails_is_named_and_the_others_are_compared(config, tmp_path, capsys):
    root, out = tmp_path / "photos", tmp_path / "out"
    put(root, "good", 3), put(root, "bad", 1, spot=True)
    values = yaml.safe_load((config / "methods/foundad.yaml").read_text())
    values["training"] |= {"learning_rate": 1e30}  # the loss is soon no number
    (config / "methods/foundad.yaml").write_text(yaml.safe_dump(values))
    assert run(config, root, out, "--shots", "1", "--seeds", "1") == 1
    printed = capsys.readouterr()
    assert "FoundAD: failed: " in printed.out
    assert re.search("^take (Nearest|Anomaly)", printed.out, re.MULTILINE)
    assert f"see {out / 'run.log'}" in printed.err
