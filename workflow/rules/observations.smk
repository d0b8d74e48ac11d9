# Measurements of the model of one cell: its response to growing anomalies, and what scoring costs.


rule observe:
    input:
        reads("observe"),
    output:
        plan.pattern("observe"),
    log:
        log_of(f"observe/{CELL}"),
    threads: plan.threads("observe")
    resources:
        gpu=gpus("observe"),
        mem_mb=memory("observe"),
        runtime=minutes("observe"),
    params:
        key=key("observe"),
    shell:
        "{FOUNDAD} observe " + OF_CELL + " {COMPUTE} --threads {threads} {STAGE} " + KEY


# Takes all cores, so that nothing else runs while it measures times.
rule efficiency:
    input:
        reads("efficiency"),
    output:
        plan.pattern("efficiency"),
    log:
        log_of(f"efficiency/{CELL}"),
    threads: workflow.cores
    resources:
        gpu=gpus("efficiency"),
        mem_mb=memory("efficiency"),
        runtime=minutes("efficiency"),
    params:
        key=key("efficiency"),
    shell:
        "{FOUNDAD} efficiency " + OF_CELL + " {COMPUTE} --threads {plan.run.threads.features} {STAGE} " + KEY
