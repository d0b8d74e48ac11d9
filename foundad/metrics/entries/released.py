"""Pixel metrics under the protocol ``released``, which evaluates as FoundAD's released code does."""

from foundad.metrics.entries.images import RANKING
from foundad.metrics.metric import PROTOCOLS, Metric

_RELEASED = PROTOCOLS["released"]

METRICS = (
    Metric(
        "released/p_auroc",
        "P-AUROC",
        f"area under the ROC curve of all pixels; {_RELEASED}",
        RANKING,
        "foundad.metrics.ranking:ranked_auroc",
    ),
    Metric(
        "released/p_ap",
        "P-AP",
        f"average precision of all pixels; {_RELEASED}",
        RANKING,
        "foundad.metrics.ranking:ranked_ap",
    ),
    Metric(
        "released/p_f1max",
        "P-F1max",
        f"largest F1 over all pixel thresholds; {_RELEASED}",
        RANKING,
        "foundad.metrics.ranking:ranked_f1max",
    ),
    Metric(
        "released/aupro_30",
        "AUPRO",
        "200 equidistant thresholds, points with FPR <= 0.3 kept and their FPR stretched to [0,1], no interpolation; "
        f"{_RELEASED}",
        "FoundAD's released code",
        "foundad.metrics.pro:released_aupro_30",
    ),
)
