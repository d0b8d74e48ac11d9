"""A new layout, encoder library or metric is one file in its folder. It is found and used, and changes no other key."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, TINY_ENCODER, write_yaml
from dropped import DROPPED
from laboratory import TABLE, Planner, behind, changed, reads, whole_project

from foundad import discovery
from foundad.data.layouts import layout_of
from foundad.encoders import build_network
from foundad.errors import UserError
from foundad.metrics import registry
from foundad.plan.catalogue import load_one

NEW = "p_share"
GRID = {"datasets": ["words"], "encoders": ["colours"], "methods": ["knn"], "shots": [1], "seeds": [0]}
USED = """
import json
from pathlib import Path
import numpy as np
from foundad.data.verify import build_manifest
from foundad.encoders import build_encoder
from foundad.metrics.category import Category, evaluate_category
from foundad.metrics.masks import find_defects
from foundad.plan.catalogue import load_catalogue

known = load_catalogue(Path("config"))
manifest = build_manifest(known.datasets["words"])
encoder = build_encoder(known.encoders["colours"])
tokens = encoder(encoder.normalise(np.zeros((1, 32, 32, 3), np.uint8)))
mask = np.zeros((8, 8), np.uint8)
mask[:4] = 1
scores = np.zeros((2, 4, 4), np.float32)
given = Category(np.zeros(2), np.array([1, 0]), scores, find_defects([mask, None], (8, 8)))
values = {value.metric: value.value for value in evaluate_category(given)}
print(json.dumps([len(manifest.train), len(manifest.test), list(tokens.shape), values["strict/p_share"]]))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole_project(tmp_path_factory.mktemp("dropped") / "project")


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planner]:
    found = Planner(tmp_path_factory.mktemp("sources"))
    yield found
    found.close()


def use_all(project: Path) -> None:
    """Configs of a dataset, an encoder and an experiment that need the dropped files; no run selects them."""
    words = {"title": "Words", "layout": "dropped", "root": "data/listed", "licence": "CC0", "source": "drawn here"}
    write_yaml(project / "config/datasets/words.yaml", words)
    features = {"kind": "blocks", "patch": 8, "depth": 1, "layer": 1}
    colours: dict[str, Any] = TINY_ENCODER | {"title": "Colours", "library": "dropped", "features": features}
    write_yaml(project / "config/encoders/colours.yaml", colours | {"image_size": 32, "channels": 3, "options": {}})
    both = {"kind": "protocols", "title": "Both", "metrics": ["p_auroc"]}
    table = TABLE | {"metrics": [f"strict/{NEW}"]}
    values = {"title": "New", "cells": [GRID], "tables": {"new": table}, "figures": {"both": both}}
    write_yaml(project / "config/experiments/new.yaml", values)


def validated(project: Path, sources: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "foundad", "validate"]
    environment = os.environ | {"PYTHONPATH": str(sources)}
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)


def test_new_files_are_accepted_and_used_and_move_no_key_of_others(project: Path, planner: Planner):
    before = planner.jobs(project)
    for folder in ("foundad/data/layouts", "foundad/encoders/libraries"):
        (planner.sources / folder / "dropped.py").write_text(DROPPED[folder])
    assert changed(before, planner.jobs(project)) == set()
    (planner.sources / "foundad/metrics/entries/dropped.py").write_text(DROPPED["foundad/metrics/entries"])
    moved = changed(before, planner.jobs(project))
    graph = reads()
    assert moved <= behind(graph, ["evaluate:*"])
    assert {name for name in before if name.startswith("evaluate:")} <= moved
    assert not {name for name in moved if name.endswith(("/gallery", "/seen", "/sweep", "/cost"))}

    use_all(project)
    found = validated(project, planner.sources)
    assert found.returncode == 0, found.stderr
    with_new = planner.jobs(project, run={"experiments": ["small", "other", "new"]})
    assert "evaluate:words/colours/knn/1/0" in with_new
    assert "table:new/new" in with_new
    chained = ("manifest:", "draw:", "features:", "bank:", "fit:", "observe:", "efficiency:")
    assert not {name for name in changed(before, with_new) if name.startswith(chained)} & set(before)

    environment = os.environ | {"PYTHONPATH": str(planner.sources)}
    used = subprocess.run(
        [sys.executable, "-c", USED], cwd=project, env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(used.stdout.splitlines()[-1]) == [3, 4, [1, 16, 3], 0.25]


WRONG = {
    "foundad/metrics/entries/dropped.py: defines no METRICS; give it": "",
    "foundad/metrics/entries/dropped.py: metric 'i_auroc' is there already": "i_auroc",
    "foundad/metrics/entries/dropped.py: metric 'strikt/p': the protocol is none of strict, released": "strikt/p",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_file_of_metrics_is_one_line(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    entry = f"Metric('{WRONG[line]}', 'Name', 'what', 'whose', 'module:function')"
    text = "from foundad.metrics.metric import Metric\n" + (f"METRICS = ({entry},)\n" if WRONG[line] else "")
    known = discovery.modules_in(discovery.METRICS) | {"dropped": written(tmp_path, monkeypatch, text)}
    monkeypatch.setattr(discovery, "modules_in", lambda package: known)
    with pytest.raises(UserError, match=re.escape(line)):
        registry.found()


def test_a_layout_and_a_library_without_their_word_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    module = written(tmp_path, monkeypatch, "")
    for name in ("layouts", "libraries"):
        monkeypatch.setattr(discovery, name, lambda: {"empty": module})
    with pytest.raises(UserError, match=re.escape(f"{module}.py: declares no LAYOUT; end it with")):
        layout_of("empty")
    settings = load_one(ROOT / "config", "encoders", "efficientnet-lite0").model_copy(update={"library": "empty"})
    with pytest.raises(UserError, match=re.escape(f"{module}.py: defines no build(settings)")):
        build_network(settings)


def written(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> str:
    """The name of a new module of ``text``."""
    name = f"dropped_{abs(hash(str(folder)))}"
    (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    return name
