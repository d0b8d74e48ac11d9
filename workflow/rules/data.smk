# Datasets: made where they are ours, listed and verified, and the few normal images drawn.


rule textures:
    output:
        RESULTS.data("textures") / "SOURCE.md",
    log:
        RESULTS.root / "logs/textures.log",
    params:
        key=plan.key("textures"),
    shell:
        "{FOUNDAD} textures {REPORT} --key {params.key:q} 2> {log:q}"


rule manifest:
    input:
        lambda w: plan.manifest_inputs(w.dataset),
    output:
        RESULTS.manifest("{dataset}"),
        RESULTS.ledger("{dataset}"),
    log:
        RESULTS.root / "logs/manifest/{dataset}.log",
    threads: plan.run.threads.manifest
    params:
        key=lambda w: plan.key("manifest", w.dataset, WHOLE),
        part=WHOLE,
        again=lambda w: plan.keys.again(w.dataset, WHOLE),
    shell:
        "{FOUNDAD} manifest {wildcards.dataset} --part {params.part} --threads {threads} {STAGE} --key {params.key:q} 2> {log:q}"


# Parts for the stages that read no more, so that a mask that changes makes no feature stale.
use rule manifest as manifest_part with:
    output:
        RESULTS.manifest("{dataset}", "{part}"),
    log:
        RESULTS.root / "logs/manifest/{dataset}-{part}.log",
    params:
        key=lambda w: plan.key("manifest", w.dataset, w.part),
        part="{part}",
        again=lambda w: plan.keys.again(w.dataset, w.part),


rule draw:
    input:
        RESULTS.manifest("{dataset}", "train"),
    output:
        RESULTS.draw("{dataset}", "{shots}", "{seed}"),
    log:
        RESULTS.root / "logs/draw/{dataset}/k{shots}-s{seed}.log",
    params:
        key=lambda w: plan.key("draw", w.dataset, w.shots, w.seed),
    shell:
        "{FOUNDAD} draw {wildcards.dataset} --shots {wildcards.shots} --seed {wildcards.seed} {STAGE} --key {params.key:q} 2> {log:q}"
