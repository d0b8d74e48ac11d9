"""The real workflow on tiny data: which jobs run, and what happens if something is killed or broken."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import write_yaml
from PIL import Image

from foundad.cli import main
from foundad.data.draws import read_draw

CELLS = 16  # 4 methods, 2 shots, 2 seeds


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]


def snakemake(project: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(command(*arguments), cwd=project, capture_output=True, text=True, timeout=600)


def done(project: Path, *arguments: str) -> subprocess.CompletedProcess:
    result = snakemake(project, *arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    return result


def planned(project: Path, *arguments: str) -> dict[str, int]:
    """Rule -> number of jobs that a call would run."""
    text = done(project, "--dry-run", *arguments).stdout
    if "Job stats:" not in text:
        return {}
    lines = text.split("Job stats:")[1].split("total")[0].strip().splitlines()[2:]
    return {line.split()[0]: int(line.split()[1]) for line in lines if line.split()[0] != "all"}


def change_experiment(project: Path, change) -> None:
    path = project / "config/experiments/small.yaml"
    values = yaml.safe_load(path.read_text())
    change(values["cells"][0])
    write_yaml(path, values)


def test_fresh_pairs_are_made_of_the_draw_without_a_bank(project: Path):
    values = {"base": "foundad", "title": "Fresh", "training": {"pairs": "fresh", "steps": 3}}
    write_yaml(project / "config/methods/foundad-fresh.yaml", values)
    path = project / "config/experiments/small.yaml"
    values = yaml.safe_load(path.read_text())
    values["cells"] = [values["cells"][0] | {"methods": ["foundad-fresh"], "shots": [2], "seeds": [0]}]
    observation = {"kind": "observation", "title": "Seen", "datasets": ["tiny"], "encoders": ["tiny"], "shots": 2}
    figures = {"seen": observation | {"method": "foundad-fresh"}}
    write_yaml(path, values | {"tables": {"cost": {"kind": "efficiency", "caption": "Cost"}}, "figures": figures})
    done(project)
    record = json.loads((project / "results/cells/tiny/tiny/foundad-fresh/k2-s0/record.json").read_text())
    cost = json.loads((project / "results/efficiency/tiny/tiny/foundad-fresh/k2-s0.json").read_text())
    assert cost["training_passes"] == 4 + 3 * 8 * 1.5  # the drawn images, and of eight a step half a second time
    assert (project / "results/tables/small/cost.tex").is_file()
    assert (project / "results/figures/small/seen.pdf").is_file()
    assert record["fit"]["pooled"]["steps"] == 3
    assert record["draw"]
    assert not (project / "results/banks").exists()


def test_a_method_with_query_views_encodes_each_once(project: Path):
    values = {"title": "Views", "detector": "visionad", "scope": "category"}
    bank = {"pairs": 8, "rotations": 4, "flips": ["vertical"], "queries": ["flip-vertical", "clamp"]}
    write_yaml(project / "config/methods/views.yaml", values | {"bank": bank})
    path = project / "config/experiments/small.yaml"
    values = yaml.safe_load(path.read_text())
    values["cells"] = [values["cells"][0] | {"methods": ["views"], "shots": [2], "seeds": [0]}]
    values["tables"] = {"main": values["tables"]["main"]}
    write_yaml(path, values | {"figures": {}})
    done(project)
    found = {path.name for path in (project / "results/features/tiny/tiny").glob("*.npy")}
    assert found == {"as-is.npy", "flip-vertical.npy", "clamp.npy"}
    run = project / "results/cells/tiny/tiny/views/k2-s0"
    record = json.loads((run / "record.json").read_text())
    assert record["fit"]["bolt"]["memory_patches"] == 2 * 5 * 64
    runs = pd.read_parquet(project / "results/runs.parquet").set_index(["method", "shots"])
    # Tokens of three views, of two categories, in float32, and a little beside them.
    assert runs.loc[("views", 2), "state_bytes"] == pytest.approx(3 * 2 * 640 * 40 * 4, rel=0.05)
    assert "Views (per category)" in (project / "results/tables/small/main.md").read_text()
    picture = project / "photo.png"
    Image.new("RGB", (70, 50), (120, 90, 60)).save(picture)
    asked = ["predict", "--run", str(run), str(picture), "--device", "cpu", "--out", str(project / "maps")]
    assert main([*asked, "--category", "bolt"]) == 0


def test_class_tokens_join_a_finished_run_and_a_new_run_alike(project: Path):
    values = {"title": "Views", "detector": "visionad", "bank": {"pairs": 8}}
    write_yaml(project / "config/methods/views.yaml", values)
    path = project / "config/experiments/small.yaml"
    values = yaml.safe_load(path.read_text())
    values["cells"][0] |= {"methods": ["knn"], "shots": [2], "seeds": [0]}
    values = values | {"tables": {"main": values["tables"]["main"]}, "figures": {}}
    write_yaml(path, values)
    done(project)
    values["cells"][0]["methods"] = ["knn", "views"]
    write_yaml(path, values)
    plan = planned(project)
    assert "features" not in plan  # the patch tokens stay, and with them the cells that read them
    assert {
        name: plan[name] for name in ("features_further", "bank", "bank_further", "fit", "evaluate")
    } == dict.fromkeys(("features_further", "bank", "bank_further", "fit", "evaluate"), 1)
    done(project)
    assert planned(project) == {}
    write_yaml(project / "config/anew.yaml", {"results": "anew"})
    done(project, "--configfile", "config/anew.yaml")
    assert planned(project, "--configfile", "config/anew.yaml") == {}
    files = sorted(path.relative_to(project / "anew") for path in (project / "anew").rglob("*") if path.is_file())
    assert "class.npy" in {".".join(path.name.split(".")[-2:]) for path in files}
    for name in files:
        assert not name.name.endswith((".partial", ".left.safetensors"))
        if name.parts[0] in ("features", "banks", "draws") or name.name in ("metrics.parquet", "model.safetensors"):
            assert (project / "anew" / name).read_bytes() == (project / "results" / name).read_bytes(), name


def test_the_whole_run_and_what_reruns_after_it(project: Path, monkeypatch):
    monkeypatch.chdir(project)
    first = done(project)
    assert "Traceback" not in first.stderr
    metrics = pd.read_parquet(project / "results/metrics.parquet")
    runs = pd.read_parquet(project / "results/runs.parquet")
    assert len(runs) == CELLS
    assert set(runs["status"]) == {"done"}
    assert (project / "results/status.txt").read_text() == f"{CELLS} cells done\n"
    # Every number carries the hash of its draw; controls learn nothing.
    for (method, shots, seed), draws in metrics.groupby(["method", "shots", "seed"])["draw"]:
        drawn = read_draw(project / f"results/draws/tiny/k{shots}-s{seed}.parquet").hash
        assert set(draws) == {"" if method in ("random", "oracle") else drawn}
    assert metrics.loc[metrics["draw"] != "", "draw"].nunique() == 4
    oracle = metrics[(metrics["method"] == "oracle") & metrics["metric"].str.contains("auroc")]
    # Masks change a little when the released protocol resizes them.
    assert (oracle.loc[~oracle["metric"].str.startswith("released"), "value"] == 1).all()
    for name in ("main", "categories"):
        for suffix in ("md", "tex", "csv", "html"):
            assert (project / f"results/tables/small/{name}.{suffix}").stat().st_size > 100
    assert (project / "results/figures/small/shots.pdf").is_file()

    assert planned(project, "results/figures/datasets") == {"overview": 1, "results/figures/datasets": 1}
    done(project, "results/figures/datasets")
    areas = pd.read_csv(project / "results/figures/datasets/tiny.csv")
    assert areas["defect_area"].tolist() == pytest.approx([12 * 12 / 48**2] * 8)
    assert (project / "results/figures/datasets/tiny.png").is_file()

    # Nothing is left to do, by any name of the targets.
    for name in ("tables", "figures", "report"):
        for target in (f"results/{name}", f"results/{name}/"):
            assert planned(project, target) == {}
    assert planned(project) == {}

    # The page of the whole study is there, by hand with the same bytes, and in Snakemake's own report with captions.
    page = (project / "results/report/index.html").read_bytes()
    assert main(["report"]) == 0
    assert (project / "results/report/index.html").read_bytes() == page
    done(project, "--report", "report.html")
    report = (project / "report.html").read_text()
    for shown in ("tables/small/main.html", "figures/small/shots.png", "report/index.html"):
        assert f"results/{shown}" in report
    assert "small</tt>: mean" in report  # a rendered caption

    # A deleted table is remade alone, and the page that shows it.
    table = project / "results/tables/small/main.md"
    text = table.read_bytes()
    table.unlink()
    assert planned(project) == {"table": 1, "report": 1}
    done(project, "results/tables/small/main.md")
    assert table.read_bytes() == text
    figure = project / "results/figures/small/shots.pdf"
    drawn = figure.read_bytes()
    figure.unlink()
    assert planned(project, "results/figures") == {"figure": 1, "results/figures": 1}
    done(project, "results/figures/small/shots.pdf")
    assert figure.read_bytes() == drawn

    # A new seed runs its own cells alone.
    change_experiment(project, lambda grid: grid["seeds"].append(2))
    plan = planned(project)
    assert (plan["draw"], plan["bank"], plan["fit"], plan["evaluate"]) == (2, 4, 8, 8)
    assert "features" not in plan
    assert "manifest" not in plan
    change_experiment(project, lambda grid: grid["seeds"].remove(2))

    # How it is computed changes the last bits: everything with torch in it runs again, and is told so.
    write_yaml(project / "compiled.yaml", {"compile": True})
    compiled = ("--configfile", "compiled.yaml")
    plan = planned(project, *compiled)
    assert (plan["features"], plan["bank"], plan["fit"]) == (1, 8, CELLS)
    shown = done(project, "--quiet", "host", "--dry-run", "--printshellcmds", *compiled).stdout
    assert shown.count(" --compile ") == 1 + 8 + CELLS + 1  # the last of them, collect, computes keys

    # A changed key reruns what depends on it: the method's own cells, nothing of the others.
    path = project / "config/methods/foundad.yaml"
    values = yaml.safe_load(path.read_text())
    values["training"]["steps"] = 5
    write_yaml(path, values)
    plan = planned(project)
    assert plan["fit"] == plan["evaluate"] == 4
    assert "bank" not in plan

    # A run's model scores pictures of one's own.
    run = project / "results/cells/tiny/tiny/foundad/k2-s0"
    picture = project / "photo.png"
    Image.new("RGB", (70, 50), (120, 90, 60)).save(picture)
    assert main(["predict", "--run", str(run), str(picture), "--device", "cpu"]) == 0
    with Image.open(project / "predictions/photo_anomaly.png") as heatmap:
        assert heatmap.size == (70, 50)
    (project / "bad.png").write_text("no picture")
    assert main(["predict", "--run", str(run), str(project / "bad.png")]) == 1


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(project: Path, tmp_path: Path):
    change_experiment(
        project, lambda grid: grid.update(methods=["random", "foundad@training.steps=3", "foundad"], seeds=[0])
    )
    done(project)
    undisturbed = (project / "results/metrics.parquet").read_bytes()
    (project / "results").rename(tmp_path / "first")
    process = subprocess.Popen(
        command(), cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not list(project.glob("results/cells/*/*/foundad/*/model.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (project / "results/metrics.parquet").exists()
    done(project, "--unlock")
    done(project, "--rerun-incomplete")
    assert (project / "results/metrics.parquet").read_bytes() == undisturbed


def test_a_broken_image_is_a_dash_and_harms_no_other_dataset(project: Path, dataset_root: Path):
    good = yaml.safe_load((project / "config/datasets/tiny.yaml").read_text())
    write_yaml(project / "config/datasets/bolts.yaml", good | {"title": "Bolts", "categories": ["bolt"]})
    write_yaml(project / "config/datasets/cloths.yaml", good | {"title": "Cloths", "categories": ["cloth"]})
    change_experiment(project, lambda grid: grid.update(datasets=["bolts", "cloths"], methods=["knn"], shots=[2]))
    path = project / "config/experiments/small.yaml"
    values = yaml.safe_load(path.read_text())
    values["tables"].pop("categories")
    write_yaml(path, values)
    broken = dataset_root / "bolt/test/spot/001.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:200])

    result = snakemake(project)
    assert result.returncode != 0
    line = next(line for line in result.stderr.splitlines() if "001.png" in line and "bolts/tiny/knn/k2-s0" in line)
    assert "and 1 more: dataset bolts:" in line
    runs = pd.read_parquet(project / "results/runs.parquet").set_index(["dataset", "seed"])
    assert runs.loc["bolts", "status"].tolist() == ["failed"] * 2
    assert runs.loc["cloths", "status"].tolist() == ["done"] * 2
    table = (project / "results/tables/small/main.md").read_text()
    assert "–<sup>1,2</sup>" in table
    assert "<sup>1</sup> seed 0 failed: dataset bolts:" in table
    assert not (project / "results/status.txt").exists()
    assert planned(project) == {"status": 1}  # what is refused is not tried again as it is

    # The mended picture is noticed, and only its dataset runs again.
    broken.write_bytes(whole)
    plan = planned(project)
    assert (plan["manifest"], plan["features"], plan["fit"]) == (1, 1, 2)
    done(project)
    assert "–" not in (project / "results/tables/small/main.md").read_text().split("\n", 2)[2]
    assert planned(project) == {}


def test_a_typo_ends_snakemake_with_one_line(project: Path):
    path = project / "config/methods/knn.yaml"
    path.write_text(path.read_text() + "neighbors: 3\n")
    result = snakemake(project)
    assert result.returncode == 2
    assert "config/methods/knn.yaml: unknown key 'neighbors'" in result.stderr
    assert "Traceback" not in result.stderr + result.stdout


@pytest.mark.parametrize("stage", [["manifest", "tiny"], ["draw", "tiny", "--shots", "1", "--seed", "0"]])
def test_a_stage_runs_by_hand(project: Path, monkeypatch, stage):
    monkeypatch.chdir(project)
    if stage[0] == "draw":
        assert main(stage) == 1  # no manifest yet: one line, no traceback
        assert main(["manifest", "tiny"]) == 0
    assert main(stage) == 0
