"""One server of rank processes for all integration tests: its imports take ten seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rank_processes import RankProcesses


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RankProcesses]:
    with RankProcesses(tmp_path_factory.mktemp("server")) as server:
        yield server
