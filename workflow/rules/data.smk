# Datasets: made where they are ours, listed and verified, and the few normal images drawn.


rule textures:
    output:
        RESULTS.data("textures") / "SOURCE.md",
    log:
        RESULTS.root / "logs/textures.log",
    params:
        key=plan.key("textures"),
    shell:
        "{FOUNDAD} textures {REPORT} 2> {log}"


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
        key=lambda w: plan.key("manifest", w.dataset),
    shell:
        "{FOUNDAD} manifest {wildcards.dataset} --threads {threads} {STAGE} 2> {log}"


rule draw:
    input:
        RESULTS.manifest("{dataset}"),
    output:
        RESULTS.draw("{dataset}", "{shots}", "{seed}"),
    log:
        RESULTS.root / "logs/draw/{dataset}/k{shots}-s{seed}.log",
    params:
        key=lambda w: plan.key("draw", w.dataset),
    shell:
        "{FOUNDAD} draw {wildcards.dataset} --shots {wildcards.shots} --seed {wildcards.seed} {STAGE} 2> {log}"
