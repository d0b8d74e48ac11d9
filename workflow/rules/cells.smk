# The cells: one method trained on one draw, then every metric of its scores.


rule fit:
    input:
        reads("fit"),
    output:
        plan.pattern("fit"),
    log:
        log_of(f"fit/{CELL}"),
    threads: plan.threads("fit")
    resources:
        gpu=gpus("fit"),
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
    params:
        key=key("evaluate"),
    shell:
        "{FOUNDAD} evaluate " + OF_CELL + " {STAGE} " + KEY
