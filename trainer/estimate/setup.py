"""What memory and time depend on, apart from the model: taken from the configuration once."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.config.schema import Config, Offload, Precision
from trainer.deepspeed_config import deepspeed_config

#: DeepSpeed's own values (0.19.8) of what ``deepspeed_config`` leaves to it.
_MAX_LIVE = _MAX_REUSE = 1_000_000_000
_PERSISTENCE = 100_000


@dataclass(frozen=True)
class Setup:
    """One way to train.

    Attributes:
        ranks: processes that ZeRO partitions over.
        parts: ranks that share each micro-batch, a slice of its positions each.
        copy_parts: ranks that hold a second copy of the weights among them (ZeRO++'s hpZ); 1 is none.
        bytes_per_weight: of the weights that the model computes with; masters and moments have 4.
        reduce_bucket, prefetch_bucket: elements.
        max_live, max_reuse, persistence: ZeRO-3's bounds on gathered weights, in elements.
        multi_rank_reduce: stage 1 and 2 all-reduce a bucket that several ranks own parts of.
        micro_batch: rows of a micro-step, or ``length`` tokens each if packed.
        micro_steps: of an optimizer step.
    """

    stage: int
    ranks: int
    parts: int
    copy_parts: int
    bytes_per_weight: int
    offload_optimizer: bool
    offload_parameters: bool
    reduce_bucket: int
    prefetch_bucket: int
    overlap: bool
    multi_rank_reduce: bool
    max_live: int
    max_reuse: int
    persistence: int
    micro_batch: int
    length: int
    packing: bool
    micro_steps: int
    checkpointing: bool
    keeps_checkpoints: bool

    @property
    def groups(self) -> int:
        """Micro-batches that are computed at once."""
        return self.ranks // self.parts

    @property
    def positions(self) -> int:
        """Positions of a micro-step that one rank computes."""
        rows = 1 if self.packing else self.micro_batch
        return rows * -(-self.micro_batch * self.length // (rows * self.parts))


def setup_of(config: Config, ranks: int) -> Setup:
    """The setup that a configuration describes."""
    zero = deepspeed_config(config, ranks)["zero_optimization"]
    parts = config.sequence_parallel_size
    rows = ranks // parts * config.micro_batch_size
    return Setup(
        stage=config.zero.stage,
        ranks=ranks,
        parts=parts,
        copy_parts=zero.get("zero_hpz_partition_size", 1),
        bytes_per_weight=2 if config.precision is Precision.bf16 else 4,
        offload_optimizer=config.zero.offload_optimizer is not Offload.none,
        offload_parameters=config.zero.offload_parameters is not Offload.none,
        reduce_bucket=zero["reduce_bucket_size"],
        prefetch_bucket=zero.get("stage3_prefetch_bucket_size", 0),
        overlap=zero["overlap_comm"],
        multi_rank_reduce=zero.get("use_multi_rank_bucket_allreduce", True),
        max_live=int(zero.get("stage3_max_live_parameters", _MAX_LIVE)),
        max_reuse=int(zero.get("stage3_max_reuse_distance", _MAX_REUSE)),
        persistence=int(zero.get("stage3_param_persistence_threshold", _PERSISTENCE)),
        micro_batch=config.micro_batch_size,
        length=config.data.max_seq_len,
        packing=config.data.packing,
        micro_steps=max(1, -(-config.global_batch_size // rows)),
        checkpointing=config.model.activation_checkpointing,
        keeps_checkpoints=config.checkpoint.sharded,
    )
