"""Look up every pinned package for known vulnerabilities with pip-audit; fail on one that is known.

python .ci/audit.py [FILE]     FILE holds the pins, constraints.txt by default
A machine that reaches no vulnerability database is told so and goes on: nothing was found, and nothing
was looked up. What was judged to be harmless here stands in .ci/audit_exceptions.txt with its reason.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
EXCEPTIONS = Path(__file__).with_name("audit_exceptions.txt")
TIMEOUT_S = 600


def read_exceptions(text: str) -> dict[str, str]:
    """ID -> reason, of lines ``ID reason``; a reason is a must."""
    found = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, reason = line.partition(" ")
            assert reason.strip(), f"{EXCEPTIONS.name}: '{name}' needs a reason"
            found[name] = reason.strip()
    return found


def verdict(report: Mapping[str, Any], exceptions: Mapping[str, str]) -> tuple[int, list[str]]:
    """Exit code and lines to print, of a report that pip-audit made."""
    packages = report["dependencies"]
    known, skipped, used = [], [], set()
    for package in packages:
        if "skip_reason" in package:
            skipped.append(package["name"])
        for one in package.get("vulns", ()):
            names = [one["id"], *one.get("aliases", ())]
            excused = next((name for name in names if name in exceptions), None)
            if excused is not None:
                used.add(excused)
                continue
            fixed = ", ".join(one.get("fix_versions", ())) or "none yet"
            known.append(f"{package['name']} {package['version']}: {names[0]}, fixed in {fixed}")
    lines = [f"  {line}" for line in known]
    lines += [f"  excused: {name}: {exceptions[name]}" for name in sorted(used)]
    lines += [f"  no longer needed: {name}" for name in sorted(set(exceptions) - used)]
    looked_up = len(packages) - len(skipped)
    if not looked_up:
        return 0, [f"audit: NOT MADE, none of {len(packages)} packages could be looked up"]
    head = f"audit: {len(known)} known vulnerabilities in {looked_up} of {len(packages)} packages"
    if skipped:
        lines.append(f"  not looked up: {', '.join(skipped)}")
    return int(bool(known)), [head, *lines]


def main(given: list[str]) -> int:
    """Run pip-audit over the pins."""
    pins = given[0] if given else str(ROOT / "constraints.txt")
    command = [sys.executable, "-m", "pip_audit", "--requirement", pins, "--no-deps"]
    command += ["--disable-pip", "--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
        report = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        print(f"audit: NOT MADE, no answer within {TIMEOUT_S} s", flush=True)
        return 0
    except json.JSONDecodeError:
        why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        if "No module named" in why:
            print(f"audit: pip-audit is not installed ({why}); make setup", flush=True)
            return 1
        print(f"audit: NOT MADE, no database could be reached ({why[:300]})", flush=True)
        return 0
    code, lines = verdict(report, read_exceptions(EXCEPTIONS.read_text(encoding="utf-8")))
    print("\n".join(lines), flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
