"""Who is cut off, as far as one host can tell from who answers."""

from __future__ import annotations

import socket
import time
from collections.abc import Collection
from pathlib import Path

import pytest

from trainer.watchdog import network
from trainer.watchdog.network import Network, OwnPost, Post
from trainer.watchdog.peers import Peers, Verdict
from trainer.watchdog.signs import Identity

POSTS = [Post(f"h{number}", f"10.0.0.{number}", 5000) for number in (1, 2, 3)]
AFTER = "any more, though signs of life still come by files."


class Cables:
    """Stands for the network: hosts that answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, up: Collection[str]) -> None:
        self.up = set(up)
        monkeypatch.setattr(network, "_answers", lambda post: post.host in self.up)


def settled(own: str, posts: list[Post]) -> Network:
    """A network that knows who answered at the start."""
    made = Network(own, posts)
    deadline = time.monotonic() + 10
    while not made._answered and time.monotonic() < deadline:
        time.sleep(0.01)
    return made


def test_one_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    cables = Cables(monkeypatch, {"h1", "h2"})
    one = settled("h1", POSTS[:2])
    assert one.broken() is None
    cables.up = {"h1"}
    words = f"the network to host h2 (10.0.0.2) is gone: no answer to host h1 {AFTER}"
    assert one.broken() == (words, ["h2"])


def test_of_three_the_one_that_is_cut_off_is_named_by_all(monkeypatch: pytest.MonkeyPatch) -> None:
    cables = Cables(monkeypatch, {"h1", "h2", "h3"})
    first, second = settled("h1", POSTS), settled("h2", POSTS)
    cables.up = {"h1", "h3"}  # as host h1 sees it
    words = f"the network to host h2 (10.0.0.2) is gone: no answer to host h1 {AFTER}"
    assert first.broken() == (words, ["h2"])
    cables.up = {"h2"}  # as host h2 sees it
    others = "h1 (10.0.0.1), h3 (10.0.0.3)"
    words = f"host h2 is cut off from the network: it reaches none of {others} {AFTER}"
    assert second.broken() == (words, ["h2"])


def test_who_never_answered_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    cables = Cables(monkeypatch, {"h1", "h2"})
    one = settled("h1", POSTS)
    cables.up = {"h1", "h2"}
    assert one.broken() is None
    # nor is one host, or one that does not say where it answers
    assert Network("h1", POSTS[:1]).broken() is None
    assert Network("h1", [POSTS[0], Post("h2")])._others == []


def test_a_standstill_is_explained_by_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cables = Cables(monkeypatch, {"h1", "h2"})
    ranks = [Identity(rank, f"h{1 + rank // 2}", 1000 + rank, "1", "") for rank in range(4)]
    peers = Peers(tmp_path, "now", ranks[0], ranks, 60.0, 5.0, settled("h1", POSTS[:2]))
    assert peers.cut_off() is None
    cables.up = {"h1"}
    words = f"the network to host h2 (10.0.0.2) is gone: no answer to host h1 {AFTER}"
    assert peers.cut_off() == Verdict(words, [2, 3])


def test_a_real_port_answers_and_so_does_a_closed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "own_address", lambda: "127.0.0.1")
    own = OwnPost("h2")
    assert own.post.host == "h2"
    assert own.post.port > 0
    assert network._answers(own.post)
    own.close()
    assert network._answers(own.post)


def test_a_port_that_says_nothing_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "_ANSWER_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address, port = full.getsockname()
        waiting = []
        for _ in range(8):  # nobody takes them: its queue is full
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex((address, port))
            waiting.append(one)
        time.sleep(0.1)
        assert not network._answers(Post("h2", address, port))
        for one in waiting:
            one.close()


def test_without_an_address_there_is_no_post(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "own_address", lambda: None)
    assert OwnPost("h1").post == Post("h1")
