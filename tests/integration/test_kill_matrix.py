"""Killed at random moments and started again, a run ends as if nothing had happened, to the last bit.

Few kills of every kind of run; ``make kill-matrix`` makes 20 of each and prints the table of
docs/reliability.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from kill_matrix import VARIANTS, Variant, run_variant
from rank_processes import RankProcesses

KILLS = 2
# Stages 0, 2 and 3, both precisions, full and LoRA.
FEW = [VARIANTS[0], VARIANTS[3], VARIANTS[4]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kills")


@pytest.mark.parametrize("variant", FEW, ids=[one.name for one in FEW])
def test_killed_runs_end_like_the_straight_one(
    root: Path, server: RankProcesses, variant: Variant
) -> None:
    outcome = run_variant(server, root, variant, KILLS, seed=1)
    assert len(outcome.kills) == KILLS
    assert outcome.differences == []
