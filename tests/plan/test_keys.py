"""Keys: which changes make a job stale and which do not, from pictures to tables."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import picture, save, write_yaml

from foundad import provenance
from foundad.config.dataset import Dataset
from foundad.data.fingerprint import Contents, contents
from foundad.hashes import Hashes
from foundad.key import Key
from foundad.plan.selection import Plan

CELL = ("tiny", "tiny")
STAGES = {
    "manifest train": ("manifest", "tiny", "train"),
    "manifest test": ("manifest", "tiny", "test"),
    "manifest truth": ("manifest", "tiny", "truth"),
    "manifest whole": ("manifest", "tiny", "whole"),
    "masks": ("masks", "tiny", 64),
    "draw": ("draw", "tiny", 1, 0),
    "features": ("features", "tiny", "tiny"),
    "fit random": ("fit", *CELL, "random", 1, 0),
    "fit oracle": ("fit", *CELL, "oracle", 1, 0),
    "fit knn": ("fit", *CELL, "knn", 1, 0),
    "fit foundad": ("fit", *CELL, "foundad", 1, 0),
    "evaluate random": ("evaluate", *CELL, "random", 1, 0),
    "evaluate oracle": ("evaluate", *CELL, "oracle", 1, 0),
    "evaluate knn": ("evaluate", *CELL, "knn", 1, 0),
    "evaluate foundad": ("evaluate", *CELL, "foundad", 1, 0),
    "collect": ("collect",),
    "table": ("table", "small", "main"),
    "figure": ("figure", "small", "shots"),
    "report": ("report",),
}
REPORTS = {"collect", "table", "figure", "report"}
LEARNERS = {f"{stage} {name}" for stage in ("fit", "evaluate") for name in ("knn", "foundad")} | {
    "bank knn",
    "bank foundad",
}
ALL_CELLS = LEARNERS | {f"{stage} {name}" for stage in ("fit", "evaluate") for name in ("random", "oracle")}
EVALUATIONS = {stage for stage in ALL_CELLS if stage.startswith("evaluate")}


def keys(project: Path, **run) -> dict[str, str]:
    """The key of a job of every stage, as a new call of the workflow computes it."""
    provenance.version.cache_clear()
    plan = Plan({"experiments": ["small"], "results": str(project / "results")} | run, project / "config")
    found = {name: plan.keys.of(*parts).own for name, parts in STAGES.items()}
    for name in ("knn", "foundad"):
        bank = plan.project.bank_id(plan.project.method(name))
        found[f"bank {name}"] = plan.keys.of("bank", *CELL, bank, 1, 0).own
    return found


def moved(project: Path, before: dict[str, str], **run) -> set[str]:
    return {name for name, key in keys(project, **run).items() if before[name] != key}


def change(path: Path, **values) -> None:
    write_yaml(path, yaml.safe_load(path.read_text()) | values)


def redraw(path: Path, seed: int = 999) -> None:
    """Another picture in the same number of bytes, where the format allows."""
    save(picture(seed, spot="truth" in str(path))[0 if "truth" not in str(path) else 1], path)


def test_a_picture_moves_what_reads_it(project, dataset_root):
    before = keys(project)
    assert moved(project, before) == set()
    redraw(dataset_root / "bolt/train/good/000.png")
    assert moved(project, before) == {"manifest train", "manifest whole", "draw"} | LEARNERS | REPORTS
    before = keys(project)
    redraw(dataset_root / "bolt/test/good/000.png")
    wanted = {"manifest test", "manifest truth", "manifest whole", "masks", "features"} | ALL_CELLS | REPORTS
    assert moved(project, before) == wanted - {"bank knn", "bank foundad"}
    before = keys(project)
    redraw(dataset_root / "bolt/ground_truth/spot/000_mask.png")
    assert moved(project, before) == {"manifest truth", "manifest whole", "masks", "fit oracle"} | EVALUATIONS | REPORTS


def test_neither_a_touch_nor_a_copy_nor_a_stray_file_moves_a_cell(project, dataset_root, tmp_path):
    before = keys(project)
    for path in dataset_root.rglob("*.png"):
        os.utime(path, (1e9, 1e9))
    assert moved(project, before) == set()
    (dataset_root / "bolt/README.txt").write_text("notes")
    os.symlink("/nowhere", dataset_root / "bolt/test/good/.#lock")
    os.symlink(".", dataset_root / "bolt/test/loop1")
    os.symlink(".", dataset_root / "bolt/test/loop2")
    assert moved(project, before) <= {"manifest whole"} | REPORTS
    (dataset_root / "bolt/test/loop1").unlink()
    (dataset_root / "bolt/test/loop2").unlink()
    shutil.copytree(dataset_root, tmp_path / "elsewhere", symlinks=True)
    change(project / "config/datasets/tiny.yaml", root=str(tmp_path / "elsewhere"))
    assert moved(project, before) <= {"manifest whole"} | REPORTS


def test_an_edit_that_keeps_size_and_time_is_seen(project, dataset_root):
    path = dataset_root / "bolt/test/good/000.png"
    before, found = keys(project), path.stat()
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert path.stat().st_size == found.st_size
    assert "features" in moved(project, before)


@pytest.mark.parametrize(
    ("file", "values", "wanted"),
    [
        ("datasets/tiny", {"title": "Other"}, {"table", "figure", "report"}),
        ("datasets/tiny", {"licence": "CC-BY", "source": "there"}, {"report"}),
        ("datasets/tiny", {"top_k": 3}, {s for s in ALL_CELLS if "bank" not in s} | REPORTS),
        (
            "datasets/tiny",
            {"mask_threshold": 9},
            {"manifest truth", "manifest whole", "masks", "fit oracle"} | EVALUATIONS | REPORTS,
        ),
        ("encoders/tiny", {"title": "Other"}, {"table", "figure", "report"}),
        ("encoders/tiny", {"mean": [0.4, 0.5, 0.5]}, {"features"} | ALL_CELLS | REPORTS),
        ("encoders/tiny", {"tokens": "raw"}, {"features"} | ALL_CELLS | REPORTS),
        ("methods/knn", {"title": "Other"}, {"table", "figure", "report"}),
        ("methods/knn", {"top_k": 3}, {"fit knn", "evaluate knn"} | REPORTS),
        ("methods/foundad", {"bank": {"pairs": 4}}, {"bank foundad", "fit foundad", "evaluate foundad"} | REPORTS),
        ("methods/foundad", {"training": {"steps": 9}}, {"fit foundad", "evaluate foundad"} | REPORTS),
        ("methods/oracle", {"control": False}, {"table", "figure", "report"}),
        ("experiments/small", {"title": "Other"}, {"report"}),
    ],
)
def test_a_config_key_moves_what_it_is_for(project, file, values, wanted):
    before = keys(project)
    change(project / f"config/{file}.yaml", **values)
    assert moved(project, before) == wanted


@pytest.mark.parametrize(
    ("run", "wanted"),
    [
        ({"device": "cpu"}, set()),
        ({"threads": {"fit": 2}, "batch_size": 3}, set()),
        ({"precision": "bfloat16"}, {"features"} | ALL_CELLS | REPORTS),
        ({"precision": "tf32"}, {"features"} | ALL_CELLS | REPORTS),
        ({"compile": True}, {"features"} | ALL_CELLS | REPORTS),
    ],
)
def test_a_run_key_moves_what_it_is_for(project, run, wanted):
    assert moved(project, keys(project), **run) == wanted


def test_weights_at_the_same_path_are_known_by_their_contents(project, tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"some weights")
    change(project / "config/encoders/tiny.yaml", weights={"path": str(path)})
    before = keys(project)
    path.write_bytes(b"more weights")
    assert moved(project, before) == {"features"} | ALL_CELLS | REPORTS
    path.write_bytes(b"some weights")
    assert moved(project, before) == set()
    path.rename(tmp_path / "moved.safetensors")
    change(project / "config/encoders/tiny.yaml", weights={"path": str(tmp_path / "moved.safetensors")})
    assert moved(project, before) <= REPORTS


def test_another_version_moves_what_imports_it_and_can_be_accepted(project, monkeypatch):
    before = keys(project)
    real = provenance.metadata.version
    monkeypatch.setattr(provenance.metadata, "version", lambda name: "99.0" if name == "timm" else real(name))
    assert moved(project, before) == {"features"} | ALL_CELLS - {"fit oracle", "evaluate oracle"} | REPORTS
    assert moved(project, before, versions={"timm": real("timm").partition("+")[0]}) == set()


def test_a_list_of_draws_is_known_by_its_contents(project, tmp_path):
    path = tmp_path / "draws.csv"
    path.write_text("category,image\nbolt,000.png\n")
    change(project / "config/datasets/tiny.yaml", draws=str(path))
    before = keys(project)
    path.write_text("category,image\nbolt,001.png\n")
    assert moved(project, before) == {"draw"} | LEARNERS | REPORTS


def test_a_table_is_known_by_what_its_rows_say(project, tmp_path):
    root = tmp_path / "table"
    for number in range(6):
        save(picture(number, spot=number > 3)[0], root / f"{number}.png")
    rows = [f"{n}.png,{'train' if n < 2 else 'test'},{int(n > 3)}" for n in range(6)]
    listed = root / "images.csv"
    listed.write_text("\n".join(["image,split,label", *rows]) + "\n")
    values = {"title": "Own", "layout": "table", "root": str(root), "licence": "none", "source": "here"}
    settings = Dataset.model_validate(values | {"id": "own"})
    before = contents(settings, Hashes())
    size = listed.stat().st_size
    listed.write_text(
        listed.read_text().replace("2.png,test,0", "2.png,test,1").replace("4.png,test,1", "4.png,test,0")
    )
    assert listed.stat().st_size == size
    after = contents(settings, Hashes())
    assert (after.train == before.train, after.test == before.test, after.truth == before.truth) == (True, False, False)


def test_a_dataset_that_is_not_there_and_one_that_cannot_be_listed(tmp_path):
    values = {"id": "own", "title": "Own", "layout": "table", "licence": "none", "source": "here"}
    absent = contents(Dataset.model_validate(values | {"root": str(tmp_path / "nowhere")}), Hashes())
    refused = contents(Dataset.model_validate(values | {"root": str(tmp_path)}), Hashes())
    assert isinstance(absent, Contents)
    assert absent.normal == refused.normal == {}
    assert absent.whole != refused.whole


def test_hashes_are_remembered_by_what_cannot_be_set_back(tmp_path, monkeypatch):
    from foundad import hashes

    monkeypatch.setattr(hashes, "FRESH_NANOSECONDS", -1)
    path, memory = tmp_path / "a.bin", tmp_path / "memory.json"
    path.write_bytes(b"1")
    first = Hashes(memory)
    found = first.of([path])
    first.save()
    read: list[Path] = []
    monkeypatch.setattr(hashes, "_hash", lambda path: read.append(path) or "read")
    assert Hashes(memory).of([path]) == found
    assert read == []
    os.utime(path, ns=(5, 5))  # times are new, contents are read again
    assert Hashes(memory).of([path]) == {path: "read"}
    memory.write_bytes(b"{]")
    assert Hashes(memory).of([path]) == {path: "read"}
    assert Hashes(memory).of([tmp_path / "nowhere"]) == {tmp_path / "nowhere": "absent"}


def test_a_key_travels_as_text():
    key = Key("0123abcd", {"manifest": "aa", "features@": "bb", "features@flip-vertical": "cc"})
    assert Key.parse(str(key)) == key
    assert key.of("features@") == "bb"
    assert key.of("bank") is None


def test_the_sources_of_a_stage_are_in_its_key(project, monkeypatch):
    """One line of a file moves the key of every stage that really uses it, and of no other."""
    before = keys(project)
    root = Path(provenance.__file__).parent.parent
    wanted = {
        "foundad/metrics/pro.py": EVALUATIONS | REPORTS,
        "foundad/report/tables/metrics.py": {"table", "report"},
        "baselines/knn.py": {"fit knn", "evaluate knn"} | REPORTS,
        "foundad/pairs/cutpaste.py": LEARNERS | REPORTS,
        "foundad/encoders/libraries/timm.py": {"features"} | LEARNERS | {"fit random", "evaluate random"} | REPORTS,
        "foundad/encoders/libraries/open_clip.py": set(),
        "foundad/encoders/base.py": {"features"} | LEARNERS | {"fit random", "evaluate random"} | REPORTS,
        "foundad/config/base.py": set(before),
        "foundad/config/dataset.py": set(before),
        "foundad/config/encoder.py": {"features"} | ALL_CELLS | REPORTS,
        "foundad/config/bank.py": LEARNERS | REPORTS,
        "foundad/config/method.py": ALL_CELLS - {"bank knn", "bank foundad"} | REPORTS,
        "foundad/config/experiment.py": {"report"},
        "foundad/config/run.py": set(),
        "foundad/metrics/runs.py": {"masks", "fit oracle"} | EVALUATIONS | REPORTS,
        "foundad/detection/truth.py": {"fit oracle", "evaluate oracle"} | REPORTS,
        "foundad/files.py": set(),
        "foundad/stages/base.py": set(),
    }
    read = Path.read_bytes
    for name, stages in wanted.items():
        edited = root / name
        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_bytes", lambda path, edited=edited: read(path) + b"#" * (path == edited))
            provenance.source_hash.cache_clear()
            found = moved(project, before)
        assert found - {"report"} == stages - {"report"}, name
    provenance.source_hash.cache_clear()


def test_arrays_of_a_mask_folder_count_by_their_files(tmp_path):
    for name in ("000.png", "001.png"):
        save(np.zeros((4, 4), np.uint8), tmp_path / "masks" / name)
    before = Hashes().of([tmp_path / "masks"])
    save(np.ones((4, 4), np.uint8), tmp_path / "masks/001.png")
    assert Hashes().of([tmp_path / "masks"]) != before


def test_a_key_does_not_depend_on_what_was_asked_before(project):
    """The workflow, a stage by hand and `collect` ask in orders of their own."""

    def asked(names: list[str]) -> dict[str, str]:
        plan = Plan({"experiments": ["small"], "results": str(project / "results")}, project / "config")
        jobs = {f"{job.name} {job.wildcards}": job for cell in plan.cells for job in jobs_of(plan, cell)}
        return {name: plan.keys.of_job(jobs[name]).own for name in names or list(jobs)}

    def jobs_of(plan, cell):
        draw = plan.job("draw", dataset=cell.dataset, shots=cell.shots, seed=cell.seed)
        return [draw, *(plan.job(stage, **vars(cell)) for stage in ("fit", "evaluate", "observe", "efficiency"))]

    first = asked([])
    assert asked(list(reversed(first))) == first
    assert len({key for name, key in first.items() if name.startswith("draw")}) == 4
