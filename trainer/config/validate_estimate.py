"""Rules on the cluster that ``launch/plan.py`` estimates for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from data_modules.faults import Fault
from trainer.config.rules import above_zero, at_least, share
from trainer.config.schema import Config
from trainer.estimate.hardware import BETWEEN, GPUS, WITHIN


def estimate_faults(config: Config) -> Iterator[Fault]:
    """Every fault of ``estimate``."""
    settings, faults = config.estimate, list[Fault]()
    _known("gpu", settings.gpu, GPUS, faults)
    _known("within", settings.within, WITHIN, faults)
    _known("between", settings.between, BETWEEN, faults)
    _known("host_link", settings.host_link, WITHIN, faults)
    for name in ("nodes", "gpus_per_node", "ports", "host_memory_gb"):
        at_least(f"estimate.{name}", getattr(settings, name), 1, faults)
    for name in ("mfu", "link_share", "host_bandwidth_gb"):
        above_zero(f"estimate.{name}", getattr(settings, name), faults)
    for name in ("mfu", "link_share", "overlap"):
        share(f"estimate.{name}", getattr(settings, name), faults)
    share("estimate.headroom", settings.headroom, faults, below_one=True)
    yield from faults


def _known(name: str, value: str | None, names: Iterable[str], faults: list[Fault]) -> None:
    if value is not None and value not in names:
        rule = f"known are {', '.join(names)}"
        faults.append(Fault(f"estimate.{name}", value, rule))
