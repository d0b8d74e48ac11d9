# The cells: one method trained on one draw, then every metric of its scores.

CELL = RESULTS.root / "cells/{dataset}/{encoder}/{method}/k{shots}-s{seed}"
CELL_ARGUMENTS = (
    "{wildcards.dataset} {wildcards.encoder} {wildcards.method} --shots {wildcards.shots} --seed {wildcards.seed}"
)


def fit_inputs(wildcards):
    cell = Cell(wildcards.dataset, wildcards.encoder, wildcards.method, int(wildcards.shots), int(wildcards.seed))
    return plan.fit_inputs(cell).values()


rule fit:
    input:
        fit_inputs,
    output:
        model=CELL / "model.safetensors",
        scores=CELL / "scores.safetensors",
        record=CELL / "record.json",
    log:
        RESULTS.root / "logs/fit/{dataset}/{encoder}/{method}/k{shots}-s{seed}.log",
    threads: plan.run.threads.fit
    resources:
        gpu=lambda w: GPU if plan.method(w.method).uses_device else 0,
    params:
        key=lambda w: plan.key("fit", *w),
    shell:
        "{FOUNDAD} fit " + CELL_ARGUMENTS + " {COMPILED} --threads {threads} {STAGE} --key {params.key:q} 2> {log:q}"


rule evaluate:
    input:
        RESULTS.manifest("{dataset}", "truth"),
        scores=CELL / "scores.safetensors",
    output:
        CELL / "metrics.parquet",
    log:
        RESULTS.root / "logs/evaluate/{dataset}/{encoder}/{method}/k{shots}-s{seed}.log",
    params:
        key=lambda w: plan.key("evaluate", *w),
    shell:
        "{FOUNDAD} evaluate " + CELL_ARGUMENTS + " {STAGE} --key {params.key:q} 2> {log:q}"
