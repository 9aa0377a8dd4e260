"""Findings on the console and in ``findings.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.text import Text

from data_modules.report.visible import visible
from trainer.diagnosis.finding import Finding, Severity
from trainer.run_directory import read_json, write_json

_SHOWN = 6  # sentences of a finding
_STYLES = {Severity.high: "bold red", Severity.medium: "bold yellow", Severity.low: "bold"}


def print_findings(
    console: Console, findings: Sequence[Finding], unchecked: Mapping[str, str]
) -> None:
    """Every finding with its evidence and overrides; then what could not be checked."""
    if not findings:
        console.print("diagnosis: nothing found")
    for number, one in enumerate(findings, 1):
        because = f", a consequence of {one.because}" if one.because else ""
        style = _STYLES[one.severity]
        title = Text(f"{number}. ")
        title.append(one.severity, style)
        title.append(visible(f" {one.title} ({one.rule}{because})"))
        console.print(title, soft_wrap=True)
        # what follows from something else is said in short, and mended with it
        shown = one.evidence[: 1 if one.because else _SHOWN]
        for sentence in shown:
            console.print(Text(visible(f"   {sentence}")), soft_wrap=True)
        if len(shown) < len(one.evidence) and not one.because:
            console.print(f"   and {len(one.evidence) - len(shown)} more in findings.json")
        if one.overrides and not one.because:
            tried = " ".join(map(_shell, one.overrides))
            console.print(Text(visible(f"   try: {tried}")), soft_wrap=True)
    reasons: dict[str, list[str]] = {}
    for rule, why in unchecked.items():
        reasons.setdefault(why, []).append(rule)
    for why, rules in reasons.items():
        console.print(Text(visible(f"not checked: {', '.join(rules)}: {why}")), soft_wrap=True)


def save(path: Path, findings: Sequence[Finding], unchecked: Mapping[str, str]) -> None:
    """Write ``findings.json``: ``findings`` in order, and ``unchecked``, rule -> why."""
    write_json(path, {"findings": [asdict(one) for one in findings], "unchecked": dict(unchecked)})


def load(path: Path) -> tuple[list[Finding], dict[str, str]]:
    """Read ``findings.json``."""
    values = read_json(path)
    findings = [
        Finding(
            **{
                **one,
                "severity": Severity(one["severity"]),
                "explains": tuple(one["explains"]),
            }
        )
        for one in values["findings"]
    ]
    return findings, values["unchecked"]


def _shell(override: str) -> str:
    """An override as a shell takes it: whole, where it holds brackets or quotes."""
    if not set(override) & set("[]{}'\" "):
        return override
    return '"' + override + '"' if "'" in override else f"'{override}'"
