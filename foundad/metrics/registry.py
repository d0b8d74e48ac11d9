"""Every metric by id: name, unit, direction, definition and source, as data. The id carries the protocol."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One metric; ``name`` heads table columns. Values are shares in [0,1], or of the unit ``score``: those of the model."""

    name: str
    definition: str
    source: str

    unit: str = "share"
    higher_is_better: bool = True


_RANKING = "scikit-learn's conventions: ties share a threshold, no interpolation of precision"
_PRO = "Bergmann et al., MVTec AD, IJCV 2021: mean covered share of the 8-connected defect regions against FPR"
_STRICT = "masks binarised (> 0), then nearest; every distinct score a threshold"
_RELEASED = "as FoundAD's released code: masks resized bilinearly, only pixels of exactly 1 are defects"

METRICS: dict[str, Metric] = {
    "i_auroc": Metric("I-AUROC", "area under the ROC curve of image scores", _RANKING),
    "i_ap": Metric("I-AP", "average precision of image scores, sum over recall steps", _RANKING),
    "i_f1max": Metric("I-F1max", "largest F1 over all thresholds on image scores", _RANKING),
    "i_f1max_threshold": Metric(
        "threshold of I-F1max", "highest image score that reaches I-F1max; seen on test data", _RANKING, unit="score"
    ),
    "i_fpr": Metric(
        "I-FPR",
        "share of the normal test images above the model's own threshold, which aims at 0.05 from augmented training "
        "images alone",
        "split conformal quantile, see foundad.detection.model.upper_quantile",
        higher_is_better=False,
    ),
    "strict/p_auroc": Metric("P-AUROC", f"area under the ROC curve of all pixels of a category; {_STRICT}", _RANKING),
    "strict/p_ap": Metric("P-AP", f"average precision of all pixels of a category; {_STRICT}", _RANKING),
    "strict/p_f1max": Metric("P-F1max", f"largest F1 over all pixel thresholds; {_STRICT}", _RANKING),
    "strict/aupro_30": Metric("AUPRO", f"area under PRO up to FPR 0.3, interpolated there, over 0.3; {_STRICT}", _PRO),
    "strict/aupro_05": Metric("AUPRO@5%", f"area under PRO up to FPR 0.05, interpolated, over 0.05; {_STRICT}", _PRO),
    "strict/aupimo": Metric(
        "AUPIMO",
        f"recall of each defective image over log FPR of normal images from 1e-5 to 1e-4, mean over images; {_STRICT}",
        "Bertoldo et al., AUPIMO, arXiv 2401.01984",
    ),
    "released/p_auroc": Metric("P-AUROC", f"area under the ROC curve of all pixels; {_RELEASED}", _RANKING),
    "released/p_ap": Metric("P-AP", f"average precision of all pixels; {_RELEASED}", _RANKING),
    "released/p_f1max": Metric("P-F1max", f"largest F1 over all pixel thresholds; {_RELEASED}", _RANKING),
    "released/aupro_30": Metric(
        "AUPRO",
        "200 equidistant thresholds, points with FPR <= 0.3 kept and their FPR stretched to [0,1], no interpolation; "
        + _RELEASED,
        "FoundAD's released code",
    ),
}
