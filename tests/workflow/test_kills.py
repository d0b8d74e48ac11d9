"""If a kill, Ctrl-C, a full disk or lack of memory ends a run, the next call gives the results of an undisturbed one.

Most of these tests take long: `make kills`. After the final call they compare remaining files, records and numbers.
"""

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT
from laboratory import (
    Call,
    call,
    calling,
    change_yaml,
    copied,
    finish,
    from_scratch,
    leftovers,
    markers,
    numbers,
    planned,
    small_project,
)

STAGES = (
    *("manifest", "masks", "draw", "features", "bank", "fit", "evaluate"),
    *("collect", "table", "figure", "report", "status"),
)
WRITING = STAGES  # every stage writes something
# What makes each stage run again with other numbers.
CHANGES = {"methods/knn": {"top_k": 1}, "encoders/tiny": {"interpolation": "bicubic"}}
KILLS, INTERRUPTS, WARM_KILLS = 40, 10, 20
MIB = 2**20


class Project:
    """A project that has never run, and the bytes that it ends with, with its config as it is and changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pristine = small_project(folder / "pristine")
        self.right = {False: from_scratch(self.pristine, folder / "right")}
        other = copied(self.pristine, folder / "other")
        change(other)
        self.right[True] = from_scratch(other, folder / "right-other")
        assert self.right[False] != self.right[True]


def change(project: Path) -> None:
    """Another config, whose every number is another."""
    for name, values in CHANGES.items():
        change_yaml(project / f"config/{name}.yaml", values)


def change_back(project: Path) -> None:
    for name, values in CHANGES.items():
        change_yaml(project / f"config/{name}.yaml", dict.fromkeys(values))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("kills"))


def mended(project: Path, right: bytes) -> None:
    """The final call gives the right bytes, leaves nothing over and has recorded nothing."""
    call(project, "--unlock")
    finish(project, "--rerun-incomplete")
    assert numbers(project) == right
    assert planned(project) == {}
    assert leftovers(project) == []
    assert markers(project) == []
    assert set(pd.read_parquet(project / "results/runs.parquet")["status"]) == {"done"}


@pytest.mark.slow
@pytest.mark.parametrize("changed", [False, True], ids=["same", "changed"])
@pytest.mark.parametrize("at", ["start", "rename"])
@pytest.mark.parametrize("mode", ["group", "job", "snakemake", "interrupt"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_kill_in_each_stage(stage: str, mode: str, at: str, changed: bool, base: Project, tmp_path: Path):
    """``snakemake`` alone leaves an orphan, which here writes its file after the config has changed."""
    project = copied(base.pristine, tmp_path / "project")
    with calling(project, STALL_STAGE=stage, STALL_AT=at) as running:
        assert running.kill(mode, running.wait_for_held_job()) != 0
        if changed:
            change(project)
        if mode == "snakemake":
            running.release()
            wait_for_orphans(running)
        mended(project, base.right[changed])


def wait_for_orphans(running: Call) -> None:
    """Until no process of the call's group is left."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            os.killpg(running.process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("the orphans do not end")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["manifest", "masks", "features", "bank", "fit", "evaluate"])
def test_an_orphan_writes_while_the_next_call_runs(stage: str, base: Project, tmp_path: Path):
    """Two writers of one file: the orphan of the old config ends after, or among, the jobs of the new one."""
    project = copied(base.pristine, tmp_path / "project")
    with calling(project, STALL_STAGE=stage, STALL_AT="rename") as running:
        running.kill("snakemake", running.wait_for_held_job())
        change(project)
        call(project, "--unlock")
        second = Call(project, "--rerun-incomplete", STALL_FOLDER=str(running.held))
        try:
            time.sleep(4)
            for word in [Path(tmp_path / "project-held") / name for name in os.listdir(tmp_path / "project-held")]:
                word.unlink()
            running.release()
            second.wait()
        finally:
            second.end()
        wait_for_orphans(running)
        mended(project, base.right[True])


@pytest.mark.slow
@pytest.mark.parametrize("chain", range(INTERRUPTS))
def test_kills_at_random_points(chain: int, base: Project, tmp_path: Path):
    """Four kills and one Ctrl-C in a row, the config changed to and fro between them."""
    generator = random.Random(chain)
    project = copied(base.pristine, tmp_path / "project")
    modes = [*generator.choices(["group", "job", "snakemake"], k=KILLS // INTERRUPTS), "interrupt"]
    generator.shuffle(modes)
    changed = False
    for mode in modes:
        with calling(project, "--rerun-incomplete") as running:
            time.sleep(generator.uniform(1, 14))
            if running.process.poll() is None:
                job = a_job_of(running) if mode == "job" else 0
                if mode != "job" or job:
                    running.kill(mode, job)
        call(project, "--unlock")
        if generator.random() < 0.5:
            (change_back if changed else change)(project)
            changed = not changed
    mended(project, base.right[changed])


@pytest.mark.slow
@pytest.mark.parametrize("number", range(WARM_KILLS))
def test_a_kill_of_any_process_of_a_warm_run(number: int, base: Project, tmp_path: Path):
    """The call, a client, a job in its fork, or the server: none outlives the call, and the bytes are the same."""
    generator = random.Random(number)
    project = copied(base.pristine, tmp_path / "project")
    change_yaml(project / "config/config.yaml", {"warm": True})
    with calling(project, STALL_STAGE="", PYTHONPATH=str(ROOT)) as running:
        deadline = time.monotonic() + generator.uniform(1, 12)
        victims = [running.process.pid]
        while time.monotonic() < deadline and running.process.poll() is None:
            victims = processes_in(project) or victims
            time.sleep(0.01)
        victim = generator.choice(sorted(victims))
        print(number, victim == running.process.pid, Path(f"/proc/{victim}/cmdline").read_bytes()[:200])
        os.kill(victim, signal.SIGKILL)
        running.wait()
        deadline = time.monotonic() + 30
        while left := processes_in(project):
            assert time.monotonic() < deadline, left
            time.sleep(0.02)
    change_yaml(project / "config/config.yaml", {"warm": False})
    mended(project, base.right[False])


def processes_in(project: Path) -> list[int]:
    """Ids of the processes that run in the folder ``project``, those apart that have ended and are not waited for."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.readlink(process / "cwd") == str(project) and "State:\tZ" not in (process / "status").read_text():
                found.append(int(process.name))
    return found


def a_job_of(running: Call) -> int:
    """The process id of a job of this project in the call's group, 0 where there is none."""
    shown = subprocess.run(["ps", "-eo", "pid,pgid,args"], capture_output=True, text=True, check=True).stdout
    for line in shown.splitlines()[1:]:
        pid, group, *arguments = line.split()
        if int(group) == running.process.pid and "foundad" in arguments[2:4]:
            return int(pid)
    return 0


# ---------------------------------------------------------------------------------------------------- two at once


@pytest.mark.slow
def test_two_calls_at_once(base: Project, tmp_path: Path):
    """The second is refused while the first holds the lock, or shares its work; the bytes are the same."""
    project = copied(base.pristine, tmp_path / "project")
    with calling(project) as first:
        time.sleep(2)
        second = call(project)
        assert second.returncode == 0 or "locked" in second.stderr.lower() + second.stdout.lower()
        assert "Traceback" not in second.stderr
        assert first.wait() == 0
    mended(project, base.right[False])


@pytest.mark.slow
def test_two_calls_that_ignore_the_lock(base: Project, tmp_path: Path):
    project = copied(base.pristine, tmp_path / "project")
    with calling(project, "--nolock") as first:
        second = call(project, "--nolock")
        assert "Traceback" not in second.stderr
        first.wait()
    mended(project, base.right[False])


# ---------------------------------------------------------------------------------------------------- full disks


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A file system of ``size`` bytes at ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path, left: int) -> Path:
    """A file that leaves ``left`` bytes of the disk of ``folder``."""
    path = folder / "filler"
    found = os.statvfs(folder)
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(found.f_bavail * found.f_frsize - left, 1))
    return path


@pytest.mark.slow
@pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root to mount a small disk; the limit of file sizes is tried beside it"
)
@pytest.mark.parametrize("left", [0, 8192])
@pytest.mark.parametrize("stage", WRITING)
def test_a_full_disk_in_each_stage(stage: str, left: int, base: Project, tmp_path: Path):
    project = copied(base.pristine, tmp_path / "project")
    with small_disk(project / "results", 64 * MIB):
        with calling(project, STALL_STAGE=stage, STALL_AT="start") as running:
            running.wait_for_held_job()
            filler = fill(project / "results", left)
            # The other jobs that wait at their start are let go as well.
            while running.process.poll() is None:
                running.release()
                time.sleep(0.05)
            code = running.wait()
        assert code != 0 or left
        assert markers(project) == []
        filler.unlink()
        mended(project, base.right[False])


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 1000])
@pytest.mark.parametrize("stage", WRITING)
def test_a_limit_of_file_sizes_in_each_stage(stage: str, size: int, base: Project, tmp_path: Path):
    """What a full disk does, also where no disk can be mounted: the stage cannot write files beyond ``size``."""
    project = copied(base.pristine, tmp_path / "project")
    with calling(project, STALL_STAGE=stage, STALL_FILE_SIZE=str(size)) as running:
        code = running.wait()
    assert code != 0 or size
    assert markers(project) == []
    mended(project, base.right[False])


# ---------------------------------------------------------------------------------------------------- memory


@pytest.mark.slow
@pytest.mark.parametrize("memory", [16, 64, 256, 512, 1024])
@pytest.mark.parametrize("stage", STAGES)
def test_too_little_memory_in_each_stage(stage: str, memory: int, base: Project, tmp_path: Path):
    """So many MiB beside what Python has at its start: too little, or enough, but never a number or a dash of its own."""
    project = copied(base.pristine, tmp_path / "project")
    with calling(project, STALL_STAGE=stage, STALL_MEMORY=str(memory * MIB)) as running:
        running.wait()
    assert markers(project) == []
    mended(project, base.right[False])


# ---------------------------------------------------------------------------------------------------- in the suite


@pytest.mark.parametrize("stage", ["manifest", "draw"])
@pytest.mark.parametrize("limit", ["disk", "memory"])
def test_the_machine_is_not_recorded(stage: str, limit: str, tmp_path: Path):
    """By hand, with the option of the workflow: the job fails and leaves nothing in the place of its result."""
    project = small_project(tmp_path / "project")
    words = [sys.executable, "-m", "foundad", stage, "bolts"]
    if stage == "draw":
        subprocess.run(
            [*words[:3], "manifest", "bolts"], cwd=project, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
        words += ["--shots", "1", "--seed", "0"]
    before = sorted(project.rglob("*"))

    def limited() -> None:
        if limit == "disk":
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        else:
            resource.setrlimit(resource.RLIMIT_AS, (150 * MIB, 150 * MIB))

    result = subprocess.run(
        [*words, "--record-failure"],
        cwd=project,
        preexec_fn=limited,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert result.returncode not in (0, 2)
    left = [path for path in project.rglob("*") if path not in before and path.is_file()]
    assert [path for path in left if not path.name.endswith((".checked.json", ".hashes.json"))] == []
