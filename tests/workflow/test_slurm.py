"""A study on a real Slurm of two nodes with pretended GPUs, as `make test-slurm` starts it on this machine."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import write_yaml
from laboratory import EXPERIMENT, METHODS, copy_workflow, finish, write_config, write_data

START = Path(__file__).parent / "start_slurm.sh"
CELLS = [
    {
        "datasets": ["bolts", "listed"],
        "encoders": ["tiny"],
        "methods": [name for name in METHODS if name not in ("fresh", "views")],
        "shots": [1],
        "seeds": [0, 1],
    }
]
PROFILE = ("--profile", "profiles/slurm")

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """munge, slurmctld and two slurmd."""
    missing = [name for name in ("slurmctld", "slurmd", "munged", "sbatch") if not shutil.which(name, path=_paths())]
    assert not missing, f"apt-get install --no-install-recommends slurmctld slurmd slurm-client munge: no {missing}"
    folder = tmp_path_factory.mktemp("slurm")
    environment = os.environ | {"SLURM_DIR": str(folder)}
    folder.chmod(0o755)
    for parent in folder.parents[:-1]:
        parent.chmod(parent.stat().st_mode | 0o011)  # munge runs as a user of its own
    try:
        subprocess.run(["bash", START, "start"], env=environment, check=True, timeout=60)
        yield
    finally:
        subprocess.run(["bash", START, "stop"], env=environment, timeout=60)


def _paths() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def study(folder: Path, **run: object) -> Path:
    """Two datasets, one encoder, four methods and what is measured of them."""
    folder.mkdir()
    write_data(folder)
    write_config(folder, ["bolts", "listed"], ["tiny"], CELLS[0]["methods"])
    write_yaml(folder / "config/experiments/small.yaml", EXPERIMENT | {"cells": CELLS})
    write_yaml(folder / "config/config.yaml", {"experiments": ["small"], "device": "cpu"} | run)
    copy_workflow(folder)
    return folder


def on_slurm(folder: Path) -> None:
    """The profile, with checks of a job's state as often as the plugin allows."""
    path = folder / "profiles/slurm/config.yaml"
    values = yaml.safe_load(path.read_text())
    write_yaml(path, values | {"slurm-init-seconds-before-status-checks": 1, "latency-wait": 10})


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """metrics.parquet of a run on this machine, one cell a job."""
    folder = study(tmp_path_factory.mktemp("local") / "project")
    finish(folder)
    return (folder / "results/metrics.parquet").read_bytes()


@pytest.mark.usefixtures("slurm")
def test_a_study_on_slurm_gives_the_bytes_of_a_local_one(local, tmp_path):
    folder = study(tmp_path / "project", keep={"features": "while-needed", "banks": "while-needed"})
    on_slurm(folder)
    said = finish(folder, *PROFILE).stderr
    assert re.search(r"submitted with SLURM jobid \d+ .*rule_batch", said)
    assert (folder / "results/metrics.parquet").read_bytes() == local
    assert not list((folder / "results").rglob("*.npy"))
    assert not list((folder / "results/banks").rglob("*.safetensors"))
    again = finish(folder, *PROFILE)
    assert "Nothing to be done" in again.stdout + again.stderr
