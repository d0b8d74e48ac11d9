# Results for readers: all metrics in one file, tables, figures, the page, and the check that every cell is done.


rule collect:
    input:
        reads("collect"),
    output:
        plan.pattern("collect"),
    log:
        log_of("collect"),
    params:
        key=key("collect"),
        beside=lambda w: plan.beside,
    shell:
        "{FOUNDAD} collect {EXPERIMENTS} {RUN} {REPORT} " + KEY


rule table:
    input:
        reads("table"),
    output:
        # HTML comes first, because a report of Snakemake shows the first file.
        shown(
            plan.pattern("table")[::-1],
            kind="table",
            category="Tables",
            subcategory="{experiment}",
            labels={"table": "{table}"},
        ),
    log:
        log_of("table/{experiment}/{table}"),
    params:
        key=key("table"),
    shell:
        "{FOUNDAD} table {wildcards.experiment} {wildcards.table} {REPORT} " + KEY


rule figure:
    input:
        reads("figure"),
    output:
        shown(
            plan.pattern("figure"),
            kind="figure",
            category="Figures",
            subcategory="{experiment}",
            labels={"figure": "{figure}"},
        ),
    log:
        log_of("figure/{experiment}/{figure}"),
    params:
        key=key("figure"),
    shell:
        "{FOUNDAD} figure {wildcards.experiment} {wildcards.figure} {REPORT} " + KEY


rule overview:
    input:
        reads("overview"),
    output:
        shown(
            plan.pattern("overview"),
            kind="overview",
            category="Figures",
            subcategory="datasets",
            labels={"figure": "{dataset}"},
        ),
    log:
        log_of("overview/{dataset}"),
    params:
        key=key("overview"),
    shell:
        "{FOUNDAD} overview {wildcards.dataset} {STAGE} " + KEY


rule report:
    input:
        reads("report"),
    output:
        shown(plan.pattern("report"), "page", "Study", None, {"page": "whole study"}),
    log:
        log_of("report"),
    params:
        key=key("report"),
    shell:
        "{FOUNDAD} report {EXPERIMENTS} {REPORT} --key {params.key:q} > {log:q} 2>&1 " + SAID


# Runs last and fails if a cell failed. The tables then exist, with dashes, but the call does not succeed.
rule status:
    input:
        reads("status"),
    output:
        plan.pattern("status"),
    params:
        key=key("status"),
    shell:
        "{FOUNDAD} status {EXPERIMENTS} {REPORT}"


# Targets with the names of folders, with and without a slash at the end.
# The name "results/" works for every run, wherever its results are.
for folder, wanted in (
    ("tables", [plan.tables, STATUS]),
    ("figures", [plan.figures, STATUS]),
    ("figures/datasets", plan.overviews),
    ("report", [str(RESULTS.report), STATUS]),
):
    for target in dict.fromkeys(f"{root}/{folder}{slash}" for root in ("results", RESULTS.root) for slash in ("", "/")):

        rule:
            name:
                target
            input:
                wanted,
