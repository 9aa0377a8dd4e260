"""Checkpoints whose files are changed at random: used only if nothing is lost, else refused in words."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_modules.faults import UserFault
from tests.shared_checkpoint import (
    check_all,
    is_original,
    made_config,
    made_state,
    mark_again,
    read_whole,
    write_checkpoint,
)
from trainer.checkpoint.folder import COMPLETE, STATE, Damaged, step_name
from trainer.checkpoint.trainer_state import TrainerState
from trainer.config.schema import Config
from trainer.resume import Resumed, find_resumed
from trainer.run_directory import RunDirectory

SHARDS = [f"shard_0000{rank}_of_00002.safetensors" for rank in range(2)]
NAMES = [COMPLETE, STATE, *SHARDS]
OLDER, NEWER = 2, 6
Mutation = Callable[[Path], None]

fuzzing = settings(
    max_examples=1700, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


# --- ways to change a file; one that is gone by then stays so


def on_bytes(name: str, change: Callable[[bytes], bytes]) -> Mutation:
    def mutate(folder: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            data = (folder / name).read_bytes()
            (folder / name).write_bytes(change(data))

    return mutate


def with_flips(data: bytes, flips: list[tuple[float, int]]) -> bytes:
    changed = bytearray(data)
    for place, mask in flips:
        if changed:
            changed[int(place * (len(changed) - 1))] ^= mask
    return bytes(changed)


def with_piece(data: bytes, place: float, length: int, piece: bytes) -> bytes:
    at = int(place * len(data))
    return data[:at] + piece + data[at + length :]


def swapped(one: str, other: str) -> Mutation:
    def mutate(folder: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            first, second = (folder / one).read_bytes(), (folder / other).read_bytes()
            (folder / one).write_bytes(second)
            (folder / other).write_bytes(first)

    return mutate


def gone(name: str) -> Mutation:
    return lambda folder: (folder / name).unlink(missing_ok=True)


def nodes(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a JSON value with each of its keys."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from nodes(value[key])


def changed_json(text: bytes, place: float, how: str, new: Any) -> bytes:
    """Replace, drop, rename or copy one value of a JSON text."""
    try:
        value = json.loads(text)
        found = list(nodes(value))
        holder, key = found[int(place * (len(found) - 1))]
    except (ValueError, TypeError, IndexError):
        return text  # an earlier mutation left nothing to change
    other = found[int(0.5 * len(found))]
    if how == "drop":
        del holder[key]
    elif how == "rename" and isinstance(holder, dict):
        holder[str(new)] = holder.pop(key)
    elif how == "copy":
        holder[key] = other[0][other[1]]
    elif how == "nudge" and isinstance(holder[key], int | float):
        holder[key] += 1
    else:
        holder[key] = new
    with contextlib.suppress(ValueError, RecursionError):  # a copy may hold itself
        return json.dumps(value).encode()
    return text


def changed_header(data: bytes, place: float, how: str, new: Any) -> bytes:
    """The same inside of a shard's header, whose length stays true."""
    size = int.from_bytes(data[:8], "little")
    text = changed_json(data[8 : 8 + size], place, how, new)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


places = st.floats(0, 1)
numbers = st.integers() | st.sampled_from([0, 1, -1, 2**31, 2**62, 2**63, 2**64, 10**40])
leaves = st.none() | st.booleans() | numbers | st.floats() | st.text(max_size=8)
values = leaves | st.recursive(
    leaves,
    lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=5), one, max_size=3),
)
names, shards = st.sampled_from(NAMES), st.sampled_from(SHARDS)
hows = st.sampled_from(["replace", "drop", "rename", "copy", "nudge"])
flips = st.lists(st.tuples(places, st.integers(1, 255)), min_size=1, max_size=4)
mutations = st.one_of(
    st.builds(lambda name, some: on_bytes(name, lambda data: with_flips(data, some)), names, flips),
    st.builds(
        lambda name, place: on_bytes(name, lambda data: data[: int(place * len(data))]),
        names,
        places,
    ),
    st.builds(
        lambda name, place, length, piece: on_bytes(
            name, lambda data: with_piece(data, place, length, piece)
        ),
        names,
        places,
        st.integers(0, 40),
        st.binary(max_size=40),
    ),
    st.builds(swapped, names, names),
    st.builds(gone, names),
    st.builds(
        lambda name, *how: on_bytes(name, lambda data: changed_json(data, *how)),
        st.sampled_from([COMPLETE, STATE]),
        places,
        hows,
        values,
    ),
    st.builds(
        lambda name, *how: on_bytes(name, lambda data: changed_header(data, *how)),
        shards,
        places,
        hows,
        values,
    ),
)


@dataclass(frozen=True)
class Base:
    """A run with two checkpoints, of which the newer one is changed."""

    config: Config
    run: RunDirectory
    state: TrainerState
    files: dict[str, bytes]

    @property
    def folder(self) -> Path:
        return self.run.checkpoints / step_name(NEWER)

    def mend(self) -> None:
        for name, data in self.files.items():
            path = self.folder / name
            if not path.is_file() or path.read_bytes() != data:
                path.unlink(missing_ok=True)  # a file that is mapped must not be written over
                path.write_bytes(data)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    run = RunDirectory(tmp_path_factory.mktemp("fuzz"))
    config = made_config(run.root)
    for step in (OLDER, NEWER):
        folder = write_checkpoint(run.checkpoints, made_state(config, step))
    files = {name: (folder / name).read_bytes() for name in NAMES}
    return Base(config, run, made_state(config, NEWER), files)


def harm(base: Base, some: list[Mutation]) -> None:
    base.mend()
    for mutate in some:
        mutate(base.folder)


def found_or_told(base: Base) -> Resumed | None:
    """What would be continued; None where a fault says why nothing would be."""
    try:
        resumed = find_resumed(base.config, base.run, check_all)
    except UserFault as fault:
        assert str(base.folder) in str(fault)  # noqa: PT017 (it may be raised or not)
        return None
    assert resumed is not None
    if resumed.folder != base.folder:
        assert resumed.global_step == OLDER
        (note,) = resumed.notes
        assert note.startswith(f"{base.folder} cannot be used: ")
        assert any(name in note for name in NAMES)
    return resumed


@fuzzing
@given(st.lists(mutations, min_size=1, max_size=3))
def test_what_was_harmed_is_not_used(base: Base, some: list[Mutation]) -> None:
    harm(base, some)
    resumed = found_or_told(base)
    assert resumed is not None, "the older one is whole"
    if resumed.folder == base.folder:
        assert resumed.state == base.state
        assert (resumed.marker.global_step, resumed.marker.phase_end) == (NEWER, False)
        assert is_original(resumed.folder, resumed.marker, NEWER)


@fuzzing
@given(st.lists(mutations, min_size=1, max_size=3))
def test_what_was_made_to_look_whole_is_read_or_refused(base: Base, some: list[Mutation]) -> None:
    """Whoever can write checksums too can write what he likes, but nothing else than numbers."""
    harm(base, some)
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        mark_again(base.folder)
    resumed = found_or_told(base)
    if resumed is not None:
        with contextlib.suppress(Damaged):
            read_whole(resumed.folder, resumed.marker)


def test_an_unharmed_one_is_used(base: Base) -> None:
    base.mend()
    resumed = found_or_told(base)
    assert resumed is not None
    assert (resumed.folder, resumed.notes) == (base.folder, ())
    assert is_original(resumed.folder, resumed.marker, NEWER)
    assert is_original(base.run.checkpoints / step_name(OLDER), resumed.marker, OLDER)
