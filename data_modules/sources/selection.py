"""``SourceConfig.where``: an expression over a row's own columns that selects rows.

Names in the expression are columns; ``row`` is the whole row, for columns that are no Python name
(``row['source lang']``) or that not every row has (``row.get('lang')``). Evaluated by simpleeval:
comparisons, arithmetic, ``and or not in``, indexing, methods of text and the functions below.
"""

from __future__ import annotations

import ast
from functools import lru_cache
from typing import Any

from simpleeval import (
    DISALLOW_METHODS,
    DISALLOW_PREFIXES,
    EvalWithCompoundTypes,
    NameNotDefined,
)

from data_modules.faults import DataFault, Fault
from data_modules.sources.formats import RowFault, columns_of

# simpleeval's own defaults include random ones; a selection must be the same in every run
_FUNCTIONS = {
    function.__name__: function for function in (len, int, float, str, bool, abs, min, max)
}
_EXAMPLE = "Write an expression over the row's columns, such as lang == 'zh' and len(output) < 500."


class Selection:
    """One compiled expression."""

    def __init__(self, expression: str, where: str) -> None:
        """Compile.

        Args:
            where: the dotted key that the expression is written under.

        Raises:
            DataFault: the expression can never be evaluated.
        """
        self._expression = expression
        self._evaluator = EvalWithCompoundTypes(functions=_FUNCTIONS)
        try:
            # in eval mode "lang = 'zh'" is an error; simpleeval itself takes it for 'zh'
            self._tree = ast.parse(expression.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError) as error:
            problem = error.msg if isinstance(error, SyntaxError) else str(error)
            raise _wrong(where, expression, f"it is no expression: {problem}") from None
        for node in ast.walk(self._tree):
            if problem := self._problem(node):
                raise _wrong(where, expression, problem)

    def _problem(self, node: ast.AST) -> str:
        if isinstance(node, ast.operator | ast.unaryop | ast.cmpop):
            if type(node) not in self._evaluator.operators:
                return f"operator {type(node).__name__} is not available"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id not in _FUNCTIONS:
                return f"function '{node.func.id}' is none of {', '.join(_FUNCTIONS)}"
        elif isinstance(node, ast.Attribute):
            if node.attr.startswith(tuple(DISALLOW_PREFIXES)) or node.attr in DISALLOW_METHODS:
                return f"'.{node.attr}' is not available"
        elif isinstance(node, ast.expr) and type(node) not in self._evaluator.nodes:
            return f"{type(node).__name__} is not available"
        return ""

    def __call__(self, row: Any) -> bool:
        """Whether the row is selected.

        Raises:
            RowFault: the row lacks a column that the expression names, or has a value there that
                the expression cannot work with.
        """
        if not isinstance(row, dict):
            found = type(row).__name__
            raise RowFault("not_an_object", f"the line holds {found}, expected an object")
        self._evaluator.names = {"row": row, **row}
        try:
            return bool(self._evaluator.eval(self._expression, previously_parsed=self._tree))
        except NameNotDefined as error:
            seen = f"field '{error.name}' is missing (has {columns_of(row)})"
            raise RowFault("where_field", f"{seen}; 'where' names it") from None
        except Exception as error:  # any error that a row's values can cause in an expression
            reason = f"'where' fails on this row: {type(error).__name__}: {error}"
            raise RowFault("where_failed", reason) from None


def _wrong(where: str, expression: str, problem: str) -> DataFault:
    return DataFault(Fault(where, f"'{expression}'", f"a row selection: {problem}", _EXAMPLE))


@lru_cache(maxsize=256)
def selection_of(expression: str, where: str) -> Selection | None:
    """The compiled expression; None selects every row. See :class:`Selection`."""
    return Selection(expression, where) if expression.strip() else None
