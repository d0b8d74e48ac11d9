"""All metrics by id, found in the files of foundad/metrics/entries/: image metrics first, then protocol by protocol.

Each file of that folder defines ``METRICS``, a tuple of :class:`~foundad.metrics.metric.Metric`. Code that computes is
not imported. These files are not among any stage's sources: keys hold the entries that a job uses
(:mod:`foundad.plan.keys`).
"""

from collections.abc import Iterable
from importlib import import_module

from foundad import discovery
from foundad.errors import UserError
from foundad.metrics.metric import PROTOCOLS, Metric


def found() -> dict[str, Metric]:
    """Every metric by id, in the order that tables and pages list them.

    Raises:
        UserError: a file defines no metrics, an id appears twice, or an id begins with an unknown protocol.
    """
    metrics: dict[str, Metric] = {}
    for name, module in discovery.modules_in(discovery.METRICS).items():
        source = f"foundad/metrics/entries/{name}.py"
        entries: Iterable[Metric] | None = getattr(import_module(module), "METRICS", None)
        if entries is None:
            raise UserError(f"{source}: defines no METRICS; give it a tuple of entries, see docs/adding.md")
        for metric in entries:
            if metric.id in metrics:
                raise UserError(f"{source}: metric '{metric.id}' is there already; give it another id")
            if metric.protocol and metric.protocol not in PROTOCOLS:
                raise UserError(f"{source}: metric '{metric.id}': the protocol is none of {', '.join(PROTOCOLS)}")
            metrics[metric.id] = metric
    place = ["", *PROTOCOLS]
    return dict(sorted(metrics.items(), key=lambda item: place.index(item[1].protocol)))


METRICS: dict[str, Metric] = found()
# Shown where there is only room for a few.
MAIN: tuple[str, ...] = tuple(name for name, metric in METRICS.items() if metric.main)
