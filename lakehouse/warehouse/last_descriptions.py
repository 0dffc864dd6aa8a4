"""The descriptions with which the marts were published last: a source whose `defs.yaml` has a fault keeps its rows in
the marts, while those of others are published.

They are kept in the home, since each home has its own marts. A source without a fault is always described by its file.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lakehouse.catalog import component_of, descriptions, faulty_files, kinds
from lakehouse.derive.source import Source
from lakehouse.settings import Settings
from lakehouse.whole_file import write_whole

_log = logging.getLogger(__name__)


def in_use(config: Settings) -> dict[str, Any]:
    """The descriptions that publications use, by source: those of the files, and for files that have a fault now those
    that were kept before.
    """
    known, faulty = descriptions(), faulty_files()
    kept = {name: entry for name, entry in _kept(config).items() if Path(entry["file"]) in faulty}
    for name, (component, said) in known.found.items():
        if (file := known.files.get(name)) is not None and file not in faulty:
            attributes = said.model_dump(mode="json", exclude_unset=True)
            kept[name] = {"file": str(file), "component": component, "attributes": attributes}
    return kept


def keep_descriptions(config: Settings) -> None:
    """Keeps the descriptions that are in use."""
    written = json.dumps(in_use(config), indent=1, sort_keys=True)
    path = _path(config)
    if path.exists() and path.read_text() == written:
        return
    try:
        path.parent.mkdir(exist_ok=True)
        write_whole(path, written)
    except OSError as error:
        _log.info("the descriptions of the sources can't be kept: %s", error)


def last_described(kind: str, config: Settings) -> list[Source]:
    """The sources of a kind whose files have a fault, as they were described before."""
    faulty = faulty_files()
    if not faulty:
        return []
    found = []
    of_kind = kinds()[kind]
    for name, entry in sorted(_kept(config).items()):
        if Path(entry["file"]) in faulty and entry["component"] == component_of(of_kind):
            try:
                found.append(of_kind.resolve(of_kind.model.model_validate(entry["attributes"]), config))
            except ValidationError:
                _log.info("the last description of %s is one of another version", name)
    return found


def _path(config: Settings) -> Path:
    return config.home / "cache" / "descriptions.json"


def _kept(config: Settings) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(_path(config).read_text())
    except (OSError, ValueError):
        return {}
    return found
