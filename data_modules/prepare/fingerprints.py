"""What a cache entry's name must hold: everything that the rows, or the tokens, depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from enum import Enum
from pathlib import Path
from typing import Any

from data_modules.cleaning.forced import Forced
from data_modules.config import BoundaryConfig, DataConfig, PromptSet, TaskConfig
from data_modules.mixture import MixtureConfig, PromptConfig
from data_modules.prepare.evaluation_records import with_rows_of
from data_modules.roles import Roles
from data_modules.sources.digest import source_digest
from data_modules.wording import wording_key

# Parts of every key: raise one when the same inputs would give other rows, or other tokens.
ROWS_VERSION = 1
TOKENS_VERSION = 5
PLAN_VERSION = 1

# What of a mixture decides which rows come in which step; the rest is wording and optimisation, or
# has done its part once the tasks are named.
_UNPLANNED = ("boundary", "prompts", "auto_hard")
_PLANNED = [one.name for one in fields(MixtureConfig) if one.name not in _UNPLANNED]


def rows_fingerprint(data: DataConfig, tasks: Iterable[str], cache_dir: Path) -> str:
    """sha256 of what the clean rows of ``tasks`` depend on, hex."""
    tasks = list(tasks)
    forced = Forced(data.cleaning)
    cleaning = asdict(data.cleaning) | {"keep": sorted(forced.keep), "drop": sorted(forced.drop)}
    del cleaning["max_drop_ratio"]  # stops a run, changes no row
    return _sha256(
        {
            "version": ROWS_VERSION,
            "train": source_digest(data, tasks, "train", cache_dir),
            "eval": _evaluation_digest(data, cache_dir) if data.cleaning.contamination else None,
            "cleaning": cleaning,
            "tasks": {task: _row_settings(data.tasks[task]) for task in tasks},
            # tag_leak looks for the texts of every task
            "tags": {
                task: [one.tag, one.constraint, one.tags, one.constraints]
                for task, one in data.tasks.items()
            }
            if data.cleaning.tag_leak
            else None,
        }
    )


def _evaluation_digest(data: DataConfig, cache_dir: Path) -> list[Any]:
    """Of the evaluation rows, ordinary ones and those that prompt sets bring."""
    papers = [data, *(with_rows_of(data, one) for one in PromptSet)]
    return [source_digest(one, _evaluated(one), "eval", cache_dir) for one in papers]


def _evaluated(data: DataConfig) -> list[str]:
    return [task for task, settings in data.tasks.items() if settings.is_evaluated]


def _row_settings(task: TaskConfig) -> dict[str, Any]:
    return {
        "unify": task.unify,
        "code_language": task.code_language,
        "forbidden": task.forbidden,
        "answer_languages": task.answer_languages,
        "translates": task.translates,
        "format": task.format,
    }


def tokens_fingerprint(
    rows: str,
    data: DataConfig,
    trained_tasks: tuple[str, ...],
    boundary: BoundaryConfig,
    prompts: PromptConfig,
    phase: str,
    seed: int,
    tokenizer: Any,
) -> str:
    """sha256 of what the samples of one wording depend on, hex.

    Args:
        rows: fingerprint of the clean rows.
    """
    made = data.negatives.cross_task or data.negatives.swapped_instruction
    return _sha256(
        {
            "version": TOKENS_VERSION,
            "rows": rows,
            "tokenizer": _tokenizer_digest(tokenizer),
            "template": tokenizer.chat_template,
            "special": [tokenizer.bos_token, tokenizer.eos_token],
            "wording": {
                task: wording_key(task, data.tasks, boundary, prompts, phase, seed)
                for task in trained_tasks
            },
            "max_seq_len": data.max_seq_len,
            "overlong": data.overlong,
            "tasks": [sorted(data.tasks), trained_tasks],
            "negatives": [asdict(data.negatives), seed if made else None],
            "general": sorted(task for task in trained_tasks if data.tasks[task].general),
        }
    )


def plan_fingerprint(
    store: str,
    phase: str,
    mixture: MixtureConfig,
    roles: Roles,
    sizes: Sequence[int | None],
    source_weights: Mapping[str, float],
    row_losses: str | None,
) -> str:
    """sha256 of what a phase's plan depends on, hex.

    Args:
        store: name of the samples.
        sizes: global batch size, seed and the limits on rows and steps.
    """
    settings = asdict(mixture)
    files = [one for one in (row_losses, mixture.balance.difficulty_from) if one is not None]
    return _sha256(
        {
            "version": PLAN_VERSION,
            "store": store,
            "phase": phase,
            "mixture": {name: settings[name] for name in _PLANNED},
            "roles": asdict(roles),
            "sizes": list(sizes),
            "source_weights": source_weights,
            "files": [_file_digest(Path(one)) for one in files],
        }
    )


def _file_digest(path: Path) -> str | None:
    """None for a file that cannot be read: planning says so."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _tokenizer_digest(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _sha256(values: Mapping[str, Any]) -> str:
    def plain(value: object) -> str:
        assert isinstance(value, Enum), value
        return str(value.value)

    return hashlib.sha256(json.dumps(values, sort_keys=True, default=plain).encode()).hexdigest()
