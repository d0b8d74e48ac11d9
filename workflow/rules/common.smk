# Helpers with which a rule asks its stage (foundad/stages/) for files, key and resources, and common parts of commands.

import shlex

from snakemake.exceptions import WorkflowError

from foundad.cells import AXES, NAMED_AXES, Cell

from foundad import warm

# Jobs use the interpreter that runs Snakemake, whether or not its environment is activated.
FOUNDAD = shlex.join([sys.executable, "-m", "foundad"])
if plan.run.warm and workflow.is_main_process:
    # A call within a batch shares the warm processes of the call that runs the batch, if both are on one machine.
    FOUNDAD = shlex.join(warm.command(int(os.environ.get(warm.PARENT, os.getpid()))))
# The folder in which jobs find the results. With a storage provider, it holds the copies that Snakemake brings.
COPIES = workflow.modifier.path_modifier.apply_default_storage(str(RESULTS.root))
REPORT = f"--results {shlex.quote(str(COPIES))} --size {plan.run.size}"
STAGE = f"{REPORT} --record-failure"
COMPUTE = f"--device {plan.run.device} --precision {plan.run.precision}"
# For stages that may compile encoders or training.
COMPILED = COMPUTE + " --compile" * plan.run.compile
BATCHES = f"--batch-size {plan.run.batch_size}"
# Describes the run to a job that computes keys itself.
RUN = shlex.join(plan.options)
EXPERIMENTS = " ".join(experiment.id for experiment in plan.experiments)
# The path of a cell below a folder, and its arguments in a command.
CELL = str(Cell(*(f"{{{axis}}}" for axis in AXES)))
OF_CELL = " ".join(f"--{axis} " * (axis not in NAMED_AXES) + f"{{wildcards.{axis}}}" for axis in AXES)
# Print the end of the log of a failed job. Snakemake, which is told not to print every job, would not print it.
SAID = "|| {{ code=$?; tail -n 5 {log:q} >&2; exit $code; }}"
KEY = "--key {params.key:q} 2> {log:q} " + SAID


def knows_where_jobs_run():
    # Snakemake knows it when it asks for jobs, not yet when it reads this file.
    plan.on_cluster = not (workflow.local_exec or workflow.remote_exec)
    return plan


def job(stage, wildcards, **known):
    return knows_where_jobs_run().job(stage, **dict(wildcards.items()), **known)


def reads(stage, **known):
    def files(wildcards):
        try:
            asked = job(stage, wildcards, **known)
            if plan.batched and workflow.is_main_process:
                prepare_batches()
            return plan.inputs(asked)
        except UserError as error:
            raise WorkflowError(str(error)) from None

    return files


def key(stage, **known):
    return lambda wildcards: plan.key(job(stage, wildcards, **known))


def arrays(stage):
    """Options about arrays of the encoder. They change no file: Snakemake does not compare what is derived from threads."""
    return lambda wildcards, threads: plan.arrays(job(stage, wildcards))


def gpus(stage):
    return lambda wildcards: plan.gpus(job(stage, wildcards))


def memory(stage, **known):
    return lambda wildcards, attempt: plan.memory(job(stage, wildcards, **known), attempt)


def minutes(stage, **known):
    return lambda wildcards, attempt: plan.minutes(job(stage, wildcards, **known), attempt)


def kept(kind, paths):
    """``paths`` as outputs. If the run does not keep this kind, they are deleted after their last reader."""
    return temp(paths) if plan.temporary(kind) else paths


def log_of(name):
    return f"{RESULTS.root}/logs/{name}.log"


def shown(paths, kind, category, subcategory, labels):
    """``paths`` as outputs. ``snakemake --report`` shows the first, with its caption from workflow/report/."""
    first, *others = paths
    caption = f"../report/{kind}.rst"
    return [report(first, caption=caption, category=category, subcategory=subcategory, labels=labels), *others]
