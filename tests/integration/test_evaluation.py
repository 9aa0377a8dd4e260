"""The evaluation end to end: figures recomputed from its files, ranks and stages, and directories."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections import Counter
from dataclasses import asdict
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from evaluation_worker import evaluate_case
from launching import HERE, REPOSITORY, composed, metrics_of, run_under_torchrun, steps_of
from transformers import AutoModelForCausalLM

from data_modules.benchmark import ALL_TASKS, GENERAL, TASKS, behaviour_of, is_correct
from data_modules.config import PromptSet
from data_modules.evaluation_rows import EvalRow
from data_modules.faults import ConfigFault
from trainer import distributed
from trainer.evaluation.evaluate import eval_losses
from trainer.evaluation.generate import generate, schedule
from trainer.evaluation.model import LoadedModel
from trainer.evaluation.standalone import evaluate_directory
from trainer.model import load_model
from trainer.run_facts import read_run
from trainer.train import make_data, train

SETS = [one.value for one in PromptSet]
BASE = REPOSITORY / "assets/bench_base"


def overrides(root: Path, name: str, *more: str) -> list[str]:
    """The shipped base model on a small benchmark, asked in all four ways."""
    return [
        "model=bench",
        "evaluation=full",
        "precision=fp32",
        "global_batch_size=16",
        "micro_batch_size=4",
        f"data.root={root}/data",
        f"data.cache_dir={root}/cache",
        "data.benchmark.multiplier=0.5",
        "data.benchmark.general_rows=40",
        "data.benchmark.eval_rows=6",
        "data.max_seq_len=96",
        "data.packing=false",
        "evaluation.batch_size=16",
        "evaluation.train_rows=4",
        "evaluation.bootstrap_samples=20",
        f"output_dir={root}/{name}",
        "cluster.threads_per_rank=1",
        *more,
    ]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluation")


@pytest.fixture(scope="module")
def run(root: Path) -> Path:
    """Twelve steps that learn the tasks' formats, looked at after four and eight."""
    more = (
        "+phase=mix",
        "limits.steps_per_phase=12",
        "curriculum.phases.mix.lr=3e-3",
        "evaluation.every_steps=4",
        "checkpoint=export_only",
    )
    train(composed(overrides(root, "run", *more)))
    return root / "run"


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def evaluation_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    return found


def columns(run: Path) -> dict[str, Path]:
    """Every evaluation of the run."""
    return {
        "initial": run / "initial",
        "step_000004": run / "evaluations/step_000004",
        "step_000008": run / "evaluations/step_000008",
        "mix": run / "phases/mix",
    }


def test_evaluations_land_where_they_belong(run: Path) -> None:
    assert sorted(path.name for path in (run / "evaluations").iterdir()) == [
        "step_000004",
        "step_000008",
    ]
    seen = [(one["step"], one["phase"]) for one in metrics_of(run) if "eval/loss/qa" in one]
    assert seen == [(0, "initial"), (4, "step_000004"), (8, "step_000008"), (12, "mix")]
    assert [one["step"] for one in steps_of(run)] == list(range(1, 13))
    assert list(read_run(run).evaluations) == ["initial", "mix"]


def predictions_of(folder: Path, prompt_set: str) -> dict[str, list[dict[str, Any]]]:
    found = {
        path.stem: lines_of(path)
        for path in sorted((folder / "predictions" / prompt_set).iterdir())
    }
    assert set(found) == set(ALL_TASKS)
    assert {len(rows) for rows in found.values()} == {6}
    return found


@pytest.mark.parametrize("prompt_set", SETS)
def test_figures_are_those_of_the_answers(run: Path, prompt_set: str) -> None:
    """By the benchmark's own programs, from the files of predictions."""
    right = leaked = 0.0
    for folder in columns(run).values():
        recorded = evaluation_of(folder)
        crosstalk = recorded["crosstalk"][prompt_set]
        rates = []
        for task, rows in predictions_of(folder, prompt_set).items():
            result = recorded["tasks"][task]["sets"][prompt_set]
            correct = [
                one["finished"]
                and is_correct(
                    task,
                    {"input": one["request"].split("\n")[-1], "output": one["gold"]},
                    one["processed"],
                )
                for one in rows
            ]
            assert result["processed"][f"bench:{task}"]["value"] == sum(correct) / 6
            assert result["truncated"] == sum(not one["finished"] for one in rows)
            shown = [behaviour_of(one["answer"]) for one in rows]
            assert [one["behaviour"] for one in rows] == shown
            matrix_row = crosstalk["matrix"][crosstalk["tasks"].index(task)]
            counts = Counter(shown)
            assert matrix_row == [counts[label] / 6 for label in crosstalk["labels"]]
            in_format = sum(one == task for one in shown) / 6
            assert result["in_format"]["value"] == in_format
            others = sum(counts[name] for name in ALL_TASKS if name != task) / 6
            if task != GENERAL:
                assert crosstalk["per_task"][task]["value"] == others
                assert crosstalk["gold_rate"][task] == 0
                rates.append(others)
            right, leaked = right + sum(correct), leaked + others
        assert crosstalk["rate"]["value"] == pytest.approx(sum(rates) / len(TASKS), abs=1e-12)
    assert leaked > 0, "else nothing was compared"
    assert right > 0


def test_prompts_are_those_of_the_sets(run: Path) -> None:
    folder = columns(run)["mix"]
    for prompt_set in SETS:
        for task, rows in predictions_of(folder, prompt_set).items():
            tagged = task != GENERAL and prompt_set != "no_tag"
            for one in rows:
                assert one["request"] in one["prompt"].replace("<sep>", "\n")
                assert (f"<tag_{task}>" in one["prompt"]) == tagged
                assert (f"#only_{task}" in one["prompt"]) == tagged
                file = f"eval_{prompt_set}" if prompt_set in ("paraphrase", "conflict") else "eval"
                assert one["origin"].startswith(f"{file}/{task}.jsonl:")


def test_leaks_are_examples_of_the_predictions(run: Path) -> None:
    for folder in columns(run).values():
        found = lines_of(folder / "leaks.jsonl")
        wanted: Counter[tuple[str, str, str]] = Counter()
        answers = {}
        for prompt_set in SETS:
            for task, rows in predictions_of(folder, prompt_set).items():
                for one in rows:
                    answers[prompt_set, one["origin"]] = one["answer"]
                    if one["behaviour"] not in (task, "mixed", "none"):
                        wanted[prompt_set, task, one["behaviour"]] += 1
        assert Counter((one["prompt_set"], one["asked"], one["shown"]) for one in found) == {
            pair: min(5, count) for pair, count in wanted.items()
        }
        for one in found:
            assert one["answer"] == answers[one["prompt_set"], one["origin"]]
            assert behaviour_of(one["answer"]) == one["shown"]


def test_training_losses_are_means_of_the_listed_rows(run: Path) -> None:
    for folder in columns(run).values():
        rows = lines_of(folder / "train_losses.jsonl")
        tasks = evaluation_of(folder)["tasks"]
        for task in ALL_TASKS:
            mine = [one for one in rows if one["task"] == task]
            assert len(mine) == 4
            tokens = sum(one["tokens"] for one in mine)
            mean = sum(one["loss"] * one["tokens"] for one in mine) / tokens
            assert tasks[task]["train_loss"] == pytest.approx(mean, rel=1e-9)


def test_metrics_have_the_evaluations_figures(run: Path) -> None:
    entries = {one["phase"]: one for one in metrics_of(run) if "eval/loss/qa" in one}
    for column, folder in columns(run).items():
        recorded = evaluation_of(folder)
        expected: dict[str, Any] = {}
        for task, one in recorded["tasks"].items():
            expected[f"eval/loss/{task}"] = one["loss"]
            expected[f"eval/train_loss/{task}"] = one["train_loss"]
            for name, found in one["sets"].items():
                inner = task if name == "ordinary" else f"{name}/{task}"
                expected[f"eval/score/{inner}"] = found["processed"][f"bench:{task}"]["value"]
                expected[f"eval/in_format/{inner}"] = found["in_format"]["value"]
        for name, found in recorded["crosstalk"].items():
            expected[f"eval/crosstalk/{name}"] = found["rate"]["value"]
            for task, figure in found["per_task"].items():
                expected[f"eval/crosstalk/{name}/{task}"] = figure["value"]
        lost = [max(0.0, -row[task]) for task, row in recorded["soft_crosstalk"].items()]
        assert len(lost) == len(TASKS)
        expected["eval/soft_crosstalk"] = pytest.approx(sum(lost) / len(lost), rel=1e-12)
        seen = {k: v for k, v in entries[column].items() if k.startswith("eval/")}
        assert seen == expected


# ---- ranks and stages

CASES = [(1, None), (1, 0), (2, None), (2, 0), (2, 2), (2, 3), (4, 0), (4, 3)]


@pytest.fixture(scope="module")
def by_ranks(run: Path, root: Path) -> Path:
    """The trained model evaluated by 1, 2 and 4 ranks, whole and under ZeRO 0 and 3."""

    def case(ranks: int, stage: int | None) -> dict[str, Any]:
        more = ("+phase=mix", "limits.steps_per_phase=12", f"model.path={run}/phases/mix/hf")
        return {
            "overrides": overrides(root, "unused", *more),
            "stage": stage,
            "folder": str(root / f"ranks{ranks}-{stage}"),
        }

    for ranks in (1, 2, 4):
        cases = [case(*one) for one in CASES if one[0] == ranks]
        if ranks == 1:
            for one in cases:
                evaluate_case(one)
        else:
            run_under_torchrun(HERE / "evaluation_worker.py", cases, ranks, root)
    return root


def flat(value: Any, key: str = "") -> dict[str, Any]:
    """Leaves of plain values by path."""
    if isinstance(value, dict):
        return {k: v for name, one in value.items() for k, v in flat(one, f"{key}/{name}").items()}
    if isinstance(value, list):
        return {k: v for n, one in enumerate(value) for k, v in flat(one, f"{key}/{n}").items()}
    return {key: value}


def assert_alike(found: Any, wanted: Any, tolerance: float) -> None:
    """Losses and probabilities within a relative tolerance; everything else exactly."""
    seen, right = flat(found), flat(wanted)
    assert seen.keys() == right.keys()
    for key, value in right.items():
        if value is not None and (key.endswith("loss") or key.startswith("/soft_crosstalk/")):
            assert seen[key] == pytest.approx(value, rel=tolerance, abs=tolerance), key
        else:
            assert seen[key] == value, key


def answers_in(folder: Path) -> dict[str, str]:
    """Files of predictions and leaks, as text."""
    files = [*folder.rglob("predictions/*/*.jsonl"), folder / "leaks.jsonl"]
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in files}


@pytest.mark.parametrize(("ranks", "stage"), CASES)
def test_ranks_and_stages_evaluate_as_training_did(
    by_ranks: Path, run: Path, ranks: int, stage: int | None
) -> None:
    folder, trained = by_ranks / f"ranks{ranks}-{stage}", run / "phases/mix"
    assert_alike(evaluation_of(folder), evaluation_of(trained), 1e-6)
    assert answers_in(folder) == answers_in(trained)
    assert len(answers_in(folder)) == len(SETS) * len(ALL_TASKS) + 1
    losses, others = (lines_of(one / "train_losses.jsonl") for one in (folder, trained))
    key = ("task", "row_key")
    for one, other in zip(
        sorted(losses, key=lambda row: [row[k] for k in key]),
        sorted(others, key=lambda row: [row[k] for k in key]),
        strict=True,
    ):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-6)
        assert {k: v for k, v in one.items() if k != "loss"} == {
            k: v for k, v in other.items() if k != "loss"
        }
    for rank in range(1, ranks):
        assert json.loads((folder / f"rank_{rank}.json").read_text()) == evaluation_of(folder)


# ---- directories


def without_training(evaluation: dict[str, Any]) -> dict[str, Any]:
    """What is left where there is no plan, so no training row."""
    for one in evaluation["tasks"].values():
        one["train_loss"] = None
    return evaluation


def test_an_exported_directory_is_the_phase_end(run: Path, root: Path) -> None:
    found = evaluate_directory(
        composed(overrides(root, "export", "+phase=mix", f"init_from={run}/phases/mix/hf"))
    )
    folder = root / "export/evaluation"
    assert evaluation_of(folder) == json.loads(json.dumps(asdict(found)))
    assert_alike(evaluation_of(folder), without_training(evaluation_of(run / "phases/mix")), 1e-6)
    assert answers_in(folder) == answers_in(run / "phases/mix")
    assert not (folder / "train_losses.jsonl").exists()


def test_anyones_directory_is_evaluated(
    run: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate_directory(composed(overrides(root, "other", "+phase=mix", f"init_from={BASE}")))
    folder = root / "other/evaluation"
    assert_alike(evaluation_of(folder), without_training(evaluation_of(run / "initial")), 1e-6)
    out = capsys.readouterr().out
    assert "bench_base" in out
    assert f"evaluation: {folder / 'evaluation.json'}" in out


def test_a_directory_that_is_no_model_is_a_fault(root: Path) -> None:
    (root / "nothing").mkdir()
    for place, seen in ((root / "nothing", "holds no config.json"), (root / "gone", "no such")):
        with pytest.raises(ConfigFault) as caught:
            evaluate_directory(composed(overrides(root, "bad", f"init_from={place}")))
        (fault,) = caught.value.faults
        assert (fault.where, fault.seen) == ("init_from", str(place))
        assert seen in fault.rule
    (root / "nothing/config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigFault) as caught:
        evaluate_directory(composed(overrides(root, "bad", f"init_from={root}/nothing")))
    assert caught.value.faults[0].where == "init_from"
    assert not (root / "bad").exists()


class StandIn:
    """vLLM as far as it is asked: ids in, greedy ids out, by plain transformers."""

    made: ClassVar[list[dict[str, Any]]] = []
    asked: ClassVar[list[tuple[Any, Any]]] = []

    def __init__(self, **settings: Any) -> None:
        self.made.append(settings)
        self.model = AutoModelForCausalLM.from_pretrained(
            settings["model"], dtype=torch.float32, attn_implementation="polyphase_segments"
        )

    def generate(self, prompts: list[Any], params: list[Any]) -> list[Any]:
        self.asked += zip(prompts, params, strict=True)
        rows = [SimpleNamespace(prompt_ids=one["prompt_token_ids"]) for one in prompts]
        limits = [one.max_tokens for one in params]
        (end,) = {one.stop_token_ids[0] for one in params}
        tokenizer = SimpleNamespace(eos_token_id=end, decode=lambda *_, **__: "")
        found = one_by_one(self.model, tokenizer, rows, limits)
        return [
            SimpleNamespace(outputs=[SimpleNamespace(token_ids=tuple(ids))]) for ids, *_ in found
        ]


def test_vllm_is_given_ids_and_its_answers_are_judged_as_ours(
    run: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vllm = ModuleType("vllm")
    vllm.__spec__ = ModuleSpec("vllm", None)
    vllm.LLM, vllm.SamplingParams = StandIn, SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", vllm)
    model = f"{run}/phases/mix/hf"
    more = ("+phase=mix", f"init_from={model}", "evaluation.engine=vllm")
    evaluate_directory(composed(overrides(root, "vllm", *more)))
    folder, trained = root / "vllm/evaluation", run / "phases/mix"
    assert answers_in(folder) == answers_in(trained)
    assert_alike(evaluation_of(folder), without_training(evaluation_of(trained)), 1e-6)
    assert len(StandIn.asked) == 6 * len(SETS) * len(ALL_TASKS)
    (made,) = StandIn.made
    longest = max(len(p["prompt_token_ids"]) + one.max_tokens for p, one in StandIn.asked)
    assert made == {
        "model": model,
        "skip_tokenizer_init": True,
        "generation_config": "vllm",
        "dtype": "float32",
        "max_model_len": longest,
        "gpu_memory_utilization": 0.5,
        "seed": 0,
    }
    for _, one in StandIn.asked:
        assert (one.temperature, one.detokenize, one.ignore_eos) == (0, False, True)


def test_vllm_that_is_not_installed_is_a_fault(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *rest: None if name == "vllm" else real(name, *rest),
    )
    with pytest.raises(ConfigFault) as caught:
        evaluate_directory(composed(overrides(root, "no_vllm", "evaluation.engine=vllm")))
    assert [one.where for one in caught.value.faults] == ["evaluation.engine"]
    assert not (root / "no_vllm").exists()


# ---- generation


@pytest.fixture(scope="module")
def base(root: Path) -> tuple[Any, Any]:
    """The shipped base model, and the data that asks it."""
    config = composed(overrides(root, "unused"))
    distributed.init(config.cluster, distributed.ranks_from_environment())
    data = make_data(config, None)
    model = load_model(config.model, data.tokenizer, None, 0)
    return LoadedModel(model, len(data.tasks), torch.device("cpu"), 1), data


def all_rows(data: Any) -> tuple[list[EvalRow], list[int]]:
    """Rows of every task, and the most new tokens of each, which differ within a batch."""
    rows = [row for some in data.eval_rows("mix", None)[0].values() for row in some]
    return rows, [4 + number % 5 for number in range(len(rows))]


def one_by_one(model: Any, tokenizer: Any, rows: list[EvalRow], limits: list[int]) -> list[Any]:
    """Plain transformers, one unpadded prompt at a time, no cache: ids, text, whether it ended."""
    found = []
    model.set_attn_implementation("sdpa")
    for row, limit in zip(rows, limits, strict=True):
        ids: list[int] = []
        while len(ids) < limit and tokenizer.eos_token_id not in ids:
            with torch.no_grad():
                hidden = model.model(torch.tensor([row.prompt_ids + ids]))[0][0, -1]
            ids.append(int((model.lm_head.weight @ hidden).argmax()))
        finished = tokenizer.eos_token_id in ids
        text = tokenizer.decode(ids[:-1] if finished else ids, skip_special_tokens=True)
        found.append((ids, text.strip(), finished))
    model.set_attn_implementation("polyphase_segments")
    return found


@pytest.mark.parametrize("batch_size", [1, 16, 1000])
def test_answers_are_those_of_one_by_one_generation(base: tuple[Any, Any], batch_size: int) -> None:
    model, data = base
    rows, limits = all_rows(data)
    batches = schedule(rows, limits, batch_size)
    if batch_size > 1:
        assert any(len({len(rows[i].prompt_ids) for i in batch}) > 3 for batch in batches)
    expected = one_by_one(model.causal_model, data.tokenizer, rows, limits)
    pauses: list[None] = []
    found = generate(
        model, data.tokenizer, rows, limits, batch_size, 0, lambda: pauses.append(None)
    )
    assert [one.index for one in found] == list(range(len(rows)))
    assert [(one.text, one.finished) for one in found] == [one[1:] for one in expected]
    assert len(pauses) == len(batches)
    assert len({text for _, text, _ in expected}) > 10
    assert {finished for _, _, finished in expected} == {True, False}


def test_an_evaluation_can_be_left_between_batches(base: tuple[Any, Any]) -> None:
    model, data = base
    rows, limits = all_rows(data)
    before = model.causal_model.config._attn_implementation, model.causal_model.generation_config
    seen: list[tuple[Any, Any]] = []

    def pause() -> None:
        causal = model.causal_model
        seen.append((causal.config._attn_implementation, causal.generation_config))
        if len(seen) == 3:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        generate(model, data.tokenizer, rows, limits, 16, 0, pause)
    # whoever saves in a pause finds the model as training has it
    assert seen == [before] * 3


def test_habits_of_the_models_own_do_not_count(base: tuple[Any, Any]) -> None:
    model, data = base
    rows = data.eval_rows("mix", None)[0][GENERAL]
    plain = generate(model, data.tokenizer, rows, [8] * len(rows), 16, 0)
    own = model.causal_model.generation_config
    own.repetition_penalty, own.min_new_tokens = 9.0, 8
    try:
        assert generate(model, data.tokenizer, rows, [8] * len(rows), 16, 0) == plain
    finally:
        own.repetition_penalty, own.min_new_tokens = None, None
    assert model.causal_model.generation_config is own


def test_no_evaluation_rows_are_no_losses(base: tuple[Any, Any]) -> None:
    model, data = base
    assert eval_losses(model, data, {}, 4, 0) == {}
