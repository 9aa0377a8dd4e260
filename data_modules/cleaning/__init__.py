"""Which rows are left out, and why: rules on single rows, duplicates, forced rows.

``rules`` and ``quality`` see one record at a time and run in worker processes; ``duplicates`` compares
all rows with each other and with the evaluation rows, in one process, on arrays that the workers made.
"""

from data_modules.cleaning.behaviours import behaviours_of
from data_modules.cleaning.duplicates import Finding, Findings, find_duplicates
from data_modules.cleaning.forced import Forced
from data_modules.cleaning.language import language_of
from data_modules.cleaning.quality import quality_of
from data_modules.cleaning.rules import Rule, row_rules
from data_modules.cleaning.sketches import (
    compared_texts,
    load_signatures,
    save_signatures,
    signatures,
)

__all__ = [
    "Finding",
    "Findings",
    "Forced",
    "Rule",
    "behaviours_of",
    "compared_texts",
    "find_duplicates",
    "language_of",
    "load_signatures",
    "quality_of",
    "row_rules",
    "save_signatures",
    "signatures",
]
