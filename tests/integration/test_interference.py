"""Measuring beside training: the right values under every ZeRO stage, and no bit of training touched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from interference_worker import ROWS_PER_TASK, SEED, STEPS, made_data, tiny_model, write_data
from rank_processes import RankProcesses
from test_run import overrides

from data_modules.phase_data_module import PhaseDataModule
from data_modules.probe_rows import probe_rows


def case(stage: int, precision: str = "fp32", **other: int) -> dict[str, Any]:
    settings = {"packing": False, "lora": False, "checkpointing": False, "sequence": 1, "hpz": 1}
    # Dropout draws random numbers, which measuring must not use up.
    return {"stage": stage, "precision": precision, "dropout": 0.1, **settings, **other}


CASES = {
    1: [case(0)],
    2: [
        case(0, packing=True),
        case(1, checkpointing=True),
        case(2),
        case(3, packing=True),
        case(2, "bf16", packing=True),
        case(3, "bf16", checkpointing=True, lora=True),
        case(3, packing=True, checkpointing=True, sequence=2),
    ],
    4: [
        case(2, packing=True),
        case(2, packing=True, sequence=2),
        case(3, packing=True, hpz=2),
    ],
}
EVERY = [(ranks, number) for ranks, cases in CASES.items() for number in range(len(cases))]
PLAIN = [
    (ranks, number)
    for ranks, number in EVERY
    if CASES[ranks][number]["precision"] == "fp32" and not CASES[ranks][number]["lora"]
]


def name_of(where: tuple[int, int]) -> str:
    one = CASES[where[0]][where[1]]
    flags = [flag for flag in ("packing", "lora", "checkpointing") if one[flag]]
    flags += [f"{flag}{one[flag]}" for flag in ("sequence", "hpz") if one[flag] > 1]
    return "-".join([f"ranks{where[0]}", f"zero{one['stage']}", one["precision"], *flags])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("interference")
    write_data(made)
    return made


@pytest.fixture(scope="module")
def results(root: Path, server: RankProcesses) -> dict[tuple[int, int], Any]:
    """(ranks, case) -> what it left without and with measurements; one launch per world size."""
    found = {}
    for ranks, cases in CASES.items():
        given, made = root / f"cases{ranks}.json", root / f"results{ranks}.json"
        given.write_text(json.dumps(cases), encoding="utf-8")
        places = {"ROOT": root, "CASES": given, "RESULTS": made}
        outcome = server.run(
            overrides(root / "unused", "unused"),
            ranks=ranks,
            command="interference_worker:command",
            environment={f"PROBE_{name}": str(path) for name, path in places.items()},
            timeout=500,
        )
        assert set(outcome.codes.values()) == {0}, str(outcome)
        for number, result in enumerate(json.loads(made.read_text(encoding="utf-8"))):
            found[ranks, number] = result
    return found


@pytest.mark.parametrize("where", EVERY, ids=name_of)
def test_training_does_not_notice(
    results: dict[tuple[int, int], Any], where: tuple[int, int]
) -> None:
    without, measured = results[where]
    assert len(measured["entries"]) == STEPS + 1
    assert measured["steps"] == without["steps"]
    assert measured["digests"] == without["digests"], "weights, moments, gradients, random numbers"
    # Digests that never changed would be equal, too.
    for one in without["digests"]:
        assert len(set(one)) == STEPS


class Exact:
    """The same rows through Hugging Face's own model and autograd, one by one."""

    def __init__(self, root: Path) -> None:
        self.data: PhaseDataModule = made_data(root, packing=True)
        self.data.load()
        self.plan = self.data.plans["mix"]
        self.model = tiny_model("eager").eval()
        self.loss: dict[str, float] = {}
        self.row_losses: dict[int, float] = {}
        halves = []
        for task, found in probe_rows(self.plan, ROWS_PER_TASK, SEED, "interference").items():
            lengths = self.plan.store.lengths_of(found.rows)
            rows = found.rows[np.argsort(lengths, kind="stable")]
            (one, some), (other, more) = self.gradient(rows[0::2]), self.gradient(rows[1::2])
            halves.append((one, other))
            self.loss[task] = (some[0] + more[0]) / (some[1] + more[1])
        self.halves = np.array([[half.numpy() for half in pair] for pair in halves])
        for found in probe_rows(self.plan, ROWS_PER_TASK, SEED, "train losses").values():
            for row in found.rows:
                nll, count = self.nll(int(row))
                self.row_losses[int(row)] = float(nll.detach()) / count

    def nll(self, row: int) -> tuple[torch.Tensor, int]:
        ids, supervised = self.plan.store.tokens(row)
        tokens = torch.from_numpy(ids.astype(np.int64))
        log_p = self.model(tokens[None]).logits[0, :-1].log_softmax(-1)
        own = log_p.gather(1, tokens[1:, None])[:, 0]
        return -own[torch.from_numpy(supervised[1:].copy())].sum(), int(supervised.sum())

    def gradient(self, rows: np.ndarray) -> tuple[torch.Tensor, tuple[float, int]]:
        """float64 [parameters] of the mean loss per answer token; and its sum and count."""
        self.model.zero_grad()
        nll = [self.nll(int(row)) for row in rows]
        total, count = sum(one for one, _ in nll), sum(number for _, number in nll)
        (total / count).backward()
        grads = [p.grad.double().flatten() for p in self.model.parameters()]
        return torch.cat(grads), (float(total.detach()), count)

    @property
    def cosine(self) -> np.ndarray:
        """Disattenuated, from whole gradients."""
        whole = self.halves.mean(1)
        own = (self.halves[:, 0] * self.halves[:, 1]).sum(-1)
        return whole @ whole.T / np.sqrt(np.outer(own, own))


@pytest.fixture(scope="module")
def exact(root: Path) -> Exact:
    torch.set_num_threads(1)
    return Exact(root)


@pytest.mark.parametrize("where", PLAIN, ids=name_of)
def test_cosines_are_those_of_whole_gradients(
    results: dict[tuple[int, int], Any], exact: Exact, where: tuple[int, int]
) -> None:
    entry = results[where][1]["entries"][0]
    assert entry["tasks"] == ["copy", "few", "long", "twin"]
    pairs = np.triu_indices(4, 1)
    cosine = np.array(entry["cosine"])
    assert np.allclose(cosine, cosine.T)
    assert np.diag(cosine).tolist() == [1.0] * 4
    # 1 / sqrt(4096) is 0.016, and self-cosines of 0.7 to 0.9 divide it
    error = (cosine - exact.cosine)[pairs]
    assert np.sqrt((error**2).mean()) < 0.03
    assert np.corrcoef(cosine[pairs], exact.cosine[pairs])[0, 1] > 0.7
    own = (exact.halves[:, 0] * exact.halves[:, 1]).sum(-1)
    own /= np.linalg.norm(exact.halves, axis=-1).prod(1)
    assert entry["self_cosine"] == pytest.approx(own.tolist(), abs=0.04)
    norms = np.linalg.norm(exact.halves.mean(1), axis=-1)
    assert entry["norm"] == pytest.approx(norms.tolist(), rel=0.05)
    assert entry["loss"] == pytest.approx(list(exact.loss.values()), rel=1e-5)


@pytest.mark.parametrize("where", PLAIN, ids=name_of)
def test_values_do_not_depend_on_ranks_stage_and_packing(
    results: dict[tuple[int, int], Any], where: tuple[int, int]
) -> None:
    first, entry = (results[one][1]["entries"][0] for one in (PLAIN[0], where))
    for name in ("cosine", "self_cosine", "norm", "loss", "conflict_rate"):
        assert np.asarray(entry[name]) == pytest.approx(np.asarray(first[name]), abs=2e-5), name


@pytest.mark.parametrize("where", PLAIN, ids=name_of)
def test_losses_of_training_rows_are_exact(
    results: dict[tuple[int, int], Any], exact: Exact, where: tuple[int, int]
) -> None:
    found = results[where][1]["train"][0]
    times = np.bincount(exact.plan.rows)
    assert {row["row"] for row in found["rows"]} == set(exact.row_losses)
    sums: dict[str, list[float]] = {}
    for row in found["rows"]:
        assert row["loss"] == pytest.approx(exact.row_losses[row["row"]], rel=1e-5)
        assert row["times"] == times[row["row"]] > 0
        assert row["row_key"] == int(exact.plan.store.row_keys[row["row"]])
        total = sums.setdefault(row["task"], [0.0, 0.0])
        total[0] += row["loss"] * row["tokens"]
        total[1] += row["tokens"]
    assert found["per_task"] == pytest.approx({t: nll / n for t, (nll, n) in sums.items()})
    for task in sums:
        losses = [row["loss"] for row in found["rows"] if row["task"] == task]
        assert losses == sorted(losses, reverse=True)


def test_training_lowers_what_is_measured(results: dict[tuple[int, int], Any]) -> None:
    for where in EVERY:
        measured = results[where][1]
        first, last = measured["entries"][0], measured["entries"][-1]
        assert sum(last["loss"]) < sum(first["loss"]), name_of(where)
        for task, loss in measured["train"][-1]["per_task"].items():
            assert loss < measured["train"][0]["per_task"][task], (name_of(where), task)


def test_lora_measures_the_adapters_alone(results: dict[tuple[int, int], Any]) -> None:
    number = next(i for i, one in enumerate(CASES[2]) if one["lora"])
    lora = results[2, number][1]["entries"]
    full = results[2, 0][1]["entries"]
    assert max(lora[0]["norm"]) < 0.5 * min(full[0]["norm"])
