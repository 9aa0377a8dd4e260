"""Whole runs: what they write, how phases continue one another, and that exports are the model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from launching import (
    REPOSITORY,
    composed,
    metrics_of,
    steps_of,
    train_under_torchrun,
    without_clocks,
)
from transformers import AutoModelForCausalLM, AutoTokenizer

from trainer.train import make_data, train

PHASES = ("mix", "specialize", "hard")


def overrides(root: Path, name: str, *more: str) -> list[str]:
    """A run of three phases of three steps on the benchmark, tiny in every respect."""
    return [
        "model=bench_scratch",
        "precision=fp32",
        "global_batch_size=16",
        "micro_batch_size=2",
        "limits.steps_per_phase=3",
        f"data.root={root}/data",
        f"data.cache_dir={root}/cache",
        "data.benchmark.multiplier=0.5",
        "data.benchmark.general_rows=100",
        "data.benchmark.eval_rows=6",
        "data.max_seq_len=96",
        f"output_dir={root}/{name}",
        "cluster.threads_per_rank=1",
        *more,
    ]


@dataclass(frozen=True)
class Export:
    """A run whose exports are checked, and the tolerance of its evaluation loss."""

    name: str
    overrides: tuple[str, ...]
    tolerance: float


LOSS = "evaluation.generate=false"  # generation gathers weights for every token under ZeRO-3

# bf16: the engine computes in bf16, the check below in fp32 from the same bf16 weights.
EXPORTS = [
    Export("zero0", ("zero=zero0",), 1e-5),
    Export("zero2", ("zero=zero2",), 1e-5),
    Export("zero3", ("zero=zero3",), 1e-5),
    Export("zero3-offload", ("zero=zero3_offload", LOSS), 1e-5),
    Export("zero2-offload", ("zero=zero2_offload", LOSS), 1e-5),
    Export("lora-zero2", ("adaptation=lora", "zero=zero2", LOSS), 1e-5),
    Export("lora-zero3", ("adaptation=lora", "zero=zero3", LOSS), 1e-5),
    Export("checkpointed", ("model.activation_checkpointing=true", "zero=zero2", LOSS), 1e-5),
    Export("bf16-zero1", ("precision=bf16", "zero=zero1", LOSS), 1e-2),
    Export("bf16-zero2", ("precision=bf16", "zero=zero2", LOSS), 1e-2),
    Export("bf16-zero3", ("precision=bf16", "zero=zero3", LOSS), 1e-2),
]

RESET = "curriculum.phases.specialize.optimizer_state=reset"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def two_ranks(root: Path) -> Path:
    """Every run on two ranks, in one launch."""
    composed(overrides(root, "unused"))  # generates the data once
    quick = ("+phase=[mix,hard]", "evaluation.before_training=false")
    cases = [overrides(root, one.name, *quick, *one.overrides) for one in EXPORTS]
    for stage in (0, 1, 2, 3):
        common = (f"zero.stage={stage}", "evaluation=none")
        both = "+phase=[mix,specialize]"
        cases.append(overrides(root, f"reset{stage}", *common, both, RESET))
        cases.append(overrides(root, f"keep{stage}", *common, both))
        for phase in ("mix", "specialize"):
            weights = (*common, f"+phase={phase}", "checkpoint=export_only")
            cases.append(overrides(root, f"single{stage}", *weights))
            cases.append(overrides(root, f"chain{stage}", *common, f"+phase={phase}"))
    train_under_torchrun(cases, 2, root)
    return root


@pytest.fixture(scope="module")
def one_process(root: Path) -> Path:
    """The whole curriculum in this process."""
    train(composed(overrides(root, "one", "logging.tensorboard=true")))
    return root / "one"


def test_metrics_have_every_field(one_process: Path) -> None:
    steps = steps_of(one_process)
    assert [entry["step"] for entry in steps] == list(range(1, 10))
    assert [entry["phase"] for entry in steps] == [name for name in PHASES for _ in range(3)]
    for entry in steps:
        assert {"loss", "lr", "grad_norm", "tokens", "tokens_per_second"} <= set(entry)
        seconds = entry["tokens"] / entry["tokens_per_second"]
        assert 0 <= entry["data_wait_seconds"] <= seconds
        tasks = {name.removeprefix("tokens/") for name in entry if name.startswith("tokens/")}
        assert tasks == {name.removeprefix("loss/") for name in entry if name.startswith("loss/")}
        # token normalisation: the loss is the token-weighted mean of the tasks'
        total = sum(entry[f"tokens/{task}"] for task in tasks)
        mean = sum(entry[f"loss/{task}"] * entry[f"tokens/{task}"] for task in tasks) / total
        assert entry["loss"] == pytest.approx(mean, rel=1e-5)


def test_the_optimizer_learning_rate_is_the_declared_curve(one_process: Path) -> None:
    # warm-up 3 % of 3 steps is none; cosine from 1 to 0.1 over three steps: 0.775, 0.325, 0.1
    shape = [0.775, 0.325, 0.1]
    declared = [peak * factor for peak in (2e-4, 1e-4, 1e-4) for factor in shape]
    seen = [entry["lr"] for entry in steps_of(one_process)]
    assert seen == pytest.approx(declared, rel=1e-9)


def test_the_run_directory(one_process: Path) -> None:
    for name in ("config.yaml", "plan.json", "environment.json", "log/rank_0.log"):
        assert (one_process / name).is_file()
    assert list((one_process / "tensorboard").glob("events*"))
    assert (one_process / "initial/evaluation.json").is_file()
    last = {"mix": 3, "specialize": 6, "hard": 9}
    for phase in PHASES:
        assert (one_process / f"phases/{phase}/evaluation.json").is_file()
        assert (one_process / f"phases/{phase}/predictions/ordinary/qa.jsonl").is_file()
        assert (one_process / f"checkpoints/step_{last[phase]:06d}/complete.json").is_file()
        card = (one_process / f"phases/{phase}/hf/README.md").read_text(encoding="utf-8")
        assert f"| {phase} |" in card
    evaluations = [entry for entry in metrics_of(one_process) if "eval/loss/qa" in entry]
    assert [(entry["step"], entry["phase"]) for entry in evaluations] == [
        (0, "initial"),
        (3, "mix"),
        (6, "specialize"),
        (9, "hard"),
    ]


def independent_losses(export: Path, eval_files: Path) -> dict[str, float]:
    """Evaluation loss by plain transformers, one row at a time, prompts built by hand."""
    tasks = REPOSITORY / "conf/task/bench"
    model = AutoModelForCausalLM.from_pretrained(export, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(export)
    losses = {}
    for file in sorted(eval_files.glob("*.jsonl")):
        texts = yaml.safe_load((tasks / f"{file.stem}.yaml").read_text(encoding="utf-8"))
        total, tokens = 0.0, 0
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            request = f"{row['instruction']}\n{row['input']}"
            if texts["tag"]:
                request = f"{texts['tag']} {request}\n{texts['constraint']}"
            turns = [{"role": "user", "content": request}]
            prompt = tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=True
            )
            turns.append({"role": "assistant", "content": row["output"]})
            whole = tokenizer.apply_chat_template(turns, tokenize=False)
            start = len(tokenizer.encode(prompt, add_special_tokens=False))
            ids = torch.tensor([tokenizer.encode(whole, add_special_tokens=False)])
            with torch.no_grad():
                log_p = model(ids).logits[0, :-1].log_softmax(-1)
            nll = -log_p.gather(1, ids[0, 1:, None])[start - 1 :, 0]
            total, tokens = total + float(nll.sum()), tokens + len(nll)
        losses[file.stem] = total / tokens
    return losses


@pytest.mark.parametrize("run", EXPORTS, ids=lambda run: run.name)
def test_the_export_is_the_model(two_ranks: Path, run: Export) -> None:
    hard = two_ranks / run.name / "phases/hard"
    recorded = json.loads((hard / "evaluation.json").read_text(encoding="utf-8"))["tasks"]
    losses = independent_losses(hard / "hf", two_ranks / "data/eval")
    assert set(losses) == set(recorded)
    for task, loss in losses.items():
        assert loss == pytest.approx(recorded[task]["loss"], rel=run.tolerance), task


def test_ranks_and_stages_evaluate_alike(two_ranks: Path, one_process: Path) -> None:
    def tasks(run: Path) -> dict[str, dict[str, float]]:
        path = run / "phases/mix/evaluation.json"
        return json.loads(path.read_text(encoding="utf-8"))["tasks"]

    alone = tasks(one_process)
    generated = {"zero0", "zero2", "zero3"}
    for name in (*generated, "checkpointed", "zero3-offload", "zero2-offload"):
        for task, result in tasks(two_ranks / name).items():
            assert result["loss"] == pytest.approx(alone[task]["loss"], rel=1e-4)
            assert result["sets"] == (alone[task]["sets"] if name in generated else {})
            assert result["rows"] == 6


def test_lora_trains_only_adapters(two_ranks: Path) -> None:
    for name in ("lora-zero2", "lora-zero3"):
        hf = two_ranks / name / "phases/hard/hf"
        adapter = json.loads((hf / "adapter/adapter_config.json").read_text(encoding="utf-8"))
        assert adapter["r"] == 8
        before = AutoModelForCausalLM.from_pretrained(two_ranks / name / "phases/mix/hf")
        after = AutoModelForCausalLM.from_pretrained(hf)
        changed = {
            key
            for key, value in after.state_dict().items()
            if not torch.equal(value, before.state_dict()[key])
        }
        assert changed
        assert all("proj.weight" in key for key in changed)


def test_lora_adapter_loads_with_peft(two_ranks: Path) -> None:
    from peft import PeftModel

    run = two_ranks / "lora-zero2"
    hf = run / "phases/hard/hf"
    merged = AutoModelForCausalLM.from_pretrained(hf)
    base = AutoModelForCausalLM.from_pretrained(hf)
    state = PeftModel.from_pretrained(base, hf / "adapter").get_base_model().state_dict()
    up = next(key for key in state if "lora_B" in key)
    assert state[up].abs().sum() > 0
    # taking the update off the merged weights must give the frozen ones, equal after every phase
    first = AutoModelForCausalLM.from_pretrained(run / "phases/mix/hf").state_dict()
    module = up.split(".lora_B")[0]
    update = state[up] @ state[up.replace("lora_B", "lora_A")] * 2.0  # alpha 16 / r 8
    name = f"{module}.weight"
    frozen = merged.state_dict()[name] - update
    assert not torch.allclose(first[name], merged.state_dict()[name], atol=1e-7)
    assert torch.allclose(frozen, random_start(two_ranks)[name], atol=1e-6)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_the_exported_tokenizer_gives_the_same_ids(root: Path, family: str) -> None:
    """AutoTokenizer replaces a generic tokenizer beside a qwen2 model; we must not, and must warn."""
    from trainer.model import load_tokenizer

    name = f"family-{family}"
    settings = (f"model.architecture.model_type={family}", "+phase=mix", "evaluation=none")
    train(composed(overrides(root, name, *settings, "limits.steps_per_phase=1")))
    folder = root / name / "phases/mix/hf"
    text = "<bos><tag_qa> tell digit\nk_7 @ k<ans>"
    wanted = AutoTokenizer.from_pretrained(root / "data/tokenizer").encode(text)
    again = composed(overrides(root, "unused", f"model.path={folder}", "model.tokenizer=null"))
    assert load_tokenizer(again.model, None).encode(text) == wanted
    plain_is_right = AutoTokenizer.from_pretrained(folder).encode(text) == wanted
    log = (root / name / "log/rank_0.log").read_text(encoding="utf-8")
    assert plain_is_right == ("AutoTokenizer would load another tokenizer" not in log)


def random_start(root: Path) -> dict[str, torch.Tensor]:
    """The weights every run here starts from."""
    from trainer.model import load_model

    config = composed(overrides(root, "unused"))
    data = make_data(config, None)
    return load_model(config.model, data.tokenizer, None, config.seed).state_dict()


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_reset_equals_a_fresh_optimizer(two_ranks: Path, stage: int) -> None:
    """With a reset, phase 2 of one run is phase 2 started from phase 1's export."""
    whole = steps_of(two_ranks / f"reset{stage}")
    parts = steps_of(two_ranks / f"single{stage}")
    kept = steps_of(two_ranks / f"keep{stage}")
    assert [entry["step"] for entry in parts] == [1, 2, 3, 4, 5, 6]
    for one, other in zip(whole, parts, strict=True):
        assert one["phase"] == other["phase"]
        assert one["lr"] == other["lr"]
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-6)
    # Step 5 is the first whose loss shows the update of the first step after the switch.
    assert kept[3]["loss"] == pytest.approx(whole[3]["loss"], rel=1e-6)
    assert abs(kept[4]["loss"] / whole[4]["loss"] - 1) > 1e-5


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_phases_one_by_one_are_the_whole_run(two_ranks: Path, stage: int) -> None:
    """A phase of its own continues from the checkpoint before it, moments and all, to the last bit."""
    whole, chain = steps_of(two_ranks / f"keep{stage}"), steps_of(two_ranks / f"chain{stage}")
    assert [without_clocks(one) for one in chain] == [without_clocks(one) for one in whole]
    log = (two_ranks / f"chain{stage}/log/rank_0.log").read_text(encoding="utf-8")
    assert "Resumes behind step 3 (3 of 3 steps of phase 'mix')" in log


def test_a_single_phase_says_where_it_starts(two_ranks: Path) -> None:
    log = (two_ranks / "single2/log/rank_0.log").read_text(encoding="utf-8")
    assert f"Starts from phase 'mix' in {two_ranks}/single2 (step 3" in log


def test_init_from_and_no_previous_phase(one_process: Path, root: Path) -> None:
    common = ("evaluation=none", "checkpoint=none", "+phase=specialize")
    train(composed(overrides(root, "alone", *common)))
    log = (root / "alone/log/rank_0.log").read_text(encoding="utf-8")
    assert "Starts from the model itself (random weights; no finished phase 'mix'" in log
    export = one_process / "phases/mix/hf"
    train(composed(overrides(root, "from", *common, f"init_from={export}")))
    log = (root / "from/log/rank_0.log").read_text(encoding="utf-8")
    assert f"Starts from init_from={export}." in log
    # the rows and the weights of step 4 of the whole run, though the moments are fresh
    whole, alone = steps_of(one_process)[3], steps_of(root / "from")[0]
    assert alone["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    assert steps_of(root / "alone")[0]["loss"] != pytest.approx(whole["loss"], rel=1e-3)


def test_a_finished_run_without_checkpoints_is_not_trained_again(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = overrides(root, "weights", "+phase=mix", "evaluation=none", "checkpoint=export_only")
    train(composed(given))
    export = root / "weights/phases/mix/hf/model.safetensors"
    made = export.stat().st_mtime_ns
    capsys.readouterr()
    train(composed([*given, "logging.console_seconds=5"]))
    assert "is finished: nothing is left to train" in " ".join(capsys.readouterr().out.split())
    assert export.stat().st_mtime_ns == made
    train(composed([*given, "optimizer.beta2=0.9"]))  # another run, which replaces it
    assert export.stat().st_mtime_ns != made


def test_training_again_replaces_the_earlier_run(root: Path) -> None:
    run = root / "again"
    for _ in range(2):
        train(composed(overrides(root, "again", "+phase=mix", "evaluation=none", "resume=never")))
    assert [entry["step"] for entry in steps_of(run)] == [1, 2, 3]
    log = (run / "log/rank_0.log").read_text(encoding="utf-8")
    assert "held an earlier run, which this one replaces" in log


def test_overfit_reaches_a_low_loss(root: Path) -> None:
    train(
        composed(
            overrides(
                root,
                "overfit",
                "debug=overfit",
                f"output_dir={root}/overfit",
                "limits.steps_per_phase=40",
                "+phase=mix",
                "curriculum.phases.mix.epochs=40",
                "curriculum.phases.mix.lr=3e-3",
                "checkpoint=none",
            )
        )
    )
    steps = steps_of(root / "overfit")
    assert steps[0]["loss"] > 5
    assert steps[-1]["loss"] < 0.7
