# What people read: all metrics in one file, tables, figures, and whether every cell was done.

EXPERIMENTS = " ".join(experiment.id for experiment in plan.experiments)


def shown(paths, kind, category, subcategory, labels):
    """``paths`` as outputs; the first is what ``snakemake --report`` shows, with its caption of workflow/report/."""
    first, *others = map(str, paths)
    caption = f"../report/{kind}.rst"
    return [report(first, caption=caption, category=category, subcategory=subcategory, labels=labels), *others]


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
        "{FOUNDAD} collect {EXPERIMENTS} {RUN} {REPORT} --key {params.key:q} 2> {log:q}"


rule table:
    input:
        lambda w: plan.table_inputs(w.experiment, w.name),
    output:
        shown(
            [RESULTS.table("{experiment}", "{name}", suffix) for suffix in reversed(TABLE_SUFFIXES)],
            kind="table",
            category="Tables",
            subcategory="{experiment}",
            labels={"table": "{name}"},
        ),
    log:
        RESULTS.root / "logs/table/{experiment}/{name}.log",
    params:
        key=lambda w: plan.key("tables", w.experiment, w.name),
    shell:
        "{FOUNDAD} table {wildcards.experiment} {wildcards.name} {REPORT} --key {params.key:q} 2> {log:q}"


rule figure:
    input:
        lambda w: plan.figure_inputs(w.experiment, w.name),
    output:
        shown(
            [RESULTS.figure("{experiment}", "{name}", suffix) for suffix in FIGURE_SUFFIXES],
            kind="figure",
            category="Figures",
            subcategory="{experiment}",
            labels={"figure": "{name}"},
        ),
    log:
        RESULTS.root / "logs/figure/{experiment}/{name}.log",
    params:
        key=lambda w: plan.key("figures", w.experiment, w.name),
    shell:
        "{FOUNDAD} figure {wildcards.experiment} {wildcards.name} {REPORT} --key {params.key:q} 2> {log:q}"


rule overview:
    input:
        RESULTS.manifest("{dataset}"),
    output:
        shown(
            [RESULTS.overview("{dataset}", suffix) for suffix in FIGURE_SUFFIXES],
            kind="overview",
            category="Figures",
            subcategory="datasets",
            labels={"figure": "{dataset}"},
        ),
    log:
        RESULTS.root / "logs/overview/{dataset}.log",
    params:
        key=lambda w: plan.key("overview", w.dataset),
    shell:
        "{FOUNDAD} overview {wildcards.dataset} {STAGE} --key {params.key:q} 2> {log:q}"


rule report:
    input:
        RESULTS.metrics,
        RESULTS.runs,
        plan.tables,
        plan.figures,
    output:
        shown([RESULTS.report], "page", "Study", None, {"page": "whole study"}),
    log:
        RESULTS.root / "logs/report.log",
    params:
        key=plan.key("report"),
    shell:
        "{FOUNDAD} report {EXPERIMENTS} {REPORT} --key {params.key:q} > {log:q} 2>&1"


# Runs last and fails when a cell failed: the tables are there, with dashes, and the call does not end as a success.
rule status:
    input:
        RESULTS.runs,
    output:
        STATUS,
    params:
        key=plan.key("status"),
    shell:
        "{FOUNDAD} status {REPORT}"


# Targets by the names of folders, with and without a slash at the end.
# The results of every run answer to "results/" as well, wherever they lie.
for folder, wanted in (
    ("tables", [plan.tables, STATUS]),
    ("figures", [plan.figures, STATUS]),
    ("figures/datasets", plan.overviews),
    ("report", [RESULTS.report, STATUS]),
):
    for target in dict.fromkeys(f"{root}/{folder}{slash}" for root in ("results", RESULTS.root) for slash in ("", "/")):

        rule:
            name:
                target
            input:
                wanted,
