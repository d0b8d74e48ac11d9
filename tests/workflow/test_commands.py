"""Every command in README.md and docs/ works as printed, on a tiny project or as far as this machine allows."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from foundad import cli
from foundad.arguments import parser

DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
STARTS = ("snakemake", "foundad", "make")
# Of these the arguments are checked, against the real parser; the reason says why they are not run.
NOT_RUN = {
    "weights": "needs the hub",
    "rehearse": "takes twenty minutes; tests/rehearsal runs a small one",
    "data": "needs a dataset",
    "predict": "needs a picture of the reader's",
    "run": "needs pictures of the reader's; tests/own runs small ones",
    "compare": "needs the results of the demo",
    "merge": "needs two results folders",
    "rank": "needs the results of the demo",
    "export": "needs a model of the reader's",
    "import-checkpoint": "needs a checkpoint of the authors",
    "export-checkpoint": "needs a model of the reader's",
}


def printed() -> list[str]:
    """The commands in fenced and indented blocks, without comments, each once."""
    found = []
    for path in DOCS:
        fenced = False
        for line in path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
            if line.startswith("```"):
                fenced = not fenced
            elif fenced or line.startswith("    "):
                command = re.sub(r"^\s*(\$ )?([A-Z_]+=\S+ )*", "", line.split(" #")[0]).strip()
                if command.split(" ")[0] in STARTS:
                    found.append(command)
    return list(dict.fromkeys(found))


COMMANDS = printed()
NEEDS_MORE = re.compile("--report|--executor kubernetes")  # results; a plugin that not everybody has


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("foundad")])
def test_a_printed_call_of_foundad_works(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    arguments = parser(cli.COMMANDS).parse_args(shlex.split(command)[1:])
    if shlex.split(command)[1] not in NOT_RUN:
        assert arguments.command(arguments) == 0


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make")])
def test_a_printed_call_of_make_has_its_target(command):
    done = subprocess.run([*shlex.split(command), "--dry-run"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The project as it is shipped, in a folder of its own."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("workflow", "profiles", "config"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "Snakefile", folder)
    return folder


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    call = [sys.executable, "-m", "snakemake", *arguments]
    return subprocess.run(call, cwd=folder, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("snakemake") and not NEEDS_MORE.search(c)])
def test_a_printed_call_of_snakemake_plans(command, copy: Path):
    done = snakemake(copy, *shlex.split(command)[1:], "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_call_needs_a_number_of_cores_and_one_may_be_given(project: Path):
    for arguments in (["--unlock"], ["results/tables", "--dry-run"]):
        done = snakemake(project, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    done = snakemake(project, "--cores", "2", "results/manifests/tiny/train.parquet")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Provided cores: 2" in done.stdout + done.stderr
    done = snakemake(project, "--report", "report.html", "results/manifests/tiny/train.parquet")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (project / "report.html").stat().st_size > 1000
