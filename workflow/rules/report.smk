# What people read: all metrics in one file, tables, figures, and whether every cell was done.

EXPERIMENTS = " ".join(experiment.id for experiment in plan.experiments)


rule collect:
    input:
        [RESULTS.cell(cell) / name for cell in plan.cells for name in ("metrics.parquet", "record.json")],
    output:
        RESULTS.metrics,
        RESULTS.runs,
    log:
        RESULTS.root / "logs/collect.log",
    params:
        key=plan.key("collect"),
    shell:
        "{FOUNDAD} collect {EXPERIMENTS} {REPORT} 2> {log}"


rule table:
    input:
        RESULTS.metrics,
        RESULTS.runs,
    output:
        [RESULTS.table("{experiment}", "{name}", suffix) for suffix in TABLE_SUFFIXES],
    log:
        RESULTS.root / "logs/table/{experiment}/{name}.log",
    params:
        key=lambda w: plan.key("tables", w.experiment, w.name),
    shell:
        "{FOUNDAD} table {wildcards.experiment} {wildcards.name} {REPORT} 2> {log}"


rule figure:
    input:
        lambda w: plan.figure_inputs(w.experiment, w.name),
    output:
        [RESULTS.figure("{experiment}", "{name}", suffix) for suffix in FIGURE_SUFFIXES],
    log:
        RESULTS.root / "logs/figure/{experiment}/{name}.log",
    params:
        key=lambda w: plan.key("figures", w.experiment, w.name),
    shell:
        "{FOUNDAD} figure {wildcards.experiment} {wildcards.name} {REPORT} 2> {log}"


rule overview:
    input:
        RESULTS.manifest("{dataset}"),
    output:
        [RESULTS.overview("{dataset}", suffix) for suffix in FIGURE_SUFFIXES],
    log:
        RESULTS.root / "logs/overview/{dataset}.log",
    params:
        key=lambda w: plan.key("overview", w.dataset),
    shell:
        "{FOUNDAD} overview {wildcards.dataset} {STAGE} 2> {log}"


rule report:
    input:
        RESULTS.metrics,
        RESULTS.runs,
        plan.tables,
        plan.figures,
    output:
        RESULTS.report,
    log:
        RESULTS.root / "logs/report.log",
    params:
        key=plan.key("report"),
    shell:
        "{FOUNDAD} report {EXPERIMENTS} {REPORT} > {log} 2>&1"


# Runs last and fails when a cell failed: the tables are there, with dashes, and the call does not end as a success.
rule status:
    input:
        RESULTS.runs,
    output:
        STATUS,
    params:
        key=plan.key("status"),
    shell:
        "{FOUNDAD} status --results {RESULTS.root}"


rule:
    name:
        "results/tables"
    input:
        plan.tables,
        STATUS,


rule:
    name:
        "results/tables/"
    input:
        plan.tables,
        STATUS,


rule:
    name:
        "results/figures/datasets"
    input:
        plan.overviews,


rule:
    name:
        "results/figures/datasets/"
    input:
        plan.overviews,


rule:
    name:
        "results/figures"
    input:
        plan.figures,
        STATUS,


rule:
    name:
        "results/figures/"
    input:
        plan.figures,
        STATUS,


rule:
    name:
        "results/report"
    input:
        RESULTS.report,
        STATUS,


rule:
    name:
        "results/report/"
    input:
        RESULTS.report,
        STATUS,
