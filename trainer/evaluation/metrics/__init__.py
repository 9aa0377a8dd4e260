"""What tells how good answers are: one small class per metric, found by name."""

from trainer.evaluation.metrics.base import Judged, Metric, RowMetric
from trainer.evaluation.metrics.measure import figure, per_row
from trainer.evaluation.metrics.registry import check_metric, metric, metric_names

__all__ = [
    "Judged",
    "Metric",
    "RowMetric",
    "check_metric",
    "figure",
    "metric",
    "metric_names",
    "per_row",
]
