"""Small checkpoints made without an engine, as several ranks would write them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from trainer.checkpoint.folder import COMPLETE, Marker, check_content, step_name
from trainer.checkpoint.live_state import MASTER, MOMENTS, Fragment
from trainer.checkpoint.reader import ShardReader
from trainer.checkpoint.trainer_state import TrainedPhase, TrainerState
from trainer.checkpoint.writer import Writer
from trainer.config.schema import Config, CurriculumConfig, ModelConfig, PhaseConfig
from trainer.config.strict_merge import to_plain
from trainer.curriculum import selected

SHAPES = {"model.a.weight": [3, 4], "model.b:c.bias": [5], "model.scale": []}
KINDS = (MASTER, *MOMENTS)
STEPS_PER_PHASE = 4
PHASES = ("mix", "specialize", "hard")


def made_config(output_dir: Path, *select: str, **fields: Any) -> Config:
    """A configuration of three phases, of which some are selected."""
    fields.setdefault("model", ModelConfig(path="models/qwen"))
    phases = {name: PhaseConfig(lr=1e-4, tasks=["qa"]) for name in PHASES}
    made = Config(run_name="test", output_dir=str(output_dir), **fields)
    made.curriculum = CurriculumConfig(phases=phases, select=dict.fromkeys(select))
    return made


def fingerprint(phase: str) -> str:
    return hashlib.sha256(phase.encode()).hexdigest()


def made_state(config: Config, global_step: int, steps_before: int = 0) -> TrainerState:
    """The state of a run of phases of STEPS_PER_PHASE steps."""
    phases: list[TrainedPhase] = []
    plain = to_plain(config)
    for name in selected(config):
        first = steps_before + 1 + STEPS_PER_PHASE * len(phases)
        if first > global_step:
            break
        settings = plain["curriculum"]["phases"][name]
        last = first + STEPS_PER_PHASE - 1
        phases.append(TrainedPhase(name, first, last, fingerprint(name), settings))
    return TrainerState(
        global_step=global_step,
        phases=phases,
        settings=plain,
        model={"model_type": "qwen2", "hidden_size": 16, "rope": {"theta": 1e4}},
        parameters=SHAPES,
        frozen=12345678901234567890,
        adam_step=float(global_step),
        world_size=2,
        zero_stage=2,
        cursors={"metrics.jsonl": 100 * global_step},
        phase_end=global_step == phases[-1].last_step,
        reason="it was time to",
    )


def whole(kind: str, name: str, global_step: int = 0) -> torch.Tensor:
    """A parameter's flattened state, none like another; some bits that arithmetic would not keep."""
    size = int(torch.Size(SHAPES[name]).numel())
    generator = torch.Generator().manual_seed(hash_of(kind, name, str(global_step)))
    found = torch.randn(size, generator=generator)
    found[0] = torch.tensor([-0.0, 1e-42, float("inf")][KINDS.index(kind)])
    return found


def hash_of(*words: str) -> int:
    return int(hashlib.sha256(" ".join(words).encode()).hexdigest()[:8], 16)


def made_fragments(rank: int, world_size: int, global_step: int = 0) -> list[Fragment]:
    """A rank's part: all parameters one behind another, cut into equal parts as ZeRO does."""
    total = sum(len(whole(MASTER, name)) for name in SHAPES)
    share = -(-total // world_size)
    low, high = rank * share, min(total, (rank + 1) * share)
    fragments, at = [], 0
    for name in SHAPES:
        size = len(whole(MASTER, name))
        start, stop = max(low, at) - at, min(high, at + size) - at
        if start < stop:
            tensors = {kind: whole(kind, name, global_step)[start:stop] for kind in KINDS}
            fragments.append(Fragment(name, start, tensors))
        at += size
    return fragments


def write_checkpoint(
    root: Path, state: TrainerState, *, world_size: int = 2, keep_last: int = 9
) -> Path:
    """Write a checkpoint as ``world_size`` ranks do; its folder."""
    writers = [
        Writer(root, rank, world_size, "test", keep_last, 10.0) for rank in range(world_size)
    ]
    for rank, writer in reversed(list(enumerate(writers))):  # the main rank waits for the others
        writer.save(made_fragments(rank, world_size, state.global_step), state)
        writer.wait()
    return root / step_name(state.global_step)


def read_whole(folder: Path, marker: Marker) -> dict[tuple[str, str], torch.Tensor]:
    """Every parameter's whole state, as a single rank would read it."""
    reader, found = ShardReader(folder, marker), {}
    for name in SHAPES:
        for kind in KINDS:
            found[kind, name] = torch.full((len(whole(kind, name)),), 7.0)
            reader.read_into(found[kind, name], kind, name, 0)
    return found


def bits(tensor: torch.Tensor) -> list[int]:
    return tensor.view(torch.int32).tolist()


def is_original(folder: Path, marker: Marker, global_step: int) -> bool:
    """Whether all that is read from a checkpoint is what was written, to the last bit."""
    return all(
        bits(tensor) == bits(whole(kind, name, global_step))
        for (kind, name), tensor in read_whole(folder, marker).items()
    )


def check_all(folder: Path, marker: Marker) -> None:
    """Compare every file's checksum, as the ranks do together."""
    check_content(folder, marker, sorted(marker.files))


def change_json(path: Path, change: Callable[[Any], object]) -> None:
    """Load, change in place and write back."""
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def mark_again(folder: Path) -> None:
    """Recompute the sizes and checksums in the marker: damage that looks like what was written."""

    def change(marker: Any) -> None:
        for name, written in marker["files"].items():
            data = (folder / name).read_bytes()
            written.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

    change_json(folder / COMPLETE, change)
