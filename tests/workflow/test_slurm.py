"""A study on a real Slurm with two nodes and simulated GPUs, which `make test-slurm` starts on this machine."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, write_yaml
from laboratory import EXPERIMENT, METHODS, SIDE, change_yaml, command, copy_workflow, finish, write_config, write_data

from foundad.paths import PARTS

START = Path(__file__).parent / "start_slurm.sh"
DATASETS = ["bolts", "listed"]
CELLS = [
    {
        "datasets": DATASETS,
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
    write_config(folder, DATASETS, ["tiny"], CELLS[0]["methods"])
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
    """metrics.parquet of a run on this machine, one cell per job."""
    folder = study(tmp_path_factory.mktemp("local") / "project")
    finish(folder)
    return (folder / "results/metrics.parquet").read_bytes()


@pytest.mark.usefixtures("slurm")
def test_a_study_on_slurm_gives_the_bytes_of_a_local_one(local, tmp_path):
    folder = study(tmp_path / "project")
    on_slurm(folder)
    said = finish(folder, *PROFILE).stderr
    assert re.search(r"submitted with SLURM jobid \d+ .*rule_batch", said)
    assert (folder / "results/metrics.parquet").read_bytes() == local
    assert not re.search(r"rule_(fit|evaluate|bank|features)", said)
    again = finish(folder, *PROFILE)
    assert "Nothing to be done" in again.stdout + again.stderr


# ---------------------------------------------------------------------------------------------------- faults


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose manifests, draws and masks are there, so that a call has a batch to run at once."""
    folder = study(tmp_path_factory.mktemp("prepared") / "project", keep={"features": "while-needed"})
    on_slurm(folder)
    parts = [f"results/manifests/{name}/{part}.parquet" for name in DATASETS for part in PARTS]
    whole = [f"results/manifests/{name}.parquet" for name in DATASETS]
    draws = [f"results/draws/{name}/k1-s{seed}.parquet" for name in DATASETS for seed in (0, 1)]
    masks = [f"results/masks/{name}/{SIDE}.safetensors" for name in DATASETS]
    finish(folder, *parts, *whole, *draws, *masks)
    return folder


@pytest.fixture
def ready(prepared: Path, tmp_path: Path) -> Path:
    """A copy of the prepared study."""
    return Path(shutil.copytree(prepared, tmp_path / "project", symlinks=True))


class Call:
    """A call of Snakemake on Slurm that runs in the background, in a process group of its own."""

    def __init__(self, folder: Path, *arguments: str, **variables: str) -> None:
        self.folder = folder
        self.said = (folder / "said.txt").open("w")
        self.process = subprocess.Popen(
            command(*PROFILE, *arguments),
            cwd=folder,
            stdout=self.said,
            stderr=self.said,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": f"{START.parent / 'stall'}:{ROOT}"} | variables,
        )

    def told(self) -> str:
        """What it has printed so far."""
        return (self.folder / "said.txt").read_text()

    def until_batch(self, after: float) -> str:
        """The Slurm id of the batch, ``after`` seconds after its first process wrote a line of its log."""
        log = self.folder / "results/logs/batches"
        deadline = time.monotonic() + 120
        while not any(path.stat().st_size for path in log.glob("*.log")):
            assert time.monotonic() < deadline, self.told()
            assert self.process.poll() is None, self.told()
            time.sleep(0.1)
        time.sleep(after)
        return slurm_says("squeue", "-h", "-o", "%i").split("\n")[0]

    def end(self) -> int:
        """Wait for its end; the exit code."""
        return self.process.wait(timeout=300)


def slurm_says(*arguments: str) -> str:
    return subprocess.run(arguments, capture_output=True, text=True, timeout=30).stdout.strip()


def kill(pattern: str) -> None:
    """SIGKILL for the processes whose command line matches."""
    subprocess.run(["pkill", "-KILL", "-f", pattern])


def scancel(call: Call, job: str) -> None:
    slurm_says("scancel", job)


def kill_a_cell(call: Call, job: str) -> None:
    kill(r"-m foundad (fit|features|bank|evaluate|efficiency|observe) ")


def kill_the_inner_snakemake(call: Call, job: str) -> None:
    kill(r"snakemake .*--config within=")


def kill_the_step(call: Call, job: str) -> None:
    kill(r"slurmstepd: \[")


def kill_a_node(call: Call, job: str) -> None:
    """Its processes go on writing; the daemon is back before Slurm gives the node up."""
    kill("slurmd -N n1")
    kill("slurmd -N n2")
    time.sleep(2)
    for name in ("n1", "n2"):
        subprocess.run(["slurmd", "-N", name], check=True, env=os.environ | {"PATH": _paths()})


def node_down(call: Call, job: str) -> None:
    """Slurm gives the node up and runs the job again, while its first processes still write."""
    node = slurm_says("squeue", "-h", "-o", "%N", "-j", job)
    slurm_says("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    time.sleep(2)
    slurm_says("scontrol", "update", f"nodename={node}", "state=resume")


def requeue(call: Call, job: str) -> None:
    slurm_says("scontrol", "requeue", job)


def restart_the_controller(call: Call, job: str) -> None:
    kill("slurmctld")
    time.sleep(1)
    subprocess.run(["slurmctld"], check=True, env=os.environ | {"PATH": _paths()})


def kill_snakemake(call: Call, job: str) -> None:
    os.killpg(call.process.pid, signal.SIGKILL)


def interrupt_snakemake(call: Call, job: str) -> None:
    call.process.send_signal(signal.SIGINT)


FAULTS = (
    scancel,
    kill_a_cell,
    kill_the_inner_snakemake,
    kill_the_step,
    kill_a_node,
    node_down,
    requeue,
    restart_the_controller,
    kill_snakemake,
    interrupt_snakemake,
)


def completed(folder: Path) -> bytes:
    """metrics.parquet after the calls that a user makes until one succeeds: jobs of an earlier one end first."""
    slurm_says("scancel", "--user=root")
    while slurm_says("squeue", "-h"):
        time.sleep(0.2)
    finish(folder, "--unlock")
    finish(folder, *PROFILE)
    return (folder / "results/metrics.parquet").read_bytes()


@pytest.mark.slow
@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize("after", [0.5, 4.0, 9.0])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_bytes_are_the_same_after_a_fault(fault, after, local, ready):
    call = Call(ready)
    fault(call, call.until_batch(after))
    call.end()
    assert completed(ready) == local


@pytest.mark.slow
@pytest.mark.usefixtures("slurm")
def test_a_job_over_its_memory_comes_back_with_more(local, ready):
    call = Call(ready, "--set-resources", "batch:mem_mb=300 * 12 ** (attempt - 1)")
    assert call.end() == 0, call.told()
    assert "Trying to restart" in call.told()
    assert (ready / "results/metrics.parquet").read_bytes() == local


@pytest.mark.slow
@pytest.mark.usefixtures("slurm")
def test_a_job_over_its_time_comes_back_with_more(local, ready, tmp_path):
    """A cell is held until the limit of one minute, the shortest of Slurm, has ended its batch."""
    held = tmp_path / "held"
    held.mkdir()
    change_yaml(ready / "config/config.yaml", {"warm": False})
    variables = {"STALL_STAGE": "fit", "STALL_AT": "start", "STALL_FOLDER": str(held)}
    call = Call(ready, "--set-resources", "batch:runtime=max(1, 4 * (attempt - 1))", **variables)
    deadline = time.monotonic() + 200
    while "Trying to restart" not in call.told():
        assert time.monotonic() < deadline
        assert call.process.poll() is None, call.told()
        time.sleep(0.5)
    while call.process.poll() is None:
        for word in held.iterdir():
            word.unlink()
        time.sleep(0.1)
    assert call.end() == 0, call.told()
    assert (ready / "results/metrics.parquet").read_bytes() == local


@pytest.mark.slow
@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize("kilobytes", [200, 500, 900])
def test_a_full_disk_leaves_no_half_file(kilobytes, local, ready):
    results = ready / "results"
    kept = Path(shutil.copytree(results, ready / "kept"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(results)], check=True)
    try:
        shutil.copytree(kept, results, dirs_exist_ok=True)
        assert Call(ready).end() != 0
        subprocess.run(["mount", "-o", "remount,size=1g", str(results)], check=True)
        assert completed(ready) == local
    finally:
        subprocess.run(["umount", "-l", str(results)])
