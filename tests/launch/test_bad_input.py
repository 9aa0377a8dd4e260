"""What a user gets wrong: named with place, value, rule and remedy, before anything is trained."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import launch.composing
from launch.composing import clean_arguments
from tests.shared_data import REPOSITORY
from tests.shared_folder import GOOD, ROWS, WORDS, Folder, plan, refused, run
from tests.shared_port import free_port
from trainer import exit_codes


def test_good_input_is_planned(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.overrides = ["optimizer.beta2=0.7"]  # the phases have some ten steps
    code, out, error = plan(folder, capsys)
    assert (code, error) == (0, "")
    assert "warning" not in out
    assert all(f"{name}: steps" in out for name in ("mix", "specialize", "hard"))


CASES: list[tuple[list[str], str, str, str, str]] = [
    # overrides, where, seen, rule, remedy
    (
        ["curriculum.phases.mix.learning_rate=1"],
        "curriculum.phases.mix.learning_rate",
        "unknown key",
        "known here: ",
        "Did you mean curriculum.phases.mix.lr?",
    ),
    (
        ["curriculum.phases.hard.tasks=[nosuch]"],
        "curriculum.phases.hard.tasks",
        "names 'nosuch', which is no task and no group",
        "defined: all, auto_hard, chat, code, general, hard, qa",
        "'data.groups.nosuch=[...]'",
    ),
    (
        ["data.groups.hard=[aimee]"],
        "data.groups.hard",
        "names 'aimee', which no conf/task file defines",
        "defined: chat, code, qa",
        "Correct the name",
    ),
    (
        ["data.tasks.chat.general=false", "+phase=mix"],
        "curriculum.phases.mix.replay",
        "0.3, but no task is general",
        "replay draws rows from general tasks",
        "general=true",
    ),
    (
        ["model=hf", "model.path=./no/model"],
        "model.path",
        "./no/model",
        "no such directory",
        "Check the path.",
    ),
    (
        ["data.root=/no/data"],
        "data.root",
        "/no/data",
        "no such directory",
        "Set data.root to the folder that holds train/ and eval/.",
    ),
    (
        ["data.tasks.chat.sources.main.train=train/nosuch.jsonl"],
        "data.tasks.chat.sources.main.train",
        "cannot read",
        "every source needs a readable file, glob or folder",
        "Correct the path",
    ),
    (
        ["data.chat_template=nosuch.jinja"],
        "data.chat_template",
        "no file nosuch.jinja",
        "it names a Jinja template file",
        "",
    ),
]


@pytest.mark.parametrize(
    ("overrides", "where", "seen", "rule", "remedy"), CASES, ids=[case[0][0] for case in CASES]
)
def test_bad_setting(
    folder: Folder,
    capsys: pytest.CaptureFixture[str],
    overrides: list[str],
    where: str,
    seen: str,
    rule: str,
    remedy: str,
) -> None:
    folder.overrides = overrides
    (line,) = refused(folder, capsys)
    assert line.startswith(f"{where}: {seen}")
    assert rule in line
    assert remedy in line


def test_batch_that_ranks_cannot_share(
    folder: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    (line,) = refused(folder, capsys)
    assert line == "global_batch_size: 4; it must be divisible by 3 ranks = 3. Try 3 or 6."


@pytest.mark.parametrize("local_rank", ["0", "1"])
def test_a_fault_of_one_rank_alone_is_told(
    folder: Folder,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    local_rank: str,
) -> None:
    """A file may be missing on the second of two hosts alone; and where no launcher ends the others."""
    monkeypatch.setattr(launch.composing, "_FIRST_TELLS_S", 0.01)
    monkeypatch.setenv("RANK", str(2 + int(local_rank)))
    monkeypatch.setenv("LOCAL_RANK", local_rank)
    monkeypatch.setenv("WORLD_SIZE", "4")
    folder.overrides = ["data.root=/no/data"]
    code, _, error = plan(folder, capsys)
    assert code == exit_codes.USER_FAULT
    assert error.count("data.root: /no/data") == 1


#: Read by Python as it starts.
SLOW_FIRST = """
import os, time
time.sleep(4 * (os.environ.get("LOCAL_RANK") == "0"))
"""


@pytest.mark.parametrize("launcher", ["torchrun", "deepspeed"])
def test_the_first_rank_has_its_say_however_slow_it_is(
    launcher: str, folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Launchers kill all when the first one ends, and another rank may meet the fault before."""
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow/sitecustomize.py").write_text(SLOW_FIRST, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "slow"))
    ranks = {"torchrun": "--nproc-per-node=2", "deepspeed": "--num_gpus=2"}[launcher]
    folder.overrides = ["no_such_key=1"]
    code, output = run(
        [
            str(Path(sys.executable).with_name(launcher)),
            *(ranks, f"--master_port={free_port()}", str(REPOSITORY / "launch/train.py")),
        ],
        folder,
    )
    assert code != 0, output
    assert output.count("no_such_key: unknown key") == 1, output


def test_phase_shorter_than_its_warm_up_is_warned_about(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.overrides = ["curriculum.phases.mix.schedule.warmup_steps=1000"]
    code, out, _ = plan(folder, capsys)
    flat = " ".join(out.split())
    assert code == 0
    warning = re.search(
        r"warning: curriculum\.phases\.mix: 1000 warm-up steps, but the phase has (\d+); "
        r"the learning rate peaks at (\S+) instead of 0\.0002\. Lower schedule\.warmup_steps",
        flat,
    )
    assert warning
    assert float(warning[2]) == pytest.approx(2e-4 * int(warning[1]) / 1000, rel=1e-2)


@pytest.mark.parametrize(("model", "positions"), [("model=tiny", 4096), ("model=bench", 256)])
def test_samples_longer_than_the_models_positions_are_warned_about(
    folder: Folder, capsys: pytest.CaptureFixture[str], model: str, positions: int
) -> None:
    folder.overrides = [model, f"data.max_seq_len={positions}"]
    warning = "warning: data.max_seq_len is"
    code, out, error = plan(folder, capsys)
    assert (code, error) == (0, "")
    assert warning not in out
    folder.overrides[1] = f"data.max_seq_len={positions + 1}"
    code, out, _ = plan(folder, capsys)
    assert code == 0
    assert (
        f"{warning} {positions + 1}, but the model's max_position_embeddings is {positions}: it was "
        f"made for no longer samples. Set data.max_seq_len={positions}"
    ) in " ".join(out.split())


def test_shares_of_wordings_name_a_remedy_that_works(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = "curriculum.phases.mix.prompts"
    folder.overrides = ["+phase=mix", f"{prompts}={{cue_share:0.5,paraphrase_share:0.5}}"]
    lines = refused(folder, capsys)
    assert [line.partition(":")[0] for line in lines] == [
        f"{prompts}.cue_share",
        f"{prompts}.paraphrase_share",
    ]
    assert "0.5, but no task has cues; rows carry another task's cue. Give tasks" in lines[0]
    assert "0.5, but no task of the phase has templates; instructions are rephrased" in lines[1]
    for line in lines:
        remedy = re.search(r"data\.tasks\.code\.\w+=(?:\[.*?\]|\{.*\})", line)
        assert remedy, line
        folder.overrides.append(remedy[0])
    code, _, error = plan(folder, capsys)
    assert (code, error) == (0, "")


@pytest.mark.parametrize("flag", ["-m", "--multirun"])
def test_sweep_under_a_multi_rank_launcher(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", flag, "seed=1,2"])
    clean_arguments()  # one process may sweep
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit) as end:
        clean_arguments()
    assert end.value.code == exit_codes.USER_FAULT
    assert "every rank would sweep on its own" in capsys.readouterr().err


def test_launcher_arguments_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "argv", ["train.py", "--local_rank=1", "--local-rank=1", "+phase=mix", "seed=3"]
    )
    clean_arguments()
    assert sys.argv == ["train.py", "+phase=mix", "++seed=3"]


def test_command_with_an_unknown_key(folder: Folder) -> None:
    folder.overrides = ["curriculum.phases.mix.learning_rate=1", "seeed=2"]
    code, output = run([sys.executable, str(REPOSITORY / "launch/plan.py")], folder)
    assert code == exit_codes.USER_FAULT, output
    assert output.startswith("polyphase: 2 faults:\n")
    assert "Did you mean curriculum.phases.mix.lr?" in output
    assert "Did you mean seed?" in output
    assert "Traceback" not in output


def test_model_smaller_than_its_tokenizer_is_not_trained(folder: Folder) -> None:
    folder.overrides = ["model.architecture.vocab_size=16", "precision=fp32"]
    code, output = run([sys.executable, str(REPOSITORY / "launch/train.py")], folder)
    assert code == exit_codes.USER_FAULT, output
    tokens = len(WORDS) + 3
    assert (
        f"model.tokenizer: the tokenizer has {tokens} tokens, the model 16 embeddings; "
        "every token needs an embedding. Use the tokenizer that belongs to the model." in output
    )
    assert "Traceback" not in output
    assert not list(folder.root.rglob("metrics.jsonl"))


def test_bad_line_under_two_ranks_is_named_once(folder: Folder) -> None:
    folder.write("qa", [*GOOD, "{"])
    launcher = str(Path(sys.executable).with_name("deepspeed"))
    port = str(free_port())
    code, output = run(
        [launcher, "--num_gpus", "2", "--master_port", port, str(REPOSITORY / "launch/train.py")],
        folder,
    )
    assert code != 0, output
    assert output.count(f"train/qa.jsonl:{ROWS + 1}: malformed JSON") == 1, output
    assert "Traceback" not in output
    assert not list(folder.root.rglob("metrics.jsonl"))


COMMAND_LINES = {
    # what is written, what the message says of it
    "seed=[1": "no viable alternative at input '[1'",
    "model=nosuch": "Could not find 'model/nosuch'",
    "model=1": "Config group override must be a string or a list. Got int",
    "~nosuch": "Could not delete from config. 'nosuch' does not exist",
    "seed=${nosuch:}": "seed: Unsupported interpolation type nosuch",
}


@pytest.mark.parametrize("said", COMMAND_LINES)
def test_command_line_that_composes_nothing(folder: Folder, said: str) -> None:
    folder.overrides = [said]
    code, output = run([sys.executable, str(REPOSITORY / "launch/plan.py")], folder)
    assert code == exit_codes.USER_FAULT, output
    assert output.startswith("polyphase: 1 fault:\n")
    assert COMMAND_LINES[said] in output
    assert "Traceback" not in output
    assert "HYDRA_FULL_ERROR" not in output
