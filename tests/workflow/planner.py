"""Prints the keys of all jobs of a project: one request per line on stdin, one answer per line on stdout.

It is a separate process, so that the keys cover the sources on its PYTHONPATH. Each request runs in a new child
process, which imports the modules of the project; this process imports only third-party modules.
So a request knows nothing of earlier ones, except what the project keeps on disk. With the argument
``remember``, the parent also computes the first request, and later requests know its sources.
"""

import contextlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy  # noqa: F401
import pydantic  # noqa: F401
import scipy.ndimage  # noqa: F401
import yaml  # noqa: F401

if TYPE_CHECKING:
    from foundad.plan.selection import Plan

AS_IS = "as-is"


def jobs(plan: "Plan") -> dict[str, list[str]]:
    """Name -> [identity, key] of every job. A bank is named after its method; methods that share one have one identity."""
    found: dict[str, list[str]] = {}

    def add(stage: str, *parts: Any, name: str | None = None) -> None:
        shown = "/".join(map(str, parts))
        key = plan.keys.of(stage, *parts)
        found[f"{stage}:{shown if name is None else name}"] = [f"{stage}:{shown}", key.own]

    for cell in plan.cells:
        method = plan.project.method(cell.method)
        for part in ("train", "test", "truth", "whole"):
            add("manifest", cell.dataset, part)
        add("overview", cell.dataset)
        add(
            "masks", cell.dataset, plan.project.encoder(cell.encoder).image_size, name=cell.dataset
        )  # all have one size
        add("draw", cell.dataset, cell.shots, cell.seed)
        if "features" in method.needs:
            for view in (AS_IS, *method.bank.queries):
                add("features", cell.dataset, cell.encoder, view)
        if "bank" in method.needs:
            parts = (cell.dataset, cell.encoder, plan.project.bank_id(method), cell.shots, cell.seed)
            add("bank", *parts, name=f"{cell.dataset}/{cell.encoder}/{cell.method}/{cell.shots}/{cell.seed}")
        for stage in ("fit", "evaluate", "observe", "efficiency"):
            add(stage, cell.dataset, cell.encoder, cell.method, cell.shots, cell.seed)
    for experiment in plan.experiments:
        for stage in ("table", "figure"):
            for name in getattr(experiment, f"{stage}s"):
                add(stage, experiment.id, name)
    for stage in ("collect", "report", "status"):
        add(stage)
    return found


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The jobs of the project ``folder``, its run config laid over with ``run``; ``paths`` come first on sys.path."""
    from foundad.plan import catalogue
    from foundad.plan.selection import Plan

    sys.path[:0] = request.get("paths", [])
    os.chdir(request["folder"])
    values = catalogue.read_yaml(Path("config/config.yaml")) | request.get("run", {})
    return {"jobs": jobs(Plan(values))}


def main() -> None:
    """Answer until stdin ends."""
    first = "remember" in sys.argv
    for line in sys.stdin:
        if first:
            place, first = os.getcwd(), False
            with contextlib.suppress(Exception):  # the child says what is wrong
                answer(json.loads(line))
            os.chdir(place)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            try:
                text = json.dumps(answer(json.loads(line)))
            except BaseException:
                text = json.dumps({"error": traceback.format_exc()})
            with os.fdopen(writer, "w") as out:
                out.write(text)
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as found:
            print(found.read(), flush=True)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
