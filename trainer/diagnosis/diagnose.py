"""From a run's files to findings, causes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trainer.diagnosis.finding import Finding, Severity
from trainer.diagnosis.reading import Reading
from trainer.diagnosis.rule import Rule
from trainer.diagnosis.rules.answers import (
    AskingBack,
    FormatDrift,
    OverListing,
    Refusing,
    Truncation,
)
from trainer.diagnosis.rules.data import PoorData
from trainer.diagnosis.rules.forgetting import Forgetting, GeneralForgetting, TaskOrder
from trainer.diagnosis.rules.gradients import GradientConflict
from trainer.diagnosis.rules.leaks import CrosstalkPairs, RoutingOrSkill, TagsNeeded
from trainer.diagnosis.rules.mixture import CrowdingOut, Imbalance, Overfitting, WastedCapacity
from trainer.diagnosis.rules.optimisation import Divergence, RateAtSwitch, SmallPhase
from trainer.diagnosis.rules.steps import BadSteps
from trainer.diagnosis.rules.talk import OverExplaining
from trainer.run_facts import RunFacts

RULES: tuple[Rule, ...] = (
    RateAtSwitch(),
    Divergence(),
    BadSteps(),
    SmallPhase(),
    TaskOrder(),
    OverListing(),
    AskingBack(),
    Refusing(),
    OverExplaining(),
    PoorData(),
    CrowdingOut(),
    Overfitting(),
    Imbalance(),
    GeneralForgetting(),
    Forgetting(),
    CrosstalkPairs(),
    TagsNeeded(),
    Truncation(),
    FormatDrift(),
    GradientConflict(),
    RoutingOrSkill(),
    WastedCapacity(),
)
_ORDER = list(Severity)


def diagnose(facts: RunFacts) -> list[Finding]:
    """What is wrong with a run: causes by severity, then by what is at stake; consequences behind.

    A finding that another one explains has severity low and names it in ``because``.
    """
    run = Reading(facts)
    return ranked([one for rule in RULES if not rule.missing(run) for one in rule.check(run)])


def unchecked(facts: RunFacts) -> dict[str, str]:
    """Rule -> why this run cannot be checked by it."""
    run = Reading(facts)
    return {rule.name: why for rule in RULES if (why := rule.missing(run))}


def ranked(findings: Sequence[Finding]) -> list[Finding]:
    """Consequences marked as such, then the order that a person should read in."""
    causes = [[one for one in findings if _is_cause(one, other)] for other in findings]
    roots = [one for one, some in zip(findings, causes, strict=True) if not some]
    marked = [_marked(one, some, roots) for one, some in zip(findings, causes, strict=True)]
    return sorted(
        marked, key=lambda one: (bool(one.because), _ORDER.index(one.severity), -one.score)
    )


def _marked(finding: Finding, causes: list[Finding], roots: list[Finding]) -> Finding:
    """The finding, or as a consequence: of the gravest cause, if it can be of one that has none itself."""
    if not causes:
        return finding
    first = [one for one in causes if one in roots] or causes
    cause = min(first, key=lambda one: (_ORDER.index(one.severity), -one.score))
    return replace(finding, severity=Severity.low, because=cause.rule)


def _is_cause(cause: Finding, other: Finding) -> bool:
    """Whether one is worth mending, explains the other, and is not explained by it in turn."""
    return (
        cause.severity is not Severity.low
        and _explains(cause, other)
        and not _explains(other, cause)
    )


def _explains(cause: Finding, other: Finding) -> bool:
    """Whether a finding explains another: most of the tasks that suffer from that suffer from this."""
    if other.rooted or other.rule == cause.rule or other.rule not in cause.explains:
        return False
    return cause.everywhere or 2 * len(set(cause.tasks) & set(other.tasks)) > len(other.tasks)
