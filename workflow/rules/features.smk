# The encoder's part: patch tokens of the test images once for all, and the banks that methods learn from.


rule features:
    input:
        RESULTS.manifest("{dataset}", "test"),
    output:
        RESULTS.features("{dataset}", "{encoder}"),
        RESULTS.features("{dataset}", "{encoder}").with_suffix(".json"),
    log:
        RESULTS.root / "logs/features/{dataset}/{encoder}.log",
    threads: plan.run.threads.features
    resources:
        gpu=GPU,
    params:
        key=lambda w: plan.key("features", w.dataset, w.encoder),
    shell:
        "{FOUNDAD} features {wildcards.dataset} {wildcards.encoder} "
        "--batch-size {plan.run.batch_size} {COMPILED} --threads {threads} {STAGE} --key {params.key:q} 2> {log:q}"


rule bank:
    input:
        RESULTS.draw("{dataset}", "{shots}", "{seed}"),
    output:
        RESULTS.bank("{dataset}", "{encoder}", "{shots}", "{seed}", "{bank}"),
    log:
        RESULTS.root / "logs/bank/{dataset}/{encoder}/k{shots}-s{seed}-{bank}.log",
    threads: plan.run.threads.bank
    resources:
        gpu=GPU,
    params:
        key=lambda w: plan.key("bank", w.dataset, w.encoder, w.shots, w.seed, w.bank),
    shell:
        "{FOUNDAD} bank {wildcards.dataset} {wildcards.encoder} {wildcards.bank} --shots {wildcards.shots} "
        "--seed {wildcards.seed} --batch-size {plan.run.batch_size} {COMPILED} --threads {threads} {STAGE} --key {params.key:q} 2> {log:q}"
