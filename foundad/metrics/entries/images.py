"""Metrics of image scores; they need no masks."""

from foundad.metrics.metric import Metric

RANKING = "scikit-learn's conventions: ties share a threshold, no interpolation of precision"

METRICS = (
    Metric(
        "i_auroc",
        "I-AUROC",
        "area under the ROC curve of image scores",
        RANKING,
        "foundad.metrics.ranking:ranked_auroc",
        main=True,
    ),
    Metric(
        "i_ap",
        "I-AP",
        "average precision of image scores, sum over recall steps",
        RANKING,
        "foundad.metrics.ranking:ranked_ap",
    ),
    Metric(
        "i_f1max",
        "I-F1max",
        "largest F1 over all thresholds on image scores",
        RANKING,
        "foundad.metrics.ranking:ranked_f1max",
    ),
    Metric(
        "i_f1max_threshold",
        "threshold of I-F1max",
        "highest image score that reaches I-F1max; seen on test data",
        RANKING,
        "foundad.metrics.ranking:ranked_f1max_threshold",
        unit="score",
    ),
    Metric(
        "i_fpr",
        "I-FPR",
        "share of the normal test images above the model's own threshold, which aims at 0.05 from augmented training "
        "images alone",
        "split conformal quantile, see foundad.detection.model.upper_quantile",
        "foundad.metrics.threshold:false_positive_rate",
        higher_is_better=False,
    ),
)
