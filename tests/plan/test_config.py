"""Config: every shipped file is valid, and every kind of mistake gives one line with file, key and the nearest name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, write_yaml

from foundad.cells import Cell
from foundad.cli import main
from foundad.config.base import IN_WORDS
from foundad.config.run import Run
from foundad.detection.registry import detectors, settings_of
from foundad.errors import UserError
from foundad.paths import Results
from foundad.plan.catalogue import KINDS, load_catalogue, load_one, read_yaml
from foundad.plan.cost import parameters
from foundad.plan.outlook import Room, as_text, disk, passes, wall_seconds
from foundad.plan.project import bank_id
from foundad.plan.selection import Plan


def test_every_shipped_file_is_valid():
    catalogue = load_catalogue(ROOT / "config")
    for run in ROOT.glob("config/*.yaml"):
        assert Plan(yaml.safe_load(run.read_text()), ROOT / "config").run.experiments
    assert catalogue.experiments


MISTAKES = [
    ("encoders/tiny.yaml", "image_sice", 64, "unknown key 'image_sice'; did you mean 'image_size'?"),
    ("encoders/tiny.yaml", "image_size", "big", "key 'image_size'"),
    (
        "encoders/tiny.yaml",
        "image_size",
        68,
        "key 'image_size': 68 is not a multiple of the stride 8; nearest: 64 or 72",
    ),
    ("encoders/tiny.yaml", "library", "tim", "did you mean 'timm'?"),
    (
        "encoders/tiny.yaml",
        "features",
        {"kind": "blocks", "patch": 14, "depth": 12},
        "64 is not a multiple of the patch 14",
    ),
    ("encoders/tiny.yaml", "features", {"kind": "blocks", "patch": 16, "depth": 4, "layer": 9}, "layer': 9 is beyond"),
    ("encoders/tiny.yaml", "features", {"kind": "stages", "grid": 8}, "key 'features.strides' is missing"),
    (
        "encoders/tiny.yaml",
        "features",
        {"kind": "blocks", "patch": 16, "depth": 4, "layers": [1, 9]},
        "layers': 9 is beyond",
    ),
    (
        "encoders/tiny.yaml",
        "features",
        {"kind": "blocks", "patch": 16, "depth": 4, "layers": [1, 2, 3]},
        "key 'channels': 40 is not divided by 3 blocks",
    ),
    (
        "encoders/tiny.yaml",
        "features",
        {"kind": "stages", "strides": [8], "grid": 8, "channels": [41]},
        "key 'features.channels': sum to 41, not 40",
    ),
    (
        "encoders/tiny.yaml",
        "features",
        {"kind": "stages", "strides": [16], "grid": 6, "upsampling": "nearest"},
        "key 'features.upsampling': nearest repeats whole tokens",
    ),
    ("encoders/tiny.yaml", "features", {"kind": "stages", "strides": [8], "grid": 8, "pool": 2}, "must be odd"),
    ("methods/knn.yaml", "search", {"dtype": "bfloat16"}, "set search.backend to torch"),
    ("methods/knn.yaml", "bank", {"queries": ["flip-vertcal"]}, "did you mean 'flip-vertical'?"),
    ("methods/random.yaml", "top_k", 0, "key 'top_k'"),
    ("datasets/tiny.yaml", "layout", "mvtek", "did you mean 'mvtec'?"),
    ("datasets/tiny.yaml", "licens", "x", "unknown key 'licens'; did you mean 'licence'?"),
    (
        "datasets/tiny.yaml",
        "download",
        {"page": "https://a.org/b", "archiv": "b.zip"},
        "unknown key 'download.archiv'; did you mean 'archive'?",
    ),
    ("datasets/tiny.yaml", "download", {"archive": "b.zip"}, "key 'download.page' is missing"),
    ("datasets/tiny.yaml", "download", {"page": "a.org"}, "key 'download.page': 'a.org' is no address: write it whole"),
    ("datasets/tiny.yaml", "download", {"page": "https://a.org/b", "archive": "../b.zip"}, "key 'download.archive'"),
    (
        "datasets/tiny.yaml",
        "download",
        {"page": "https://a.org/b", "url": "https://a.org/b.zip"},
        "key 'archive' is missing: name the file that url and sha256 are of",
    ),
    ("methods/foundad.yaml", "detector", "foundat", "there is no detector 'foundat'; did you mean 'foundad'?"),
    ("methods/foundad.yaml", "training", {"stepz": 3}, "unknown key 'training.stepz'; did you mean 'steps'?"),
    ("methods/foundad.yaml", "projector", {"width": 40, "heads": 3}, "3 does not divide the width 40"),
    ("methods/knn.yaml", "projector", {"depth": 2}, "unknown key 'projector'"),
    ("methods/knn.yaml", "base", "foundat", "key 'base': there is no 'foundat'; did you mean 'foundad'?"),
    ("methods/knn.yaml", "base", "knn", "goes in a circle"),
    ("experiments/small.yaml", "cels", [], "unknown key 'cels'; did you mean 'cells'?"),
    ("experiments/small.yaml", "figures", {"a": {"kind": "pie", "title": "x"}}, "key 'figures.a'"),
]


@pytest.mark.parametrize(("file", "key", "value", "message"), MISTAKES)
def test_a_mistake_is_one_line(project: Path, file, key, value, message, capsys):
    path = project / "config" / file
    write_yaml(path, yaml.safe_load(path.read_text()) | {key: value})
    assert main(["validate", "--config", str(project / "config")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if message in line and str(path) in line], lines
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("foundad@", "key 'cells.0.methods.1': 'foundad@' is no id: write letters, digits, _ . + and -, the first one"),
        ("a/b", "key 'cells.0.methods.1': 'a/b' is no id: write letters, digits"),
    ],
)
def test_what_an_id_may_be_is_said_in_words(project: Path, name, line, capsys):
    path = project / "config/experiments/small.yaml"
    values = yaml.safe_load(path.read_text())
    values["cells"][0]["methods"] = ["knn", name]
    write_yaml(path, values)
    assert main(["validate", "--config", str(project / "config")]) == 2
    assert f"{path}: {line}" in capsys.readouterr().err
    values["cells"][0]["methods"] = ["knn"]
    write_yaml(path, values)
    (project / "config/methods/k n.yaml").write_text("title: x\ndetector: knn\n")
    assert main(["validate", "--config", str(project / "config")]) == 2
    assert "k n.yaml: rename it: 'k n' is no id: write letters" in capsys.readouterr().err


def test_every_pattern_has_words():
    def patterns(value: object) -> set[str]:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
        own = {value["pattern"]} if isinstance(value, dict) and isinstance(value.get("pattern"), str) else set()
        return own.union(*map(patterns, inner))

    models = [*KINDS.values(), Run, *map(settings_of, detectors())]
    assert set().union(*(patterns(model.model_json_schema()) for model in models)) == set(IN_WORDS)


def test_validate_takes_run_configs_as_plan_does(project: Path, capsys):
    one, two = project / "one.yaml", project / "two.yaml"
    one.write_text("experiments: [smal]\n")
    two.write_text("experiments: [small]\n")
    call = ["validate", "--config", str(project / "config")]
    for given, code in ((["--configfile", one], 2), (["--configfile", one, two], 0), ([two], 0), ([two, one], 2)):
        assert main([*call, *map(str, given)]) == code, given
    assert f"{one}: key 'experiments': there is no experiment 'smal'" in capsys.readouterr().err


def test_a_dataset_without_a_root_is_refused_unless_its_layout_has_one(project: Path, capsys):
    values = {"title": "New", "layout": "mvtec", "licence": "none", "source": "here"}
    write_yaml(project / "config/datasets/new.yaml", values)
    assert main(["validate", "--config", str(project / "config")]) == 2
    assert "datasets/new.yaml: key 'root' is missing: layout 'mvtec' reads a folder" in capsys.readouterr().err
    write_yaml(project / "config/datasets/new.yaml", values | {"layout": "elpv"})
    assert main(["validate", "--config", str(project / "config")]) == 0


@pytest.mark.parametrize(
    ("kind", "wrong", "right"),
    [("datasets", "tinny", "tiny"), ("encoders", "tniy", "tiny"), ("methods", "founad", "foundad")],
)
def test_an_experiment_names_the_nearest_id(project: Path, kind, wrong, right, capsys):
    path = project / "config/experiments/small.yaml"
    values = yaml.safe_load(path.read_text())
    values["cells"][0][kind] = [wrong]
    write_yaml(path, values)
    assert main(["validate", "--config", str(project / "config")]) == 2
    assert f"'{wrong}'; did you mean '{right}'?" in capsys.readouterr().err


def test_metrics_axes_and_experiments_are_checked(project: Path, capsys):
    path = project / "config/experiments/small.yaml"
    values = yaml.safe_load(path.read_text())
    values["tables"]["main"]["metrics"] = ["i_aurok"]
    values["tables"]["main"]["where"] = {"method": ["kn"]}
    values["tables"]["categories"]["where"] = {}
    values["figures"]["both"] = {"kind": "protocols", "title": "Both", "metrics": ["p_auruc", "aupimo"]}
    write_yaml(path, values)
    assert main(["validate", "--config", str(project / "config")]) == 2
    errors = capsys.readouterr().err
    assert "there is no metric 'i_aurok'; did you mean 'i_auroc'?" in errors
    assert "key 'figures.both.metrics': there is no metric 'p_auruc'; did you mean 'p_auroc'?" in errors
    assert "there is no metric 'aupimo'" in errors  # of one protocol alone
    assert "no cell has the method 'kn'; did you mean 'knn'?" in errors
    assert "'tables.categories': shots takes 2 values" in errors


def test_all_errors_of_all_files_come_at_once(project: Path, capsys):
    config = project / "config"
    (config / "encoders/broken.yaml").write_text("title: [unclosed\n")
    (config / "methods/knn.yaml").write_text("title: x\ndetector: knn\nscop: pooled\n")
    (config / "datasets/tiny.yaml").write_text("just words\n")
    assert main(["validate", "--config", str(config)]) == 2
    errors = capsys.readouterr().err
    assert "encoders/broken.yaml: line" in errors
    assert "methods/knn.yaml: unknown key 'scop'; did you mean 'scope'?" in errors
    assert "datasets/tiny.yaml: must hold 'key: value' lines" in errors
    assert "Traceback" not in errors


def test_more_shots_than_normal_images_is_found_before_anything_runs(project: Path):
    path = project / "config/experiments/small.yaml"
    values = yaml.safe_load(path.read_text())
    values["cells"][0]["shots"] = [6]
    del values["tables"], values["figures"]
    write_yaml(path, values)
    with pytest.raises(UserError, match="6 is more than the 5 normal images of category 'bolt'"):
        Plan({"experiments": ["small"]}, project / "config")


def test_an_absent_dataset_skips_its_experiment_with_a_reason(project: Path):
    path = project / "config/datasets/tiny.yaml"
    write_yaml(path, yaml.safe_load(path.read_text()) | {"root": "$SURELY_NOT_SET/images"})
    experiment = project / "config/experiments/small.yaml"
    write_yaml(experiment, yaml.safe_load(experiment.read_text()) | {"skip_if_absent": True})
    plan = Plan({"experiments": ["small"]}, project / "config")
    assert plan.cells == []
    assert "$SURELY_NOT_SET/images" in plan.skipped["small"]
    assert as_text(plan).endswith("nothing would run")


def test_a_method_inherits_and_shares_the_bank_of_its_base():
    config = ROOT / "config"
    base, deeper = load_one(config, "methods", "foundad"), load_one(config, "methods", "foundad-vit8")
    assert deeper.projector.depth == 8
    assert deeper.training == base.training
    assert bank_id(base) == bank_id(deeper) == bank_id(load_one(config, "methods", "knn"))


def test_the_size_of_a_run_chooses_in_every_file(project: Path):
    path = project / "config/experiments/small.yaml"
    values = yaml.safe_load(path.read_text())
    values["cells"][0]["seeds"] = {"demo": [0], "paper": [0, 1, 2]}
    write_yaml(path, values)
    method = project / "config/methods/foundad.yaml"
    steps = {"steps": {"demo": 3, "paper": 7}}
    write_yaml(method, yaml.safe_load(method.read_text()) | {"training": steps})
    plans = {size: Plan({"experiments": ["small"], "size": size}, project / "config") for size in ("demo", "paper")}
    assert {cell.seed for cell in plans["demo"].cells} == {0}
    assert {cell.seed for cell in plans["paper"].cells} == {0, 1, 2}
    assert [plans[size].project.method("foundad").training.steps for size in ("demo", "paper")] == [3, 7]
    keys = {
        size: [plan.keys.of("fit", "tiny", "tiny", name, 1, 0).own for name in ("foundad", "random")]
        for size, plan in plans.items()
    }
    assert keys["demo"][0] != keys["paper"][0]
    assert keys["demo"][1] == keys["paper"][1]


def test_a_laptop_takes_the_values_of_the_paper_where_it_has_none(project: Path):
    method = project / "config/methods/foundad.yaml"
    values = yaml.safe_load(method.read_text())
    training = {"steps": {"demo": 3, "laptop": 5, "paper": 7}, "batch_size": {"demo": 2, "paper": 4}}
    write_yaml(method, values | {"training": training})
    found = load_one(project / "config", "methods", "foundad", "laptop").training
    assert (found.steps, found.batch_size) == (5, 4)
    write_yaml(method, values | {"training": {"steps": {"demo": 3, "laptop": 5}}})
    with pytest.raises(UserError, match=r"foundad\.yaml: key 'training\.steps'"):
        load_one(project / "config", "methods", "foundad", "laptop")


def test_a_night_on_a_laptop_is_a_night():
    values = read_yaml(ROOT / "config/config.yaml") | read_yaml(ROOT / "config/laptop.yaml")
    plan = Plan(values, ROOT / "config")
    assert not plan.batched
    assert 2 * 3600 < wall_seconds(plan, Room(8)) < 9 * 3600
    assert disk(plan).total() < 20e9


def test_a_mistake_at_the_other_size_is_found(project: Path, capsys):
    path = project / "config/experiments/small.yaml"
    values = yaml.safe_load(path.read_text())
    values["cells"][0]["encoders"] = {"demo": ["tiny"], "paper": ["tniy"]}
    write_yaml(path, values)
    assert main(["validate", "--config", str(project / "config")]) == 2
    assert "'tniy'; did you mean 'tiny'?" in capsys.readouterr().err


def test_the_paper_is_planned_without_its_images(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("FOUNDAD_DATASETS", raising=False)
    assert main(["plan", "--configfile", "config/paper.yaml"]) == 0
    text = capsys.readouterr().out
    assert int(text.split(" cells")[0]) >= 3000
    assert "skipped" not in text
    assert "GPU hours" in text


def test_what_a_run_costs_is_counted(project: Path):
    path = project / "config/datasets/tiny.yaml"
    counts = {"bolt": [5, 4, 4], "cloth": [5, 4, 4]}
    write_yaml(path, yaml.safe_load(path.read_text()) | {"counts": counts})
    plan = Plan({"experiments": ["small"]}, project / "config")
    found = passes(plan)
    assert found.test == 16
    banks = {bank_id(plan.project.method(name)): plan.project.method(name).bank.pairs for name in ("knn", "foundad")}
    # 2 seeds, 1 and 2 shots of 2 categories, and both pictures of every pair.
    assert found.banks == 2 * sum(2 + 2 * pairs + 4 + 2 * pairs for pairs in banks.values())
    assert disk(plan)["features"] == 16 * (64 * 40 * 2 + 40)
    assert found.fresh == 0
    assert not plan.costs.images("tiny").assumed


def test_passes_under_query_views_are_counted(project: Path):
    path = project / "config/datasets/tiny.yaml"
    counts = {"bolt": [5, 4, 4], "cloth": [5, 4, 4]}
    write_yaml(path, yaml.safe_load(path.read_text()) | {"counts": counts})
    viewed = {"pairs": 6, "rotations": 2, "queries": ["clamp"]}
    write_yaml(project / "config/methods/knn.yaml", {"title": "Views", "detector": "visionad", "bank": viewed})
    path = project / "config/experiments/small.yaml"
    values = yaml.safe_load(path.read_text())
    values["cells"][0] |= {"methods": ["knn"], "seeds": [0]}
    write_yaml(path, values | {"tables": {}, "figures": {}})
    found = passes(Plan({"experiments": ["small"]}, project / "config"))
    assert found.test == 2 * 16
    # 1 and 2 shots of 2 categories, turned once, and clean pictures under both views; the damaged ones under one.
    assert found.banks == (2 * 2 * 2 + 6 * 2 + 6) + (4 * 2 * 2 + 6 * 2 + 6)


@pytest.mark.parametrize("heads", [None, 3, 5])
def test_the_planned_projector_is_the_one_that_is_trained(heads):
    from foundad.method.projector import Projector
    from foundad.method.settings import Projector as Settings

    encoder = load_catalogue(ROOT / "config").encoders["efficientnet-lite0"]
    settings = Settings(heads=heads)
    trained = Projector(encoder.channels, 1, settings)
    assert trained.embed.out_features == settings.width_for(encoder.channels)
    assert parameters(settings, encoder) == pytest.approx(sum(p.numel() for p in trained.parameters()), rel=0.02)


@pytest.mark.parametrize("x", ["method.training.stepz", "dataset.title", "method.training"])
def test_a_curve_sweeps_something(project: Path, capsys, x):
    path = project / "config/experiments/small.yaml"
    values = yaml.safe_load(path.read_text())
    values["cells"][0]["methods"] = ["foundad"]
    values["figures"]["shots"]["x"] = x
    write_yaml(path, values)
    assert main(["validate", "--config", str(project / "config")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"key 'figures.shots': x: '{x}' names no value of cell" in line


def test_a_dropped_encoder_adds_exactly_its_cells(project: Path):
    before = set(Plan({"experiments": ["small"]}, project / "config").cells)
    tiny = yaml.safe_load((project / "config/encoders/tiny.yaml").read_text())
    write_yaml(project / "config/encoders/other.yaml", tiny | {"title": "Other"})
    path = project / "config/experiments/small.yaml"
    values = yaml.safe_load(path.read_text())
    values["cells"][0]["encoders"].append("other")
    values["tables"]["main"]["rows"] = ["encoder", "method"]
    values["tables"]["categories"]["where"]["encoder"] = ["other"]
    values["figures"] = {}
    write_yaml(path, values)
    after = set(Plan({"experiments": ["small"]}, project / "config").cells)
    assert after - before == {Cell("tiny", "other", c.method, c.shots, c.seed) for c in before}
    assert before < after


def test_titles_do_not_make_results_stale_but_keys_do(project: Path):
    def key() -> str:
        plan = Plan({"experiments": ["small"]}, project / "config")
        return plan.keys.of("fit", "tiny", "tiny", "knn", 1, 0).own

    path = project / "config/methods/knn.yaml"
    values, before = yaml.safe_load(path.read_text()), key()
    write_yaml(path, values | {"title": "Another name"})
    assert key() == before
    write_yaml(path, values | {"top_k": 3})
    assert key() != before


def test_a_dataset_the_workflow_makes_lies_below_its_results(tmp_path: Path):
    dataset = load_one(ROOT / "config", "datasets", "textures")
    assert Results(tmp_path).located(dataset).expanded_root == tmp_path / "data/textures"
    elpv = load_one(ROOT / "config", "datasets", "elpv")
    assert Results(tmp_path).located(elpv) is elpv


def test_a_reader_that_has_seen_enough_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        command = [sys.executable, "-m", "foundad", "ls"]
        ended = subprocess.run(command, cwd=ROOT, stdout=closed, stderr=subprocess.PIPE, text=True)
    assert ended.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["table", "demo", "mian"], "there is no table 'mian'; did you mean 'main'?"),
        (["figure", "demo", "galery"], "there is no figure 'galery'; did you mean 'gallery'?"),
        (
            ["features", "elpv", "efficientnet-lite0", "--view", "flip-vertica"],
            "there is no query view 'flip-vertica'; did you mean 'flip-vertical'?",
        ),
    ],
)
def test_a_wrong_name_on_the_command_line_is_one_line(arguments, line, capsys):
    assert main([*arguments, "--config", str(ROOT / "config")]) == 1
    assert capsys.readouterr().err.splitlines() == [line]
