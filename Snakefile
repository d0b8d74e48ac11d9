"""Trains and evaluates every cell of the selected experiments, and makes their tables and figures.

    snakemake --cores all                        # everything
    snakemake --cores all results/tables         # the tables alone
    snakemake --cores all results/report         # one page of everything: results/report/index.html
    snakemake --cores all --configfile config/paper.yaml

The run is described by config/config.yaml; what the stages do lies in the package foundad, one subcommand each.
"""

import os
import sys

from foundad.errors import UserError
from foundad.files import sweep
from foundad.cells import AXES, NAMED_AXES
from foundad.paths import PARTS, WHOLE
from foundad.plan.selection import Plan


configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


within = str(config.pop("within", ""))  # the batch that this call does, see workflow/rules/batches.smk
try:
    plan = Plan(
        config,
        source=", ".join(os.path.relpath(path) for path in reversed(workflow.configfiles)),
        stored=workflow.storage_settings.default_storage_provider is not None,
        in_job=not workflow.is_main_process,
    )
except UserError as error:
    print(error, file=sys.stderr)
    sys.exit(2)

for name, reason in plan.skipped.items():
    print(f"skipped: experiment {name}: {reason}", file=sys.stderr)

plan.on_cluster = not (workflow.local_exec or workflow.remote_exec)
plan.within = within
RESULTS = plan.results
STATUS = str(RESULTS.root / "status.txt")
# glibc would give the encoder's activations back to the kernel at every layer; keeping them saves a fifth of the encoding.
shell.prefix("export MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=2147483648; ")


wildcard_constraints:
    **{axis: r"[^/]+" if axis in NAMED_AXES else r"\d+" for axis in AXES},
    part="|".join(PARTS),
    view=r"[^/]+",
    bank=r"[0-9a-f]{8}",
    batch=r"[^/]+",
    experiment=r"(?!datasets/)[^/]+",


WANTED = [plan.tables, plan.figures, str(RESULTS.report), str(RESULTS.metrics), str(RESULTS.runs), STATUS]


rule all:
    default_target: True
    input:
        plan.missing_of_batch if within else WANTED,


# Too small for a job of a cluster.
localrules:
    draw,
    collect,
    table,
    figure,
    overview,
    report,
    status,


# First what killed jobs of earlier calls left half-written goes. Then: Snakemake 9 answers every pass of its scheduler with a timer
# for another one, for the sake of its limit of submissions per second: after n jobs it passes n times a second and takes a core
# for itself. Jobs on this machine need no such limit.
onstart:
    if not within:
        sweep(RESULTS.root)
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/cells.smk"
include: "workflow/rules/observations.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/batches.smk"
