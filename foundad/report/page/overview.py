"""The first screen of the page: how much ran, the main numbers of every dataset, and the values of the controls.
Reads a :class:`~foundad.report.page.data.Study`; the template prints it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from foundad.metrics.registry import MAIN
from foundad.report.aggregate import Summary, metric_name
from foundad.report.page.data import Group, Study

if TYPE_CHECKING:
    from foundad.config.experiment import Experiment
    from foundad.plan.catalogue import Catalogue

SHOWN = 8  # methods per dataset; the rest is in the results


@dataclass(frozen=True)
class Line:
    """One method of a dataset: a summary for each of the dataset's metrics."""

    title: str
    control: bool
    summaries: list[Summary]


@dataclass(frozen=True)
class Card:
    """The main numbers of one dataset at one encoder and number of shots; the best first, controls last."""

    title: str
    setting: str
    metrics: list[str]
    lines: list[Line]
    left_out: int
    notes: list[str]


@dataclass(frozen=True)
class Overview:
    """What the head of the page says.

    tiles: (number, what it counts). controls: one sentence each.
    """

    title: str
    tiles: list[tuple[str, str]]
    cards: list[Card]
    controls: list[str]


def overview(study: Study, catalogue: "Catalogue", experiments: Sequence["Experiment"]) -> Overview:
    """Choose and count what the head of the page shows."""
    groups = list(study.groups)
    runs = study.payload["runs"]
    done = sum(runs["done"])
    warned = sum(1 for warning in runs["warnings"] if warning is not None)
    hours = sum(seconds or 0 for key in ("fit_seconds", "score_seconds") for seconds in runs[key]) / 3600
    spent = f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min"
    methods = {group[2] for group in groups}
    controls = {name for name in methods if catalogue.methods[name].control}
    tiles = [
        (f"{done:,}", "cells done"),
        (f"{len(runs['done']) - done:,}", "failed"),
        (f"{warned:,}", "with a warning"),
        _counted(len({group[0] for group in groups}), "dataset"),
        _counted(len({group[1] for group in groups}), "encoder"),
        _counted(len(methods) - len(controls), "method"),
        _counted(len(controls), "control"),
        _counted(max((len(cells) for cells in study.groups.values()), default=0), "seed"),
        (spent, "to fit and score"),
    ]
    title = experiments[0].title if len(experiments) == 1 else f"{len(experiments)} experiments"
    datasets = dict.fromkeys(group[0] for group in groups)
    cards = [_card(study, catalogue, dataset, controls) for dataset in datasets]
    return Overview(title, tiles, cards, _controls(study, catalogue, sorted(controls)))


def _counted(number: int, thing: str) -> tuple[str, str]:
    return f"{number:,}", thing if number == 1 else f"{thing}s"


def _card(study: Study, catalogue: "Catalogue", dataset: str, controls: set[str]) -> Card:
    """The main numbers of a dataset in the setting that most methods share; among equals, the one with more shots."""
    groups = [group for group in study.groups if group[0] == dataset]
    settings = dict.fromkeys((group[1], *group[3:]) for group in groups)

    def rivals(setting: tuple[Any, ...]) -> list[Group]:
        return [group for group in groups if (group[1], *group[3:]) == setting]

    setting = max(settings, key=lambda setting: (len(rivals(setting)), setting[1]))
    encoder, shots, *_ = setting
    chosen = rivals(setting)
    metrics = [m for m in MAIN if any(_mean(study, group, m) is not None for group in chosen)]
    first = metrics[0] if metrics else MAIN[0]
    ranked = sorted(chosen, key=lambda group: (group[2] in controls, -(_mean(study, group, first) or 0)))
    competitors = [group for group in ranked if group[2] not in controls]
    shown = competitors[:SHOWN] + [group for group in ranked if group[2] in controls]
    none = Summary(None, None, 0)
    lines = [
        Line(
            catalogue.methods[group[2]].label,
            group[2] in controls,
            [study.summaries.get((group, metric), none) for metric in metrics],
        )
        for group in shown
    ]
    counts = sorted(len(study.groups[group]) for group in shown)
    seeds = " ".join(_counted(counts[-1], "seed")) if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]} seeds"
    return Card(
        catalogue.datasets[dataset].title,
        f"{catalogue.encoders[encoder].title}, {shots}-shot, {seeds}",
        [metric_name(metric, metrics) for metric in metrics],
        lines,
        len(competitors) - len(competitors[:SHOWN]),
        list(study.dataset_notes.get(dataset, ())),
    )


def _mean(study: Study, group: Group, metric: str) -> float | None:
    summary = study.summaries.get((group, metric))
    return None if summary is None else summary.mean


def _controls(study: Study, catalogue: "Catalogue", controls: Sequence[str]) -> list[str]:
    """One sentence per control: the range of its I-AUROC."""
    sentences = []
    for name in controls:
        means = [_mean(study, group, MAIN[0]) for group in study.groups if group[2] == name]
        known = sorted(mean for mean in means if mean is not None)
        if known:
            span = " to ".join(dict.fromkeys(f"{100 * mean:.1f}" for mean in (known[0], known[-1])))
            sentences.append(f"{catalogue.methods[name].label}: I-AUROC {span} %")
    return sentences
