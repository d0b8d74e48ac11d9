"""Measures the page of a large study in headless Chromium: its size, and the time until its table responds.

    python benchmarks/page.py [--rows 5000] [--rounds 5] [--keep page.html]

Invents metrics and records for ``--rows`` result rows (3 seeds, 12 categories each), writes the page as the stage does
and opens it from its file, in a fresh browser context each round. Times are wall-clock times at the browser's driver.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from browser import ARGUMENTS, BROWSERS

from foundad.config.base import dump
from foundad.config.experiment import Experiment, Grid
from foundad.metrics.registry import METRICS
from foundad.paths import Results
from foundad.plan.catalogue import Catalogue, load_catalogue
from foundad.provenance import machine, versions
from foundad.report.page import write_page

SEEDS, CATEGORIES, SHOTS = 3, 12, (1, 2, 4)


def invented(rows: int, results: Results) -> tuple[Catalogue, Experiment]:
    """Write metrics.parquet and runs.parquet of at least ``rows`` result rows; returns catalogue and experiment."""
    known = load_catalogue()
    names = [metric for metric, one in METRICS.items() if one.unit == "share"]
    methods = int(np.ceil(rows / (len(names) * len(SHOTS) * 4 * 3)))
    catalogue = Catalogue(
        {f"d{n}": known.datasets["elpv"].model_copy(update={"id": f"d{n}", "title": f"Dataset {n}"}) for n in range(3)},
        {
            f"e{n}": one.model_copy(update={"id": f"e{n}", "title": f"Encoder {n}"})
            for n, one in enumerate(list(known.encoders.values())[:4])
        },
        {
            f"m{n}": known.methods["foundad"].model_copy(update={"id": f"m{n}", "title": f"Method {n}"})
            for n in range(methods)
        },
    )
    grid = Grid(
        datasets=list(catalogue.datasets),
        encoders=list(catalogue.encoders),
        methods=list(catalogue.methods),
        shots=list(SHOTS),
        seeds=list(range(SEEDS)),
    )
    experiment = Experiment(id="invented", title="Invented numbers", cells=[grid])
    cells = catalogue.cells(experiment)
    generator = np.random.default_rng(0)
    lines = list(product(cells, (f"category-{n:02}" for n in range(CATEGORIES)), names))
    columns = {key: [getattr(cell, key) for cell, _, _ in lines] for key in vars(cells[0])}
    columns |= {"category": [line[1] for line in lines], "metric": [line[2] for line in lines]}
    columns |= {"value": generator.uniform(0.5, 1, len(lines)), "reason": [None] * len(lines)}
    pd.DataFrame(columns).to_parquet(results.metrics)
    shared = {"versions": versions(), "machine": machine(), "device": "cpu", "precision": "float32", "top_k": 10}
    losses = generator.uniform(0, 1, 40).round(5).tolist()
    runs = []
    for cell in cells:
        record = shared | {
            "method": dump(catalogue.methods[cell.method]),
            "encoder": dump(catalogue.encoders[cell.encoder]),
            "fit": {"pooled": {"losses": losses, "health": {"clean_residual": float(generator.uniform())}}},
            "draw": f"{generator.integers(2**60):016x}",
        }
        state = {"status": "done", "reason": None, "warnings": None, "versions": None, "record": json.dumps(record)}
        numbers = {"fit_seconds": 3.2, "score_seconds": 0.4, "images": 400, "parameters": 9_000_000}
        runs.append(vars(cell) | state | numbers | {"peak_memory_bytes": 2**30})
    pd.DataFrame(runs).to_parquet(results.runs)
    return catalogue, experiment


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="copy the page to this file")
    arguments = parser.parse_args()
    browser_path = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser_path is None:
        print("no Chromium or Chrome on the PATH", file=sys.stderr)
        return 1
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        results = Results(Path(folder))
        catalogue, experiment = invented(arguments.rows, results)
        started = time.perf_counter()
        write_page(results, catalogue, [experiment])
        written = time.perf_counter() - started
        if arguments.keep:
            shutil.copyfile(results.report, arguments.keep)
        loads, filters, curves = [], [], []
        browser = driver.chromium.launch(executable_path=browser_path, args=ARGUMENTS)
        for _ in range(arguments.rounds):
            page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
            started = time.perf_counter()
            page.goto(results.report.as_uri(), wait_until="commit")
            page.wait_for_selector("html[data-ready]", state="attached")
            page.wait_for_selector("#rows tbody tr:nth-child(25)", state="attached")
            loads.append(time.perf_counter() - started)
            rows = page.evaluate("rows.length")
            started = time.perf_counter()
            page.click("#filters [type=reset]")
            page.click("#rows thead th:nth-child(3) button")
            page.wait_for_selector(f"#count:has-text('{rows:,}')")
            filters.append(time.perf_counter() - started)
            started = time.perf_counter()
            page.evaluate("document.getElementById('curves').scrollIntoView()")
            page.wait_for_selector("#plot .scatterlayer .trace", state="attached")
            curves.append(time.perf_counter() - started)
            page.context.close()
        browser.close()
        size = results.report.stat().st_size / 1e6
    print(f"{rows} rows: {size:.1f} MB (bar: 15), written in {written:.1f} s")
    for what, times in (
        ("open until the table is filled and answers (bar: 2 s)", loads),
        ("show all rows and sort them", filters),
        ("unpack the curves and draw them", curves),
    ):
        print(f"{what}: median {statistics.median(times):.2f} s, {min(times):.2f} to {max(times):.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
