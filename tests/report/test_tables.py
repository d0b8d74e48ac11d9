"""Tables and figures from a small frame of metrics whose numbers one can compute by hand."""

import itertools
import math
import shutil
import subprocess

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from conftest import write_yaml
from scipy import stats

from foundad.config.dataset import Dataset
from foundad.data.ledger import write_ledger
from foundad.data.manifest import write_manifest
from foundad.data.verify import build_manifest
from foundad.paths import Results
from foundad.plan.catalogue import load_catalogue
from foundad.report.aggregate import load
from foundad.report.collect import health_warnings
from foundad.report.figures.base import write_figure
from foundad.report.figures.curve import Curve
from foundad.report.figures.dots import Dots
from foundad.report.figures.protocols import Protocols
from foundad.report.tables.base import write_table
from foundad.report.tables.metrics import Metrics, lay_out

VALUES = {"knn": (0.80, 0.90), "foundad": (0.70, 0.90), "random": (0.99, 0.99)}  # of seeds 0 and 1
PROTOCOLS = {"strict": 0.0, "released": 0.1}
FAILURE = "the loss is not finite & more_words: 100%"


@pytest.fixture
def report(project):
    """Metrics of the small experiment: no pixel metrics, 2-shot FoundAD failed, one undefined category."""
    metrics, runs = [], []
    for method in ("random", "oracle", "knn", "foundad"):
        for shots in (1, 2):
            for seed in (0, 1):
                cell = {"dataset": "tiny", "encoder": "tiny", "method": method, "shots": shots, "seed": seed}
                failed = method == "foundad" and shots == 2
                warning = "I-AUROC below 50 % on bolt" if method == "knn" and shots == 2 else None
                state = {"status": "failed" if failed else "done", "reason": FAILURE if failed else None}
                runs.append(cell | state | {"warnings": warning, "versions": None})
                if failed:
                    continue
                value = VALUES.get(method, (1.0, 1.0))[seed]
                undefined = method == "oracle" and seed == 1
                for category, shift in (("bolt", -0.01), ("cloth", 0.01)):
                    lost = undefined and category == "cloth"
                    row = {"category": category, "metric": "i_auroc", "value": None if lost else value + shift}
                    metrics.append(cell | row | {"reason": "no anomalous image" if lost else None})
    results = Results(project / "results")
    results.root.mkdir()
    pd.DataFrame(metrics).to_parquet(results.metrics)
    pd.DataFrame(runs).to_parquet(results.runs)
    catalogue = load_catalogue(project / "config")
    return results, catalogue, catalogue.experiments["small"]


def test_means_and_deviations_are_those_of_the_seeds(report):
    results, catalogue, experiment = report
    grid = lay_out(load(results, catalogue, experiment), experiment.tables["main"])
    entry = grid.entries[("knn",), ("tiny", 1, "i_auroc")]
    assert entry.mean == pytest.approx(0.85)
    assert entry.deviation == pytest.approx(0.1 / math.sqrt(2))
    assert entry.n == 2
    assert all(column[-1] == "i_auroc" for column in grid.column_titles)
    assert "Tiny set has no masks" in grid.caption


def test_controls_are_not_ranked_and_failures_are_dashes_with_a_note(report):
    results, catalogue, experiment = report
    write_table(results, catalogue, experiment, "main")
    text = results.table("small", "main", "md").read_text()
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    assert "<u>85.0</u> ± 7.1" in rows["Nearest neighbour"]
    assert "80.0 ± 14.1" in rows["FoundAD"]
    assert "–<sup>" in rows["FoundAD"]
    assert "99.0 ± 0.0" in rows["Random (control)"]
    assert "**99.0" not in text
    assert "<u>99.0" not in text
    assert f"seed 0 failed: {FAILURE}" in text
    assert "seed 1 left out: category cloth: no anomalous image" in text


@pytest.mark.parametrize(("gap", "bold"), [(0.1, True), (0.0002, False)])
def test_bold_says_significantly_better(project, gap, bold):
    """Eight seeds and two categories; FoundAD is ahead in all pairs, or in no more than chance."""
    generator = np.random.default_rng(0)
    metrics, runs = [], []
    for method in ("knn", "foundad"):
        for seed in range(8):
            cell = {"dataset": "tiny", "encoder": "tiny", "method": method, "shots": 1, "seed": seed}
            runs.append(cell | {"status": "done", "reason": None, "warnings": None, "versions": None})
            for category in ("bolt", "cloth"):
                value = 0.7 + generator.normal(0, 0.02) + (gap if method == "foundad" else 0)
                metrics.append(cell | {"category": category, "metric": "i_auroc", "value": value, "reason": None})
    path = project / "config/experiments/small.yaml"
    values = yaml.safe_load(path.read_text())
    values["cells"][0] |= {"methods": ["knn", "foundad"], "shots": [1], "seeds": list(range(8))}
    values["tables"] = {"main": {"caption": "All", "rows": ["method"], "metrics": ["i_auroc"]}}
    write_yaml(path, values)
    results = Results(project / "results")
    results.root.mkdir()
    pd.DataFrame(metrics).to_parquet(results.metrics)
    pd.DataFrame(runs).to_parquet(results.runs)
    catalogue = load_catalogue(project / "config")
    grid = lay_out(
        load(results, catalogue, catalogue.experiments["small"]), catalogue.experiments["small"].tables["main"]
    )
    assert list(grid.marks.values()) == ["best" if bold else "leading"]
    if bold:
        assert list(grid.marks) == [(("foundad",), ("i_auroc",))]


def test_rows_compete_within_their_shots_and_the_second_best_is_marked(project):
    """Ten seeds of two categories; knn beats foundad beats random, and one shot is worse than two for all of them."""
    metrics, runs = [], []
    generator = np.random.default_rng(0)
    for number, method in enumerate(("foundad", "knn", "foundad-vit4")):
        for shots, seed in itertools.product((1, 2), range(10)):
            cell = {"dataset": "tiny", "encoder": "tiny", "method": method, "shots": shots, "seed": seed}
            runs.append(cell | {"status": "done", "reason": None, "warnings": None, "versions": None})
            for category in ("bolt", "cloth"):
                value = (0.7, 0.8, 0.6)[number] + 0.05 * shots + generator.normal(0, 0.01)
                metrics.append(cell | {"category": category, "metric": "i_auroc", "value": value, "reason": None})
    write_yaml(project / "config/methods/foundad-vit4.yaml", {"base": "foundad", "title": "Depth 4"})
    path = project / "config/experiments/small.yaml"
    values = yaml.safe_load(path.read_text())
    values["cells"][0] |= {"methods": ["knn", "foundad", "foundad-vit4"], "seeds": list(range(10))}
    values["tables"] = {"main": {"caption": "All", "rows": ["shots", "method"], "metrics": ["i_auroc"]}}
    write_yaml(path, values)
    results = Results(project / "results")
    results.root.mkdir()
    pd.DataFrame(metrics).to_parquet(results.metrics)
    pd.DataFrame(runs).to_parquet(results.runs)
    catalogue = load_catalogue(project / "config")
    experiment = catalogue.experiments["small"]
    grid = lay_out(load(results, catalogue, experiment), experiment.tables["main"])
    marks = {row: mark for (row, _), mark in grid.marks.items()}
    expected = {(shots, method): mark for shots in (1, 2) for method, mark in (("knn", "best"), ("foundad", "second"))}
    assert marks == expected
    write_table(results, catalogue, experiment, "main")
    assert "| *7" in results.table("small", "main", "md").read_text()


def test_a_suspicious_cell_is_marked_with_its_reason(report):
    results, catalogue, experiment = report
    write_table(results, catalogue, experiment, "main")
    text = results.table("small", "main", "md").read_text()
    assert "seed 0, 1: I-AUROC below 50 % on bolt" in text
    (row,) = (line for line in text.splitlines() if line.startswith("| Nearest"))
    assert row.count("<sup>") == 1


def test_what_makes_a_cell_suspicious():
    metrics = [("bolt", "i_auroc", 0.0), ("cloth", "i_auroc", 0.5), ("nut", "i_auroc", None), ("bolt", "i_ap", 0.1)]
    table = pa.Table.from_pylist([dict(zip(("category", "metric", "value"), m, strict=True)) for m in metrics])
    record = {"method": {"control": False}, "fit": {"pooled": {}}}
    assert health_warnings(record, table) == ["I-AUROC below 50 % on bolt"]
    record["fit"]["pooled"]["health"] = {"clean_residual": 1.0, "synthetic_residual": 1.0}
    assert health_warnings(record, table)[0] == "damaged training images have no larger residual than clean ones"
    assert health_warnings(record | {"method": {"control": True}}, table) == []


def test_every_format_is_written_twice_with_the_same_bytes(report):
    results, catalogue, experiment = report
    for name in experiment.tables:
        write_table(results, catalogue, experiment, name)
    write_figure(results, catalogue, experiment, "shots")
    files = sorted(path for folder in ("tables", "figures") for path in (results.root / folder).rglob("*.*"))
    before = {path: path.read_bytes() for path in files}
    assert {path.suffix for path in files} == {".md", ".tex", ".csv", ".html", ".png", ".pdf"}
    for name in experiment.tables:
        write_table(results, catalogue, experiment, name)
    write_figure(results, catalogue, experiment, "shots")
    assert {path: path.read_bytes() for path in files} == before


def test_dots_and_protocols_draw_what_their_csv_says(report):
    results, catalogue, experiment = report
    metrics = pd.read_parquet(results.metrics)
    pixels = [metrics.assign(metric=f"{name}/p_auroc", value=metrics["value"] - low) for name, low in PROTOCOLS.items()]
    pd.concat([metrics, *pixels]).to_parquet(results.metrics)
    where = {"shots": [1]}
    figures = {
        "dots": Dots(kind="dots", title="D", x="method", lines="shots", metrics=["i_auroc"], where={}),
        "both": Protocols(kind="protocols", title="P", metrics=["p_auroc"], where=where),
    }
    experiment = experiment.model_copy(update={"figures": figures})
    for name in figures:
        write_figure(results, catalogue, experiment, name)
        assert results.figure("small", name, "pdf").stat().st_size > 1000
    dots = pd.read_csv(results.figure("small", "dots", "csv"))
    row = dots[(dots["method"] == "Nearest neighbour") & (dots["shots"] == "1-shot")].iloc[0]
    assert (row["mean"], row["std"]) == pytest.approx((0.85, 0.1 / math.sqrt(2)))
    assert "2-shot" not in set(dots.loc[dots["method"] == "FoundAD", "shots"])  # it failed
    both = pd.read_csv(results.figure("small", "both", "csv"))
    assert (both["strict"] - both["released"]).tolist() == pytest.approx([0.1] * len(both))
    knn = both[(both["method"] == "knn") & (both["category"] == "bolt")].iloc[0]
    assert knn["strict"] == pytest.approx(0.84)


def test_heads_name_the_protocol_where_a_view_shows_both(report):
    """In every format and figure; where one protocol is shown its name stands in the caption alone."""
    results, catalogue, experiment = report
    metrics = pd.read_parquet(results.metrics)
    pixels = [metrics.assign(metric=f"{name}/{metric}") for name in PROTOCOLS for metric in ("p_auroc", "aupro_30")]
    pd.concat([metrics, *pixels, metrics.assign(metric="strict/aupimo")]).to_parquet(results.metrics)
    shown = ["i_auroc", "strict/aupro_30", "released/aupro_30", "strict/aupimo", "released/p_auroc"]
    common = {"caption": "All", "rows": ["method"], "where": {"shots": [1]}}
    tables = {
        "both": Metrics.model_validate(common | {"columns": ["dataset"], "metrics": shown}),
        "one": Metrics.model_validate(common | {"metrics": ["i_auroc", "strict/aupro_30"]}),
    }
    curve = {"kind": "curve", "title": "C", "x": "shots", "lines": "method", "metrics": shown}
    dots = {"kind": "dots", "title": "D", "x": "method", "lines": "shots", "metrics": shown}
    figures = {"curve": Curve.model_validate(curve), "dots": Dots.model_validate(dots)}
    experiment = experiment.model_copy(update={"tables": tables, "figures": figures})
    heads = ["I-AUROC", "AUPRO (strict)", "AUPRO (released)", "AUPIMO", "P-AUROC"]
    grid = lay_out(load(results, catalogue, experiment), tables["both"])
    assert [titles[-1] for titles in grid.column_titles.values()] == heads
    for name in tables:
        write_table(results, catalogue, experiment, name)
    text = {suffix: results.table("small", "both", suffix).read_text() for suffix in ("md", "tex", "html", "csv")}
    (line,) = [line for line in text["md"].splitlines() if line.startswith("|  |")]
    assert line == "|  | " + " | ".join(f"Tiny set {head}" for head in heads) + " |"
    assert " & ".join(rf"\multicolumn{{1}}{{c}}{{{head}}}" for head in heads) in text["tex"]
    assert all(f"<br>{head}</th>" in text["html"] for head in heads)
    assert set(pd.read_csv(results.table("small", "both", "csv"))["metric"]) == set(shown)
    assert "| I-AUROC | AUPRO |" in results.table("small", "one", "md").read_text()
    drawn: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "foundad.report.style.save",
            lambda figure, _: drawn.extend(
                axis.get_ylabel() or axis.get_xlabel() for axis in figure.axes if axis.lines
            ),
        )
        for name in figures:
            write_figure(results, catalogue, experiment, name)
    assert drawn == [f"{head} (%)" for head in heads] * 2


def test_the_csv_holds_full_precision(report):
    results, catalogue, experiment = report
    write_table(results, catalogue, experiment, "main")
    table = pd.read_csv(results.table("small", "main", "csv"))
    row = table[(table["method"] == "knn") & (table["shots"] == 1)].iloc[0]
    assert row["mean"] == pytest.approx(0.85, abs=1e-15)
    assert row["seeds"] == 2
    half = stats.t.ppf(0.975, 1) * 0.1 / math.sqrt(2) / math.sqrt(2)
    assert row["t95_low"] == pytest.approx(0.85 - half)
    assert row["t95_high"] == pytest.approx(0.85 + half)
    assert 0.8 <= row["bootstrap95_low"] <= 0.85 <= row["bootstrap95_high"] <= 0.9
    assert table.loc[table["method"] == "foundad", "mean"].isna().sum() == 1


def test_latex_is_escaped_and_compiles(report, tmp_path):
    results, catalogue, experiment = report
    write_table(results, catalogue, experiment, "main")
    source = results.table("small", "main", "tex").read_text()
    assert r"not finite \& more\_words: 100\%" in source
    assert r"\underline{85.0} $\pm$ 7.1" in source
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    document = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{source}\end{{document}}"
    (tmp_path / "t.tex").write_text(document)
    subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"], cwd=tmp_path, check=True)


def test_every_table_says_what_a_dataset_left_out(report, project, dataset_root):
    """``strict: false``: from the broken file through the manifest to the note below the table, in every format."""
    results, catalogue, experiment = report
    (dataset_root / "bolt/test/spot/001.png").write_bytes(b"broken")
    (dataset_root / "cloth/ground_truth/spot/002_mask.png").unlink()
    tiny = catalogue.datasets["tiny"].model_copy(update={"strict": False})

    def write(dataset: Dataset) -> None:
        manifest = build_manifest(dataset)
        write_manifest(manifest, results.manifest("tiny"))
        write_ledger(manifest.ledger, results.manifest("tiny"))

    write(tiny)
    write_table(results, catalogue, experiment, "main")
    for suffix in ("md", "tex", "html"):
        text = results.table(experiment.id, "main", suffix).read_text()
        assert "Tiny set: 2 broken or duplicate files left out (strict: false)" in text
    write(tiny.model_copy(update={"categories": ["bolt"]}))
    write_table(results, catalogue, experiment, "main")
    assert "Tiny set: 1 broken or duplicate files" in results.table(experiment.id, "main", "md").read_text()
