"""Intervals, paired tests and ranks against scipy, published examples and numbers one can compute by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from foundad.cli import main
from foundad.errors import UserError
from foundad.paths import Results
from foundad.report.compare import compare_methods, rank_methods
from foundad.report.statistics import bootstrap_interval, compare, holm, rank, t_interval


def test_t_interval_is_scipys():
    values = [0.91, 0.93, 0.9, 0.97]
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    found = t_interval(values)
    assert (found.low, found.high) == pytest.approx(expected)
    assert t_interval([0.5]) is None


def test_bootstrap_interval_covers_the_mean_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        found = bootstrap_interval(generator.normal(1, 1, 30).tolist())
        hits += found.low <= 1 <= found.high
    assert 0.90 <= hits / 300 <= 0.98
    assert bootstrap_interval([0.1, 0.5, 0.3]) == bootstrap_interval([0.1, 0.5, 0.3])


def test_comparison_is_wilcoxons():
    a, b = [0.5, 0.6, 0.7, 0.8, 0.55], [0.6, 0.65, 0.9, 0.83, 0.54]
    found = compare(a, b)
    assert found.difference == pytest.approx(np.mean(np.subtract(b, a)))
    assert found.p == pytest.approx(stats.wilcoxon(b, a).pvalue)
    assert compare(b, a).p == found.p
    assert compare(a, a).p == 1.0
    assert compare([0.1], [0.2]) is None
    with pytest.raises(ValueError, match="two values each"):
        compare(a, b[:3])


def test_holm_on_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_no_correction_and_bonferroni(p_values):
    for before, after in zip(p_values, holm(p_values), strict=True):
        assert before <= after <= min(1, before * len(p_values)) + 1e-15


def test_ranks_on_the_example_of_demsar():
    """JMLR 2006, table 6: C4.5 and its variants on 14 data sets; mean ranks, and a critical difference of 1.25."""
    c45 = [0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.0, 0.94, 0.619, 0.972, 0.957]
    m = [0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.0, 0.962, 0.666, 0.981, 0.978]
    cf = [0.771, 0.59, 0.968, 0.654, 0.886, 0.916, 0.609, 0.563, 0.866, 1.0, 0.965, 0.614, 0.9751, 0.946]
    both = [0.798, 0.569, 0.967, 0.657, 0.898, 0.931, 0.685, 0.625, 0.875, 1.0, 0.962, 0.669, 0.975, 0.970]
    found = rank({"C4.5": c45, "C4.5+m": m, "C4.5+cf": cf, "C4.5+m+cf": both})
    assert found.mean_ranks == pytest.approx(
        {"C4.5": 3.143, "C4.5+m": 2.0, "C4.5+cf": 2.893, "C4.5+m+cf": 1.964}, abs=2e-3
    )
    assert found.critical_difference == pytest.approx(1.25, abs=0.01)
    assert next(iter(found.mean_ranks)) == "C4.5+m+cf"
    assert rank({"a": [1, 2], "b": [2, 1]}) is None
    assert rank({"a": [1.0, 1], "b": [1.0, 1], "c": [1.0, 1]}).friedman_p == 1.0


@pytest.fixture
def results(tmp_path) -> Results:
    """Methods a < b < c by far on six seeds, and d that is a again; one dataset, two categories."""
    generator = np.random.default_rng(0)
    rows = []
    for seed in range(6):
        for category in ("bolt", "cloth"):
            base = generator.uniform(0.6, 0.7)
            for method, gain in (("a", 0), ("b", 0.1), ("c", 0.2), ("d", 0)):
                cell = {"dataset": "tiny", "encoder": "small", "method": method, "shots": 1, "seed": seed}
                value = base + gain + generator.normal(0, 0.005)
                rows.append(cell | {"category": category, "metric": "i_auroc", "value": value, "reason": None})
    found = Results(tmp_path)
    pd.DataFrame(rows).to_parquet(found.metrics)
    return found


def test_the_command_fails_when_b_is_significantly_worse(results, capsys):
    options = ["--results", str(results.root)]
    assert main(["compare", "a", "b", *options]) == 0
    assert "better" in capsys.readouterr().out
    assert main(["compare", "b", "a", *options]) == 1
    assert "worse" in capsys.readouterr().out
    assert main(["compare", "a", "d", *options]) == 0
    (row,) = compare_methods(results, "a", "b", ["i_auroc"])
    assert row.comparison.pairs == 12
    assert row.comparison.difference == pytest.approx(0.1, abs=0.01)
    assert row.p < 0.05


def test_ranking_over_blocks(results, capsys):
    found = rank_methods(results, ["a", "b", "c"], "i_auroc")
    assert found.mean_ranks == {"c": 1.0, "b": 2.0, "a": 3.0}
    assert found.blocks == 12
    assert main(["rank", "a", "b", "c", "--metric", "i_auroc", "--results", str(results.root)]) == 0
    assert "1.00  c" in capsys.readouterr().out


def test_what_cannot_be_compared_is_one_line(results, tmp_path):
    with pytest.raises(UserError, match="holds no method 'bb'; did you mean 'b'"):
        compare_methods(results, "a", "bb", ["i_auroc"])
    with pytest.raises(UserError, match="no metric 'i_auroq'; did you mean 'i_auroc'"):
        compare_methods(results, "a", "b", ["i_auroq"])
    with pytest.raises(
        UserError, match="fewer than two pairs; a comparison needs at least two seeds at the same shots"
    ):
        compare_methods(results, "a", "b", ["i_ap"])
    with pytest.raises(UserError, match="needs three methods"):
        rank_methods(results, ["a", "b"], "i_auroc")
    with pytest.raises(UserError, match="there is no such file"):
        compare_methods(Results(tmp_path / "none"), "a", "b", ["i_auroc"])
