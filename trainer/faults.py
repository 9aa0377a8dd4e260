"""What stops training that had begun."""

from __future__ import annotations

from trainer import exit_codes


class TrainingFault(Exception):
    """Training cannot go on; the text says why and what is left. Raised on every rank alike."""

    exit_code = exit_codes.TRAINING_FAULT
