"""The writer: what it writes is the state at the moment of saving, and a failure harms nothing."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.shared_checkpoint import (
    bits,
    check_all,
    is_original,
    made_config,
    made_fragments,
    made_state,
    read_whole,
    whole,
    write_checkpoint,
)
from trainer.checkpoint import folder as folders
from trainer.checkpoint import shard_file
from trainer.checkpoint import writer as writers
from trainer.checkpoint.folder import LATEST, STATE, newest, read_marker, scratch_of, step_name
from trainer.checkpoint.live_state import MASTER
from trainer.checkpoint.trainer_state import TrainerState, read_state
from trainer.checkpoint.writer import SaveFailed, Writer

SOON = 5.0  # seconds; a busy machine is no failure


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


def state_of(root: Path, global_step: int) -> TrainerState:
    return made_state(made_config(root.parent), global_step)


def writer_of(root: Path, rank: int = 0, world_size: int = 1, patience: float = 60.0) -> Writer:
    return Writer(root, rank, world_size, "test", 99, patience)


def assert_whole(folder: Path, global_step: int) -> None:
    """A checkpoint is complete, undamaged, and what was saved."""
    marker = read_marker(folder)
    check_all(folder, marker)
    assert is_original(folder, marker, global_step)


@contextmanager
def held_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Inside, writers copy but do not write."""
    go = threading.Event()
    write = writers.write_shard

    def wait_and_write(*args: Any) -> Any:
        assert go.wait(SOON)
        return write(*args)

    with monkeypatch.context() as patch:
        patch.setattr(writers, "write_shard", wait_and_write)
        yield
        go.set()


@pytest.mark.parametrize("world_size", [1, 2, 3, 11])
def test_any_number_of_ranks_writes_the_same_content(root: Path, world_size: int) -> None:
    folder = write_checkpoint(root, state_of(root, 2), world_size=world_size)
    assert len(read_marker(folder).shards) == world_size
    assert_whole(folder, 2)


def test_later_changes_are_not_in_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fragments = made_fragments(0, 1, 2)
    state = state_of(root, 2)
    state.passed_steps.append(1)
    state.watches["negatives"] = {"sums": [1.5, float("nan")]}
    writer = writer_of(root)
    with held_back(monkeypatch):
        writer.save(fragments, state)
        for fragment in fragments:
            for tensor in fragment.tensors.values():
                tensor.fill_(-1)
        state.passed_steps.append(2)
        state.watches["negatives"]["sums"].append(9.0)
        state.cursors.clear()
    writer.wait()
    folder = root / step_name(2)
    assert_whole(folder, 2)
    read = read_state(folder)
    assert (read.passed_steps, read.cursors) == ([1], {"metrics.jsonl": 200})
    assert repr(read.watches) == "{'negatives': {'sums': [1.5, nan]}}"


def test_a_save_waits_for_the_one_before(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second would otherwise overwrite the copies that the first still writes."""
    writer = writer_of(root)
    started, go = threading.Event(), threading.Event()
    write = writers.write_shard

    def slow(path: Path, tensors: Any) -> Any:
        started.set()
        assert go.wait(SOON)
        return write(path, tensors)

    monkeypatch.setattr(writers, "write_shard", slow)
    writer.save(made_fragments(0, 1, 2), state_of(root, 2))
    assert started.wait(SOON)
    second = threading.Thread(target=writer.save, args=(made_fragments(0, 1, 3), state_of(root, 3)))
    second.start()
    second.join(0.1)
    assert second.is_alive()
    go.set()
    second.join(SOON)
    writer.wait()
    assert_whole(root / step_name(2), 2)
    assert_whole(root / step_name(3), 3)


def test_old_ones_go_when_a_new_one_is_complete(root: Path) -> None:
    for step in (1, 2, 3):
        write_checkpoint(root, state_of(root, step), keep_last=2)
    assert sorted(path.name for path in root.iterdir()) == [LATEST, step_name(2), step_name(3)]


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    "broken",
    [
        (shard_file, "sync"),
        (writers, "write_shard"),
        (folders, "write_synced"),
        (folders, "complete"),
        (folders, "sync_folder"),
        (Path, "rename"),
    ],
    ids=lambda broken: broken[1],
)
def test_a_full_disk_leaves_earlier_ones_as_they_were(
    root: Path, monkeypatch: pytest.MonkeyPatch, broken: tuple[Any, str]
) -> None:
    write_checkpoint(root, state_of(root, 1))
    writer = writer_of(root)
    with monkeypatch.context() as patch:
        patch.setattr(*broken, full)
        assert not writer.failed
        writer.save(made_fragments(0, 1, 2), state_of(root, 2))
        for _ in range(2):  # it goes on saying so
            with pytest.raises(SaveFailed, match=r"^No space left on device$"):
                writer.wait()
        assert writer.failed
        with pytest.raises(SaveFailed):
            writer.save(made_fragments(0, 1, 3), state_of(root, 3))
    assert sorted(path.name for path in root.iterdir()) == [LATEST, step_name(1)]
    assert_whole(root / step_name(1), 1)


def test_a_failure_names_the_file(root: Path) -> None:
    root.parent.mkdir(exist_ok=True)
    root.write_text("in the way")
    writer = writer_of(root)
    writer.save(made_fragments(0, 1, 2), state_of(root, 2))
    with pytest.raises(SaveFailed, match=r"^(Not a directory|File exists) \(.*checkpoints.*\)$"):
        writer.wait()


@pytest.mark.parametrize("name", ["shard_00000_of_00001.safetensors", STATE])
def test_a_real_limit_on_files_is_met(root: Path, name: str) -> None:
    """The kernel refuses to write on in the middle of a file, as a full disk does."""
    folder = write_checkpoint(root, state_of(root, 1), world_size=1)
    sizes = sorted(path.stat().st_size for path in folder.iterdir())
    limit = (folder / name).stat().st_size - 1
    assert name != STATE or limit == sizes[-1] - 1, "the state is written after the shard"
    writer = writer_of(root)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        writer.save(made_fragments(0, 1, 2), state_of(root, 2))
        with pytest.raises(SaveFailed, match="File too large"):
            writer.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sorted(path.name for path in root.iterdir()) == [LATEST, step_name(1)]
    assert_whole(folder, 1)


@pytest.mark.cluster
def test_a_real_full_disk_is_met(root: Path) -> None:
    """Checkpoints are written until a file system of 256 KiB is full; it needs root."""
    root.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(root)], check=True, timeout=60
    )
    try:
        for step in range(1, 100):
            writer = writer_of(root)
            writer.save(made_fragments(0, 1, step), state_of(root, step))
            try:
                writer.wait()
            except SaveFailed as failure:
                assert "No space left on device" in str(failure)  # noqa: PT017
                break
        assert 2 < step < 99
        assert not list(root.glob("*.tmp-*")), "its space is free again"
        latest = root / LATEST
        assert not latest.exists() or latest.read_text() == f"{step_name(step - 1)}\n"
        assert newest(root) == root / step_name(step - 1)
        for kept in range(1, step):
            assert_whole(root / step_name(kept), kept)
        folders.remove(root / step_name(1))
        write_checkpoint(root, state_of(root, step), world_size=1)
        assert_whole(root / step_name(step), step)
    finally:
        subprocess.run(["umount", str(root)], check=True, timeout=60)


def wait_within(seconds: float, writer: Writer) -> str:
    """Why a writer failed; it must say so in time."""
    began = time.monotonic()
    with pytest.raises(SaveFailed) as caught:
        writer.wait()
    assert time.monotonic() - began < seconds
    return str(caught.value)


def test_the_main_rank_learns_that_another_removed_its_part(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main, other = writer_of(root, 0, 2), writer_of(root, 1, 2)
    main.save(made_fragments(0, 2, 2), state_of(root, 2))
    scratch = scratch_of(root / step_name(2), "test")
    deadline = time.monotonic() + SOON
    while not list(scratch.glob("*.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)  # it looks for the other's note now
    with monkeypatch.context() as patch:
        patch.setattr(writers, "write_shard", full)
        other.save(made_fragments(1, 2, 2), state_of(root, 2))
        assert wait_within(SOON, other) == "No space left on device"
    words = wait_within(SOON, main)
    assert words in ("rank 1 has not written its part", "another rank has not written its part")
    assert SaveFailed(words).is_elsewhere
    assert list(root.iterdir()) == []


def test_the_main_rank_need_not_wait_for_one_that_failed_before_it_began(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main, other = writer_of(root, 0, 2), writer_of(root, 1, 2)
    with monkeypatch.context() as patch:
        patch.setattr(writers, "write_shard", full)
        other.save(made_fragments(1, 2, 2), state_of(root, 2))
        assert not SaveFailed(wait_within(SOON, other)).is_elsewhere
    main.save(made_fragments(0, 2, 2), state_of(root, 2))
    main.give_up()  # the ranks agreed that one had failed
    assert wait_within(SOON, main) == "rank 1 has not written its part"
    assert list(root.iterdir()) == []


def test_the_main_ranks_patience_ends(root: Path) -> None:
    main = writer_of(root, 0, 2, patience=0.2)
    main.save(made_fragments(0, 2, 2), state_of(root, 2))
    assert wait_within(SOON, main) == "rank 1 has not written its part"


def test_a_failed_main_rank_is_no_ones_hang(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main, other = writer_of(root, 0, 2), writer_of(root, 1, 2)
    other.save(made_fragments(1, 2, 2), state_of(root, 2))
    other.wait()
    with monkeypatch.context() as patch:
        patch.setattr(writers, "write_shard", full)
        main.save(made_fragments(0, 2, 2), state_of(root, 2))
        assert wait_within(SOON, main) == "No space left on device"
    assert list(root.iterdir()) == []


def killed_at(call: int, root: Path, work: Callable[[], object]) -> bool:
    """Do the work in a child that is killed before its ``call``-th file operation; False if it ended.

    Operations are those that Python audits (open, rename, remove, make a folder) and every fsync.
    """
    pid = os.fork()
    if pid == 0:
        count = 0

        def operation() -> None:
            nonlocal count
            count += 1
            if count == call:
                os.kill(os.getpid(), signal.SIGKILL)

        def hook(event: str, args: tuple[Any, ...]) -> None:
            names = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")
            if event in names and str(root) in str(args[0]):
                operation()

        def fsync(descriptor: int, real: Callable[[int], None] = os.fsync) -> None:
            operation()
            real(descriptor)

        try:
            os.fsync = fsync
            sys.addaudithook(hook)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL)
    return code != 0


def test_killed_at_any_moment_the_newest_complete_one_is_whole(root: Path) -> None:
    states = {step: state_of(root, step) for step in (1, 2)}
    write_checkpoint(root, states[1])
    found: list[int] = []
    for call in range(1, 200):
        if not killed_at(
            call, root, lambda: write_checkpoint(root, states[2], world_size=1, keep_last=1)
        ):
            break
        left = newest(root)
        assert left is not None, f"operation {call}"
        found.append(folders.step_of(left))
        assert_whole(left, found[-1])
        folders.clear_scratch(root)
        assert {path.name for path in root.glob("step*")} <= {step_name(1), step_name(2)}
        folders.remove(root / step_name(2))
        if not (root / step_name(1) / folders.COMPLETE).exists():
            write_checkpoint(root, states[1])
    else:
        pytest.fail("it never ended by itself")
    # It turns from the old one to the new one once, at the rename.
    assert found == sorted(found)
    assert found.count(1) >= 12
    assert found.count(2) >= 6
    assert newest(root) == root / step_name(2)
    assert_whole(root / step_name(2), 2)


def test_buffers_are_kept_but_not_when_shapes_change(root: Path) -> None:
    writer = writer_of(root)
    writer.save(made_fragments(0, 1, 1), state_of(root, 1))
    writer.wait()
    (name, size) = ("model.a.weight", 12)
    fragments = [one for one in made_fragments(0, 1, 2) if one.name != name]
    longer = {kind: torch.cat([whole(kind, name, 2)] * 2) for kind in fragments[0].tensors}
    fragments.append(type(fragments[0])(name, 0, longer))
    writer.save(fragments, state_of(root, 2))
    writer.wait()
    folder = root / step_name(2)
    read = read_whole(folder, read_marker(folder))
    assert bits(read[MASTER, name]) == bits(whole(MASTER, name, 2)[:size])
