"""What every page shares: how its templates are filled, and how figures read in it."""

from __future__ import annotations

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from data_modules.report.visible import excerpt, visible

_ROW_LIMIT = 700  # characters of an example that are shown
_ID_LIMIT = 160


def page_environment(package: str = "data_modules.report") -> Environment:
    """Templates of a package and, behind them, of this one; what they fill in is escaped.

    Filters: ``count`` (1,200), ``part`` (12.3%), ``visible`` (invisible characters named), ``id`` and
    ``row`` (also cut).
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("data_modules.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": lambda value: f"{value:,}",
        "part": part,
        "visible": visible,
        "id": lambda text: excerpt(text, _ID_LIMIT),
        "row": lambda text: excerpt(text, _ROW_LIMIT),
    }
    return environment


def part(value: float) -> str:
    """A share for reading: a share that is not nothing never shows as 0%."""
    return "<0.1%" if 0 < value < 0.0005 else f"{value:.1%}"


def with_code(line: str) -> list[tuple[str, bool]]:
    """A line as (text, stands between backticks) parts, made visible."""
    return [(visible(text), bool(index % 2)) for index, text in enumerate(line.split("`")) if text]
