# What is measured beside the cells, on the model of one: the answer to growing anomalies, and what a method costs.

ONE_CELL = "{dataset}/{encoder}/{method}/k{shots}-s{seed}"


rule observe:
    input:
        RESULTS.manifest("{dataset}", "test"),
        model=CELL / "model.safetensors",
    output:
        RESULTS.root / f"observations/{ONE_CELL}.parquet",
    log:
        RESULTS.root / f"logs/observe/{ONE_CELL}.log",
    threads: plan.run.threads.features
    resources:
        gpu=GPU,
    params:
        key=lambda w: plan.key("observe", *w),
    shell:
        "{FOUNDAD} observe " + CELL_ARGUMENTS + " {COMPUTE} --threads {threads} {STAGE} --key {params.key:q} 2> {log:q}"


# Takes all cores, so that nothing runs beside what is timed.
rule efficiency:
    input:
        RESULTS.manifest("{dataset}", "test"),
        model=CELL / "model.safetensors",
        record=CELL / "record.json",
    output:
        RESULTS.root / f"efficiency/{ONE_CELL}.json",
    log:
        RESULTS.root / f"logs/efficiency/{ONE_CELL}.log",
    threads: workflow.cores
    resources:
        gpu=GPU,
    params:
        key=lambda w: plan.key("efficiency", *w),
    shell:
        "{FOUNDAD} efficiency "
        + CELL_ARGUMENTS
        + " {COMPUTE} --threads {plan.run.threads.features} {STAGE} --key {params.key:q} 2> {log:q}"
