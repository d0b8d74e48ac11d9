"""Published values stand beside ours only where everything agrees; their sources are notes."""

import pandas as pd
import pytest
from conftest import ROOT

from foundad.cells import Cell
from foundad.plan.catalogue import load_catalogue
from foundad.report.aggregate import Frame
from foundad.report.formats import latex, markdown
from foundad.report.published import published, published_cost
from foundad.report.tables.metrics import lay_out

CATALOGUE = load_catalogue(ROOT / "config", "paper")


def value(dataset="mvtec-ad", encoder="dinov3-vitb16", method="foundad", shots=1, metric="i_auroc"):
    return published(Cell(dataset, encoder, method, shots, 0), CATALOGUE.methods[method], metric)


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_a_value_needs_everything_to_agree():
    found, notes = value()
    assert found == pytest.approx(0.961)
    assert "(second-hand)" in notes[0]
    assert value(metric="released/aupro_30")[0] == pytest.approx(0.928)
    assert value(metric="strict/aupro_30") is None  # the released code's protocol is another
    assert value(shots=8) is None
    assert value(encoder="dinov3-vits16") is None
    assert value(dataset="textures") is None
    assert value(method="foundad-400") is None
    assert value(encoder="dinov2-vitb14")[0] == pytest.approx(0.952)
    assert value(method="foundad-vit4")[0] == pytest.approx(0.955)


def test_the_scope_is_part_of_it():
    assert value(encoder="wideresnet50-patchcore", method="patchcore-pooled")[0] == pytest.approx(0.637)
    pooled, single = (
        value(encoder="wideresnet50-patchcore", method=name)[0] for name in ("patchcore-pooled", "patchcore")
    )
    assert single > pooled
    assert any("encoder not stated" in n for n in value(encoder="wideresnet50-patchcore", method="patchcore-pooled")[1])


def test_sources_that_differ_are_named():
    found, notes = value(shots=4)
    assert found == pytest.approx(0.971)
    assert any(note.startswith("elsewhere: 97.0") for note in notes)


def test_what_a_method_is_said_to_cost():
    (note,) = published_cost(Cell("mvtec-ad", "dinov3-vitb16", "foundad", 1, 0), CATALOGUE.methods["foundad"])
    assert "128.7 ms per image" in note
    assert "second-hand" in note
    assert published_cost(Cell("mvtec-ad", "dinov2-vitb14", "foundad", 1, 0), CATALOGUE.methods["foundad"]) == ()
    assert (
        published_cost(Cell("mvtec-ad", "dinov3-vitb16", "foundad-vit8", 1, 0), CATALOGUE.methods["foundad-vit8"]) == ()
    )


def test_a_table_has_columns_for_them():
    experiment = CATALOGUE.experiments["main"]
    metrics, runs = [], []
    for cell in CATALOGUE.cells(experiment):
        key = {name: getattr(cell, name) for name in Cell.__dataclass_fields__}
        runs.append(key | {"status": "done", "reason": None, "warnings": None, "versions": None})
        if cell.method == "foundad":
            for metric in ("i_auroc", "released/aupro_30"):
                metrics.append(key | {"category": "a", "metric": metric, "value": 0.951, "reason": None})
    frame = Frame(CATALOGUE, experiment, pd.DataFrame(metrics), pd.DataFrame(runs))
    grid = lay_out(frame, experiment.tables["published"])
    row = (1, "foundad")
    assert grid.entries[row, ("mvtec-ad", "i_auroc published")].mean == pytest.approx(0.961)
    assert grid.entries[row, ("mvtec-ad", "i_auroc difference")].mean == pytest.approx(-0.01)
    assert ("btad", "i_auroc published") not in grid.column_titles
    text = markdown(grid)
    assert "MVTec AD I-AUROC published" in text
    assert "| -1.0 |" in text
    assert "(second-hand): " in text
    assert "| +2.3 |" in text  # AUPRO, 95.1 against 92.8
    assert "published" in latex(grid, "tab:x")
