"""Files of any supported kind -> records, a unit at a time, with every unusable row counted."""

from data_modules.sources.digest import source_digest
from data_modules.sources.files import discovered_tasks, source_files
from data_modules.sources.formats import RowFault, record_of
from data_modules.sources.units import Unit, read_unit, units_of

__all__ = [
    "RowFault",
    "Unit",
    "discovered_tasks",
    "read_unit",
    "record_of",
    "source_digest",
    "source_files",
    "units_of",
]
