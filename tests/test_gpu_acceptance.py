"""The acceptance of GPUs runs where there is none: the CPU is compared with itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def report(tmp_path):
    command = [sys.executable, "benchmarks/gpu.py", "--device", "cpu", "--quick", "--only", "equality", "speed"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return json.loads((tmp_path / "report.json").read_text())


def test_the_cpu_equals_itself_and_what_needs_a_gpu_is_left_out(report):
    rows = {row["what"]: row for row in report["rows"]}
    assert not [row for row in rows.values() if row["verdict"] == "FAILED"]
    assert rows["metrics from pictures on, knn-torch"]["difference"] == 0
    assert rows["tokens in bfloat16, transformers, CLIPVisionModel"]["numbers"]["difference"] > 0
    graphs = [row for row in rows.values() if "CUDA graph" in row["what"]]
    assert graphs
    assert all(row["verdict"] == "not run" and row["reason"] == "of a GPU alone" for row in graphs)
