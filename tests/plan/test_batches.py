"""Batches: every job is in exactly one, nothing is encoded twice, and a run holds few bytes on disk."""

from collections import Counter
from itertools import chain
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, write_yaml

from foundad.plan import batches as module
from foundad.plan.catalogue import read_yaml
from foundad.plan.outlook import Room, as_text, peak_bytes
from foundad.plan.selection import Plan


@pytest.fixture(scope="module")
def paper() -> Plan:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return Plan(read_yaml(Path("config/config.yaml")) | read_yaml(Path("config/paper.yaml")))


def test_every_cell_of_the_paper_is_in_one_batch(paper):
    cells = Counter(chain.from_iterable(batch.cells for batch in paper.batches.all.values()))
    assert set(cells) == set(paper.cells)
    assert set(cells.values()) == {1}


def test_nothing_of_the_paper_is_encoded_twice(paper):
    jobs = Counter(chain.from_iterable(batch.jobs for batch in paper.batches.all.values()))
    assert max(jobs.values()) == 1
    made = {job for job in jobs if job.name == "features"}
    assert made.isdisjoint(paper.batches.made_before)


def test_a_batch_reads_what_it_makes_or_what_is_made_before(paper):
    for batch in paper.batches.all.values():
        before = {job.name for job in paper.batches.read_before(batch)}
        assert before <= {"manifest", "draw", "masks", "features"}
        seen = set()
        for job in batch.jobs:
            inside = {paper.project.job(read) for read in job.reads(paper.project).values()} & set(batch.jobs)
            assert inside <= seen
            seen.add(job)


def test_the_paper_is_few_jobs_and_little_disk(paper):
    batches = paper.batches.all.values()
    assert len(batches) + len(paper.batches.made_before) <= 900
    assert max(batch.seconds for batch in batches if len(batch.cells) > 1) <= module.LONGEST
    assert peak_bytes(paper, Room(8)) <= 100e9


def test_a_long_pair_is_split_and_its_features_come_first(project: Path, monkeypatch):
    monkeypatch.setattr(module, "LONGEST", 1.0)
    plan = Plan({"experiments": ["small"]}, project / "config")
    features, masks = sorted(plan.batches.made_before, key=lambda job: job.name)
    assert (features.dataset, features.encoder) == ("tiny", "tiny")
    assert (masks.dataset, masks.side) == ("tiny", 64)
    assert not any(batch.encodes for batch in plan.batches.all.values())
    tokens = str(features.writes(plan.results)["tokens"])
    readers = [name for name in plan.batches.all if tokens in plan.batch_inputs(name)]
    fitted = {cell.method for name in readers for cell in plan.batches.named(name).cells}
    assert {"knn", "foundad"} <= fitted
    banks = Counter(job for batch in plan.batches.all.values() for job in batch.jobs if job.name == "bank")
    assert set(banks.values()) == {1}


def test_what_stays_depends_on_the_size_and_the_key(project: Path):
    def kept(**values):
        return Plan({"experiments": ["small"]} | values, project / "config").run.kept

    small = {"scores", "masks"}
    assert kept() == {"features", "banks", "models"} | small
    assert kept(size="paper") == small
    assert kept(size="paper", keep={"models": "all"}) == {"models"} | small
    assert kept(keep={"banks": "while-needed"}) == {"features", "models"} | small


def test_a_batch_is_stale_when_one_of_its_jobs_is(project: Path):
    def keys() -> dict[str, str]:
        plan = Plan({"experiments": ["small"]}, project / "config")
        return {name: plan.batch_key(name) for name in plan.batches.all}

    before = keys()
    assert keys() == before
    path = project / "config/methods/knn.yaml"
    write_yaml(path, yaml.safe_load(path.read_text()) | {"smoothing": 1.5})
    assert keys() != before


def test_the_plan_warns_of_a_small_disk(project: Path, monkeypatch):
    plan = Plan({"experiments": ["small"]}, project / "config")
    assert "too small" not in as_text(plan)
    monkeypatch.setattr("foundad.plan.outlook.free_bytes", lambda folder: 1000)
    assert "too small" in as_text(plan)


def test_a_gpu_is_asked_of_a_cluster_by_name_alone(project: Path):
    def gpus(device: str, on_cluster: bool) -> int:
        plan = Plan({"experiments": ["small"], "device": device}, project / "config")
        plan.on_cluster = on_cluster
        (name,) = plan.batches.all
        fit = next(job for job in plan.batches.named(name).jobs if job.name == "fit" and job.uses_gpu(plan.project))
        assert plan.gpus(fit) == plan.batch_resources(name, 1)["gpu"]
        return plan.gpus(fit)

    assert [gpus(device, True) for device in ("auto", "cpu", "cuda")] == [0, 0, 1]
    assert [gpus(device, False) for device in ("auto", "cpu", "cuda")] == [1, 0, 1]


def test_a_second_attempt_asks_for_twice_as_much(project: Path):
    plan = Plan({"experiments": ["small"]}, project / "config")
    (name,) = plan.batches.all
    first, second = (plan.batch_resources(name, attempt) for attempt in (1, 2))
    assert second["mem_mb"] == 2 * first["mem_mb"]
    assert second["runtime"] == 2 * first["runtime"]
