"""No result is ever stale and no job runs needlessly: the staleness matrix, and real runs after edits."""

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from laboratory import (
    Planner,
    calling,
    change_yaml,
    changed,
    copied,
    finish,
    from_scratch,
    leftovers,
    markers,
    numbers,
    planned,
    small_project,
    whole_project,
)
from matrix import Edit, both_planners, edits, rewrite, touch_everything, verdict

from foundad.config.bank import Augmentation, Bank, Synthesis
from foundad.config.dataset import Dataset
from foundad.config.encoder import Encoder, Stages
from foundad.config.method import MemoryMethod
from foundad.config.run import Run
from foundad.detection.shared.training_settings import Training
from foundad.method.settings import Projector, Settings
from foundad.plan.catalogue import KINDS
from foundad.report.tables.metrics import Metrics

EDITS = edits()
# The suite tries these; `make matrix` tries all and prints them.
QUICK_KINDS = {"picture", "mask", "list", "weights", "nothing", "stray", "run YAML"}
QUICK = {
    "datasets YAML: bolts: mask_threshold",
    "datasets YAML: bolts: top_k",
    "datasets YAML: bolts: draws",
    "datasets YAML: bolts: licence",
    "datasets YAML: bolts: root, an equal copy",
    "encoders YAML: tiny: title",
    "encoders YAML: both: parts",
    "methods YAML: foundad: smoothing",
    "methods YAML: foundad: bank.pairs",
    "methods YAML: fresh: a key over its base",
    "experiments YAML: a new seed",
    "experiments YAML: small: tables.main.caption",
    "version: numpy",
    "version: timm",
    "version: pytest",
    "source: foundad/files.py",
    "source: foundad/data/layouts/mvtec.py",
    "source: foundad/metrics/pro.py",
    "source: baselines/knn.py",
    "source: foundad/report/tables/metrics.py",
    "source: foundad/encoders/libraries/open_clip.py",
    "source: a new baseline that nothing uses",
    "source: a new kind of figure and of table that nothing uses",
}


def is_quick(edit: Edit) -> bool:
    """Whether the suite tries it as well."""
    return edit.kind in QUICK_KINDS or str(edit) in QUICK


CASES = [pytest.param(edit, id=str(edit), marks=() if is_quick(edit) else pytest.mark.slow) for edit in EDITS]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole_project(tmp_path_factory.mktemp("matrix") / "project")


@pytest.fixture(scope="module")
def planners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Planner, Planner]]:
    found = both_planners(tmp_path_factory.mktemp("planners"))
    yield found
    for planner in found:
        planner.close()


@pytest.mark.parametrize("edit", CASES)
def test_an_edit_makes_exactly_the_right_jobs_stale(edit: Edit, pristine: Path, planners, tmp_path: Path):
    assert verdict(edit, copied(pristine, tmp_path / "project"), planners) == ""


def test_the_names_of_the_quick_edits_exist():
    assert {str(edit) for edit in EDITS} >= QUICK


def test_every_key_of_the_config_is_in_the_matrix():
    """A key that is added must be given its place here."""
    named = {
        kind: " ".join(f"{edit} {edit.run}" for edit in EDITS if edit.kind == f"{kind} YAML")
        for kind in (*KINDS, "run")
    }
    tried = {kind: set(re.findall(r"[a-z_0-9]+", text)) for kind, text in named.items()}
    models = {
        "datasets": [Dataset],
        "encoders": [Encoder, Stages],
        "methods": [
            Settings,
            MemoryMethod,
            Bank,
            Augmentation,
            Synthesis,
            Projector,
            Training,
        ],
        "experiments": [Metrics],
        "run": [Run],
    }
    # Named by their files; a kind is another model; an experiment is edited in what it holds, a group key by key.
    known = {"id", "kind", "experiments", "versions", "projector", "training", "augmentation", "synthesis", "bank"}
    missing = {
        f"{kind}: {name}"
        for kind, group in models.items()
        for model in group
        for name in model.model_fields
        if name not in known and name not in tried[kind]
    }
    assert not missing


def test_an_edit_is_seen_behind_the_memory_of_hashes(pristine: Path, planners, tmp_path: Path):
    """Equal size, equal time: what tells is that the file was written to, which no one can set back."""
    project = copied(pristine, tmp_path / "project")
    time.sleep(2.2)  # younger files are not remembered
    first = planners[0].jobs(project)
    assert any(path.name.endswith(".hashes.json") for path in (project / "results").rglob("*"))
    rewrite("data/listed/mask_0.bmp", keep_time=True)(project)
    second = planners[0].jobs(project)
    assert "manifest:listed/truth" in changed(first, second)
    rewrite("data/listed/train_0.bmp", keep_time=True)(project)
    third = planners[0].jobs(project)
    assert "manifest:listed/train" in changed(second, third)
    touch_everything(project)
    assert changed(third, planners[0].jobs(project)) == set()


# ---------------------------------------------------------------------------------------------------- real runs


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project whose run has ended; tests copy it."""
    project = small_project(tmp_path_factory.mktemp("finished") / "project")
    finish(project)
    assert planned(project) == {}
    assert leftovers(project) == []
    return project


REPORTS = {"collect": 1, "table": 1, "figure": 1, "report": 1, "status": 1}


def test_snakemake_plans_what_the_matrix_says(finished: Path, tmp_path: Path):
    project = copied(finished, tmp_path / "project")
    touch_everything(project)
    assert planned(project) == {}
    change_yaml(project / "config/methods/knn.yaml", {"top_k": 2})
    assert planned(project) == {"fit": 1, "evaluate": 1, **REPORTS}
    change_yaml(project / "config/methods/knn.yaml", {"top_k": None})
    change_yaml(project / "config/datasets/bolts.yaml", {"licence": "CC BY"})
    assert planned(project) == {"report": 1}
    change_yaml(project / "config/datasets/bolts.yaml", {"licence": "CC0"})
    rewrite("data/bolts/bolt/ground_truth/spot/001_mask.png")(project)
    plan = planned(project)
    assert "features" not in plan
    assert "draw" not in plan
    assert (plan["masks"], plan["fit"], plan["evaluate"]) == (1, 1, 2)  # the oracle's fit


def test_a_killed_fit_of_another_config_leaves_no_old_number(finished: Path, tmp_path: Path):
    """Changed keys, a kill, and a rerun with --rerun-incomplete: the numbers are those of the new config."""
    project = copied(finished, tmp_path / "project")
    old = numbers(project)
    change_yaml(project / "config/methods/knn.yaml", {"top_k": 1})
    with calling(project, STALL_STAGE="fit", STALL_AT="start") as running:
        assert running.kill("job", running.wait_for_held_job()) != 0
    finish(project, "--rerun-incomplete")
    assert planned(project) == {}
    new = from_scratch(project, tmp_path / "scratch")
    assert new != old
    assert numbers(project) == new
    assert leftovers(project) == markers(project) == []


def edit_of(name: str) -> Edit:
    return next(edit for edit in EDITS if str(edit) == name)


RUN_EDITS = (
    "picture: a training picture",
    "picture: a defective test picture",
    "picture: a new training picture",
    "picture: a defect removed with its mask",
    "mask: a mask",
    "datasets YAML: bolts: mask_threshold",
    "datasets YAML: bolts: top_k",
    "datasets YAML: bolts: categories",
    "encoders YAML: tiny: interpolation 'bicubic'",
    "encoders YAML: tiny: tokens",
    "methods YAML: knn: bank.pairs",
    "methods YAML: knn: detector",
)


@pytest.mark.slow
@pytest.mark.parametrize("partial", ["", "results/manifests/bolts/truth.parquet", "results/manifests/bolts.parquet"])
@pytest.mark.parametrize("name", RUN_EDITS)
def test_after_an_edit_the_bytes_are_those_of_a_run_from_scratch(
    name: str, partial: str, finished: Path, tmp_path: Path
):
    """Also where a call made no more than a part of the manifest between the edit and the whole."""
    project = copied(finished, tmp_path / "project")
    edit_of(name).change(project)
    if partial:
        finish(project, partial)
    finish(project)
    assert planned(project) == {}
    assert numbers(project) == from_scratch(project, tmp_path / "scratch")


@pytest.mark.slow
def test_edits_one_after_another_and_back(finished: Path, tmp_path: Path):
    project = copied(finished, tmp_path / "project")
    first = numbers(project)
    backup = project / "backup"
    shutil.copytree(project / "data", backup / "data")
    shutil.copytree(project / "config", backup / "config")
    for name in RUN_EDITS[:1] + RUN_EDITS[4:5] + RUN_EDITS[6:7]:
        edit_of(name).change(project)
        finish(project)
    for name in ("data", "config"):
        shutil.rmtree(project / name)
        (backup / name).rename(project / name)
    finish(project)
    assert numbers(project) == first
