"""A study with results in a bucket, where each job has its own machine, without a shared disk: `make test-remote`."""

import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import write_yaml
from laboratory import EXPERIMENT, change_yaml, copy_workflow, finish, write_config, write_data

HERE = Path(__file__).parent
METHODS = ["knn", "foundad", "views"]
GRID = {"datasets": ["bolts"], "encoders": ["tiny"], "methods": METHODS, "shots": [1], "seeds": [0]}
FIGURES = {name: EXPERIMENT["figures"][name] for name in ("gallery", "seen")}
PREFIX = "s3://bucket/study"

pytestmark = pytest.mark.remote


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment variables that name a store of objects on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with open(tmp_path_factory.mktemp("store") / "log", "w") as log:
        words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(words, stdout=log, stderr=log)
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(address, timeout=5)
                break
            except OSError:
                assert server.poll() is None, "pip install 'moto[server]' snakemake-storage-plugin-s3"
                time.sleep(0.1)
        names = {"ENDPOINT_URL": address, "ACCESS_KEY": "key", "SECRET_KEY": "secret"}
        yield {f"SNAKEMAKE_STORAGE_S3_{name}": value for name, value in names.items()}
    finally:
        server.kill()
        server.wait()


def study(folder: Path) -> Path:
    """One dataset and encoder; methods with a bank and with query views; what is measured of a cell."""
    folder.mkdir()
    write_data(folder)
    write_config(folder, ["bolts"], ["tiny"], METHODS)
    tables = EXPERIMENT["tables"]
    write_yaml(
        folder / "config/experiments/small.yaml",
        {"title": "Small", "cells": [GRID], "tables": tables, "figures": FIGURES},
    )
    copy_workflow(folder)
    # The sources that go to jobs are those that git knows.
    subprocess.run("git init -q . && git add Snakefile workflow config profiles", shell=True, cwd=folder, check=True)
    return folder


class Remote:
    """Calls of Snakemake in a project whose jobs run elsewhere."""

    def __init__(self, project: Path, bucket: dict[str, str]) -> None:
        self.project, self.bucket = project, bucket
        self.machines = project.parent / f"{project.name}-machines"
        shutil.copytree(project / "data", self.machines / "image/data")

    def call(self, *arguments: str) -> str:
        """What a call that must succeed prints."""
        elsewhere = f"{sys.executable} {HERE / 'elsewhere.py'}"
        words = ["--executor", "cluster-generic", "--jobs", "2", "--seconds-between-status-checks", "1"]
        words += ["--cluster-generic-submit-cmd", f"{elsewhere} submit"]
        words += ["--cluster-generic-status-cmd", f"{elsewhere} status"]
        words += ["--shared-fs-usage", "none", "--job-deploy-sources"]
        words += ["--default-storage-provider", "s3", "--default-storage-prefix", PREFIX]
        result = finish(self.project, *words, *arguments, **self.bucket, ELSEWHERE=str(self.machines))
        return result.stdout + result.stderr

    def read(self, name: str) -> bytes:
        """A file of the bucket."""
        import boto3

        keys = {name: self.bucket[f"SNAKEMAKE_STORAGE_S3_{name}"] for name in ("ACCESS_KEY", "SECRET_KEY")}
        client = boto3.client(
            "s3",
            endpoint_url=self.bucket["SNAKEMAKE_STORAGE_S3_ENDPOINT_URL"],
            aws_access_key_id=keys["ACCESS_KEY"],
            aws_secret_access_key=keys["SECRET_KEY"],
        )
        found: bytes = client.get_object(Bucket="bucket", Key=f"study/{name}")["Body"].read()
        return found


def stats(text: str) -> dict[str, int]:
    """Rule -> jobs of a call."""
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", text, re.MULTILINE)}


def test_a_study_without_a_shared_disk_gives_the_bytes_of_a_local_one(bucket, tmp_path):
    local = study(tmp_path / "local")
    finish(local)
    remote = Remote(study(tmp_path / "project"), bucket)
    done = stats(remote.call())
    assert done["fit"] == 3
    assert remote.read("results/metrics.parquet") == (local / "results/metrics.parquet").read_bytes()
    assert remote.read("results/tables/small/main.md") == (local / "results/tables/small/main.md").read_bytes()
    assert remote.read("results/status.txt") == b"3 cells done\n"
    scripts = "".join(path.read_text() for path in remote.machines.glob("*.sh"))
    assert str(remote.project) not in scripts
    assert not list((remote.project / "results").rglob("*.parquet"))
    assert "Nothing to be done" in remote.call("--dry-run")

    change_yaml(remote.project / "config/methods/knn.yaml", {"bank.pairs": 9})
    change_yaml(local / "config/methods/knn.yaml", {"bank.pairs": 9})
    finish(local)
    done = stats(remote.call())
    assert (done["fit"], done["evaluate"], done["bank"], done.get("features")) == (1, 1, 1, None)
    assert remote.read("results/metrics.parquet") == (local / "results/metrics.parquet").read_bytes()
