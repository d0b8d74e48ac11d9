"""A project in a folder of its own: copies of the workflow, YAML files, and calls of Snakemake in it.

The rehearsal and the runs on one's own pictures make such folders.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from foundad.errors import UserError
from foundad.files import write_text

COPIED = ("Snakefile", "workflow", "profiles", "results/reference")


def copy_workflow(config: Path, out: Path) -> None:
    """Copy what lies beside the config folder ``config`` and every project needs into ``out``.

    Raises:
        UserError: it is not there, because the command was called outside a project.
    """
    for name in COPIED:
        copy(config.resolve().parent / name, out / name)


def copy(source: Path, target: Path) -> None:
    """Copy a file or folder over ``target``; UserError if there is none."""
    if not source.exists():
        raise UserError(f"{source}: there is no such file or folder; call foundad in the project's folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)


def write_yaml(path: Path, values: Mapping[str, Any]) -> None:
    """Write ``values`` as YAML in their own order."""
    write_text(path, yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True))


def environment() -> dict[str, str]:
    """The environment of this process, changed so that its sources are importable from any folder."""
    here = str(Path(__file__).resolve().parent.parent.parent)
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))}
