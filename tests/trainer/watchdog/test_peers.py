"""Peers judged by their files alone: who is lost, by which clock, and who keeps the others waiting."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from trainer.watchdog import signs
from trainer.watchdog.peers import Peers, Verdict, culprits_of
from trainer.watchdog.signs import Identity, Sign, State

TOKEN, STALL, HEARTBEAT = "now", 60.0, 5.0


def identity(rank: int, host: str = "a") -> Identity:
    """A process that is seen nowhere, as on another machine."""
    return Identity(rank, host, 1000 + rank, "1", "")


def sign(one: Identity, beat: int = 1, **more: object) -> Sign:
    plain = Sign(
        identity=one,
        token=TOKEN,
        beat=beat,
        state=State.running,
        words="",
        culprits=[],
        place="step 3: data",
        seconds=4.2,
        number=7,
        paused=False,
        where="trainer/train.py:12 train",
        waits=False,
        time="",
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def peers_of(folder: Path, everybody: list[Identity], me: int = 0) -> Peers:
    return Peers(folder, TOKEN, everybody[me], everybody, STALL, HEARTBEAT)


@pytest.fixture
def two(tmp_path: Path) -> tuple[Peers, Identity]:
    everybody = [identity(0), identity(1)]
    return peers_of(tmp_path, everybody), everybody[1]


def test_a_sign_is_read_as_it_was_written(tmp_path: Path) -> None:
    given = sign(identity(3), state=State.lost, culprits=[1, 2], words="é")
    signs.write(tmp_path / "alive", given)
    found = signs.read(tmp_path / "alive", 3, TOKEN)
    assert found is not None
    assert found[0] == given
    assert [path.name for path in (tmp_path / "alive").iterdir()] == ["rank_3.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"rank": 1}'])
def test_half_a_file_is_no_sign(tmp_path: Path, text: str) -> None:
    signs.file_of(tmp_path, 0).write_text(text, encoding="utf-8")
    assert signs.read(tmp_path, 0, TOKEN) is None


def test_silence_is_measured_by_the_reader(tmp_path: Path, two: tuple[Peers, Identity]) -> None:
    peers, other = two
    signs.write(tmp_path, sign(other))
    file = signs.file_of(tmp_path, 1)
    os.utime(file, (0, 0))  # a host whose clock is decades late
    assert peers.look(HEARTBEAT) is None
    assert peers.look(59) is None
    signs.write(tmp_path, sign(other, beat=2))
    os.utime(file, (0, 0))  # a new sign by its number alone
    assert peers.look(HEARTBEAT) is None
    assert peers.look(59.5) is None
    assert peers.look(0.5) == Verdict(
        "rank 1 on host a (pid 1001) has given no sign of life for 60 s. Its last sign of life was at "
        "'step 3: data' for 4 s, main thread at trainer/train.py:12 train.",
        [1],
    )


def test_a_full_disk_is_no_silence(tmp_path: Path, two: tuple[Peers, Identity]) -> None:
    peers, other = two
    signs.write(tmp_path, sign(other))
    peers.look(0)
    peers.look(59)
    # in the way of the new file, as a full disk would be
    signs.file_of(tmp_path, 1).with_suffix(".tmp").mkdir()
    with pytest.raises(OSError, match="directory"):
        signs.write(tmp_path, sign(other, beat=2))
    assert peers.look(30) is None
    assert peers.look(31) is None
    assert peers.look(30) is not None


def test_one_that_never_spoke_is_named_too(tmp_path: Path, two: tuple[Peers, Identity]) -> None:
    peers, other = two
    signs.write(tmp_path, replace(sign(other), token="an earlier attempt"))
    assert peers.look(59) is None
    assert peers.look(1) == Verdict(
        "rank 1 on host a (pid 1001) has given no sign of life for 60 s. It never gave one.", [1]
    )


def test_a_dead_process_is_seen_at_once(tmp_path: Path) -> None:
    me = Identity.of_this_process(0)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        born = signs._born(process.pid)
        assert born
        other = Identity(1, me.host, process.pid, born, me.pid_space)
        peers = peers_of(tmp_path, [me, other])
        signs.write(tmp_path, sign(other))
        assert peers.look(0) is None
        later = replace(other, born="7")  # its pid was given to another process
        assert later.is_gone(me)
        assert not replace(later, pid_space="another container's").is_gone(me)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie is dead enough
        verdict = peers.look(0)
        assert verdict is not None
        assert verdict.culprits == [1]
        assert f"(pid {process.pid}) is gone: its process does not exist any more" in verdict.words
    signs.write(tmp_path, sign(other, beat=2, state=State.done))
    assert peers.look(1000) is None  # it had left in order


def test_an_error_that_all_meet_is_no_loss_for_two_heartbeats(
    tmp_path: Path, two: tuple[Peers, Identity]
) -> None:
    peers, other = two
    signs.write(tmp_path, sign(other, state=State.failed, words="ValueError: no."))
    assert peers.look(1000) is None  # the time before it was seen
    assert peers.look(9) is None
    expected = Verdict(
        "rank 1 on host a (pid 1001) ended with an error at 'step 3: data': ValueError: no.", [1]
    )
    assert peers.look(0, at_once=True) == expected
    assert peers.look(1) == expected


def test_what_others_found_is_passed_on_once(tmp_path: Path) -> None:
    everybody = [identity(rank) for rank in range(4)]
    peers = peers_of(tmp_path, everybody)
    for rank in (1, 2):
        lost = sign(everybody[rank], state=State.lost, words="rank 3 is gone.", culprits=[3])
        signs.write(tmp_path, lost)
    signs.write(tmp_path, sign(everybody[3]))
    assert peers.look(0) == Verdict("rank 3 is gone.", [3])


def test_a_rank_reads_its_host_and_the_first_rank_of_every_other(tmp_path: Path) -> None:
    everybody = [identity(rank, host) for rank, host in enumerate("aabbcc")]
    for me, read in ((0, [1, 2, 4]), (1, [0, 2, 4]), (3, [0, 2, 4])):
        assert sorted(peers_of(tmp_path, everybody, me)._seen) == read


# ranks by (number of places, whether they wait), and who keeps the others waiting
@pytest.mark.parametrize(
    ("ranks", "culprits"),
    [
        ([(7, True), (7, False), (7, True)], [1]),
        ([(7, True), (6, False), (5, False)], [2]),
        ([(9, False), (8, False), (9, False)], [1]),  # the device, which no line of code shows
        ([(9, True), (8, True), (9, True)], [1]),  # collectives that do not match
        ([(9, False), (9, False)], []),
        ([(9, True), (9, True)], []),
        ([(9, True)], [0]),
    ],
)
def test_who_keeps_the_others_waiting(ranks: list[tuple[int, bool]], culprits: list[int]) -> None:
    running = [
        sign(identity(rank), number=number, waits=waits)
        for rank, (number, waits) in enumerate(ranks)
    ]
    assert [one.identity.rank for one in culprits_of(running)] == culprits


def test_a_standstill_names_place_and_host(tmp_path: Path) -> None:
    everybody = [identity(0), identity(1, "b")]
    peers = peers_of(tmp_path, everybody)
    mine = sign(everybody[0], waits=True)
    unheard = peers.stalled(mine)
    assert unheard == Verdict(
        "no progress, and no sign of life of rank 1 on host b (pid 1001).", [1]
    )
    signs.write(tmp_path, sign(everybody[1]))
    assert peers.stalled(mine) == Verdict(
        "no progress: rank 1 on host b (pid 1001) is at 'step 3: data' for 4 s, main thread at "
        "trainer/train.py:12 train.",
        [1],
    )
    signs.write(tmp_path, sign(everybody[1], waits=True))
    assert peers.stalled(mine).culprits == []
    assert peers.stalled(mine).words.count("waiting for other ranks") == 2
    # one that found out first has said it already, and this rank does not blame itself
    signs.write(tmp_path, sign(everybody[1], state=State.lost, words="it is me", culprits=[1]))
    assert peers.stalled(mine) == Verdict("it is me", [1])
