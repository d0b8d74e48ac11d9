"""The page of a small study whose numbers one can compute by hand, in a real headless browser from its file."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from itertools import product
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from browsers import until, visits
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from foundad.cli import main
from foundad.config.base import dump
from foundad.config.experiment import Experiment
from foundad.errors import UserError
from foundad.metrics.evaluation import METRICS_SCHEMA
from foundad.paths import Results
from foundad.plan.catalogue import Catalogue, load_catalogue
from foundad.plan.keys import PAGE
from foundad.report import page as page_module
from foundad.report.figures.base import write_figure
from foundad.report.page import embedded, write_page
from foundad.report.tables.base import write_table

LEGEND = "[...document.querySelectorAll('#plot .legendtext')].map(entry => entry.textContent)"
LAPTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
EVIL = "bad </script><img src=x onerror=\"document.title='owned'\"> <!-- & 'quoted'"
TITLE = "FoundAD <b>bold</b>"
BASE = {"random": 0.50, "knn": 0.80, "foundad": 0.85}
DATASETS = {"pair": ("bolt", "cloth <i>"), "single": ("nut",)}
METRICS = ("i_auroc", "strict/p_auroc", "released/p_auroc")
SHOTS, SEEDS = (1, 2, 4), (0, 1)


def value(dataset: str, method: str, shots: int, seed: int, category: str, metric: str) -> float:
    """Seed 1 is 2 points above seed 0, the second category 4 above the first, each shot 1 point, and so on."""
    number = DATASETS[dataset].index(category)
    return BASE[method] + 0.01 * shots + 0.02 * seed + 0.04 * number - 0.1 * METRICS.index(metric)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> tuple[Results, Catalogue, Experiment]:
    """Two datasets, three methods; FoundAD failed on 4-shot of "single" with a reason full of markup."""
    known = load_catalogue(ROOT / "config")
    encoder = known.encoders["efficientnet-lite0"]
    catalogue = Catalogue(
        {name: known.datasets["elpv"].model_copy(update={"id": name, "title": f"Set {name}"}) for name in DATASETS},
        {encoder.id: encoder},
        {name: known.methods[name] for name in BASE},
    )
    catalogue.methods["foundad"] = known.methods["foundad"].model_copy(update={"title": TITLE})
    experiment = Experiment.model_validate(
        {
            "id": "study",
            "title": "Study <em>one</em> & more",
            "cells": [
                {
                    "datasets": list(DATASETS),
                    "encoders": [encoder.id],
                    "methods": list(BASE),
                    "shots": SHOTS,
                    "seeds": SEEDS,
                }
            ],
            "tables": {
                "main": {"caption": "All", "rows": ["method"], "columns": ["dataset"], "metrics": list(METRICS)}
            },
            "figures": {
                "gallery": {
                    "kind": "gallery",
                    "title": "Maps",
                    "dataset": "pair",
                    "encoder": encoder.id,
                    "method": "knn",
                    "shots": 1,
                },
                "rise": {
                    "kind": "curve",
                    "title": "Rise <i>",
                    "x": "shots",
                    "lines": "method",
                    "label": "images",
                    "metrics": ["strict/p_auroc"],
                },
            },
        }
    )
    metrics, runs = [], []
    for cell in catalogue.cells(experiment):
        failed = (cell.dataset, cell.method, cell.shots) == ("single", "foundad", 4)
        record = {
            "method": dump(catalogue.methods[cell.method]),
            "encoder": dump(encoder),
            "versions": {"python": "3.11.9", "torch": "2.14.1"},
            "machine": {"host": "somewhere", "processor": "a <fast> one"},
            "device": "cpu",
            "precision": "float32",
            "draw": f"draw-{cell.seed}",
        }
        runs.append(
            asdict(cell)
            | {"status": "failed" if failed else "done", "reason": EVIL if failed else None}
            | {"warnings": "I-AUROC below 50 % on nut" if cell.method == "knn" and cell.shots == 1 else None}
            | {"record": None if failed else json.dumps(record), "fit_seconds": 2.5, "score_seconds": 0.5}
            | {"images": 8, "parameters": 1000, "peak_memory_bytes": 2**20, "versions": None}
        )
        if not failed:
            for category, metric in product(DATASETS[cell.dataset], METRICS):
                number = value(cell.dataset, cell.method, cell.shots, cell.seed, category, metric)
                metrics.append(asdict(cell) | {"category": category, "metric": metric, "value": number, "reason": None})
    results = Results(tmp_path_factory.mktemp("page") / "results")
    results.root.mkdir()
    pd.DataFrame(metrics).to_parquet(results.metrics)
    pd.DataFrame(runs).to_parquet(results.runs)
    write_table(results, catalogue, experiment, "main")
    write_figure(results, catalogue, experiment, "rise")
    picture = results.figure("study", "gallery", "png")
    Image.new("RGB", (1600, 800), (40, 90, 160)).save(picture)
    write_page(results, catalogue, [experiment])
    return results, catalogue, experiment


@pytest.fixture
def visit(study, browser) -> Iterator:
    """visit(viewport, scheme) opens the page; at the end nothing may have been complained about or asked for."""
    with visits(browser) as opened:
        yield lambda viewport=LAPTOP, scheme="light": opened(
            study[0].report, viewport=viewport, color_scheme=scheme, reduced_motion="reduce"
        )


def column(page, place: int) -> list[str]:
    """Texts of a column of the results; 1 is the method, 7 the mean."""
    return page.locator(f"#rows tbody tr > :nth-child({place})").all_inner_texts()


def test_it_opens_from_its_file_with_the_best_on_top(visit):
    page = visit()
    assert page.locator("#count").inner_text() == "Rows 1 to 18 of 18, filtered from 54"  # I-AUROC alone
    means = column(page, 7)
    # pair, FoundAD, 4 shots: 0.85 + 0.04 + mean of the seeds 0.01 + mean of the categories 0.02
    assert means[0] == "92.0"
    assert means[-1] == "–"
    assert means[:-1] == sorted(means[:-1], key=float, reverse=True)
    assert column(page, 1)[0] == TITLE
    assert column(page, 8)[0] == "1.4"  # 0.02 / sqrt(2)
    assert column(page, 9)[0] == "2"
    assert "92.0 ± 1.4" in page.locator("#overview .card").first.inner_text()


def test_sorting_filtering_and_pages(visit):
    page = visit()
    mean = page.get_by_role("button", name="Mean", exact=True)
    head = page.locator("#rows thead th:nth-child(7)")
    assert head.get_attribute("aria-sort") == "descending"
    mean.click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(page, 7)[0] == "52.0"  # single, random, 1 shot: 0.50 + 0.01 + 0.01
    assert column(page, 7)[-1] == "–"  # what is missing stays last
    page.get_by_role("button", name="Shots").click()
    assert column(page, 4) == ["1"] * 6 + ["2"] * 6 + ["4"] * 6

    page.get_by_label("Dataset").first.select_option("Set pair")
    page.get_by_label("Method").first.select_option("Nearest neighbour")
    assert page.locator("#count").inner_text() == "Rows 1 to 3 of 3, filtered from 54"
    assert column(page, 7) == ["84.0", "85.0", "87.0"]
    page.locator("#filter-metric").select_option("P-AUROC")
    assert sorted(set(column(page, 6))) == ["released", "strict"]
    page.locator("#filter-protocol").select_option("released")
    assert column(page, 7) == ["64.0", "65.0", "67.0"]
    assert "only pixels of exactly 1" in page.locator("#definition").inner_text()

    page.get_by_role("button", name="Show all").click()
    assert page.locator("#count").inner_text() == "Rows 1 to 25 of 54"
    page.get_by_role("button", name="Next").click()
    page.get_by_role("button", name="Next").click()
    assert page.locator("#count").inner_text() == "Rows 51 to 54 of 54"
    assert page.get_by_role("button", name="Next").is_disabled()
    page.get_by_label("Find").fill("nearest STRICT 4-shot")
    assert page.locator("#count").inner_text() == "Rows 1 to 2 of 2, filtered from 54"
    page.get_by_label("Find").fill("nothing like it")
    assert page.locator("#count").inner_text() == "No row matches; there are 54 in all"


def test_a_click_shows_seeds_categories_and_the_config(visit):
    page = visit()
    page.locator("#find").fill("nearest pair 2-shot")
    page.locator("#rows tbody td").first.click()
    dialog = page.locator("#details")
    assert dialog.get_by_role("heading").inner_text() == "Nearest neighbour, Set pair, EfficientNet-Lite0, 2-shot"
    values = dialog.locator("tbody tr > :nth-child(3)").all_inner_texts()
    assert values == ["84.0", "86.0"]
    dialog.get_by_text("2 categories").click()
    assert "83.0 ± 1.4" in dialog.locator("dl").first.inner_text()  # bolt: 0.82 and 0.84
    dialog.get_by_text("Seed 1: config").click()
    record = dialog.locator(".provenance").nth(1)
    assert "draw-1" in record.inner_text()
    record.get_by_text("method", exact=True).click()
    shown = json.loads(record.locator("details", has_text="detector").locator("pre").inner_text())
    assert shown == dump(load_catalogue(ROOT / "config").methods["knn"])
    page.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_markup_in_names_and_reasons_is_text(visit, study):
    page = visit()
    assert page.title() == "FoundAD benchmark: Study <em>one</em> & more"
    assert page.locator("img[src='x'], h1 em, td b, th b, dt i").count() == 0
    failures = page.locator("#failures")
    assert f"2 cells failed: {EVIL}" in failures.inner_text()
    assert "4 cells with a warning: I-AUROC below 50 % on nut" in failures.inner_text()
    failures.locator("summary").first.click()
    failures.locator("button").first.click()
    page.locator("#details .provenance summary").first.click()
    assert EVIL in page.locator("#details").inner_text()
    assert "the cell failed before it was fitted" in page.locator("#details").inner_text()
    assert "owned" not in page.title()
    assert study[0].report.read_text().count("</script>") == 3


def test_everything_works_from_the_keyboard(visit):
    page = visit()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "find"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.locator("#rows thead button").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#rows thead th").first.get_attribute("aria-sort") == "ascending"
    assert column(page, 1)[0] == TITLE
    page.locator("#rows tbody button").first.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "details-title"
    for _ in range(30):  # focus stays in the dialog, or leaves the page for the browser
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement === document.body || !!document.activeElement.closest('dialog')")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.closest('#rows tbody tr') !== null")


def test_curves_are_those_of_the_rows(visit):
    page = visit()
    page.locator("#curves").scroll_into_view_if_needed()
    page.wait_for_selector("#plot .scatterlayer .trace", state="attached")
    traces = page.evaluate("document.getElementById('plot').data.map(({x, y}) => ({x, y}))")
    until(page, LEGEND, ["Nearest neighbour", TITLE])
    assert traces[0]["x"] == [1, 2, 4]
    assert traces[0]["y"] == pytest.approx([84, 85, 87])
    page.locator("#curve-controls").check()
    until(page, "document.getElementById('plot').data?.length", 3)
    page.locator("#curve-dataset").select_option("Set single")
    until(page, "document.getElementById('plot').data?.at(-1)?.x.length", 2)  # 4-shot failed
    page.get_by_text("Numbers of these curves").click()
    assert page.locator("#curve-rows tbody tr").count() == 8


def test_curves_of_an_experiment_are_those_of_its_figure(visit):
    page = visit()
    page.locator("#curves").scroll_into_view_if_needed()
    page.locator("#curve-source").select_option("Study <em>one</em> & more: Rise <i>")
    page.locator("#curve-dataset").select_option("Set single")
    # Until then the curves of the results, or none, are drawn.
    until(page, "Math.round(document.getElementById('plot').data?.[1]?.y?.[0])", 72)
    traces = page.evaluate("document.getElementById('plot').data.map(({x, y}) => ({x, y}))")
    names = ["Random (control)", "Nearest neighbour", TITLE]
    until(page, LEGEND, names)
    assert traces[1]["y"] == pytest.approx([72, 73, 75])
    assert traces[2]["x"] == [1, 2]
    assert page.locator("#curve-metric option").all_inner_texts() == ["P-AUROC (strict)"]
    assert not page.locator("#curve-encoder").is_visible()
    page.locator("#curve-source").select_option("results")
    assert page.locator("#curve-encoder").is_visible()


def test_categories_sort_by_any_method(visit):
    page = visit()
    table = page.locator("#category-rows")
    assert page.locator("#category-dataset option").all_inner_texts() == ["Set pair"]
    assert table.locator("tbody tr").all_inner_texts()[0].split("\t") == [
        "bolt",
        "55.0 ± 1.4",
        "85.0 ± 1.4",
        "90.0 ± 1.4",
    ]
    table.get_by_role("button", name="Nearest neighbour").click()
    assert table.locator("tbody th").all_inner_texts() == ["cloth <i>", "bolt"]
    assert table.locator("tfoot").inner_text().split("\t")[1:] == ["57.0 ± 1.4", "87.0 ± 1.4", "92.0 ± 1.4"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_never_scrolls_sideways(visit, scheme):
    page = visit(PHONE, scheme)
    page.locator("#curves").scroll_into_view_if_needed()
    page.wait_for_selector("#plot .scatterlayer .trace", state="attached")
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    page.locator("#rows tbody button").first.click()
    box = page.locator("#details").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= PHONE["width"]


FAULTS = """() => {
  const faults = [];
  const target = (one) => document.getElementById(one.getAttribute("aria-labelledby"));
  const named = (one) => one.getAttribute("aria-label") || one.labels?.length || target(one) || one.textContent.trim();
  const things = "button, input, select, a[href], [role=region], [role=group], summary, nav, dialog";
  for (const one of document.querySelectorAll(things))
    if (!named(one)) faults.push("no name: " + one.outerHTML.slice(0, 80));
  for (const one of document.querySelectorAll("input, select"))
    if (!one.labels.length) faults.push("no label: " + one.id);
  for (const one of document.querySelectorAll("img:not(dialog img)")) if (!one.alt) faults.push("no alt");
  for (const one of document.querySelectorAll("#rows th, #category-rows th, .main th"))
    if (!one.scope) faults.push("no scope: " + one.textContent);
  const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  if (new Set(ids).size !== ids.length) faults.push("an id twice");
  for (const one of document.querySelectorAll("[aria-labelledby]"))
    if (!target(one)) faults.push("a label that is not there");
  let level = 1;
  for (const one of document.querySelectorAll("h1, h2:not(dialog h2), h3")) {
    if (one.tagName[1] - level > 1) faults.push("a heading skips a level: " + one.textContent);
    level = Number(one.tagName[1]);
  }
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const paint = (colours) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
  };
  const light = (colours) => { const [r, g, b] = paint(colours); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  for (const one of document.querySelectorAll("main *, header *, nav *, footer *")) {
    const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || one.closest("svg, .js-plotly-plot, :disabled, .hidden, style, script") || !one.checkVisibility()) continue;
    const grounds = [];
    for (let up = one; up; up = up.parentElement) grounds.unshift(getComputedStyle(up).backgroundColor);
    const [a, b] = [light(grounds), light([...grounds, getComputedStyle(one).color])].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) faults.push(`contrast ${contrast.toFixed(2)}: ${one.textContent.slice(0, 40)}`);
  }
  return [...new Set(faults)];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_controls_are_labelled_and_text_is_readable(visit, scheme):
    page = visit(LAPTOP, scheme)
    assert page.evaluate(FAULTS) == []


def test_a_gallery_is_embedded_small_and_grows_on_a_click(visit, study):
    page = visit()
    page.locator("#galleries .zoom").click()
    picture = page.locator("#enlarged-picture")
    assert picture.get_attribute("src").startswith("data:image/jpeg;base64,")
    until(page, "document.getElementById('enlarged-picture').naturalWidth", 1400)
    assert "Maps" in picture.get_attribute("alt")
    assert (study[0].report.parent / page.locator("#galleries a").first.get_attribute("href")).is_file()


def test_the_theme_can_be_chosen(visit):
    page = visit()
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.locator("#scheme").click()
    assert page.evaluate(ground) == light
    page.locator("#scheme").click()
    assert page.locator("#scheme").inner_text() == "Theme: dark"
    assert page.evaluate(ground) != light


# ---------------------------------------------------------------------------------------------------- without a browser


def test_the_same_inputs_give_the_same_bytes(study):
    results, catalogue, experiment = study
    before = results.report.read_bytes()
    write_page(results, catalogue, [experiment])
    assert results.report.read_bytes() == before


@given(st.recursive(st.text() | st.none() | st.integers(), lambda inner: st.lists(inner, max_size=3), max_leaves=5))
def test_json_in_the_page_is_what_was_put_in(value):
    text = str(embedded(value))
    assert json.loads(text) == value
    assert not set(text) & set("<>&")


def test_the_package_and_the_plan_know_every_file_of_the_page():
    folder = Path(page_module.__file__).parent
    files = {path for path in folder.iterdir() if path.is_file() and path.suffix != ".py"}
    assert set(PAGE) == files
    declared = (ROOT / "pyproject.toml").read_text().split('"foundad.report.page" = ')[1].splitlines()[0]
    assert {f"*{path.suffix}" for path in files} == set(json.loads(declared))


def test_a_missing_figure_is_one_line(study, tmp_path):
    results, catalogue, experiment = study
    copy = Results(tmp_path / "results")
    shutil.copytree(results.root, copy.root)
    copy.figure("study", "gallery", "png").unlink()
    with pytest.raises(UserError, match=r"gallery\.png: there is no such file; make it with: snakemake"):
        write_page(copy, catalogue, [experiment])


def test_the_command_names_what_is_missing(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    assert main(["report"]) == 1
    assert "metrics.parquet: there is no such file" in capsys.readouterr().err
    assert main(["report", "smal"]) == 1
    assert "there is no experiment 'smal'" in capsys.readouterr().err


def test_a_study_whose_cells_all_failed_has_a_page(study, tmp_path):
    results, catalogue, experiment = study
    copy = Results(tmp_path / "results")
    shutil.copytree(results.root, copy.root)
    pq.write_table(METRICS_SCHEMA.empty_table(), copy.metrics)
    runs = pd.read_parquet(copy.runs).assign(status="failed", reason="no space", record=None)
    runs.to_parquet(copy.runs)
    write_page(copy, catalogue, [experiment])
    assert "No value: every cell failed." in copy.report.read_text()
    payload = json.loads(copy.report.read_text().split('id="data">')[1].split("</script>")[0])
    assert "no space" in payload["notes"]
    assert not any(payload["runs"]["done"])
