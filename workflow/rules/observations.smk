# What is measured beside the cells, on the model of one: the answer to growing anomalies, and what a method costs.


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


# Takes all cores, so that nothing runs beside what is timed.
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
