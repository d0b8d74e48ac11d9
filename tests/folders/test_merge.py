"""Folders that are merged: what comes along, what must agree, and what contradictions say."""

import os
import re
from itertools import product
from pathlib import Path

import pytest
from invented import collected, keys_of, manifest_of, write_cell, write_failed, write_study

from foundad.cells import Cell
from foundad.cli import main
from foundad.data.draws import read_draw
from foundad.paths import Results
from foundad.report.collect import Keys

CELLS = [Cell(*axes) for axes in product(["bolts", "cloths"], ["tiny"], ["knn", "foundad"], [1, 2], [0, 1, 2])]
CELL = Cell("bolts", "tiny", "knn", 1, 0)


def of_seed(seed: int) -> list[Cell]:
    return [cell for cell in CELLS if cell.seed == seed]


def files(root: Path) -> dict[str, tuple[int, bytes]]:
    """Path -> time and bytes of everything in a folder."""
    paths = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def contents(root: Path) -> dict[str, bytes]:
    return {name: data for name, (_, data) in files(root).items()}


def merged(tmp_path: Path, *names: str, keep: str = "") -> int:
    sources = [str(tmp_path / name) for name in names]
    return main(["merge", *sources, "--into", str(tmp_path / "into"), *(["--keep", keep] if keep else [])])


@pytest.fixture
def thirds(tmp_path: Path) -> list[str]:
    """The study by seeds, in three folders that share manifests; the first two share a cell of the third seed."""
    names = [f"seed-{seed}" for seed in range(3)]
    for seed, name in enumerate(names):
        write_study(tmp_path / name, of_seed(seed), **{"machine": {"host": name}})
    write_study(tmp_path / names[0], [Cell("bolts", "tiny", "knn", 2, 2)])
    return names


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_three_folders_give_the_bytes_of_one(order, thirds, tmp_path):
    whole = collected(write_study(tmp_path / "whole", CELLS))
    before = {name: files(tmp_path / name) for name in thirds}
    assert merged(tmp_path, *(thirds[number] for number in order)) == 0
    into = Results(tmp_path / "into")
    assert into.metrics.read_bytes() == whole
    assert {name: files(tmp_path / name) for name in thirds} == before
    expected = set(contents(tmp_path / "whole"))
    assert set(contents(into.root)) == expected
    assert collected(into) == whole
    assert read_draw(into.draw("bolts", 2, 1)).hash == read_draw(tmp_path / "whole/draws/bolts/k2-s1.parquet").hash


def test_merging_again_is_nothing_and_in_steps_the_same(thirds, tmp_path):
    assert merged(tmp_path, *thirds) == 0
    first = files(tmp_path / "into")
    assert merged(tmp_path, *thirds) == merged(tmp_path, thirds[1]) == 0
    assert files(tmp_path / "into") == first
    (tmp_path / "into").rename(tmp_path / "at once")
    for name in thirds:
        assert merged(tmp_path, name) == 0
    at_once = contents(tmp_path / "at once")
    assert contents(tmp_path / "into") == at_once
    # What a killed merge leaves is completed: a cell without metrics, no collected tables.
    (tmp_path / "into/cells/bolts/tiny/knn/k1-s1/metrics.parquet").unlink()
    (tmp_path / "into/metrics.parquet").unlink()
    assert merged(tmp_path, *thirds) == 0
    assert contents(tmp_path / "into") == at_once


def test_nothing_is_older_than_what_it_stands_on_but_what_is_collected(thirds, tmp_path):
    """So Snakemake makes no cell again, and compares the keys of all once. Cells keep their age where it allows that."""
    first = Results(tmp_path / thirds[0])
    for number, path in enumerate((first.cell_metrics(CELL), first.record(CELL))):
        os.utime(path, (1000 + number, 1000 + number))
    assert merged(tmp_path, *thirds) == 0
    times = {name: time for name, (time, _) in files(tmp_path / "into").items()}
    of_cells = [time for name, time in times.items() if name.startswith("cells/")]
    others = [time for name, time in times.items() if not name.startswith("cells/")]
    assert max(others) < min(of_cells)
    for cell in CELLS:
        folder = f"cells/{cell}"
        assert times[f"{folder}/scores.safetensors"] <= times[f"{folder}/metrics.parquet"]
        assert times[f"{folder}/record.json"] <= times[f"{folder}/metrics.parquet"]
    assert times[f"cells/{CELL}/metrics.parquet"] == times[f"cells/{CELL}/record.json"]


def test_what_was_measured_comes_along_and_models_where_they_are(thirds, tmp_path):
    second = Results(tmp_path / thirds[1])
    cell = of_seed(1)[0]
    for path in (second.observation(cell), second.efficiency(cell), second.cell(cell) / "model.safetensors"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"measured")
    write_study(tmp_path / thirds[0], [cell])
    assert merged(tmp_path, *thirds) == 0
    into = Results(tmp_path / "into")
    for path in (into.observation(cell), into.efficiency(cell), into.cell(cell) / "model.safetensors"):
        assert path.read_bytes() == b"measured"


def age(results: Results, seconds: int) -> None:
    """Date the files of CELL."""
    for path in results.cell(CELL).iterdir():
        os.utime(path, (seconds, seconds))


def planted(results: Results, kind: str) -> None:
    """One contradiction in the cell CELL of a folder."""
    manifest, keys = manifest_of("bolts"), keys_of(CELL)
    drawn = read_draw(results.draw("bolts", 1, 0)).hash
    other = {"machine": {"host": "elsewhere"}, "versions": {"numpy": "2.1.0", "torch": "2.6.0"}}
    if kind == "number":
        write_cell(results, CELL, manifest, drawn, keys, shift=1e-12, **other)
    elif kind == "fit key":
        write_cell(results, CELL, manifest, drawn, Keys("0" * 16, keys.evaluation), **other)
    elif kind == "evaluation key":
        write_cell(results, CELL, manifest, drawn, Keys(keys.fit, "0" * 16), **other)
    elif kind == "failure":
        write_failed(results, CELL, "dataset bolts: is broken", keys)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("number", "have other numbers under one key: i_ap of category-00 is 0[.0-9]+ and 0[.0-9]+"),
        ("fit key", "are of another config, other data or other versions .keys [0-9a-f]{16} .* and 0{16} "),
        ("evaluation key", "are of another config, other data or other versions"),
        ("failure", "end differently under one key: done; dataset bolts: is broken"),
    ],
)
def test_a_contradiction_is_a_line_that_names_both(kind, said, tmp_path, capsys):
    write_study(tmp_path / "a", of_seed(0))
    planted(write_study(tmp_path / "b", of_seed(0)), kind)
    assert merged(tmp_path, "a", "b") == 1
    line, cure = capsys.readouterr().err.splitlines()
    host = "elsewhere, numpy=2.1.0" if kind != "failure" else "unknown"
    start = f"{CELL}: {tmp_path / 'a'} (host here"
    assert line.startswith(start)
    assert f" and {tmp_path / 'b'} (host {host}) " in line
    assert re.search(said, line)
    assert cure.endswith("--keep newest")
    assert not (tmp_path / "into").exists()


@pytest.mark.parametrize("kind", ["number", "fit key", "failure"])
@pytest.mark.parametrize("newest", ["a", "b"])
def test_the_newest_is_kept_if_asked(kind, newest, tmp_path):
    write_study(tmp_path / "a", of_seed(0))
    planted(write_study(tmp_path / "b", of_seed(0)), kind)
    for number, name in enumerate(sorted("ab", key=lambda name: name == newest)):
        age(Results(tmp_path / name), 1000 + number)
    assert merged(tmp_path, "a", keep="newest") == merged(tmp_path, "b", keep="newest") == 0
    into, chosen = Results(tmp_path / "into"), Results(tmp_path / newest)
    whole = collected(chosen)
    assert into.metrics.read_bytes() == whole
    in_steps = contents(into.root)
    into.root.rename(tmp_path / "in steps")
    assert merged(tmp_path, "a", "b", keep="newest") == 0
    assert into.metrics.read_bytes() == whole
    assert contents(into.root) == in_steps


def test_a_replaced_cell_leaves_neither_its_model_nor_its_measurements(tmp_path):
    into = write_study(tmp_path / "into", of_seed(0))
    for path in (into.cell(CELL) / "model.safetensors", into.observation(CELL)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"old")
    age(into, 1000)
    planted(write_study(tmp_path / "b", of_seed(0)), "number")
    assert merged(tmp_path, "b", keep="newest") == 0
    assert not (into.cell(CELL) / "model.safetensors").exists()
    assert not into.observation(CELL).exists()


def test_all_of_many_contradictions_are_counted(tmp_path, capsys):
    write_study(tmp_path / "a", CELLS)
    write_study(tmp_path / "b", CELLS, shift=0.001)
    assert merged(tmp_path, "a", "b") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 12
    assert lines[10] == f"and {len(CELLS) - 10} more"


def test_other_data_is_an_error_and_draws_must_be_those_of_the_cells(tmp_path, capsys):
    write_study(tmp_path / "a", of_seed(0))
    write_study(tmp_path / "b", of_seed(1), lambda name: manifest_of(name, test=6))
    assert merged(tmp_path, "a", "b") == 1
    assert (
        f"manifests/bolts/test.parquet: {tmp_path / 'a'} and {tmp_path / 'b'} name other images"
        in capsys.readouterr().err
    )
    draws = tmp_path / "a/draws/bolts"
    (draws / "k1-s0.parquet").write_bytes((draws / "k2-s0.parquet").read_bytes())
    assert merged(tmp_path, "a") == 1
    assert "k1-s0.parquet: is not the draw" in capsys.readouterr().err
    (draws / "k1-s0.parquet").unlink()
    assert merged(tmp_path, "a") == 1
    assert "k1-s0.parquet: there is no such file" in capsys.readouterr().err
    assert not (tmp_path / "into").exists()


def test_unfinished_cells_stay_and_damaged_ones_are_an_error(thirds, tmp_path, capsys):
    first = Results(tmp_path / thirds[0])
    first.cell_metrics(CELL).unlink()
    assert merged(tmp_path, *thirds) == 0
    assert not (tmp_path / "into/cells" / str(CELL)).exists()
    path = first.record(of_seed(0)[1])
    path.write_bytes(path.read_bytes()[:-30])
    capsys.readouterr()
    assert merged(tmp_path, *thirds) == 1
    assert capsys.readouterr().err.startswith(f"{path}: is damaged")


def test_folders_that_are_none_and_the_same_folder(thirds, tmp_path, capsys):
    assert merged(tmp_path, "nowhere") == 1
    assert "nowhere: is not a results folder" in capsys.readouterr().err
    assert merged(tmp_path, thirds[0]) == 0
    assert merged(tmp_path, "into", thirds[0]) == 1
    assert "is one of the folders to merge" in capsys.readouterr().err
