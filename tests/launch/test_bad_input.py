"""What a user gets wrong: named with place, value, rule and remedy, before anything is trained."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from launch.composing import USER_FAULT_EXIT, addable, checked_config, clean_arguments
from launch.composing import report_faults as report
from trainer.planning import show_plan

REPOSITORY = Path(__file__).resolve().parents[2]
WORDS = [f"w{number}" for number in range(40)]
ROWS = 24


@dataclass
class Folder:
    """Three good tasks and a tokenizer; tests spoil them."""

    root: Path
    overrides: list[str] = field(default_factory=list)

    def write(self, task: str, lines: list[Any], split: str = "train") -> Path:
        """One JSONL file; text lines are written as they are."""
        path = self.root / "data" / split / f"{task}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(
            (line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines
        )
        path.write_text(text, encoding="utf-8")
        return path

    @property
    def arguments(self) -> list[str]:
        return [
            "data=folder",
            f"data.root={self.root}/data",
            f"data.cache_dir={self.root}/cache",
            "data.max_seq_len=64",
            "data.groups.hard=[code]",
            "data.tasks.chat={sources:{main:{train:train/chat.jsonl}},general:true}",
            "model=tiny",
            f"model.tokenizer={self.root}/tokenizer",
            f"output_dir={self.root}/run",
            "balance@curriculum.phases.mix.balance=natural",
            "balance@curriculum.phases.specialize.balance=natural",
            "balance@curriculum.phases.hard.balance=natural",
            "global_batch_size=4",
            *self.overrides,
        ]


def row(number: int, words: int = 3) -> dict[str, str]:
    text = " ".join(WORDS[(number + place) % len(WORDS)] for place in range(words))
    return {"instruction": text, "output": WORDS[number % len(WORDS)]}


GOOD = [row(number) for number in range(ROWS)]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: number for number, word in enumerate(["<unk>", "</s>", "\n", *WORDS])}
    built = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    built.pre_tokenizer = pre_tokenizers.Split(Regex(r"</s>|\n|[^\s]+"), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=built, eos_token="</s>", unk_token="<unk>")


@pytest.fixture
def folder(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Folder:
    made = Folder(tmp_path)
    for task in ("qa", "code", "chat"):
        made.write(task, GOOD)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    return made


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_SIZE"):
        monkeypatch.delenv(name, raising=False)
    yield
    HydraConfig.instance().cfg = None


def plan(folder: Folder, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """What ``launch/plan.py`` does behind Hydra, in this process: exit code, stdout, stderr."""
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        tree = compose("train", overrides=addable(folder.arguments), return_hydra_config=True)
    HydraConfig.instance().set_config(tree)
    tree = tree.copy()
    with open_dict(tree):
        del tree["hydra"]
    code = 0
    try:
        report(lambda: show_plan(checked_config(tree)))
    except SystemExit as end:
        code = int(str(end.code))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refused(folder: Folder, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The fault lines of a plan that must be refused."""
    code, out, error = plan(folder, capsys)
    assert code == USER_FAULT_EXIT
    assert "Traceback" not in out + error
    head, *lines = error.strip().splitlines()
    assert re.fullmatch(r"polyphase: (1 fault|\d+ faults):", head), error
    assert not list(folder.root.rglob("metrics.jsonl"))
    assert not (folder.root / "run").exists()
    return [line.removeprefix("  - ") for line in lines]


def test_good_input_is_planned(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, error = plan(folder, capsys)
    assert (code, error) == (0, "")
    assert "warning" not in out
    assert all(f"{name}: steps" in out for name in ("mix", "specialize", "hard"))


def test_empty_file(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.write("qa", [])
    for line in refused(folder, capsys):
        assert re.match(r"curriculum\.phases\.\w+: task 'qa' has no usable training row; ", line)
        assert "every task a phase draws from needs data" in line
        assert "data.tasks.qa.source.train" in line


BAD_LINES = [
    ('{"instruction": "w1", ', "malformed JSON"),
    ({"instruction": "w1"}, "field 'output' is missing"),
    ({"instruction": "w1", "output": " "}, "field 'output' is empty"),
    ({"instruction": "w1", "output": 7}, "field 'output' is int, expected text"),
    ([1], "the line holds list, expected an object"),
    ({"messages": [{"role": "user", "content": "w1"}]}, "turns must alternate"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_LINES, ids=[reason for _, reason in BAD_LINES])
def test_bad_line(
    folder: Folder, capsys: pytest.CaptureFixture[str], line: Any, reason: str
) -> None:
    path = folder.write("qa", [*GOOD[:2], line, *GOOD[2:]])
    (fault,) = refused(folder, capsys)
    assert fault.startswith(f"{path}:3: ")
    assert reason in fault
    assert f"1 of {ROWS + 1} rows are unusable and data.max_reject_ratio is 0" in fault
    assert "Mend the rows" in fault
    assert ("data.tasks.qa.sources.<source>.fields" in fault) == ("is missing" in reason)


def test_tolerated_bad_lines_are_counted_per_task(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder.write("qa", [*GOOD, *(line for line, _ in BAD_LINES[:3])])
    folder.write("code", [BAD_LINES[0][0], *GOOD])
    folder.overrides = ["data.max_reject_ratio=0.2"]
    code, out, _ = plan(folder, capsys)
    flat = " ".join(out.split())
    assert code == 0
    assert "code 1 (1 malformed_json)" in flat
    assert "qa 3 (1 empty_answer, 1 malformed_json, 1 missing_field)" in flat
    rejects = [
        json.loads(line)
        for file in (folder.root / "cache").glob("*.rejects.jsonl")
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    assert f"{path}:{ROWS + 1}" in {reject["origin"] for reject in rejects}
    assert {reject["rule"] for reject in rejects} == {
        *("malformed_json", "missing_field", "empty_answer")
    }


def test_faults_of_all_files_are_listed_at_once(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    for task in ("qa", "code"):
        folder.write(task, ["{", *GOOD])
    folder.write("chat", ["{"] * 9)
    lines = refused(folder, capsys)
    assert sum("qa.jsonl:1: malformed JSON" in line for line in lines) == 1
    assert sum("code.jsonl:1: malformed JSON" in line for line in lines) == 1
    assert sum("chat.jsonl" in line for line in lines) == 6
    assert any("and 4 more unusable rows" in line for line in lines)


def test_long_sample_is_dropped_and_counted(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.write("qa", [*GOOD, row(0, words=200)])
    code, out, _ = plan(folder, capsys)
    flat = " ".join(out.split())
    assert code == 0
    assert "warning: training rows left out or truncated: qa 1 (1 overlong)" in flat
    assert re.search(rf"qa [^\w]*{ROWS} ", flat), "the table shows the rows that are left"


def test_long_sample_is_truncated(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.write("qa", [*GOOD, {"instruction": "w1", "output": " ".join(WORDS * 3)}])
    folder.overrides = ["data.overlong=truncate"]
    code, out, _ = plan(folder, capsys)
    flat = " ".join(out.split())
    assert code == 0
    assert re.search(rf"qa [^\w]*{ROWS + 1} ", flat), "the truncated row is kept"
    assert "qa 1 (1 truncated)" in flat


def test_sample_whose_answer_is_cut_off_has_nothing_to_train_on(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.write("qa", [*GOOD, row(0, words=200)])
    folder.overrides = ["data.overlong=truncate"]
    code, out, _ = plan(folder, capsys)
    assert code == 0
    assert "qa 1 (1 all_masked)" in " ".join(out.split())


def test_task_with_long_samples_only(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.write("qa", [row(number, words=200) for number in range(3)])
    lines = refused(folder, capsys)
    assert all("task 'qa' has no usable training row" in line for line in lines)


def test_text_that_is_not_utf8(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder.write("qa", GOOD)
    path.write_bytes(path.read_bytes() + b'{"instruction": "caf\xe9", "output": "w1"}\n')
    (line,) = refused(folder, capsys)
    assert "byte 0xe9 is not UTF-8" in line
    assert "iconv" in line


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
        "defined: all, chat, code, general, hard, qa",
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
        ["data.tasks.chat.source.train=train/nosuch.jsonl"],
        "data.tasks.chat.source",
        "cannot read",
        "every task needs a readable JSONL file",
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


@pytest.mark.parametrize(("local_rank", "times"), [("0", 1), ("1", 0)])
def test_one_rank_of_a_host_speaks(
    folder: Folder,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    local_rank: str,
    times: int,
) -> None:
    """Rank 2 of two hosts speaks too: a file may be missing on its host alone."""
    monkeypatch.setenv("RANK", str(2 + int(local_rank)))
    monkeypatch.setenv("LOCAL_RANK", local_rank)
    monkeypatch.setenv("WORLD_SIZE", "4")
    folder.overrides = ["data.root=/no/data"]
    code, _, error = plan(folder, capsys)
    assert code == USER_FAULT_EXIT
    assert error.count("data.root: /no/data") == times


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


@pytest.mark.parametrize("flag", ["-m", "--multirun"])
def test_sweep_under_a_multi_rank_launcher(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", flag, "seed=1,2"])
    clean_arguments()  # one process may sweep
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit) as end:
        clean_arguments()
    assert end.value.code == USER_FAULT_EXIT
    assert "every rank would sweep on its own" in capsys.readouterr().err


def test_launcher_arguments_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "argv", ["train.py", "--local_rank=1", "--local-rank=1", "+phase=mix", "seed=3"]
    )
    clean_arguments()
    assert sys.argv == ["train.py", "+phase=mix", "++seed=3"]


def run(command: list[str], folder: Folder) -> tuple[int, str]:
    """A real command, launcher and all: exit code, and both streams together."""
    hidden = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_SIZE", "MASTER_PORT", "MASTER_ADDR")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    result = subprocess.run(
        [*command, *folder.arguments],
        cwd=folder.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
        env=environment
        | {
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "DS_ACCELERATOR": "cpu",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
    )
    return result.returncode, result.stdout


def test_command_with_an_unknown_key(folder: Folder) -> None:
    folder.overrides = ["curriculum.phases.mix.learning_rate=1", "seeed=2"]
    code, output = run([sys.executable, str(REPOSITORY / "launch/plan.py")], folder)
    assert code == USER_FAULT_EXIT, output
    assert output.startswith("polyphase: 2 faults:\n")
    assert "Did you mean curriculum.phases.mix.lr?" in output
    assert "Did you mean seed?" in output
    assert "Traceback" not in output


def test_model_smaller_than_its_tokenizer_is_not_trained(folder: Folder) -> None:
    folder.overrides = ["model.architecture.vocab_size=16", "precision=fp32"]
    code, output = run([sys.executable, str(REPOSITORY / "launch/train.py")], folder)
    assert code == USER_FAULT_EXIT, output
    tokens = len(WORDS) + 3
    assert (
        f"model.tokenizer: the tokenizer has {tokens} tokens, the model 16 embeddings; "
        "every token needs an embedding. Use the tokenizer that belongs to the model." in output
    )
    assert "Traceback" not in output
    assert not list(folder.root.rglob("metrics.jsonl"))


def test_bad_line_under_two_ranks_is_named_once(folder: Folder) -> None:
    path = folder.write("qa", [*GOOD, "{"])
    launcher = str(Path(sys.executable).with_name("deepspeed"))
    port = str(20_000 + os.getpid() % 20_000)
    code, output = run(
        [launcher, "--num_gpus", "2", "--master_port", port, str(REPOSITORY / "launch/train.py")],
        folder,
    )
    assert code != 0, output
    assert output.count(f"{path}:{ROWS + 1}: malformed JSON") == 1, output
    assert "Traceback" not in output
    assert not list(folder.root.rglob("metrics.jsonl"))
