"""How fast a step was: tokens a second, and its share of the hardware's peak."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.estimate.operations import Operations, operations_of
from trainer.estimate.shape import Shape
from trainer.meters.peaks import Peaks
from trainer.step_data import StepData


@dataclass(frozen=True)
class Throughput:
    """Rates of a run's steps.

    Attributes:
        operations: of the model; None where they are not counted.
        ranks: that share a step.
    """

    operations: Operations | None
    peaks: Peaks
    ranks: int

    @classmethod
    def of(cls, shape: Shape, peaks: Peaks, ranks: int) -> Throughput:
        """For a model; one with experts computes with some of its weights only, which is not counted."""
        return cls(None if shape.has_experts else operations_of(shape), peaks, ranks)

    @property
    def words(self) -> str:
        """For the log: what the shares are shares of."""
        if self.operations is None:
            return "mfu is not measured: operations of a model with experts are not counted"
        return self.peaks.words

    def rates(self, data: StepData, seconds: float) -> dict[str, float]:
        """A step's rates by the names that ``metrics.jsonl`` has for them."""
        found = {
            "tokens_per_second": data.tokens / seconds,
            "supervised_tokens_per_second": data.supervised / seconds,
        }
        if self.operations is None:
            return found
        done = self.operations.of(data.tokens, data.pairs, data.supervised)
        per_rank = done / seconds / self.ranks
        if self.peaks.spec is not None:
            found["mfu"] = per_rank / self.peaks.spec
        if self.peaks.matmul is not None:
            found["mfu_of_matmul"] = per_rank / self.peaks.matmul
        return found
