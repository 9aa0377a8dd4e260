"""The loss curve is the plain PyTorch one, whatever computes it.

Twenty steps across a phase switch (other mixture, order, learning rate, normalisation) under ZeRO 0-3,
on 1, 2 and 4 ranks, with micro-batch x accumulation 1 x 8, 2 x 4 and 8 x 1, packed and unpacked, with
whole and with shared sequences, with and without negatives, against a reference loop that knows neither
DeepSpeed nor our loss, packing, batching and schedule code.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from launching import composed, steps_of
from rank_processes import RankProcesses
from transformers import AutoModelForCausalLM

from trainer.model import load_model
from trainer.train import make_data

# fp32 sums in another order differ in the 7th digit; twenty AdamW steps carry that on.
LOSS_TOLERANCE = 2e-5
P_TOLERANCE = 2e-4  # a difference in nll is a ratio in p
GRAD_NORM_TOLERANCE = 2e-3

STEPS = {"mix": 12, "specialize": 8}
LR = {"mix": 1e-3, "specialize": 4e-4}
NEGATIVE_WEIGHT = {"mix": 0.3, "specialize": 0.5}


@dataclass(frozen=True)
class Case:
    """One way to compute the same run."""

    ranks: int
    stage: int
    micro: int
    packing: bool
    negatives: bool = False
    sequence: int = 1  # ranks that share each micro-batch

    @property
    def name(self) -> str:
        packed = "packed" if self.packing else "padded"
        name = f"ranks{self.ranks}-zero{self.stage}-micro{self.micro}-{packed}"
        name += f"-sequence{self.sequence}" * (self.sequence > 1)
        return name + "-negatives" * self.negatives


# Unpacked with a global batch of 8 rows on one rank: 1 x 8, 2 x 4 and 8 x 1.
CASES = [
    *(Case(1, 0, micro, False) for micro in (1, 2, 8)),
    Case(1, 3, 1, True),
    *(Case(2, stage, 2, False) for stage in (0, 1, 2, 3)),
    *(Case(2, stage, 1, True) for stage in (0, 1, 2, 3)),
    Case(4, 0, 1, False),
    Case(4, 1, 2, True),
    Case(4, 2, 1, True),
    Case(4, 3, 2, False),
    Case(1, 0, 2, False, negatives=True),
    Case(1, 2, 1, True, negatives=True),
    Case(1, 3, 4, False, negatives=True),
    Case(2, 0, 1, True, negatives=True),
    Case(2, 2, 2, False, negatives=True),
    Case(2, 3, 1, True, negatives=True),
    Case(2, 0, 1, True, sequence=2),
    Case(2, 3, 1, True, sequence=2, negatives=True),
    Case(4, 0, 1, True, sequence=2),
    Case(4, 3, 1, True, sequence=2),
]


def overrides(root: Path, case: Case) -> list[str]:
    """The run of a case; only how it is computed differs between cases."""
    mix, special = "curriculum.phases.mix", "curriculum.phases.specialize"
    weight = NEGATIVE_WEIGHT
    negatives = [
        "data.negatives.cross_task=1.0",
        "data.negatives.swapped_instruction=0.5",
        f"{mix}.negatives={{share:0.25,weight:{weight['mix']},start:0.25}}",
        f"{special}.negatives={{share:0.4,weight:{weight['specialize']},start:0.0}}",
    ]
    return [
        *(negatives if case.negatives else []),
        "+phase=[mix,specialize]",
        "model=bench_scratch",
        "precision=fp32",
        f"zero.stage={case.stage}",
        "global_batch_size=8",
        f"micro_batch_size={case.micro}",
        f"sequence_parallel_size={case.sequence}",
        f"data.packing={str(case.packing).lower()}",
        "data.max_seq_len=96",
        f"data.root={root}/data",
        f"data.cache_dir={root}/cache",
        "data.benchmark.multiplier=0.5",
        "data.benchmark.general_rows=100",
        "data.benchmark.eval_rows=4",
        f"output_dir={root}/{case.name}",
        "evaluation=none",
        "checkpoint=none",
        "cluster.threads_per_rank=1",
        "optimizer.weight_decay=0.1",
        f"{mix}.epochs=null",
        f"{mix}.steps={STEPS['mix']}",
        f"{mix}.lr={LR['mix']}",
        f"{mix}.schedule={{shape:cosine,warmup_ratio:0.25,end_ratio:0.1}}",
        f"{mix}.loss_normalization=token",
        f"{mix}.loss_weights={{qa:2.0}}",
        f"{special}.epochs=null",
        f"{special}.steps={STEPS['specialize']}",
        f"{special}.lr={LR['specialize']}",
        f"{special}.schedule={{shape:linear,warmup_ratio:0.0,end_ratio:0.0}}",
        f"{special}.block_rows=5",
        f"{special}.loss_normalization=task",
    ]


def declared_lr(phase: str, index: int) -> float:
    """The learning rate that the overrides above declare, written out by hand."""
    if phase == "mix":
        if index < 3:
            return LR["mix"] * (index + 1) / 3
        progress = (index - 2) / 9
        return LR["mix"] * (0.1 + 0.9 * (1 + math.cos(math.pi * progress)) / 2)
    return LR["specialize"] * (1 - (index + 1) / 8)


def reference(root: Path, negatives: bool) -> list[dict[str, Any]]:
    """Row by row, no packing, no DeepSpeed: the same rows through plain PyTorch."""
    torch.set_num_threads(1)
    config = composed(overrides(root, Case(1, 0, 1, False, negatives)))
    data = make_data(config, None)
    data.prepare()
    data.load()
    ours = load_model(config.model, data.tokenizer, None, config.seed)
    model = AutoModelForCausalLM.from_config(ours.config, attn_implementation="eager")
    model.load_state_dict(ours.state_dict())
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        lr=0.0,
        betas=(0.9, 0.95),
        eps=1e-8,
    )
    curve = []
    for phase in STEPS:
        plan = data.plans[phase]
        for index in range(plan.steps):
            losses: list[tuple[str, torch.Tensor]] = []  # nll of every supervised token
            pushed: list[tuple[str, torch.Tensor]] = []  # p of every negative one
            for row in plan.step_rows(index):
                ids, supervised = plan.store.tokens(int(row))
                tokens = torch.tensor(ids[None].astype("int64"))
                log_p = model(tokens).logits[0, :-1].log_softmax(-1)
                nll = -log_p.gather(1, tokens[0, 1:, None])[:, 0]
                task = data.tasks[int(plan.store.task_ids[row])]
                trained = [(task, one) for one, on in zip(nll, supervised[1:], strict=True) if on]
                if plan.store.signs[row] > 0:
                    losses += trained
                else:
                    pushed += [(task, torch.exp(-one)) for _, one in trained]
            per_task, p_of = by_task(losses), by_task(pushed)
            unlikely = {task: -torch.log(1 - p).sum() for task, p in p_of.items()}
            negative_weight = NEGATIVE_WEIGHT[phase]
            if phase == "mix":  # token mean, qa counting twice
                weight = {task: 2.0 if task == "qa" else 1.0 for task in per_task}
                total = sum(weight[task] * len(nll) for task, nll in per_task.items())
                loss = sum(weight[task] * nll.sum() for task, nll in per_task.items()) / total
                for task, one in unlikely.items():
                    loss = loss + negative_weight * (2.0 if task == "qa" else 1.0) * one / total
            else:  # mean inside a task, all eleven tasks of the phase alike, absent ones adding 0
                loss = sum(nll.mean() for nll in per_task.values()) / 11
                mean = sum(map(len, per_task.values())) / len(per_task)
                for task, one in unlikely.items():
                    tokens = len(per_task[task]) if task in per_task else mean
                    loss = loss + negative_weight * one / tokens / 11
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for group in optimizer.param_groups:
                group["lr"] = declared_lr(phase, index)
            optimizer.step()
            curve.append(
                {
                    "phase": phase,
                    "loss": loss.item(),
                    "grad_norm": float(norm),
                    "lr": declared_lr(phase, index),
                    **{f"loss/{task}": float(nll.mean()) for task, nll in per_task.items()},
                    **{f"tokens/{task}": len(nll) for task, nll in per_task.items()},
                    **{f"negative/p/{task}": float(p.mean()) for task, p in p_of.items()},
                    **{f"negative/tokens/{task}": len(p) for task, p in p_of.items()},
                }
            )
    return curve


def by_task(values: list[tuple[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {
        task: torch.stack([one for name, one in values if name == task]) for task in dict(values)
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, server: RankProcesses) -> Path:
    """All cases trained, one launch per world size."""
    root = tmp_path_factory.mktemp("exactness")
    composed(overrides(root, CASES[0]))  # generates the data once
    for ranks in sorted({case.ranks for case in CASES}):
        cases = [overrides(root, case) for case in CASES if case.ranks == ranks]
        file = root / f"cases{ranks}.json"
        file.write_text(json.dumps(cases), encoding="utf-8")
        outcome = server.run(
            cases[0],
            ranks=ranks,
            command="train_worker:command",
            environment={"TRAIN_CASES": str(file)},
            timeout=550,
        )
        assert set(outcome.codes.values()) == {0}, str(outcome)
    return root


@pytest.fixture(scope="module")
def expected(runs: Path) -> dict[bool, list[dict[str, Any]]]:
    """The reference without and with negatives."""
    return {negatives: reference(runs, negatives) for negatives in (False, True)}


MEASURED = ("loss", "tokens/", "negative/")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_equals_plain_pytorch(
    runs: Path, expected: dict[bool, list[dict[str, Any]]], case: Case
) -> None:
    curve = steps_of(runs / case.name)
    assert [entry["step"] for entry in curve] == list(range(1, 21))
    for entry, wanted in zip(curve, expected[case.negatives], strict=True):
        assert entry["phase"] == wanted["phase"]
        assert entry["lr"] == pytest.approx(wanted["lr"], rel=1e-12, abs=1e-18)
        assert entry["grad_norm"] == pytest.approx(wanted["grad_norm"], rel=GRAD_NORM_TOLERANCE)
        measured = {name for name in entry if name.startswith(MEASURED)}
        assert measured == {name for name in wanted if name.startswith(MEASURED)}
        for name in measured:
            rel = P_TOLERANCE if name.startswith("negative/") else LOSS_TOLERANCE
            assert entry[name] == pytest.approx(wanted[name], rel=rel), name


def test_the_reference_learns(expected: dict[bool, list[dict[str, Any]]]) -> None:
    # A curve that did not move would agree with anything.
    for curve in expected.values():
        assert curve[11]["loss"] < 0.9 * curve[0]["loss"]


def test_negatives_begin_where_they_are_declared(
    expected: dict[bool, list[dict[str, Any]]],
) -> None:
    have = [any(name.startswith("negative/") for name in one) for one in expected[True]]
    assert have[:3] == [False] * 3, "a quarter of the twelve steps of mix"
    assert any(have[3:12])
    assert any(have[12:])
