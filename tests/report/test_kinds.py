"""A kind of figure or table is one file: dropping it is all, and nothing else becomes stale."""

import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import ROOT, write_yaml

from foundad.cells import Cell
from foundad.paths import Results
from foundad.report import figures, kinds, tables
from foundad.report.figures.base import Figure
from foundad.report.tables.base import Table

sys.path.append(str(ROOT / "tests/workflow"))

from laboratory import Planner, changed

BARS = '''
"""Means as bars."""

from pathlib import Path
from typing import Literal

from foundad.config.experiment import Experiment
from foundad.report.numbers import write_csv
from foundad.paths import Results
from foundad.plan.catalogue import Catalogue
from foundad.report.aggregate import load
from foundad.report.figures.base import Figure
from foundad.report.shown import Choosing


class StackedBars(Choosing, Figure):
    """The mean of a metric a method."""

    kind: Literal["stacked-bars"]
    metrics: list[str]
    width: float = 0.8

    @property
    def axes(self) -> set[str]:
        return {"method"}

    @property
    def metric_ids(self) -> list[str]:
        return self.metrics

    def draw(self, results: Results, catalogue: Catalogue, experiment: Experiment, path: Path) -> None:
        from matplotlib import pyplot as plt

        from foundad.report import style

        frame, cells = load(results, catalogue, experiment), self.cells(catalogue.cells(experiment))
        methods = list(dict.fromkeys(cell.method for cell in cells))
        means = [frame.summary([c for c in cells if c.method == name], self.metrics[0]).mean for name in methods]
        figure, axis = plt.subplots()
        axis.bar(methods, means, self.width)
        style.save(figure, path)
        write_csv(path.with_suffix(".csv"), ["method", "mean"], zip(methods, means))
'''
FIGURE = {"kind": "stacked-bars", "title": "Bars", "metrics": ["i_auroc"], "where": {"method": ["knn"], "shots": [1]}}


@pytest.fixture
def planner(tmp_path):
    """Keys by a copy of the sources, in which files may be dropped."""
    found = Planner(tmp_path / "sources")
    yield found
    found.close()


def foundad(planner: Planner, project: Path, *arguments: str) -> tuple[int, list[str]]:
    """Exit code and lines of a command of the copy."""
    environment = os.environ | {"PYTHONPATH": str(planner.sources)}
    command = [sys.executable, "-m", "foundad", *arguments]
    ended = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    return ended.returncode, (ended.stdout + ended.stderr).splitlines()


def with_figure(project: Path, **values: object) -> None:
    path = project / "config/experiments/small.yaml"
    experiment = yaml.safe_load(path.read_text())
    experiment["figures"]["bars"] = FIGURE | values
    write_yaml(path, experiment)


def test_a_dropped_kind_is_validated_planned_and_drawn(planner, project):
    before = planner.jobs(project)
    (planner.sources / "foundad/report/figures/stacked_bars.py").write_text(BARS)
    assert changed(before, planner.jobs(project)) == set()

    with_figure(project)
    assert foundad(planner, project, "validate")[0] == 0
    after = planner.jobs(project)
    assert changed(before, after) == {"figure:small/bars", "report:"}

    cells = [Cell("tiny", "tiny", "knn", 1, seed) for seed in (0, 1)]
    values = {"category": "bolt", "metric": "i_auroc", "reason": None}
    metrics = [asdict(cell) | values | {"value": 0.8 + 0.1 * cell.seed} for cell in cells]
    runs = [asdict(cell) | {"status": "done", "reason": None, "warnings": None, "versions": None} for cell in cells]
    results = Results(project / "results")
    results.root.mkdir(exist_ok=True)
    pd.DataFrame(metrics).to_parquet(results.metrics)
    pd.DataFrame(runs).to_parquet(results.runs)
    assert foundad(planner, project, "figure", "small", "bars") == (0, [])
    assert results.figure("small", "bars", "csv").read_text().splitlines()[1].startswith("knn,0.85")
    assert results.figure("small", "bars", "png").stat().st_size > 1000


MISTAKES: list[tuple[dict[str, object], str]] = [
    ({"widht": 1}, "unknown key 'figures.bars.widht'; did you mean 'width'?"),
    ({"width": "all"}, "key 'figures.bars.width': input should be a valid number"),
    ({"metrics": ["i_aurok"]}, "key 'figures.bars.metrics': there is no metric 'i_aurok'; did you mean 'i_auroc'?"),
    ({"where": {}}, "key 'figures.bars': shots takes 2 values (1, 2); show it or choose one with where.shots"),
    ({"kind": "bars"}, "key 'figures.bars': the kind 'bars' is none of 'curve', "),
]


def test_a_mistake_in_a_dropped_kind_is_one_line(planner, project):
    (planner.sources / "foundad/report/figures/stacked_bars.py").write_text(BARS)
    for values, line in MISTAKES:
        with_figure(project, **values)
        code, (found,) = foundad(planner, project, "validate")
        assert code == 2
        assert line in found


def test_a_file_without_its_kind_is_one_line(planner, project):
    path = planner.sources / "foundad/report/figures/bars.py"
    path.write_text(BARS)
    code, (line,) = foundad(planner, project, "validate")
    assert code == 2
    assert f"{path}: holds no class with the key kind: Literal['bars']" in line


def test_every_kind_answers():
    for group, base in ((figures, Figure), (tables, Table)):
        for kind, model in group.kinds().items():
            assert issubclass(model, base)
            assert not model.__abstractmethods__, kind
            assert model.__doc__
    assert {"curve", "top-k"} <= set(kinds.names("figures"))
    assert tables.DEFAULT in kinds.names("tables")
