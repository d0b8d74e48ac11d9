"""All stages by name, in the order in which data passes through them."""

from foundad.stages.bank import Bank
from foundad.stages.base import Stage
from foundad.stages.collect import Collect
from foundad.stages.draw import Draw
from foundad.stages.efficiency import Efficiency
from foundad.stages.evaluate import Evaluate
from foundad.stages.features import Features
from foundad.stages.figure import Figure
from foundad.stages.fit import Fit
from foundad.stages.manifest import Manifest
from foundad.stages.masks import Masks
from foundad.stages.observe import Observe
from foundad.stages.overview import Overview
from foundad.stages.report import Report
from foundad.stages.status import Status
from foundad.stages.table import Table
from foundad.stages.textures import Textures

_ORDER: tuple[type[Stage], ...] = (
    *(Textures, Manifest, Masks, Draw, Features, Bank, Fit, Evaluate, Observe, Efficiency),
    *(Collect, Table, Figure, Overview, Report, Status),
)
STAGES: dict[str, type[Stage]] = {stage.name: stage for stage in _ORDER}
