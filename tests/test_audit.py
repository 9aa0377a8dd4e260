"""The audit of pinned packages: fails on what is known, and says so where nothing was looked up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.shared_data import REPOSITORY

AUDIT = REPOSITORY / ".ci/audit.py"
CLEAN = {"name": "torch", "version": "2.13.0", "vulns": []}
SKIPPED = {"name": "wandb", "skip_reason": "not found"}
KNOWN = {
    "name": "urllib3",
    "version": "2.8.0",
    "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-2026-1"], "fix_versions": ["2.8.1"]}],
}


def audit(folder: Path, body: str, exceptions: str = "") -> tuple[int, str]:
    """What a copy of the script does where pip-audit is ``body``."""
    (folder / ".ci").mkdir()
    script = folder / ".ci/audit.py"
    script.write_text(AUDIT.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / ".ci/audit_exceptions.txt").write_text(exceptions, encoding="utf-8")
    (folder / "pip_audit").mkdir()
    (folder / "pip_audit/__init__.py").touch()
    (folder / "pip_audit/__main__.py").write_text(f"import json, sys\n{body}\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(folder)},
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def reporting(*packages: dict[str, Any], code: int = 0) -> str:
    report = json.dumps({"dependencies": packages, "fixes": []})
    return f"print({report!r}); sys.exit({code})"


def test_nothing_known(tmp_path: Path) -> None:
    code, said = audit(tmp_path, reporting(CLEAN, CLEAN))
    assert (code, said) == (0, "audit: 0 known vulnerabilities in 2 of 2 packages\n")


def test_a_known_vulnerability_fails(tmp_path: Path) -> None:
    code, said = audit(tmp_path, reporting(CLEAN, KNOWN, SKIPPED, code=1))
    assert code == 1
    assert said.splitlines() == [
        "audit: 1 known vulnerabilities in 2 of 3 packages",
        "  urllib3 2.8.0: PYSEC-1, fixed in 2.8.1",
        "  not looked up: wandb",
    ]


@pytest.mark.parametrize("name", ["PYSEC-1", "CVE-2026-1"])
def test_an_exception_with_its_reason(tmp_path: Path, name: str) -> None:
    exceptions = f"# a comment\n{name} we send no requests\nCVE-1 gone\n"
    code, said = audit(tmp_path, reporting(KNOWN, code=1), exceptions)
    assert code == 0
    assert said.splitlines() == [
        "audit: 0 known vulnerabilities in 1 of 1 packages",
        f"  excused: {name}: we send no requests",
        "  no longer needed: CVE-1",
    ]


def test_packages_that_no_database_knows_are_not_called_safe(tmp_path: Path) -> None:
    """pip-audit itself then says that it found no vulnerability."""
    code, said = audit(tmp_path, reporting(SKIPPED, SKIPPED))
    assert (code, said) == (0, "audit: NOT MADE, none of 2 packages could be looked up\n")


def test_machine_without_network(tmp_path: Path) -> None:
    body = "sys.stderr.write('Traceback\\nProxyError: cannot connect\\n'); sys.exit(1)"
    code, said = audit(tmp_path, body)
    assert code == 0
    assert said == "audit: NOT MADE, no database could be reached (ProxyError: cannot connect)\n"


def test_pip_audit_that_is_not_there(tmp_path: Path) -> None:
    body = "raise ModuleNotFoundError(\"No module named 'pip_audit.x'\")"
    code, said = audit(tmp_path, body)
    assert code == 1
    assert "make setup" in said


def test_every_pin_is_audited() -> None:
    """A line of another form would be passed over, or end the audit."""
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(line.count("==") == 1 and " " not in line for line in pins)
    assert len({line.split("==")[0].lower() for line in pins}) == len(pins)
    assert "make audit" in (REPOSITORY / ".ci/run").read_text(encoding="utf-8")
