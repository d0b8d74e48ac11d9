"""Two results folders side by side: equal ones, planted differences, cells and metrics of one alone."""

import json
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
from invented import collected, write_study

from foundad.cells import Cell
from foundad.cli import main
from foundad.metrics.registry import METRICS
from foundad.paths import Results

CELLS = [Cell(*axes) for axes in product(["bolts", "cloths"], ["tiny"], ["knn", "foundad"], [1, 2], [0, 1, 2])]
CELL = Cell("bolts", "tiny", "knn", 1, 0)


@pytest.fixture
def both(tmp_path: Path) -> list[str]:
    """Two folders with equal cells."""
    for name in "ab":
        collected(write_study(tmp_path / name, CELLS))
    return [str(tmp_path / "a"), str(tmp_path / "b")]


def edit(folder: str, change) -> None:
    """Change the collected metrics of a folder; ``change`` takes and returns the table."""
    path = Results(Path(folder)).metrics
    change(pd.read_parquet(path)).to_parquet(path)


def at(table: pd.DataFrame, cell: Cell, category: str = "category-00", metric: str = "i_auroc") -> pd.Series:
    found = (table["category"] == category) & (table["metric"] == metric)
    for axis, value in vars(cell).items():
        found &= table[axis] == value
    return found


def plant(folder: str, shift: float | None, cell: Cell = CELL, **place: str) -> None:
    """Shift one value, or take it away."""

    def change(table: pd.DataFrame) -> pd.DataFrame:
        row = at(table, cell, **place)
        assert row.sum() == 1
        table.loc[row, "value"] = None if shift is None else table.loc[row, "value"] + shift
        return table

    edit(folder, change)


def compared(capsys, *arguments: str) -> tuple[int, dict]:
    capsys.readouterr()
    code = main(["compare", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_equal_folders(both, capsys):
    code, found = compared(capsys, *both)
    assert code == 0
    assert found["equal"]
    assert found["cells"] == {"both": len(CELLS), "only_a": [], "only_b": [], "other_draws": []}
    assert [line["metric"] for line in found["metrics"]] == sorted(METRICS)
    for line in found["metrics"]:
        assert (line["values"], line["differing"], line["beyond"]) == (2 * len(CELLS), 0, 0)
        assert (line["mean"], line["p"], line["pairs"], line["largest"]) == (0, 1, len(CELLS), [])
    assert main(["compare", *both]) == 0
    assert "the same within the tolerance" in capsys.readouterr().out
    assert main(["compare", f"{both[0]}/metrics.parquet", both[1]]) == 0


def test_every_planted_difference_is_found_and_the_tolerance_decides(both, capsys):
    shifts = {"category-00": 0.004, "category-01": -0.003}
    for category, shift in shifts.items():
        plant(both[1], shift, category=category)
    plant(both[1], 1e-12, metric="strict/p_auroc")
    code, found = compared(capsys, *both)
    lines = {line["metric"]: line for line in found["metrics"]}
    assert code == 1
    assert {name for name, line in lines.items() if line["differing"]} == {"i_auroc", "strict/p_auroc"}
    largest = lines["i_auroc"]["largest"]
    assert [(one["cell"], one["category"]) for one in largest] == [(str(CELL), name) for name in shifts]
    assert [one["b"] - one["a"] for one in largest] == pytest.approx(list(shifts.values()))
    assert lines["i_auroc"]["mean"] == pytest.approx(0.0005 / len(CELLS))
    for tolerance, expected in (("0.0039", 1), ("0.0041", 0), ("0.0031", 1)):
        code, found = compared(capsys, *both, "--tolerance", tolerance)
        assert (code, found["equal"]) == (expected, not expected)
    assert compared(capsys, *both, "--metric", "strict/aupro_30")[0] == 0
    assert main(["compare", *both]) == 1
    text = capsys.readouterr().out
    assert f"+0.4  {CELL} category-00" in text
    assert text.endswith("not the same\n")


def test_a_shift_of_a_metric_is_significant(both, capsys):
    def shifted(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(value=table["value"] + 0.001 * (table["metric"] == "i_auroc"))

    edit(both[1], shifted)
    _, found = compared(capsys, *both, "--tolerance", "0.01")
    ps = {line["metric"]: line["p"] for line in found["metrics"]}
    assert ps["i_auroc"] < 0.001
    assert all(p == 1 for name, p in ps.items() if name != "i_auroc")


@pytest.mark.parametrize("side", [0, 1])
def test_a_value_that_one_folder_lacks_is_beyond_every_tolerance(side, both, capsys):
    plant(both[side], None)
    code, found = compared(capsys, *both, "--tolerance", "1")
    (line,) = (line for line in found["metrics"] if line["differing"])
    assert (code, line["beyond"], line["largest"][0]["size"]) == (1, 1, None)
    plant(both[1 - side], None)  # undefined in both
    assert compared(capsys, *both)[0] == 0


def test_cells_of_one_folder_alone(both, tmp_path, capsys):
    edit(both[0], lambda table: table[~at_cell(table)])
    code, found = compared(capsys, *both)
    assert (code, found["cells"]["only_b"]) == (0, [str(CELL)])
    code, found = compared(capsys, *both[::-1])
    assert (code, found["cells"]["only_a"]) == (1, [str(CELL)])
    edit(both[0], lambda table: table[table["dataset"] == "none"])
    assert main(["compare", *both]) == 1
    assert "have no cell in common" in capsys.readouterr().err


def at_cell(table: pd.DataFrame) -> pd.Series:
    return pd.concat([table[axis] == value for axis, value in vars(CELL).items()], axis=1).all(axis=1)


def test_other_draws_and_metrics_of_one_folder_alone(both, capsys):
    edit(both[1], lambda table: table.assign(draw=table["draw"].mask(at_cell(table), "0" * 16)))
    code, found = compared(capsys, *both)
    assert (code, found["cells"]["other_draws"]) == (1, [str(CELL)])
    edit(both[1], lambda table: table[table["metric"] != "i_ap"])
    _, found = compared(capsys, *both)
    assert found["only_metrics"] == {"a": ["i_ap"], "b": []}


def test_mistakes_are_a_line(both, tmp_path, capsys):
    for arguments, said in (
        ([both[0], "knn"], "name two methods, or two results folders"),
        ([both[0], str(tmp_path / "none")], "none"),
        ([*both, "--metric", "i_aurok"], "did you mean 'i_auroc'"),
        (["knn", "foundad", "--tolerance", "1"], "are for two results folders"),
    ):
        assert main(["compare", *arguments]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
    for wrong in ("-1", "nan", "far"):
        with pytest.raises(SystemExit):
            main(["compare", *both, "--tolerance", wrong])
