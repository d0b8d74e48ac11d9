# What a rule asks its stage (foundad/stages/): its files, its key, its command. Every rule states its name and where it logs.

import shlex

from snakemake.exceptions import WorkflowError

from foundad.cells import AXES, NAMED_AXES, Cell

from foundad import warm

# The interpreter that runs Snakemake runs the jobs, whether or not its environment is activated.
FOUNDAD = shlex.join([sys.executable, "-m", "foundad"])
if plan.run.warm and workflow.is_main_process and workflow.local_exec:
    # A call within a batch takes the processes of the call that runs the batch, where they are on one machine.
    FOUNDAD = shlex.join(warm.command(int(os.environ.get(warm.PARENT, os.getpid()))))
# Where jobs find the results: with a storage provider, below the folder of the copies that Snakemake brings to them.
COPIES = workflow.modifier.path_modifier.apply_default_storage(str(RESULTS.root))
REPORT = f"--results {shlex.quote(str(COPIES))} --size {plan.run.size}"
STAGE = f"{REPORT} --record-failure"
COMPUTE = f"--device {plan.run.device} --precision {plan.run.precision}"
# Where encoders and training may be compiled.
COMPILED = COMPUTE + " --compile" * plan.run.compile
BATCHES = f"--batch-size {plan.run.batch_size}"
# Of the run, where a job computes keys itself.
RUN = shlex.join(plan.options)
EXPERIMENTS = " ".join(experiment.id for experiment in plan.experiments)
# A cell's place below a folder, and in a command.
CELL = str(Cell(*(f"{{{axis}}}" for axis in AXES)))
OF_CELL = " ".join(f"--{axis} " * (axis not in NAMED_AXES) + f"{{wildcards.{axis}}}" for axis in AXES)
# What ends a job stands in its log; Snakemake, which is told not to print every job, would keep it to itself.
SAID = "|| {{ code=$?; tail -n 5 {log:q} >&2; exit $code; }}"
KEY = "--key {params.key:q} 2> {log:q} " + SAID


def job(stage, wildcards, **known):
    return plan.job(stage, **dict(wildcards.items()), **known)


def reads(stage, **known):
    def files(wildcards):
        try:
            return plan.inputs(job(stage, wildcards, **known))
        except UserError as error:
            raise WorkflowError(str(error)) from None

    return files


def key(stage, **known):
    return lambda wildcards: plan.key(job(stage, wildcards, **known))


def gpus(stage):
    return lambda wildcards: plan.gpus(job(stage, wildcards))


def memory(stage, **known):
    return lambda wildcards, attempt: plan.memory(job(stage, wildcards, **known), attempt)


def minutes(stage, **known):
    return lambda wildcards, attempt: plan.minutes(job(stage, wildcards, **known), attempt)


def kept(kind, paths):
    """``paths`` as outputs that go when nothing reads them any more, where the run does not keep this kind."""
    return temp(paths) if plan.temporary(kind) else paths


def log_of(name):
    return f"{RESULTS.root}/logs/{name}.log"


def shown(paths, kind, category, subcategory, labels):
    """``paths`` as outputs; the first is what ``snakemake --report`` shows, with its caption of workflow/report/."""
    first, *others = paths
    caption = f"../report/{kind}.rst"
    return [report(first, caption=caption, category=category, subcategory=subcategory, labels=labels), *others]
