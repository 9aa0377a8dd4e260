"""Overrides and variables on their way through deepspeed, pdsh and a shell on every host."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from deepspeed.launcher.multinode_runner import PDSHRunner
from hypothesis import given
from hypothesis import strategies as st

from data_modules.faults import ConfigFault
from launch.submission.ssh import command, handed_on, hosts, remote_word
from trainer.config.schema import ClusterConfig, ClusterKind

SIGNS = st.text(st.sampled_from(list("ab1 '\"\\$`!*?[](){}<>|&;#~%=,+-é\t")), max_size=12)


def as_pdsh_does(text: str) -> str:
    """pdsh replaces %h, %n, %u and %%; nothing is left for it to replace."""
    assert "%" not in text.replace("%%", "")
    return text.replace("%%", "%")


def in_a_shell(line: str) -> list[str]:
    script = f'{line}; printf "%s\\0" "$@"'
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True, timeout=60)
    return done.stdout.decode().split("\0")[:-1]


@given(st.lists(SIGNS.map(lambda text: f"key={text}"), min_size=1, max_size=4))
def test_every_override_comes_through_unchanged(overrides: list[str]) -> None:
    launcher = SimpleNamespace(args=SimpleNamespace(user_args=[*map(remote_word, overrides)]))
    line = as_pdsh_does(" ".join(PDSHRunner.parse_user_args(launcher)))
    assert in_a_shell(f"set -- {line}") == overrides


@given(SIGNS.map(str.strip))
def test_every_value_of_a_variable_comes_through_unchanged(value: str) -> None:
    (line,) = handed_on({"NAME": value}).splitlines()
    name, _, written = line.partition("=")
    launcher = SimpleNamespace(exports={})
    PDSHRunner.add_export(launcher, name, written)
    assert in_a_shell(f'NAME={as_pdsh_does(launcher.exports["NAME"])}; set -- "$NAME"') == [value]


def cluster(tmp_path: Path, text: str, **more: object) -> ClusterConfig:
    file = tmp_path / "hosts"
    file.write_text(text, encoding="utf-8")
    return ClusterConfig(kind=ClusterKind.ssh, hostfile=str(file), **more)  # type: ignore[arg-type]


def test_the_hostfile_is_read_as_deepspeed_reads_it(tmp_path: Path) -> None:
    text = "# all\nnode1 slots=8\n\nnode2  slots=4 # half\n"
    assert hosts(cluster(tmp_path, text)) == {"node1": 8, "node2": 4}
    words = command(["seed=1"], cluster(tmp_path, text, master_port=29600))
    assert [Path(words[0]).name, *words[1:3]] == [
        *("deepspeed", f"--hostfile={tmp_path}/hosts", "--master_port=29600"),
    ]
    assert words[-1] == "seed=1"


@pytest.mark.parametrize("text", ["", "node1\n", "node1 slots=0\n", "a slots=1\na slots=1\n"])
def test_a_hostfile_that_says_nothing_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigFault):
        hosts(cluster(tmp_path, text))
