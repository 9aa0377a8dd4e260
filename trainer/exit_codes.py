"""How a training process ends; docs/reliability.md tells what to do after each."""

DONE = 0
#: A fault in the configuration, the data or the machine's set-up; nothing was trained.
USER_FAULT = 2
#: Training cannot go on: non-finite losses, a loss spike, a checkpoint that cannot be written.
TRAINING_FAULT = 3
#: A rank died or hung.
LOST_RANK = 4
#: Stopped on request; starting again continues, but nobody should do so by itself.
STOPPED = 98
#: Preempted or out of time: start the same command again.
REQUEUE = 99
