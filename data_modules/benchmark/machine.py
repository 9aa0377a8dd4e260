"""The stack machine that runs answers of the `code` task."""

from __future__ import annotations

from collections.abc import Mapping

from data_modules.benchmark.streams import Stream

LOAD, ADD, RET = "LOAD", "ADD", "RET"

#: Most values that the stack can hold.
STACK_LIMIT = 8

#: Environments in which an answer is compared with the gold program, and the bound of the values in
#: them. Two different sums agree by chance in all three about once in 10^12 rows.
_ENVIRONMENTS = 3
_VALUE_BOUND = 10_000


class MachineError(ValueError):
    """The program cannot run: the message names the fault and the instruction's position."""


def run_program(program: str, environment: Mapping[str, int]) -> int:
    """Run `LOAD x` (push the value of x), `ADD` (pop two, push the sum), `RET` (stop, give the only
    value).

    Args:
        program: symbols separated by white space.
        environment: the values of the letters.

    Raises:
        MachineError: on stack under- or overflow, an unknown letter or instruction, anything after
            RET, no RET, or values left on the stack. Programs have no jumps, so every run ends.
    """
    symbols = program.split()
    stack: list[int] = []
    at = 0
    while at < len(symbols):
        symbol = symbols[at]
        if symbol == LOAD:
            at += 1
            if at == len(symbols) or symbols[at] not in environment:
                raise MachineError(f"{LOAD} without a known letter at {at}")
            if len(stack) == STACK_LIMIT:
                raise MachineError(f"stack overflow at {at}")
            stack.append(environment[symbols[at]])
        elif symbol == ADD:
            if len(stack) < 2:
                raise MachineError(f"stack underflow at {at}")
            stack.append(stack.pop() + stack.pop())
        elif symbol == RET:
            if at + 1 != len(symbols):
                raise MachineError(f"symbols after {RET} at {at}")
            if len(stack) != 1:
                raise MachineError(f"{len(stack)} values on the stack at {RET}, not 1")
            return stack[0]
        else:
            raise MachineError(f"unknown instruction {symbol!r} at {at}")
        at += 1
    raise MachineError(f"no {RET}")


def same_program(answer: str, gold: str, letters: tuple[str, ...], name: str) -> bool:
    """Whether `answer` runs and gives what `gold` gives in three random environments.

    Args:
        answer: a program of any quality.
        gold: a program that runs.
        letters: the letters that have a value.
        name: seeds the environments; the same name gives the same ones.
    """
    for number in range(_ENVIRONMENTS):
        stream = Stream("bench", "environment", number, name)
        environment = {letter: stream.below(_VALUE_BOUND) for letter in letters}
        try:
            if run_program(answer, environment) != run_program(gold, environment):
                return False
        except MachineError:
            return False
    return True
