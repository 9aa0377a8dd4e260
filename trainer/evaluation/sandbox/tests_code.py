"""Assertions that judge a program, compiled so that each says that it was reached."""

from __future__ import annotations

import ast
import marshal
import secrets
from dataclasses import dataclass

UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)


@dataclass(frozen=True, slots=True)
class Tests:
    """Tests made ready for the child.

    Attributes:
        code: the marshalled code object; after assertion *i* it calls ``mark(i)``.
        mark: the name it calls; random, so that no program defines it by chance.
        count: assertions that must be reached.
    """

    __test__ = False

    code: bytes
    mark: str
    count: int


class _Marking(ast.NodeTransformer):
    """Adds ``mark(i)`` after each assertion, except guards: ``assert False`` must not be reached."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self.count = 0

    def visit_Assert(self, node: ast.Assert) -> ast.stmt | list[ast.stmt]:
        if isinstance(node.test, ast.Constant) and not node.test.value:
            return node
        name = ast.Name(self.mark, ast.Load())
        call = ast.Call(func=name, args=[ast.Constant(self.count)], keywords=[])
        self.count += 1
        return [node, ast.fix_missing_locations(ast.copy_location(ast.Expr(call), node))]


def ready(tests: str) -> Tests:
    """Compiles tests; an empty text makes tests without assertions. Raises one of UNREADABLE."""
    marking = _Marking(f"_reached_{secrets.token_hex(8)}")
    tree = marking.visit(ast.parse(tests))
    code = compile(tree, "<tests>", "exec", dont_inherit=True, optimize=0)
    return Tests(marshal.dumps(code), marking.mark, marking.count)


def tests_fault(tests: str) -> str:
    """Why a row's tests cannot judge a program: not Python, or nothing asserted; "" when they can."""
    try:
        count = ready(tests).count
    except UNREADABLE as error:
        return f"the tests are not Python: {error}"
    return "" if count else "the tests assert nothing"
