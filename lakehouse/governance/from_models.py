"""Lineage of the marts, by the compiled SQL of dbt's models and of the views of the lake that they read.

The SQL is parsed by sqlglot, with the columns of every table. Compiling takes seconds, so the result is kept beside
dbt's manifest until the project, the code or a source's description changes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from lakehouse.catalog import sources_of
from lakehouse.governance.lineage import ColumnName, Lineage, Source
from lakehouse.governance.models import models
from lakehouse.lake.lake import MARTS_SCHEMA
from lakehouse.settings import Settings
from lakehouse.warehouse.compiled import Compiled, compiled
from lakehouse.warehouse.dbt import beside_manifest, keep_newest, project_digest
from lakehouse.warehouse.recipe import code_digest, described_digest
from lakehouse.warehouse.sources import CATALOG
from lakehouse.whole_file import write_whole

if TYPE_CHECKING:
    from sqlglot import exp
    from sqlglot.lineage import Node
    from sqlglot.schema import MappingSchema

_PREFIX = "lineage-"
_MOST_KEPT = 16
_WAREHOUSE = "warehouse"
_DIALECT = "duckdb"
_log = logging.getLogger(__name__)


def lineage_of_models(config: Settings, of_lake: Mapping[str, Collection[str]]) -> Lineage:
    """The lineage of the marts, down to the tables `of_lake` (SQL name -> columns). Kept from an earlier call where it
    can be.

    Raises:
        DbtFailed: dbt could not compile the models.
    """
    made_of = f"{project_digest()} {code_digest()} {described_digest(config)}"
    name = f"{_PREFIX}{sha256(made_of.encode()).hexdigest()[:16]}.json"
    file = beside_manifest(config, name)
    try:
        return _from_json(json.loads(file.read_text()))
    except (OSError, ValueError, KeyError):
        _log.debug("no lineage is kept in %s", file)
    found = traced(compiled(config), of_lake)
    try:
        write_whole(file, json.dumps(_as_json(found)))
        keep_newest(file.parent, f"{_PREFIX}*.json", _MOST_KEPT)
    except OSError as error:
        _log.info("the lineage of the models can't be kept: %s", error)
    return found


def traced(made: Compiled, of_lake: Mapping[str, Collection[str]]) -> Lineage:
    """The lineage of the models, and of what they read that isn't a table of the lake."""
    from sqlglot.schema import MappingSchema

    schema = MappingSchema(_schemas(made), dialect=_DIALECT)
    found: dict[ColumnName, tuple[Source, ...]] = {}
    undeclared: set[ColumnName] = set()
    for name, model in models().items():
        if name not in made.models:
            continue
        named = [column.name for column in model.columns]
        _trace(f"{MARTS_SCHEMA}.{name}", made.models[name], named, schema, found, undeclared)
    for name, columns in made.tables.items():
        if name not in of_lake and name in made.views:
            _trace(name, made.views[name], list(columns), schema, found, undeclared)
            if not any(found[ColumnName(name, column)] for column in columns):
                found |= _by_name(name, columns, of_lake)
        elif name not in of_lake:
            # Made anew for each build from sources' descriptions, such as the venues' calendars.
            found |= {ColumnName(name, column): () for column in columns}
    return Lineage(found, frozenset(undeclared))


def _by_name(
    name: str, columns: Iterable[str], of_lake: Mapping[str, Collection[str]]
) -> dict[ColumnName, tuple[Source, ...]]:
    """The lineage of a view whose SQL reads files: it has the rows of its kind's sources."""
    kind, _, table = name.partition(".")
    read = [f"{source.name}.{table}" for source in sources_of(kind)]
    return {
        ColumnName(name, column): tuple(
            Source(ColumnName(each, column), True) for each in read if column in of_lake.get(each, ())
        )
        for column in columns
    }


def _schemas(made: Compiled) -> dict[str, Any]:
    of_lake: dict[str, Any] = {}
    for name, columns in made.tables.items():
        schema, _, table = name.partition(".")
        of_lake.setdefault(schema, {})[table] = columns
    marts = {name: {column.name: column.type for column in model.columns} for name, model in models().items()}
    return {CATALOG: of_lake, _WAREHOUSE: {MARTS_SCHEMA: marts}}


def _trace(
    table: str,
    sql: str,
    columns: Iterable[str],
    schema: MappingSchema,
    found: dict[ColumnName, tuple[Source, ...]],
    undeclared: set[ColumnName],
) -> None:
    """Adds the lineage of a query's columns; those that can't be traced are undeclared."""
    from sqlglot import exp, parse_one
    from sqlglot.errors import SqlglotError
    from sqlglot.lineage import lineage
    from sqlglot.optimizer.qualify import qualify
    from sqlglot.optimizer.scope import build_scope

    try:
        options: dict[str, Any] = {"validate_qualify_columns": False, "identify": False}
        query = qualify(parse_one(sql, dialect=_DIALECT), schema=schema, dialect=_DIALECT, **options)
        for union in reversed(list(query.find_all(exp.SetOperation))):
            _align(union)
        scope = build_scope(query)
    except SqlglotError as error:
        _log.info("the SQL of %s can't be parsed: %s", table, error)
        undeclared |= {ColumnName(table, column) for column in columns}
        found |= {ColumnName(table, column): () for column in columns}
        return
    for column in columns:
        name = ColumnName(table, column)
        try:
            node = lineage(column, query, schema, dialect=_DIALECT, scope=scope, trim_selects=False, copy=False)
        except SqlglotError as error:
            _log.info("%s can't be traced: %s", name, error)
            undeclared.add(name)
            found[name] = ()
            continue
        found[name] = _distinct(_leaves(node, is_copy=True))


def _align(union: exp.SetOperation) -> None:
    """Puts the columns of UNION BY NAME into one order, since sqlglot takes them by position."""
    from sqlglot import exp

    if not union.args.get("by_name"):
        return
    selects = list(_selects(union))
    names = list(dict.fromkeys(name for select in selects for name in select.named_selects))
    for select in selects:
        own = {each.alias_or_name: each for each in select.selects}
        select.set("expressions", [own.get(name) or exp.alias_(exp.null(), name) for name in names])
    union.set("by_name", False)


def _selects(query: exp.Expression) -> Iterator[exp.Select]:
    from sqlglot import exp

    if isinstance(query, exp.SetOperation):
        yield from _selects(query.this)
        yield from _selects(query.expression)
    elif isinstance(query, exp.Subquery):
        yield from _selects(query.this)
    elif isinstance(query, exp.Select):
        yield query


def _leaves(node: Node, *, is_copy: bool) -> Iterator[Source]:
    """The columns of tables that a column follows from, and whether it is one of them as it is."""
    from sqlglot import exp

    expression = node.expression
    if isinstance(expression, exp.Table):
        table = ".".join(part.name for part in expression.parts[-2:])
        yield Source(ColumnName(table, node.name.rpartition(".")[2].strip('"')), is_copy)
        return
    plain = expression.unalias()
    passes = is_copy and isinstance(plain, (exp.Column, exp.Query))
    for source in node.downstream:
        yield from _leaves(source, is_copy=passes)


def _distinct(sources: Iterable[Source]) -> tuple[Source, ...]:
    """Each column once; a copy only where every way to it copies."""
    found: dict[ColumnName, bool] = {}
    for source in sources:
        found[source.column] = found.get(source.column, True) and source.is_copy
    return tuple(Source(column, is_copy) for column, is_copy in sorted(found.items()))


def _as_json(lineage: Lineage) -> dict[str, Any]:
    return {
        "sources": [
            [*column, [[*each.column, each.is_copy] for each in found]] for column, found in lineage.sources.items()
        ],
        "undeclared": sorted(lineage.undeclared),
    }


def _from_json(said: Mapping[str, Any]) -> Lineage:
    sources = {
        ColumnName(table, column): tuple(Source(ColumnName(*name), is_copy) for *name, is_copy in found)
        for table, column, found in said["sources"]
    }
    return Lineage(sources, frozenset(ColumnName(*name) for name in said["undeclared"]))
