"""The public API.

from lakehouse import open_lake

lake = open_lake()
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import replace
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from lakehouse.analyses.service import Analyses
from lakehouse.catalog import analyses, registry_of
from lakehouse.compute import compute_of
from lakehouse.domains.documents.similar import similar
from lakehouse.domains.market.prices import Adjustment, Convention, bars, daily_bars
from lakehouse.domains.reference.resolution import resolve as resolution
from lakehouse.errors import LakeUnavailable
from lakehouse.governance.catalogue import catalogue_entries
from lakehouse.governance.role_lake import RoleLake
from lakehouse.lake import lake as kernel
from lakehouse.lake.folders import require_folder
from lakehouse.lake.lake import Connections
from lakehouse.lake.location import is_remote
from lakehouse.lake.locked import Limits
from lakehouse.lake.releases import marts_file, present_marts, release_in_use, release_named
from lakehouse.lake.sql import parse_moment
from lakehouse.settings import Settings, settings
from lakehouse.urls import scheme_of
from lakehouse.warehouse.publish import marts_as_of

if TYPE_CHECKING:
    import duckdb
    import polars as pl


class Lake(kernel.Lake):
    """The lake of an installation, with the methods of its domains: see `Lake.open`."""

    def __init__(
        self,
        uri: str,
        *,
        warehouse: Path | None = None,
        as_of: datetime | None = None,
        connections: Connections | None = None,
        limits: Limits | None = None,
        config: Settings | None = None,
    ) -> None:
        self.config = config = config or settings()
        known = registry_of(config)
        known = replace(
            known,
            shared={**known.shared, **catalogue_entries(config)},
            marts_as_of=partial(marts_as_of, config=config),
        )
        super().__init__(
            uri,
            known,
            warehouse=warehouse,
            as_of=as_of,
            connections=connections,
            limits=limits,
            compute=compute_of(config, Lake.present),
        )

    @overload
    @classmethod
    def open(
        cls,
        place: Settings | str | os.PathLike[str] | None = None,
        *,
        as_of: datetime | date | str | None = None,
        connections: Connections | None = None,
        locked: bool = False,
        role: None = None,
    ) -> Lake: ...

    @overload
    @classmethod
    def open(cls, place: Settings | str | os.PathLike[str] | None = None, *, role: str) -> RoleLake: ...

    @classmethod
    def open(
        cls,
        place: Settings | str | os.PathLike[str] | None = None,
        *,
        as_of: datetime | date | str | None = None,
        connections: Connections | None = None,
        locked: bool = False,
        role: str | None = None,
    ) -> Lake | RoleLake:
        """The lake that the settings name (`LAKEHOUSE_LAKE_URI`, `LAKEHOUSE_HOME`), or the one at `place`, as readers
        see it: while a release is in use (`lakehouse release use`), its tables and marts, which can't be written.

        Args:
            place: other settings; or a home, as LAKEHOUSE_HOME names it; or where the tables are, a folder or an
                s3:// URI.
            as_of: also a date, or text in ISO 8601, in UTC where it names no offset.
            connections: opens the DuckDB connections that work on the lake uses, to configure them (a memory limit,
                threads).
            locked: restrict `sql` for untrusted queries: only SELECT; no files, network, settings or extensions; and
                limits of memory and time (`LAKEHOUSE_LOCKED_MEMORY`, `LAKEHOUSE_LOCKED_SECONDS`).
            role: answer from what was published for this role (`lakehouse roles publish`), and from nothing else; its
                queries are restricted as with `locked`.

        Raises:
            LakeUnavailable: the folder doesn't exist, or the home is a file.
            RoleError: the role doesn't exist, its file isn't published, or its key is missing or wrong.
            ValueError: a role's file has no past states.
            ReleaseError: a release is in use that the lake doesn't have, or whose marts are in another home.
        """
        if role is not None:
            if as_of is not None or connections is not None:
                raise ValueError("a role's file holds one state, without past ones: open it without as_of")
            return RoleLake.open(role, _config_at(place))
        lake = cls.present(place, as_of=as_of, connections=connections, locked=locked)
        name = release_in_use(lake.config) if lake.warehouse is not None else None
        return lake if name is None else lake.at_release(name)

    @classmethod
    def present(
        cls,
        place: Settings | str | os.PathLike[str] | None = None,
        *,
        as_of: datetime | date | str | None = None,
        connections: Connections | None = None,
        locked: bool = False,
    ) -> Lake:
        """The lake's present state, even while a release is served; loads and derivations use it. See `open`."""
        config = _config_at(place)
        require_folder(config.home)
        moment = as_of if as_of is None or isinstance(as_of, datetime) else parse_moment(str(as_of))
        # The local marts belong to the settings' lake; the location of another bucket's marts is unknown.
        is_elsewhere = place is not None and is_remote(config.lake) and config.lake != settings().lake
        return cls(
            config.lake,
            warehouse=None if is_elsewhere else present_marts(config),
            as_of=moment,
            connections=connections,
            limits=Limits(config.locked_memory, config.locked_seconds) if locked else None,
            config=config,
        )

    def at_release(self, name: str) -> Lake:
        """This lake as a release serves it.

        Raises:
            ReleaseError: the lake has no such release, or its marts are in another home.
        """
        release = release_named(self, name)
        return self.pinned(release.pin, marts_file(self.config, release))

    @property
    def analyses(self) -> Analyses:
        """The analyses of this lake: to run them, show them, read their results and hand them over."""
        return Analyses(self, analyses().found, partial(type(self).present, self.config, as_of=self.as_of))

    def daily_bars(
        self,
        source: str,
        *,
        symbols: Collection[str] | str | None = None,
        start: date | str | None = None,
        end: date | str | None = None,
        adjusted: Adjustment = "none",
        convention: Convention = "crsp",
        as_of: date | str | None = None,
    ) -> duckdb.DuckDBPyRelation:
        """A source's daily bars with prices and volumes as traded, or adjusted for splits, or for dividends too (see
        `lakehouse.domains.market.prices.daily_bars`).
        """
        wanted = {"symbols": symbols, "start": start, "end": end, "as_of": as_of}
        return daily_bars(self, source, adjusted=adjusted, convention=convention, **wanted)

    def bars(
        self,
        source: str,
        interval: str,
        *,
        symbols: Collection[str] | str | None = None,
        start: date | str | None = None,
        end: date | str | None = None,
    ) -> duckdb.DuckDBPyRelation:
        """A source's traded bars of a longer interval, such as `5min` or `1h`, within sessions and segments (see
        `lakehouse.domains.market.prices.bars`).
        """
        return bars(self, source, interval, symbols=symbols, start=start, end=end)

    def similar_documents(self, query: str, *, limit: int = 10, source: str = "documents") -> duckdb.DuckDBPyRelation:
        """The passages of documents whose meaning is nearest to a text (see
        `lakehouse.domains.documents.similar.similar`); `documents.search` in SQL goes by words.
        """
        return similar(self, self.config, query, limit, source)

    def resolve(
        self,
        value: str,
        *,
        mic: str | None = None,
        to: str | None = None,
        on: date | None = None,
        known: datetime | None = None,
    ) -> resolution.Resolution:
        """What an identifier stands for, with every answer there is (see
        `lakehouse.domains.reference.resolution.resolve.resolve`).

        Args:
            on: the day on which the answer is true; today by default.
            known: as of when its publishers had said so; now by default.
        """
        return resolution.resolve(self, value, mic=mic, to=to, times=resolution.Times(on, known))

    def crosswalk(
        self,
        rows: pl.DataFrame,
        start: str,
        targets: Collection[str],
        *,
        on: date | None = None,
        known: datetime | None = None,
    ) -> pl.DataFrame:
        """The rows with further identifiers and a status (see
        `lakehouse.domains.reference.resolution.resolve.crosswalk`).
        """
        return resolution.crosswalk(self, rows, start, list(targets), times=resolution.Times(on, known))


def open_lake(place: Settings | str | os.PathLike[str] | None = None, **how: Any) -> Any:
    """Short for `Lake.open`."""
    return Lake.open(place, **how)


def _config_at(place: Settings | str | os.PathLike[str] | None) -> Settings:
    return place if isinstance(place, Settings) else settings() if place is None else _settings_at(place)


def _settings_at(place: str | os.PathLike[str]) -> Settings:
    """The settings of the home at `place`, or of the lake whose tables are there."""
    if not os.fspath(place).strip():
        raise LakeUnavailable(
            "'' names no lake; name a home (LAKEHOUSE_HOME), the folder of its tables or an s3:// URI"
        )
    if scheme_of(os.fspath(place)) not in (None, "file"):
        return Settings(lake_uri=os.fspath(place))
    folder = Path(place).expanduser().absolute()
    if not os.path.isdir(folder):
        raise LakeUnavailable(f"{folder} is no folder; name a home (LAKEHOUSE_HOME), or the folder of a lake's tables")
    if (folder / "lake").is_dir():
        return Settings(home=folder, lake_uri=str(folder / "lake"))
    return Settings(home=folder.parent, lake_uri=str(folder))
