# What encoders make: the tokens of the test images, once for all methods, and the banks that methods learn from. Patch
# tokens and every further array have a file each. The job of the patch tokens encodes them all.


rule features:
    input:
        reads("features"),
    output:
        kept("features", plan.pattern("features", array=PATCH)[:1]),
        plan.pattern("features", array=PATCH)[1:],
    log:
        log_of("features/{dataset}/{encoder}/{view}"),
    threads: plan.threads("features")
    resources:
        gpu=gpus("features"),
        mem_mb=memory("features"),
        runtime=minutes("features"),
    params:
        key=key("features"),
        arrays=arrays("features"),
    shell:
        "{FOUNDAD} features {wildcards.dataset} {wildcards.encoder} --view {wildcards.view} {params.arrays} "
        "{BATCHES} {COMPILED} --threads {threads} {STAGE} " + KEY


use rule features as features_further with:
    output:
        kept("features", plan.pattern("features")[:1]),
        plan.pattern("features")[1:],
    log:
        log_of("features/{dataset}/{encoder}/{view}.{array}"),


rule bank:
    input:
        reads("bank"),
    output:
        kept("banks", plan.pattern("bank", array=PATCH)),
    log:
        log_of("bank/{dataset}/{encoder}/k{shots}-s{seed}-{bank}"),
    threads: plan.threads("bank")
    resources:
        gpu=gpus("bank"),
        mem_mb=memory("bank"),
        runtime=minutes("bank"),
    params:
        key=key("bank"),
        bank=lambda w: plan.project.bank_text(w.bank),
        arrays=arrays("bank"),
    shell:
        "{FOUNDAD} bank {wildcards.dataset} {wildcards.encoder} {params.bank:q} --shots {wildcards.shots} "
        "--seed {wildcards.seed} {params.arrays} {BATCHES} {COMPILED} --threads {threads} {STAGE} " + KEY


use rule bank as bank_further with:
    output:
        kept("banks", plan.pattern("bank")),
    log:
        log_of("bank/{dataset}/{encoder}/k{shots}-s{seed}-{bank}.{array}"),
