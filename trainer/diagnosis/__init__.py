"""Diagnosis of a run: what is wrong, how it shows, and the overrides to try."""

from trainer.diagnosis.diagnose import diagnose, unchecked
from trainer.diagnosis.finding import Finding, Severity
from trainer.diagnosis.page import load, print_findings, save

__all__ = ["Finding", "Severity", "diagnose", "load", "print_findings", "save", "unchecked"]
