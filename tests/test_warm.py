"""Jobs that are forked from a warm process: they are, to who calls them, the processes that they would have been."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import ROOT

from foundad import warm
from foundad.warm import server

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="warm starts need Linux")


@pytest.fixture
def parent() -> Iterator[subprocess.Popen]:
    """What servers take for their Snakemake."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()
    gone(folder_of(process))


def folder_of(parent: subprocess.Popen) -> Path:
    return Path(warm.command(parent.pid)[4])


def command(parent: subprocess.Popen, *arguments: str) -> list[str]:
    return [*warm.command(parent.pid), *arguments]


def run(parent: subprocess.Popen, *arguments: str, **how: object) -> subprocess.CompletedProcess:
    return subprocess.run(command(parent, *arguments), capture_output=True, text=True, timeout=120, **how)


def gone(folder: Path) -> None:
    """The servers of a run have ended, and left nothing."""
    deadline = time.monotonic() + 30
    while folder.exists():
        assert time.monotonic() < deadline, list(folder.iterdir())
        time.sleep(0.02)


def processes(word: str) -> list[int]:
    """Ids of processes whose command line holds ``word``."""
    found = subprocess.run(["pgrep", "-f", "--", word], capture_output=True, text=True).stdout
    return [int(line) for line in found.split() if int(line) != os.getpid()]


def children(process: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True).stdout
    return [int(line) for line in found.split()]


@contextmanager
def blocked(parent: subprocess.Popen, folder: Path) -> Iterator[tuple[subprocess.Popen, int]]:
    """A client whose job waits for somebody to write a config file; and the process of the job."""
    (folder / "config").mkdir(parents=True)
    os.mkfifo(folder / "config/config.yaml")
    client = subprocess.Popen(
        command(parent, "plan", "--config", str(folder / "config")), stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while True:
        servers = processes(f"foundad.warm.server {folder_of(parent)} light")
        jobs = [job for server in servers for job in children(server)]
        if jobs:
            break
        assert time.monotonic() < deadline
        assert client.poll() is None
        time.sleep(0.02)
    try:
        yield client, jobs[0]
    finally:
        client.kill()
        client.wait()


def alive(process: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False


def dies(process: int) -> None:
    deadline = time.monotonic() + 30
    while alive(process):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("arguments", [("ls", "experiments"), ("ls", "no-kind"), ("validate", "nope.yaml"), ("fit",)])
def test_what_a_job_says_and_how_it_ends_is_the_same(arguments, parent):
    cold = subprocess.run([sys.executable, "-m", "foundad", *arguments], capture_output=True, text=True, cwd=ROOT)
    for _ in range(2):  # the first starts the server
        found = run(parent, *arguments, cwd=ROOT)
        assert (found.returncode, found.stdout, found.stderr) == (cold.returncode, cold.stdout, cold.stderr)


def test_a_job_has_the_folder_environment_and_limits_of_its_caller(parent, tmp_path):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    (tmp_path / "config/methods/knn.yaml").rename(tmp_path / "config/methods/nearest.yaml")
    assert "knn" in run(parent, "ls", "methods", cwd=ROOT).stdout.split()
    elsewhere = run(parent, "ls", "methods", cwd=tmp_path)
    assert "nearest" in elsewhere.stdout.split() or "nearest" in elsewhere.stderr
    root = tmp_path / "nowhere"
    told = run(parent, "data", "check", "visa", cwd=ROOT, env=os.environ | {"FOUNDAD_DATASETS": str(root)})
    assert str(root) in told.stderr + told.stdout
    arguments = ("textures", "--results", str(tmp_path / "results"))
    small = run(
        parent, *arguments, cwd=ROOT, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    )
    assert small.returncode != 0
    assert run(parent, *arguments, cwd=ROOT).returncode == 0


def test_a_job_has_what_imports_put_into_the_environment(monkeypatch):
    """As a process of its own would: without cuBLAS' variable, deterministic training on a GPU is an error."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    seen: list[dict[str, str]] = []
    monkeypatch.setattr("foundad.cli.main", lambda arguments: seen.append(dict(os.environ)) or 0)
    job = {"arguments": ["ls"], "environment": {"A": "client"}, "folder": ".", "limits": {}, "umask": 0o022}
    assert server._work(job, {"A": "import", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}) == 0
    assert seen == [{"A": "client", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}]


def test_a_killed_client_takes_its_job_with_it(parent, tmp_path):
    with blocked(parent, tmp_path) as (client, job):
        client.kill()
        dies(job)
    assert run(parent, "ls", cwd=ROOT).returncode == 0


def test_a_killed_job_is_told_as_killed(parent, tmp_path):
    with blocked(parent, tmp_path) as (client, job):
        os.kill(job, signal.SIGKILL)
        assert client.wait(30) == -signal.SIGKILL


def test_an_interrupt_goes_through(parent, tmp_path):
    with blocked(parent, tmp_path) as (client, job):
        client.send_signal(signal.SIGINT)
        assert client.wait(30) == 130
        dies(job)


def test_an_interrupt_goes_through_whenever_it_comes(parent, tmp_path):
    (tmp_path / "config").mkdir()
    os.mkfifo(tmp_path / "config/config.yaml")
    arguments = command(parent, "plan", "--config", str(tmp_path / "config"))
    assert run(parent, "ls", cwd=ROOT).returncode == 0
    for number in range(40):
        client = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
        time.sleep(number / 200)  # before, at and after the fork
        client.send_signal(signal.SIGINT)
        try:
            said = client.communicate(timeout=10)[1]
        except subprocess.TimeoutExpired:  # a library may lose Python's exception: then a person presses again
            client.send_signal(signal.SIGINT)
            said = client.communicate(timeout=30)[1]
        # Python itself ends with 1 where it is interrupted before it has read a line of the client.
        starting = client.returncode == 1 and "KeyboardInterrupt" in said and "foundad" not in said
        assert starting or client.returncode in (130, -signal.SIGINT), (number, said)
    assert run(parent, "ls", cwd=ROOT).returncode == 0


def test_servers_and_jobs_end_with_their_run(parent, tmp_path):
    with blocked(parent, tmp_path) as (client, job):
        parent.kill()
        parent.wait()
        assert client.wait(30) == -signal.SIGKILL
        dies(job)
    for process in processes(f"foundad.warm.server {folder_of(parent)}"):
        dies(process)
    gone(folder_of(parent))


def test_a_killed_server_takes_its_jobs_with_it_and_is_replaced(parent, tmp_path):
    with blocked(parent, tmp_path) as (client, job):
        (first,) = set(processes(f"foundad.warm.server {folder_of(parent)} light")) - {job}
        os.kill(first, signal.SIGKILL)
        assert client.wait(30) == -signal.SIGKILL
        dies(job)
    assert run(parent, "ls", cwd=ROOT).returncode == 0
    assert processes(f"foundad.warm.server {folder_of(parent)} light") not in ([], [first])


def test_two_runs_do_not_meet(parent):
    other = subprocess.Popen(["sleep", "600"])
    try:
        assert run(parent, "ls", cwd=ROOT).returncode == run(other, "ls", cwd=ROOT).returncode == 0
        assert folder_of(parent) != folder_of(other)
        other.kill()
        other.wait()
        gone(folder_of(other))
        assert run(parent, "ls", cwd=ROOT).returncode == 0
    finally:
        other.kill()


def test_a_job_runs_cold_where_no_server_can_be(parent):
    folder = folder_of(parent)
    folder.write_text("no folder")
    try:
        assert "demo" in run(parent, "ls", "experiments", cwd=ROOT).stdout
    finally:
        folder.unlink()


def test_what_measures_its_own_memory_starts_cold(parent):
    assert run(parent, "efficiency", "--help", cwd=ROOT).returncode == 0
    assert not folder_of(parent).exists()


def test_many_jobs_at_once_start_one_server(parent):
    clients = [subprocess.Popen(command(parent, "ls"), cwd=ROOT, stdout=subprocess.DEVNULL) for _ in range(12)]
    assert [client.wait(120) for client in clients] == [0] * 12
    assert len(processes(f"foundad.warm.server {folder_of(parent)} light")) == 1
