"""Class tokens in the plan: files, keys and jobs of their own, made for the methods that need them and moving no others."""

from pathlib import Path

import pytest
import yaml
from conftest import write_yaml

from foundad.cli import main
from foundad.plan.outlook import disk, passes
from foundad.plan.selection import Plan

CELL = ("tiny", "tiny")
NEEDS_CLASS = {"title": "Views", "detector": "visionad", "bank": {"pairs": 8, "queries": ["clamp"]}}


def plan_of(project: Path, methods: list[str], **run) -> Plan:
    path = project / "config/experiments/small.yaml"
    values = yaml.safe_load(path.read_text())
    values["cells"][0]["methods"] = methods
    values["tables"]["categories"]["where"] = {"shots": [2]}
    write_yaml(path, values)
    write_yaml(project / "config/methods/views.yaml", NEEDS_CLASS)
    write_yaml(project / "config/methods/each.yaml", NEEDS_CLASS | {"title": "Each", "scope": "category"})
    return Plan({"experiments": ["small"], "results": str(project / "results")} | run, project / "config")


def test_a_method_that_needs_class_tokens_moves_no_key_of_others(project):
    before = plan_of(project, ["random", "oracle", "knn", "foundad"])
    after = plan_of(project, ["random", "oracle", "knn", "foundad", "views"])
    assert set(before.cells) < set(after.cells)
    for cell in before.cells:
        for stage in ("fit", "evaluate"):
            assert before.keys.of_cell(stage, cell) == after.keys.of_cell(stage, cell)
    assert before.keys.of("features", *CELL) == after.keys.of("features", *CELL)
    patch, described = (
        after.job("features", dataset="tiny", encoder="tiny"),
        after.job("features", dataset="tiny", encoder="tiny", array="class"),
    )
    assert after.keys.of_job(patch).own != after.keys.of_job(described).own
    assert before.arrays(patch) == ""
    assert after.arrays(patch) == f"--beside class={after.keys.of_job(described).own}"
    assert after.arrays(described) == "--array class"
    assert plan_of(project, ["knn", "views"], compile=True).arrays(patch) == ""


def test_class_tokens_are_files_of_their_own(project):
    plan = plan_of(project, ["knn", "views"])
    fit = {"dataset": "tiny", "encoder": "tiny", "shots": 1, "seed": 0}
    names = {Path(path).name for path in plan.inputs(plan.job("fit", method="views", **fit))}
    bank = plan.project.bank_id(plan.project.method("views"))
    features = {"as-is.npy", "as-is.class.npy", "clamp.npy", "clamp.class.npy"}
    assert names >= features | {f"k1-s0-{bank}.safetensors", f"k1-s0-{bank}.class.safetensors"}
    assert not [path for path in plan.inputs(plan.job("fit", method="knn", **fit)) if ".class." in path]
    assert not [path for path in plan.inputs(plan.job("fit", method="each", **fit)) if ".class." in path]
    # The job of the class tokens waits for the patch tokens, which may bring them.
    job = plan.job("features", dataset="tiny", encoder="tiny", view="clamp", array="class")
    assert [Path(path).name for path in plan.inputs(job)] == ["test.parquet", "clamp.npy"]


def test_an_image_is_encoded_once_whatever_is_kept_of_it(project):
    path = project / "config/datasets/tiny.yaml"
    counts = {"bolt": [5, 4, 4], "cloth": [5, 4, 4]}
    write_yaml(path, yaml.safe_load(path.read_text()) | {"counts": counts})
    with_class = plan_of(project, ["knn", "views"])
    counted, size = passes(with_class), disk(with_class)["features"]
    without = plan_of(project, ["knn", "each"])
    assert passes(without) == counted
    assert size - disk(without)["features"] == 2 * 16 * (40 * 2 + 40)  # one more token of two views


def test_batches_make_class_tokens_with_the_patch_tokens(project):
    plan = plan_of(project, ["knn", "views"])
    jobs = [job for batch in plan.batches.all.values() for job in batch.jobs]
    arrays = {(job.name, getattr(job, "array", "")) for job in jobs}
    assert {("features", "patch"), ("features", "class"), ("bank", "patch"), ("bank", "class")} <= arrays
    first = [job for job in jobs if job.name == "features" and job.view == "as-is"]
    assert [job.array for job in first] == ["patch", "class"]


@pytest.mark.parametrize("stage", [["features", *CELL], ["bank", *CELL, "knn", "--shots", "1", "--seed", "0"]])
def test_an_array_that_there_is_not_is_one_line(stage, project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    assert main([*stage, "--array", "clas"]) == 1
    assert capsys.readouterr().err == "there is no array 'clas'; did you mean 'class'?\n"
