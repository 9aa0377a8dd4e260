"""From a sample back to its file and line: rows of the files, and negatives made of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_modules.config import NegativeRowsConfig
from data_modules.phase_data_module import PhaseDataModule
from data_modules.prepare.find_rows import Wanted, find_rows
from tests.data_modules.prepare.made_data import prepared, row, small_pieces, words, write_data

ROWS = 12


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PhaseDataModule:
    """Two tasks in several parts, with every kind of negative; ``qa`` has ids of its own."""
    small_pieces(monkeypatch, unit_bytes=900, part_rows=3)

    def rows(first: int, own_ids: bool) -> list[dict[str, object]]:
        return [
            {
                "instruction": f"do {words(number, 4)}",
                "input": words(number + 300, 4),
                "output": words(number + 600, 4),
            }
            | ({"id": f"r{number}"} if own_ids else {})
            | ({"rejected": words(number + 900, 4)} if number % 4 == 0 else {})
            for number in range(first, first + ROWS)
        ]

    qa, code = rows(0, own_ids=True), rows(100, own_ids=False)
    qa.append({**row(50), "id": "r3", "negative": True})  # shares its id with a right row
    data = write_data(
        tmp_path,
        {"qa": qa, "code": code},
        negatives=NegativeRowsConfig(cross_task=0.5, swapped_instruction=0.5),
    )
    return prepared(data)


def samples(made: PhaseDataModule) -> list[tuple[str, Wanted]]:
    """Task and key of every sample."""
    store = made.store("mix")
    return [
        (store.tasks[task], Wanted(int(key), bool(sign < 0)))
        for task, key, sign in zip(store.task_ids, store.row_keys, store.signs, strict=True)
    ]


def test_every_sample_leads_back_to_its_line(tmp_path: Path, made: PhaseDataModule) -> None:
    assert len(made.cleaned.rows.parts) > 4
    wanted_of = samples(made)
    found = find_rows(made.cleaned.rows, [wanted for _, wanted in wanted_of], made.tasks)
    kinds: dict[str, int] = {}
    for task, wanted in wanted_of:
        name = found[wanted]
        file, line = name.origin.rsplit(":", 1)
        stands = json.loads(
            (tmp_path / file).read_text(encoding="utf-8").splitlines()[int(line) - 1]
        )
        own, _, made = name.row_id.partition("#")
        assert own == stands.get("id", name.origin)
        kind = made.partition("_")[0] or ("negative" if wanted.negative else "right")
        kinds[kind] = kinds.get(kind, 0) + 1
        assert wanted.negative == (kind != "right")
        # a swapped instruction makes a negative of the other task
        assert (Path(file).stem == task) == (kind != "from")
        assert stands.get("negative", False) == (kind == "negative")
        assert ("rejected" in stands) or kind != "rejected"
    assert kinds == {"right": 2 * ROWS, "negative": 1, "rejected": 6, "as": 12, "from": 12}


def test_what_is_not_there_is_left_out(made: PhaseDataModule) -> None:
    (_, known) = next(one for one in samples(made) if one[0] == "code" and not one[1].negative)
    wanted = [known, Wanted(known.row_key, negative=True), Wanted(1, negative=False)]
    assert list(find_rows(made.cleaned.rows, wanted, made.tasks)) == [known]
