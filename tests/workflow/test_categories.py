"""Categories may have any name. Names with another meaning in models, inputs or variants do not change the numbers."""

import csv
import json
from pathlib import Path

import pandas as pd
import yaml
from conftest import write_yaml

from foundad.cli import main
from foundad.detection.model import Model, Part

NAMES = {"bolt": "a@b", "cloth": "pooled"}  # in the same order
METHODS = {
    "knn": {"title": "Nearest", "detector": "knn", "bank": {"pairs": 40}},
    "each": {"base": "knn", "title": "Nearest of each", "scope": "category"},
    "views": {
        "title": "Views",
        "detector": "visionad",
        "scope": "category",
        "bank": {"pairs": 40, "queries": ["clamp", "flip-vertical"]},
    },
}
CELL = ["--shots", "2", "--seed", "0"]


def measured(project: Path, names: dict[str, str]) -> pd.DataFrame:
    """The metrics of every method where the folders stand for these categories, and equal pictures are drawn."""
    tiny = yaml.safe_load((project / "config/datasets/tiny.yaml").read_text())
    categories = {name: folder for folder, name in names.items()}
    write_yaml(project / "config/datasets/tiny.yaml", tiny | {"categories": categories, "draws": "draws.csv"})
    with open(project / "draws.csv", "w", newline="") as file:
        rows = [[name, f"{folder}/train/good/{n:03}.png"] for folder, name in names.items() for n in (1, 3)]
        csv.writer(file).writerows([["category", "image"], *rows])
    calls = [
        ["manifest", "tiny"],
        ["masks", "tiny", "--side", "64"],
        ["draw", "tiny", *CELL],
        ["features", "tiny", "tiny"],
    ]
    calls += [["features", "tiny", "tiny", "--view", view] for view in ("clamp", "flip-vertical")]
    for method in ("knn", "views", "foundad"):
        calls.append(["bank", "tiny", "tiny", method, *CELL])
    for method in (*METHODS, "foundad"):
        calls += [["fit", "tiny", "tiny", method, *CELL], ["evaluate", "tiny", "tiny", method, *CELL]]
    for call in (*calls, ["collect"], ["table", "small", "categories"], ["table", "small", "main"], ["report"]):
        assert main(call) == 0, call
    found = pd.read_parquet("results/metrics.parquet")
    plain = {name: folder for folder, name in names.items()}
    found["category"] = found["category"].replace(plain)
    return found.drop(columns="draw").sort_values(["method", "category", "metric"]).reset_index(drop=True)


def test_odd_names_of_categories_change_no_number(project: Path, dataset_root: Path, monkeypatch):
    monkeypatch.chdir(project)
    for name, values in METHODS.items():
        write_yaml(project / f"config/methods/{name}.yaml", values)
    path = project / "config/experiments/small.yaml"
    values = yaml.safe_load(path.read_text())
    values["cells"][0] |= {"methods": [*METHODS, "foundad"], "shots": [2], "seeds": [0]}
    write_yaml(path, values | {"figures": {}})
    plain = measured(project, {name: name for name in NAMES})
    odd = measured(project, NAMES)
    pd.testing.assert_frame_equal(plain, odd)
    table = Path("results/tables/small/categories.csv").read_text()
    assert all(name in table for name in NAMES.values())

    # A model keeps the parts of a category, of all and of a query view apart, in memory and in its file.
    cells = Path("results/cells/tiny/tiny")
    each, views, pooled = (
        Model.load(cells / f"{name}/k2-s0/model.safetensors") for name in ("each", "views", "foundad")
    )
    assert set(each.parts) == {Part("a@b"), Part("pooled")}
    assert set(views.parts) == {Part(name, view) for name in NAMES.values() for view in ("", "clamp", "flip-vertical")}
    assert set(pooled.parts) == {Part()}
    assert set(json.loads((cells / "each/k2-s0/record.json").read_text())["fit"]) == set(NAMES.values())
    predict = ["predict", str(dataset_root / "bolt/test/spot/000.png"), "--device", "cpu", "--run"]
    for method in ("each", "views"):
        for name in NAMES.values():
            out = ["--out", f"predictions/{method}-{name}"]
            assert main([*predict, str(cells / method / "k2-s0"), "--category", name, *out]) == 0
        assert main([*predict, str(cells / method / "k2-s0"), "--category", "a"]) == 1
    assert main([*predict, str(cells / "foundad/k2-s0")]) == 0
