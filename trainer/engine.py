"""The ZeRO engine: built, stepped, gathered and saved here, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import nn

from data_modules.collate import Batch
from data_modules.faults import ConfigFault
from trainer import distributed
from trainer.config.schema import Config, OptimizerConfig
from trainer.deepspeed_config import deepspeed_config, quantised_faults
from trainer.deepspeed_start import leave_out_muon
from trainer.estimate.shape import shape_of
from trainer.guard.limit import NO_LIMIT, Limit, Veto
from trainer.loss import NLL, MultiTaskLM, inputs_of, rows_as_tasks
from trainer.meters.clock import Part, StepClock
from trainer.meters.communication import TimedBackend, TimedWork, timed_waits
from trainer.sequence_parallel import SequenceGroup


class StepFigures(NamedTuple):
    """What one optimizer step did, summed over all ranks.

    Attributes:
        nll: nll sum of each task's positive tokens.
        negative_p: sum over each task's negative tokens of their probability.
        negative_tokens: negative tokens of each task.
        loss: the weighted loss.
        grad_norm: norm of the whole gradient before clipping; not finite if the gradient is not.
        skipped: the step was vetoed (``trainer.guard.limit``) and changed nothing.
    """

    nll: list[float]
    negative_p: list[float]
    negative_tokens: list[float]
    loss: float
    grad_norm: float
    skipped: bool = False


class StepSums:
    """The figures of one optimizer step, on their way to the host; see :class:`StepFigures`.

    The copy is queued behind the step at once. Asked for later it would come behind whatever the device
    was given since, and reading a step's figures would wait for the step after it.

    Args:
        sums: float64 [3 * tasks + 1], over all ranks: the three sums per task, then the weighted loss.
        grad_norm: norm of the whole gradient before clipping.
        skipped: bool [], the step changed nothing.
    """

    def __init__(self, sums: torch.Tensor, grad_norm: Any, skipped: torch.Tensor) -> None:
        if torch.is_tensor(grad_norm):
            norm = grad_norm.detach().to(sums, non_blocking=True).reshape(1)
        else:
            norm = sums.new_full((1,), grad_norm)
        values = torch.cat([sums, norm, skipped.to(sums).reshape(1)])
        self._values = values.to("cpu", non_blocking=True)  # into pinned memory
        self._copied = torch.cuda.current_stream().record_event() if values.is_cuda else None

    def read(self) -> StepFigures:
        """Wait for the device to have finished the step."""
        if self._copied is not None:
            self._copied.synchronize()
        *per_task, loss, grad_norm, skipped = self._values.tolist()
        tasks = len(per_task) // 3
        nll, p, tokens = (per_task[i * tasks : (i + 1) * tasks] for i in range(3))
        return StepFigures(nll, p, tokens, loss, grad_norm, bool(skipped))


class ZeroEngine:
    """A model under ``deepspeed.initialize`` with exact gradient accumulation.

    Attributes:
        shape: of the model, before DeepSpeed partitions it.
        clock: what the parts of a step are timed by, where someone begins and ends steps.
    """

    def __init__(
        self, model: nn.Module, tasks: int, config: Config, device: torch.device, world_size: int
    ) -> None:
        import deepspeed

        copies = config.zero.hpz_partition_size
        # DeepSpeed makes this group once per process, and uses it whatever the next engine asks for.
        deepspeed.utils.groups._ZERO_PARAM_INTRA_PARALLEL_GROUP = (
            distributed.neighbours(copies) if copies > 1 else None
        )
        module = MultiTaskLM(model, tasks)
        faults = list(quantised_faults(config.zero, module.named_parameters(), world_size))
        if faults:
            raise ConfigFault(faults)
        self.shape = shape_of(module)
        # fused=True also covers CPU tensors and needs no extension to be compiled
        optimizer = torch.optim.AdamW(
            parameter_groups(module, config.optimizer),
            lr=0.0,
            betas=(config.optimizer.beta1, config.optimizer.beta2),
            eps=config.optimizer.eps,
            fused=True,
        )
        leave_out_muon()
        self.engine, self.optimizer, _, _ = deepspeed.initialize(
            model=module,
            optimizer=optimizer,
            config=deepspeed_config(config, world_size),
            dist_init_required=False,
        )
        self.module: MultiTaskLM = self.engine.module
        self.stage: int = config.zero.stage
        parts = config.sequence_parallel_size
        self._sequence_group = SequenceGroup(distributed.neighbours(parts)) if parts > 1 else None
        self.device = device
        self.world_size = world_size
        self.tasks = tasks
        self.max_grad_norm = config.optimizer.max_grad_norm
        # DeepSpeed leaves fp32 at stage 0 to the bare optimizer; its gradients are whole there.
        self._clips_itself = self.optimizer is optimizer
        self._stage0_norm: torch.Tensor | None = None
        if self._clips_itself:
            optimizer.register_step_pre_hook(self._clip)
        self._veto = Veto(optimizer, self._norm_before_update)
        self.clock = StepClock.of(device)
        self._backend = TimedBackend(deepspeed.comm.comm.cdb, self.clock)

    def train_step(self, batches: list[Batch], lr: float, limit: Limit = NO_LIMIT) -> StepSums:
        """Forward and backward of every micro-batch, then one optimizer step at ``lr``.

        A step that is not finite, or breaks ``limit``, leaves weights, moments and Adam's step count
        as they are, on every rank.
        """
        self.engine.train()
        sums = torch.zeros(3 * self.tasks + 1, dtype=torch.float64, device=self.device)
        with self._timed_communication():
            for batch in batches:
                with self.clock.inside(Part.forward):
                    loss, task_sums = self._forward(batch)
                    sums[:-1] += task_sums.flatten()
                    sums[-1] += loss.detach()
                with self.clock.inside(Part.backward):
                    # The engine averages gradients over ranks; the loss is a sum over them.
                    self.engine.backward(loss * self.world_size)
            with self.clock.inside(Part.optimizer):
                return self._update(sums, lr, limit)

    def _update(self, sums: torch.Tensor, lr: float, limit: Limit) -> StepSums:
        work = None
        if self.world_size > 1:
            work = TimedWork(dist.all_reduce(sums, async_op=True), self.clock)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self._veto.watch(sums, work, limit)
        self.engine.step()
        grad_norm = self._grad_norm()
        skipped = self._veto.of_step(grad_norm)
        if work is not None:
            work.wait()
        return StepSums(sums, grad_norm, skipped)

    @contextmanager
    def _timed_communication(self) -> Iterator[None]:
        """Inside, what DeepSpeed sends is timed as such."""
        import deepspeed

        comm = deepspeed.comm.comm
        backend, comm.cdb = comm.cdb, self._backend
        on_device = self.device.type == "cuda"
        try:
            with timed_waits(torch.cuda.Stream, self.clock) if on_device else nullcontext():
                yield
        finally:
            comm.cdb = backend

    def _forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        result: tuple[torch.Tensor, torch.Tensor] = self.engine(**self._inputs(batch))
        return result

    def _inputs(self, batch: Batch) -> dict[str, Any]:
        group = self._sequence_group if batch.parts > 1 else None
        assert batch.parts == (1 if group is None else group.size)
        return {**inputs_of(batch, self.device), "sequence_group": group}

    @torch.no_grad()
    def nll(self, batch: Batch) -> torch.Tensor:
        """Evaluation: nll sum of each task, float64 [tasks], this rank's batch only."""
        self.eval()
        return self._forward(batch)[1][NLL]

    @torch.no_grad()
    def row_nll(self, batch: Batch) -> torch.Tensor:
        """Evaluation: nll sum of each row of an unpacked batch, float64 [rows]."""
        self.eval()
        sums: torch.Tensor = self.engine(
            **inputs_of(rows_as_tasks(batch), self.device), tasks=len(batch.input_ids)
        )[1]
        return sums[NLL]

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Forwards and gradients inside leave training as it was, to the last bit.

        Without dropout, with activation checkpointing where training has it.
        """
        self.eval()
        for module in self.module.modules():
            # Hugging Face layers checkpoint in training mode only; their dropout is their children's.
            if getattr(module, "gradient_checkpointing", False):
                module.training = True
        on_device = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=on_device):
            yield

    def visit_gradients(
        self, batch: Batch, visit: Callable[[str, torch.Tensor], None]
    ) -> torch.Tensor:
        """The gradient of this rank's weighted loss, shown one trained parameter at a time.

        Goes past DeepSpeed's accumulation: no hook of ``backward`` fires and no gradient is kept, which
        is why memory for one parameter's gradient is enough. Within :meth:`aside`. All ranks call it
        alike, as ZeRO-3 gathers weights on the way.

        Args:
            visit: gets a parameter's name and its gradient, in the parameter's shape and type.

        Returns:
            nll sum of each task, float64 [tasks].
        """
        trained = {name: p for name, p in self.module.named_parameters() if p.requires_grad}

        def take(name: str, gradient: torch.Tensor) -> torch.Tensor:
            visit(name, gradient)
            return gradient.new_zeros(()).expand_as(gradient)  # frees the gradient itself

        hooks = [p.register_hook(partial(take, name)) for name, p in trained.items()]
        try:
            loss, sums = self.module(**self._inputs(batch))
            torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
        finally:
            for hook in hooks:
                hook.remove()
        return sums[NLL]

    def eval(self) -> None:
        """Switch dropout off; :meth:`train_step` switches it on again."""
        self.engine.eval()

    @property
    def causal_model(self) -> Any:
        """The Hugging Face model, for ``generate``."""
        return self.module.causal_model

    @property
    def gathers_weights(self) -> bool:
        """Whether every forward gathers weights from all ranks, so that all must run as many."""
        return self.stage == 3 and self.world_size > 1

    def _grad_norm(self) -> Any:
        norm = self._stage0_norm if self._clips_itself else self.engine.get_global_grad_norm()
        assert norm is not None, "DeepSpeed sets the norm in every step"
        return norm

    def _norm_before_update(self) -> Any:
        """The same while the update is under way: the engine takes it over behind it."""
        return self._stage0_norm if self._clips_itself else self.optimizer._global_grad_norm

    def _clip(self, *_: Any) -> None:
        """Clip by the global norm and keep the norm, which DeepSpeed's plain optimizer path drops."""
        limit = self.max_grad_norm or float("inf")
        self._stage0_norm = nn.utils.clip_grad_norm_(self.module.parameters(), limit)

    @property
    def lr(self) -> float:
        """The learning rate in the optimizer now."""
        return float(self.optimizer.param_groups[0]["lr"])

    def reset_optimizer_state(self) -> None:
        """Forget all moments and step counts, as if training began here."""
        for state in self.base_optimizer.state.values():
            for value in state.values():
                if torch.is_tensor(value):
                    value.zero_()

    @property
    def base_optimizer(self) -> torch.optim.Optimizer:
        """The AdamW inside DeepSpeed's optimizer."""
        optimizer = self.optimizer
        while isinstance(getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
            optimizer = optimizer.optimizer
        assert isinstance(optimizer, torch.optim.Optimizer)
        return optimizer

    @contextmanager
    def whole_parameter(self, parameter: nn.Parameter) -> Iterator[None]:
        """Gather one partitioned parameter on all ranks; collective under ZeRO-3."""
        if self.stage < 3:
            yield
            return
        import deepspeed

        with deepspeed.zero.GatheredParameters([parameter]):
            yield


def parameter_groups(module: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """The trained parameters as AdamW takes them: vectors (norms, biases) without weight decay."""
    trained = [p for p in module.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.ndim >= 2]
    vectors = [p for p in trained if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
