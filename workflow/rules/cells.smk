# The cells: fit one method to one draw and score the test images, then compute every metric of the scores.


rule fit:
    input:
        reads("fit"),
    output:
        kept("models", plan.pattern("fit")[:1]),
        plan.pattern("fit")[1:],
    log:
        log_of(f"fit/{CELL}"),
    threads: plan.threads("fit")
    resources:
        gpu=gpus("fit"),
        mem_mb=memory("fit"),
        runtime=minutes("fit"),
    params:
        key=key("fit"),
    shell:
        "{FOUNDAD} fit " + OF_CELL + " {COMPILED} --threads {threads} {STAGE} " + KEY


rule evaluate:
    input:
        reads("evaluate"),
    output:
        plan.pattern("evaluate"),
    log:
        log_of(f"evaluate/{CELL}"),
    resources:
        mem_mb=memory("evaluate"),
        runtime=minutes("evaluate"),
    params:
        key=key("evaluate"),
    shell:
        "{FOUNDAD} evaluate " + OF_CELL + " {STAGE} " + KEY
