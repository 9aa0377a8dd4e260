"""Which task's behaviour do answers show, and how much of one task leaks into another?"""

from trainer.evaluation.behaviour.crosstalk import count_behaviours, crosstalk
from trainer.evaluation.behaviour.examples import EXAMPLES_PER_TASK, Example, training_examples
from trainer.evaluation.behaviour.judge import BehaviourJudge, GoldReport
from trainer.evaluation.behaviour.leaks import bench_content, leaks, semantic_leaks

__all__ = [
    "EXAMPLES_PER_TASK",
    "BehaviourJudge",
    "Example",
    "GoldReport",
    "bench_content",
    "count_behaviours",
    "crosstalk",
    "leaks",
    "semantic_leaks",
    "training_examples",
]
