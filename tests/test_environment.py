"""pyproject.toml, requirements.lock and environment.yml name the same packages in the same versions."""

import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from conftest import ROOT

from foundad.report import kinds

KINDS = [f"foundad.report.{g}.{kind.replace('-', '_')}" for g in ("tables", "figures") for kind in kinds.names(g)]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lines: list[str]) -> dict[str, str]:
    found = (re.match(r"([A-Za-z0-9_.-]+)==([^ ;]+)", line) for line in lines)
    return {canonical(match[1]): match[2] for match in found if match}


def test_lock_and_conda_environment_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["test"]
    names = {canonical(re.split(r"[<>=]", requirement)[0]) for requirement in wanted}
    lock = pins((ROOT / "requirements.lock").read_text().splitlines())
    assert names <= lock.keys()
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    listed = pins(next(part["pip"] for part in conda if isinstance(part, dict)))
    assert listed == {name: lock[name] for name in names}


@pytest.mark.parametrize(
    ("modules", "forbidden"),
    [
        (["foundad.cli", "foundad.plan.selection", "foundad.plan.catalogue"], ["torch", "pandas", "matplotlib"]),
        (KINDS, ["torch", "pandas", "matplotlib", "scipy"]),
        (
            ["foundad.metrics.evaluation", "foundad.detection.fitting", "foundad.report.collect", "baselines.knn"],
            ["torch", "pandas", "matplotlib"],
        ),
        (["foundad.report.tables.metrics", "pandas"], ["torch", "matplotlib"]),
    ],
)
def test_light_stages_import_nothing_heavy(modules, forbidden):
    code = f"import sys, {', '.join(modules)}; print([m for m in {forbidden} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
