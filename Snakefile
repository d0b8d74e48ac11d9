"""Trains and evaluates every cell of the selected experiments, and makes their tables and figures.

    snakemake --cores all                        # everything
    snakemake --cores all results/tables         # the tables alone
    snakemake --cores all results/report         # one page of everything: results/report/index.html
    snakemake --cores all --configfile config/paper.yaml

The file config/config.yaml describes the run. The package foundad implements the stages, one command per stage.
"""

import os
import sys

from foundad.errors import UserError
from foundad.files import sweep
from foundad.cells import AXES, NAMED_AXES
from foundad.paths import PARTS, PATCH, WHOLE
from foundad.plan.selection import Plan


configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


within = str(config.pop("within", ""))  # the batch that this call runs, see workflow/rules/batches.smk
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

plan.within = within
RESULTS = plan.results
STATUS = str(RESULTS.root / "status.txt")
# By default glibc returns the memory of activations to the kernel at every layer. Keeping it saves a fifth of the
# encoding time.
shell.prefix("export MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=2147483648; ")


wildcard_constraints:
    **{axis: r"[^/]+" if axis in NAMED_AXES else r"\d+" for axis in AXES},
    part="|".join(PARTS),
    side=r"\d+",
    view=r"[^/.]+",
    array=r"[a-z]+",
    bank=r"[0-9a-f]{8}",
    batch=r"[^/]+",
    experiment=r"(?!datasets/)[^/]+",


WANTED = [*plan.tables, *plan.figures, *map(str, (RESULTS.report, RESULTS.metrics, RESULTS.runs)), STATUS]


def wanted(wildcards):
    # Markers of batches, too: a file of a cell that is gone is made again, even if every table is there.
    if knows_where_jobs_run().batched:
        prepare_batches()
    return [*WANTED, *plan.markers]


rule all:
    default_target: True
    input:
        plan.missing_of_batch if within else wanted,


# Too short for a cluster job.
localrules:
    draw,
    collect,
    table,
    figure,
    overview,
    report,
    status,


# Delete the half-written files that killed jobs of earlier calls left. Then switch off the limit of submissions per
# second. Jobs on this machine do not need it, and it is expensive: at every pass of its scheduler Snakemake 9 starts a
# timer for another pass, so after n jobs it makes n passes per second and occupies a core.
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
