"""The composition root: reads the `defs.yaml` files and the settings, and builds the domains' sources and the lake.

A new domain is a package and one line in `DOMAINS`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from lakehouse.analyses import described as described_analyses
from lakehouse.analyses import store as analyses_store
from lakehouse.analyses.described import DescribedAnalyses
from lakehouse.derive import table_report
from lakehouse.derive.conservation import conservation
from lakehouse.derive.domain import Domain, Kind
from lakehouse.derive.source import Source
from lakehouse.domains.banking import domain as banking
from lakehouse.domains.documents import domain as documents
from lakehouse.domains.market import domain as market
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.domains.market.quotes.feed import Feed
from lakehouse.domains.orders import domain as orders
from lakehouse.domains.reference import domain as reference
from lakehouse.domains.retail import domain as retail
from lakehouse.errors import LakehouseError, SourceError
from lakehouse.ingest.defs_yaml import OWN_COMPONENTS, Descriptions, described, faulty_documents
from lakehouse.ingest.entered import entered_rows
from lakehouse.ingest.noted import Kept, Remembered
from lakehouse.lake import registry
from lakehouse.lake.contract import Contract, shared_contracts
from lakehouse.lake.lake import MARTS_SCHEMA, Connections, Lake
from lakehouse.lake.locked import Limits
from lakehouse.lake.registry import SHARED_SCHEMA, Entry, Registry
from lakehouse.lake.releases import present_marts
from lakehouse.servers.postgres import Place
from lakehouse.settings import PROJECT_ROOT, Settings, settings

if TYPE_CHECKING:
    import duckdb

_log = logging.getLogger(__name__)

DOMAINS: tuple[Domain, ...] = (
    market.DOMAIN,
    reference.DOMAIN,
    retail.DOMAIN,
    documents.DOMAIN,
    banking.DOMAIN,
    orders.DOMAIN,
)
DEFS = PROJECT_ROOT / "lakehouse" / "defs"
ANALYSIS = OWN_COMPONENTS + described_analyses.COMPONENT
REPORT = OWN_COMPONENTS + table_report.COMPONENT
_OWN_SCHEMAS = (SHARED_SCHEMA, MARTS_SCHEMA, "warehouse", analyses_store.SCHEMA)


def database_place(config: Settings) -> Place:
    """Where the relational systems' PostgreSQL is."""
    return Place(config.postgres, config.database_url)


def kinds() -> dict[str, Kind]:
    """The kinds of sources of all domains, by name."""
    return {kind.name: kind for domain in DOMAINS for kind in domain.kinds}


def domains_by_kind() -> dict[str, str]:
    """The name of the domain of each kind of source."""
    return {kind.name: domain.name for domain in DOMAINS for kind in domain.kinds}


def component_of(kind: Kind) -> str:
    """The component type in a `defs.yaml` of the kind."""
    return kind.component if "." in kind.component else OWN_COMPONENTS + kind.component


def defs_folders() -> list[Path]:
    """The folders with `defs.yaml` files: the project's, and the user's own if there is one."""
    own = settings().own_defs
    return [DEFS, *([own] if own is not None and own.is_dir() else [])]


def new_defs_folder(name: str) -> Path:
    """The folder for the `defs.yaml` of a new source: in the user's own folder, or else beside the project's sources
    of market data.
    """
    own = settings().own_defs
    return (own or DEFS / "market") / name


def descriptions(folder: Path | None = None) -> Descriptions:
    """Parses the `defs.yaml` files below a folder (default: the project's and the user's own); lists those that can't
    be read. A folder of the user's own that is missing is listed as one.
    """
    if folder is not None:
        return _described((folder,), DOMAINS)
    own = settings().defs
    return _described(tuple(defs_folders()), DOMAINS, None if own is None or own.is_dir() else own)


@cache
def _described(folders: tuple[Path, ...], domains: tuple[Domain, ...], missing: Path | None = None) -> Descriptions:
    known = [kind for domain in domains for kind in domain.kinds]
    models = {component_of(kind): kind.model for kind in known}
    reserved = [
        *_OWN_SCHEMAS,
        *(kind.name for kind in known),
        *(domain.name for domain in domains if domain.has_own_schema),
        *(name for domain in domains for name in domain.reserved),
    ]
    found = described(models, folders, list(dict.fromkeys(reserved)), [ANALYSIS, REPORT])
    if missing is not None:
        found.broken[missing] = SourceError(
            f"LAKEHOUSE_DEFS is {missing}, which is no folder; make it, or correct the variable"
        )
    return found


def analyses(folder: Path | None = None) -> DescribedAnalyses:
    """The analyses that `defs.yaml` files below a folder (default: the project's and the user's own) describe."""
    return _described_analyses((folder,) if folder is not None else tuple(defs_folders()))


@cache
def _described_analyses(folders: tuple[Path, ...]) -> DescribedAnalyses:
    return described_analyses.described_in(folders)


def broken_files() -> dict[Path, SourceError]:
    """Every `defs.yaml` of a source that can't be read, with its error."""
    return dict(sorted(descriptions().broken.items()))


def faulty_files() -> dict[Path, SourceError]:
    """Every `defs.yaml` that can't be used, with its error: broken files, and those whose source has no partitions, for
    example since its calendar ends before its first session.
    """
    found, files = broken_files(), descriptions().files
    for name, source in sources().items():
        try:
            for dataset in source.stepwise:
                dataset.partitioning.on_or_after(dataset.partitioning.first)
        except SourceError as error:
            found[files[name]] = SourceError(f"{files[name]}: {error}")
    return found


def faulty_reports() -> dict[Path, SourceError]:
    """Every `defs.yaml` of a report that can't be used, with its error."""
    found: dict[Path, SourceError] = {}
    for folder in defs_folders():
        found |= faulty_documents(folder, REPORT, table_report.ReportConfig)
    return found


@cache
def warn_of(error: LakehouseError) -> None:
    """Logs, once a process, that a source or an analysis is left out."""
    end = "" if str(error).endswith("?") else "."
    what = "source" if isinstance(error, SourceError) else "analysis"
    _log.warning("%s%s This %s is left out until its file is corrected", error, end, what)


def sources(config: Settings | None = None) -> dict[str, Source]:
    """Every source that a `defs.yaml` describes, by name; broken files are left out."""
    config, known = config or settings(), descriptions()
    by_component = {component_of(kind): kind for kind in kinds().values()}
    return {
        name: known.made.setdefault(name, Remembered()).of(partial(by_component[kind].resolve, said), config)
        for name, (kind, said) in known.found.items()
    }


def description_of(source: str) -> str:
    """The attributes of a source's `defs.yaml`, as text."""
    return descriptions().found[source][1].model_dump_json()


def sources_of(kind: str, config: Settings | None = None) -> list[Any]:
    """The sources of a kind."""
    return [source for source in sources(config).values() if source.kind == kind]


def _named(name: str, kind: str, word: str) -> Any:
    known = {source.name: source for source in sources_of(kind)}
    descriptions().require(name, word, known)
    return known[name]


def source_named(name: str) -> BarSource:
    """The source of market data of that name.

    Raises:
        SourceError: no defs.yaml describes it, or its own is broken.
    """
    return cast("BarSource", _named(name, "market", "source"))


def described_source(name: str) -> Source:
    """The source of that name, of any kind.

    Raises:
        SourceError: no defs.yaml describes it, or its own is broken.
    """
    known = sources()
    descriptions().require(name, "source", known)
    return known[name]


def loaded_source(name: str) -> Source:
    """The source of that name, which has something to load: objects or answers.

    Raises:
        SourceError: no defs.yaml describes it, or its own is broken, or its rows come in otherwise.
    """
    found = described_source(name)
    if not found.datasets:
        raise _nothing_to_load(found)
    return found


def updated_source(name: str) -> Source:
    """The source of that name, which an update takes in: one with something to load, or a captured database.

    Raises:
        SourceError: as for `loaded_source`.
    """
    found = described_source(name)
    if not found.is_updated:
        raise _nothing_to_load(found)
    return found


def _nothing_to_load(source: Source) -> SourceError:
    return SourceError(f"{source.name} has nothing to load: its rows come in by `lakehouse {source.taken_in_by}`")


def feed_named(name: str | None = None) -> Feed:
    """The feed of that name; without one, the only feed that there is.

    Raises:
        SourceError: no defs.yaml describes it, or there are several.
    """
    feeds = sources_of("feed")
    if name is None and len(feeds) == 1:
        return cast("Feed", feeds[0])
    return cast("Feed", _named(name or "", "feed", "feed"))


_registry: Kept[Registry] = Kept()


def registry_of(config: Settings) -> Registry:
    """The tables that a lake may have on an installation with these settings."""
    known = sources(config)
    return _registry.of(partial(_registry_of, known), DOMAINS, *known.values())


def _registry_of(known: Mapping[str, Source]) -> Registry:
    shared = {name: _entry(contract) for name, contract in shared_contracts().items()}
    shared["conservation"] = Entry(
        shared_contracts()["conservation"], query=partial(conservation, list(known.values()))
    )
    domains = {analyses_store.SCHEMA: {name: _entry(each) for name, each in analyses_store.contracts().items()}}
    macros = {
        name: {macro: partial(_made, make, source) for macro, make in source.macros.items()}
        for name, source in known.items()
    }
    for domain in DOMAINS:
        of_domain = [source for source in known.values() if source.kind in {kind.name for kind in domain.kinds}]
        for name, (contract, over_all) in domain.views().items():
            shared[name] = Entry(contract, query=partial(over_all, of_domain))
        if own := domain.own_views():
            domains[domain.name] = {
                name: Entry(contract, query=partial(over_all, of_domain)) for name, (contract, over_all) in own.items()
            }
        if made := domain.own_macros():
            macros[domain.name] = {name: partial(make, of_domain) for name, make in made.items()}
    return Registry(
        shared=shared,
        kinds=tuple(
            registry.Kind(
                kind.name, {name: _entry(contract) for name, contract in (kind.usual or kind.contracts)().items()}
            )
            for kind in kinds().values()
        ),
        sources={name: (source.kind, _entries(source)) for name, source in known.items()},
        domains=domains,
        macros=macros,
    )


def _entry(contract: Contract) -> Entry:
    return Entry(contract, rows=entered_rows if contract.by_ledger else None)


def _entries(source: Source) -> Mapping[str, Entry]:
    found = {name: _entry(contract) for name, contract in source.contracts.items()}
    for name, query in source.views.items():
        found[name] = Entry(source.contract(name), query=partial(_queried, query, source))
    for table in source.tables:
        found[table.name] = Entry(source.contract(table.name), as_of=partial(_queried, table.as_of, source))
    return found


def _queried(query: Callable[..., str], source: Source, lake: Lake, connection: duckdb.DuckDBPyConnection) -> str:
    return query(lake, connection, source)


def _made(make: Callable[..., None], source: Source, lake: Lake, connection: duckdb.DuckDBPyConnection) -> None:
    make(lake, connection, source)


@contextmanager
def empty_lake() -> Iterator[Lake]:
    """A lake without tables in a temporary folder, which knows the installation's sources."""
    with TemporaryDirectory(prefix="lakehouse-check-") as folder:
        yield Lake(folder, registry_of(settings()))


def lake_of(
    config: Settings,
    *,
    as_of: datetime | None = None,
    connections: Connections | None = None,
    limits: Limits | None = None,
) -> Lake:
    """The present lake of an installation; it can't make its marts as of a moment (see `lakehouse.api`)."""
    marts = present_marts(config)
    return Lake(config.lake, registry_of(config), warehouse=marts, as_of=as_of, connections=connections, limits=limits)
