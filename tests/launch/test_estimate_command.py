"""``launch/plan.py`` with ``estimate.only``: no data, no weights, and words where nothing fits."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from data_modules.faults import ConfigFault
from launch.composing import REPOSITORY, addable, checked_config
from trainer.config.schema import Config
from trainer.planning import show_plan

#: Qwen2.5-7B, by its own config.json.
SEVEN_BILLION = {
    "model_type": "qwen2",
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
}
SMALL = {
    "model_type": "llama",
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}


def random(fields: dict[str, object]) -> tuple[str, str]:
    words = ",".join(f"{key}:{value}" for key, value in fields.items())
    return "model.init=random", f"model.architecture={{{words}}}"


def config_of(*overrides: str) -> Config:
    """What the command line makes of them; nothing is generated or looked for."""
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        words = addable(["estimate.only=true", *overrides])
        tree = compose("train", overrides=words, return_hydra_config=True)
    HydraConfig.instance().set_config(tree)
    with open_dict(tree):
        del tree["hydra"]
    return checked_config(tree)


def printed(capsys: pytest.CaptureFixture[str], *overrides: str) -> str:
    show_plan(config_of(*overrides))
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_seven_billion_parameters_without_data_weights_or_tokenizer(
    capsys: pytest.CaptureFixture[str], elsewhere: Path
) -> None:
    out = printed(
        capsys, "experiment=ten_tasks/full_7b", "estimate=h100", "estimate.propose=false",
        *random(SEVEN_BILLION),
    )  # fmt: skip
    # as its model card counts them: 7.61 billion
    assert out.startswith("estimate: 7,615,616,512 parameters, 7,615,616,512 trained, 8 rank(s)")
    (need,) = re.findall(r"memory per GPU: (\S+) GiB of 73.28 GiB, in", out)
    # weights, masters, accumulators and moments of an eighth, and a few layers beside them
    assert 18 * 7.6156 / 8 / 1.0737 < float(need) < 30
    assert re.search(r"step: \S+ s = compute", out)
    assert list(elsewhere.iterdir()) == []


def test_a_model_directory_that_has_only_a_config(
    capsys: pytest.CaptureFixture[str], elsewhere: Path
) -> None:
    folder = elsewhere / "model"
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({"architectures": ["LlamaForCausalLM"], **SMALL}), encoding="utf-8"
    )
    out = printed(capsys, "data=ten_tasks", "model=hf", f"model.path={folder}")
    same = printed(capsys, "data=ten_tasks", "model=hf", "model.path=unused", *random(SMALL))
    assert out == same
    assert "memory per rank: " in out
    assert "step:" not in out  # no cluster is described


def test_a_random_model_needs_a_size_for_its_vocabulary() -> None:
    fields = {key: value for key, value in SMALL.items() if key != "vocab_size"}
    config = config_of("model=hf", "model.path=unused/unused", *random(fields))
    with pytest.raises(ConfigFault, match=r"architecture\.vocab_size"):
        show_plan(config)


def test_more_memory_is_needed_for_longer_samples_and_less_with_checkpointing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def need(*overrides: str) -> float:
        out = printed(capsys, "model=hf", "model.path=unused", *random(SMALL), *overrides)
        value, unit = re.findall(r"memory per rank: (\S+) (\wiB)", out)[0]
        return float(value) * {"MiB": 1, "GiB": 1024}[unit]

    short, long = need("data.max_seq_len=512"), need("data.max_seq_len=8192")
    assert short < need("data.max_seq_len=8192", "model.activation_checkpointing=true") < long


def test_what_fits_is_proposed_as_overrides(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(
        capsys, "model=hf", "model.path=unused", *random(SMALL), "estimate=rtx4090",
        "data.max_seq_len=1024", "global_batch_size=8",
    )  # fmt: skip
    (line,) = re.findall(r"proposal: (zero=.*)", out)
    proposed = config_of("model=hf", "model.path=unused", *random(SMALL), *line.split())
    assert f"zero=zero{proposed.zero.stage}" in line
    assert f"micro_batch_size={proposed.micro_batch_size}" in line


def test_it_says_when_nothing_fits_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(
        capsys, "model=hf", "model.path=unused", *random(SMALL), "estimate.gpu=rtx4090",
        "estimate.headroom=0.99999",
    )  # fmt: skip
    assert "(does not fit)" in out
    (why,) = re.findall(r"proposal: (nothing fits.*)", out)
    assert re.search(r"needs \S+ MiB of 0\.25 MiB per GPU in .*, \S+ MiB of them", why)
    assert "Take more GPUs or larger ones" in why


@pytest.mark.parametrize(
    ("override", "where"),
    [
        ("estimate.gpu=tpu", "estimate.gpu"),
        ("estimate.between=string", "estimate.between"),
        ("estimate.mfu=1.5", "estimate.mfu"),
        ("estimate.mfu=0", "estimate.mfu"),
        ("estimate.headroom=1", "estimate.headroom"),
        ("estimate.nodes=0", "estimate.nodes"),
        ("estimate.gpus_per_node=7", "global_batch_size"),
        ("zero.stage=4", "zero.stage"),
    ],
)
def test_faults_are_named(override: str, where: str) -> None:
    config = config_of("model=hf", "model.path=unused", *random(SMALL), override)
    with pytest.raises(ConfigFault) as caught:
        show_plan(config)
    assert where in {fault.where for fault in caught.value.faults}
