"""A rank that dies or hangs brings the run down in time, by name and with its stacks.

Every rank writes a sign of life to the run directory and reads those of its peers; see
:mod:`trainer.watchdog.watch` for what then happens. The training code only says where it is: ``at(...)``.
"""

from trainer.watchdog.group_timeouts import set_group_timeouts
from trainer.watchdog.places import at, paused
from trainer.watchdog.watch import explain_lost, watching

__all__ = ["at", "explain_lost", "paused", "set_group_timeouts", "watching"]
