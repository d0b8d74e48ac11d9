# Datasets: made where they are ours, listed and verified, and the few normal images drawn.


rule textures:
    output:
        RESULTS.data("textures") / "SOURCE.md",
    params:
        key=plan.key("textures"),
    log:
        RESULTS.root / "logs/textures.log",
    shell:
        "{FOUNDAD} textures --results {RESULTS.root} 2> {log}"


rule manifest:
    input:
        lambda w: plan.manifest_inputs(w.dataset),
    output:
        RESULTS.manifest("{dataset}"),
    params:
        key=lambda w: plan.key("manifest", w.dataset),
    threads: plan.run.threads.manifest
    log:
        RESULTS.root / "logs/manifest/{dataset}.log",
    shell:
        "{FOUNDAD} manifest {wildcards.dataset} --threads {threads} {STAGE} 2> {log}"


rule draw:
    input:
        RESULTS.manifest("{dataset}"),
    output:
        RESULTS.draw("{dataset}", "{shots}", "{seed}"),
    params:
        key=plan.key("draw"),
    log:
        RESULTS.root / "logs/draw/{dataset}/k{shots}-s{seed}.log",
    shell:
        "{FOUNDAD} draw {wildcards.dataset} --shots {wildcards.shots} --seed {wildcards.seed} {STAGE} 2> {log}"
