# Datasets: make the one of the demo, verify and list the files, prepare the masks, and draw the few normal images.


rule textures:
    output:
        plan.pattern("textures"),
    log:
        log_of("textures"),
    resources:
        mem_mb=memory("textures"),
        runtime=minutes("textures"),
    params:
        key=key("textures"),
    shell:
        "{FOUNDAD} textures {REPORT} " + KEY


rule manifest:
    input:
        reads("manifest", part=WHOLE),
    output:
        plan.pattern("manifest", part=WHOLE),
    log:
        log_of("manifest/{dataset}"),
    threads: plan.threads("manifest")
    resources:
        mem_mb=memory("manifest", part=WHOLE),
        runtime=minutes("manifest", part=WHOLE),
    params:
        key=key("manifest", part=WHOLE),
        part=WHOLE,
        again=lambda w: plan.keys.again(w.dataset, WHOLE),
    shell:
        "{FOUNDAD} manifest {wildcards.dataset} --part {params.part} --again={params.again:q} --threads {threads} {STAGE} "
        + KEY


# A manifest of each part, for stages that read only that part. So a changed mask does not make features stale.
use rule manifest as manifest_part with:
    input:
        reads("manifest"),
    output:
        plan.pattern("manifest"),
    log:
        log_of("manifest/{dataset}-{part}"),
    resources:
        mem_mb=memory("manifest"),
        runtime=minutes("manifest"),
    params:
        key=key("manifest"),
        part="{part}",
        again=lambda w: plan.keys.again(w.dataset, w.part),


# Once for all cells whose maps are compared at this size.
rule masks:
    input:
        reads("masks"),
    output:
        plan.pattern("masks"),
    log:
        log_of("masks/{dataset}/{side}"),
    resources:
        mem_mb=memory("masks"),
        runtime=minutes("masks"),
    params:
        key=key("masks"),
    shell:
        "{FOUNDAD} masks {wildcards.dataset} --side {wildcards.side} {STAGE} " + KEY


rule draw:
    input:
        reads("draw"),
    output:
        plan.pattern("draw"),
    log:
        log_of("draw/{dataset}/k{shots}-s{seed}"),
    resources:
        mem_mb=memory("draw"),
        runtime=minutes("draw"),
    params:
        key=key("draw"),
    shell:
        "{FOUNDAD} draw {wildcards.dataset} --shots {wildcards.shots} --seed {wildcards.seed} {STAGE} " + KEY
