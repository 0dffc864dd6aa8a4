"""The marts of an empty lake, from which the first publication of each home starts: it then builds only the models that
the lake has rows for. Models and tests over nothing are most of a first publication, seven seconds of a core.

They are kept beside dbt's manifest, for all homes of a clone; with other code, other sources or in another month they
are made again.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from lakehouse.lake.contents import digest
from lakehouse.settings import Settings, is_clone
from lakehouse.warehouse.build import BUILD, build, settle
from lakehouse.warehouse.dbt import beside_manifest, build_path, keep_newest
from lakehouse.warehouse.parts import parts
from lakehouse.warehouse.recipe import recipe_of

_PREFIX = "empty-"
_MOST_KEPT = 4
_log = logging.getLogger(__name__)


def empty_marts(config: Settings) -> Path | None:
    """The published file of a home with an empty lake; made first if it isn't kept. None where there would be no other
    home to use it (an installation from a wheel, sources of the user's own), or it can't be made or kept.
    """
    from filelock import FileLock

    if not is_clone() or config.own_defs is not None:
        return None
    recipe = digest(*(recipe_of(part, config) for part in parts()))
    kept = beside_manifest(config, f"{_PREFIX}{recipe}.duckdb")
    try:
        with FileLock(kept.with_name(f"{_PREFIX}marts.lock")):
            if kept.exists():
                os.utime(kept)  # the newest are those that were used last
            else:
                _make(config, kept)
    except OSError as error:
        _log.info("the marts of an empty lake can't be kept: %s", error)
    return kept if kept.exists() else None


def _make(config: Settings, kept: Path) -> None:
    """Makes the file in a home of its own."""
    with TemporaryDirectory(prefix="empty-marts-") as folder:
        of_nothing = config.model_copy(update={"home": Path(folder), "lake_uri": None})
        private = build_path(of_nothing)
        if failures := build(of_nothing, parts(), BUILD, None):
            # What is wrong with the models is told by the publication that builds them from scratch.
            _log.info("the marts of an empty lake can't be made: %s", "; ".join(failures))
            return
        settle(private)
        shutil.copyfile(private, part := kept.with_suffix(".part"))
        os.replace(part, kept)
    keep_newest(kept.parent, f"{_PREFIX}*.duckdb", _MOST_KEPT)
