# Batches: on a cluster, and if large files are deleted after use, one job runs many cells. It starts its own Snakemake,
# which makes the missing files. Every cell keeps its own files, record, failure and log.

import functools
import json

from foundad.files import write_text

# The run config of this call. The calls within batches read it.
WHOLE_RUN = f"{RESULTS.root}/batches/run.json"
INNER = shlex.join([sys.executable, "-m", "snakemake", "--snakefile", workflow.main_snakefile])
if workflow.is_main_process:
    INNER = f"{warm.PARENT}={os.getpid()} {INNER}"


@functools.cache
def prepare_batches():
    """In the outermost call: write what calls within batches read, and check which files exist."""
    write_text(Path(WHOLE_RUN), json.dumps(plan.run.model_dump(mode="json"), indent=1) + "\n")
    plan.forget_incomplete()


# What jobs of a failed batch said, without the lines about its progress.
PROGRESS = r"^(\[|Select jobs|Execute [0-9]|Finished jobid|[0-9]+ of [0-9]+ steps)"
SAID_WITHIN = "|| {{ code=$?; grep -Ev " + shlex.quote(PROGRESS) + " {log:q} | tail -n 15 >&2; exit $code; }}"


def of_batch(name):
    def resource(wildcards, attempt):
        return knows_where_jobs_run().batch_resources(wildcards.batch, attempt)[name]

    return resource


rule batch:
    input:
        lambda w: plan.batch_inputs(w.batch),
    output:
        f"{RESULTS.root}/batches/{{batch}}.done",
    log:
        log_of("batches/{batch}"),
    threads: plan.run.threads.batch
    resources:
        gpu=of_batch("gpu"),
        mem_mb=of_batch("mem_mb"),
        runtime=of_batch("runtime"),
        disk_gb=of_batch("disk_gb"),
    params:
        key=lambda w: plan.batch_key(w.batch),
        run=WHOLE_RUN,
    shell:
        "{INNER} --executor local --nolock --rerun-incomplete --cores {threads} --resources gpu=1 "
        "--configfile {params.run:q} --config within={wildcards.batch:q} > {log:q} 2>&1 "
        + SAID_WITHIN
        + " && touch {output:q}"
