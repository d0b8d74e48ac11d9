"""Pixel metrics under the protocol ``strict``."""

from foundad.metrics.entries.images import RANKING
from foundad.metrics.metric import PROTOCOLS, Metric

PRO = "Bergmann et al., MVTec AD, IJCV 2021: mean covered share of the 8-connected defect regions against FPR"
_STRICT = PROTOCOLS["strict"]

METRICS = (
    Metric(
        "strict/p_auroc",
        "P-AUROC",
        f"area under the ROC curve of all pixels of a category; {_STRICT}",
        RANKING,
        "foundad.metrics.ranking:ranked_auroc",
        main=True,
    ),
    Metric(
        "strict/p_ap",
        "P-AP",
        f"average precision of all pixels of a category; {_STRICT}",
        RANKING,
        "foundad.metrics.ranking:ranked_ap",
    ),
    Metric(
        "strict/p_f1max",
        "P-F1max",
        f"largest F1 over all pixel thresholds; {_STRICT}",
        RANKING,
        "foundad.metrics.ranking:ranked_f1max",
    ),
    Metric(
        "strict/aupro_30",
        "AUPRO",
        f"area under PRO up to FPR 0.3, interpolated there, over 0.3; {_STRICT}",
        PRO,
        "foundad.metrics.pro:aupro_30",
        main=True,
    ),
    Metric(
        "strict/aupro_05",
        "AUPRO@5%",
        f"area under PRO up to FPR 0.05, interpolated, over 0.05; {_STRICT}",
        PRO,
        "foundad.metrics.pro:aupro_05",
    ),
    Metric(
        "strict/aupimo",
        "AUPIMO",
        f"recall of each defective image over log FPR of normal images from 1e-5 to 1e-4, mean over images; {_STRICT}",
        "Bertoldo et al., AUPIMO, arXiv 2401.01984",
        "foundad.metrics.pimo:aupimo",
    ),
)
