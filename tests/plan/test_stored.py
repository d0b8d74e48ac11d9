"""Runs with a storage provider: each job gets the files that it names; a run that cannot work is refused."""

import pytest
from conftest import ROOT

from foundad.errors import UserError
from foundad.plan.selection import Plan


def plan_of(project, stored=True, in_job=False, **run):
    found = Plan({"experiments": ["small"]} | run, project / "config", stored=stored, in_job=in_job)
    found.on_cluster = True
    return found


def test_a_job_gets_what_lies_beside_the_features_and_no_batch(project):
    cell = {"dataset": "tiny", "encoder": "tiny", "method": "knn", "shots": 1, "seed": 0}
    plan = plan_of(project)
    assert not plan.batched
    fit = plan.inputs(plan.job("fit", **cell))
    assert "results/features/tiny/tiny/as-is.json" in fit
    assert len(fit) == 1 + len(plan.project.inputs(plan.job("fit", **cell)))
    shared = plan_of(project, stored=False)
    assert shared.batched
    assert not [path for path in shared.inputs(shared.job("fit", **cell)) if path.endswith(".json")]


def test_files_that_go_after_use_need_a_shared_disk(project):
    with pytest.raises(UserError, match=r"config.yaml: key 'keep': .*write keep: \{features: all, models: all\}"):
        plan_of(project, size="paper", keep={"banks": "all"})
    plan_of(project, size="paper", keep=dict.fromkeys(("features", "banks", "models"), "all"))


def test_pictures_that_a_job_makes_need_a_shared_disk(monkeypatch):
    monkeypatch.chdir(ROOT)
    cure = "foundad textures --results made, and write root: made/data/textures instead"
    with pytest.raises(UserError, match=f"config/datasets/textures.yaml: key 'generator': .*{cure}"):
        Plan({"experiments": ["demo"]}, stored=True)


def test_a_job_does_not_read_the_data_of_the_whole_run_again(project):
    assert set(plan_of(project).keys._contents) == {"tiny"}
    assert not plan_of(project, in_job=True).keys._contents
