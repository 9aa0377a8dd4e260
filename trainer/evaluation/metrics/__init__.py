"""What tells how good answers are: one small class per metric, found by name."""

from trainer.evaluation.metrics.base import Judged, Metric, RowMetric
from trainer.evaluation.metrics.measure import figure, measured, per_row
from trainer.evaluation.metrics.registry import NO_METRIC, check_metric, metric, metric_names

__all__ = [
    "NO_METRIC",
    "Judged",
    "Metric",
    "RowMetric",
    "check_metric",
    "figure",
    "measured",
    "metric",
    "metric_names",
    "per_row",
]
