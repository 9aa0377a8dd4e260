"""docs/recipes.md shows the plans that its commands make."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.recipe_tables import PAGE, STRATEGIES, TABLES, VERSIONS, table_in


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_are_those_of_the_plans(name: str, tmp_path: Path) -> None:
    assert table_in(PAGE.read_text(encoding="utf-8"), name) == TABLES[name](tmp_path), (
        "write them anew with: python -m tests.docs.recipe_tables"
    )


def test_the_page_names_what_its_tables_are_made_with() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for version in VERSIONS:
        assert f"experiment={version}" in page
    for overrides in STRATEGIES.values():
        for override in overrides:
            assert override in page, override
