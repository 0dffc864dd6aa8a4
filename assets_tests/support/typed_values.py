"""Types that a contract may write, values of each, and tables of made-up contracts."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from lakehouse.lake.contract import Contract
from lakehouse.lake.table import LakeTable
from lakehouse.lake.types import MAX_PRECISION, ColumnType

TYPES = (
    "string",
    "date",
    "timestamp",
    "double",
    "bigint",
    "boolean",
    "json",
    "binary",
    "decimal(18,4)",
    "decimal(38,0)",
    "decimal(38,38)",
    "decimal(5,2)",
    "list<string>",
    "list<decimal(38,10)>",
    "list<list<bigint>>",
    "struct<price decimal(18,4), at timestamp, raw binary>",
    "list<struct<part date, rows bigint, digest string, object_version string>>",
    "struct<inner struct<tags list<string>, is_open boolean>, document json>",
)
"""One of every kind, nested too."""


def type_texts() -> st.SearchStrategy[str]:
    """Texts of types, in the spelling that `str()` gives them."""
    decimals = st.integers(1, MAX_PRECISION).flatmap(
        lambda precision: st.integers(0, precision).map(lambda scale: f"decimal({precision},{scale})")
    )
    simple = st.sampled_from(["string", "date", "timestamp", "double", "bigint", "boolean", "json", "binary"])
    names = st.lists(st.from_regex(r"\A[a-z_][a-z0-9_]{0,8}\Z"), min_size=1, max_size=3, unique=True)

    def nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        structs = names.flatmap(
            lambda fields: st.tuples(*[inner for _ in fields]).map(
                lambda kinds: f"struct<{', '.join(map(' '.join, zip(fields, kinds, strict=True)))}>"
            )
        )
        return st.one_of(inner.map("list<{}>".format), structs)

    return st.recursive(st.one_of(simple, decimals), nested, max_leaves=4)


def values(kind: ColumnType) -> st.SearchStrategy[Any]:
    """Python values of a type, NULL among them inside lists and structs."""
    if kind.kind == "decimal":
        digits = 10**kind.precision - 1
        return st.integers(-digits, digits).map(lambda number: Decimal(number).scaleb(-kind.scale, _EXACT))
    if kind.element is not None:
        return st.lists(st.none() | values(kind.element), max_size=3)
    if kind.fields:
        return st.fixed_dictionaries({name: st.none() | values(each) for name, each in kind.fields})
    return {
        "string": _TEXT,
        "json": st.recursive(
            st.none() | st.booleans() | st.integers() | _TEXT, lambda inner: st.lists(inner, max_size=3)
        ).map(json.dumps),
        "binary": st.binary(max_size=8),
        "boolean": st.booleans(),
        "bigint": st.integers(-(2**63), 2**63 - 1),
        "double": st.floats(allow_nan=False, allow_infinity=False),
        "date": st.dates(date(1, 1, 1), date(9999, 12, 31)),
        "timestamp": st.datetimes(datetime(1800, 1, 1), datetime(2199, 12, 31)).map(
            lambda moment: moment.replace(tzinfo=UTC)
        ),
    }[kind.kind]


_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)
_EXACT = Context(prec=MAX_PRECISION)


def contract_with(*types: str, **further: Any) -> Contract:
    """A contract with a key `id`, partitioned by `part`, and nullable columns c0, c1, ... of the types."""
    columns = [
        {"name": "part", "type": "string", "description": "Partition."},
        {"name": "id", "type": "bigint", "description": "Key."},
        *(
            {"name": f"c{number}", "type": text, "nullable": True, "description": text}
            for number, text in enumerate(types)
        ),
    ]
    made = {"table": "made_up", "description": "A table.", "key": ["id"], "partition_by": ["part"], "columns": columns}
    return Contract.model_validate(made | further)


def table_of(contract: Contract, lake: Path) -> LakeTable:
    """A table in the folder `lake` that has the contract."""
    return LakeTable(contract.table, str(lake / contract.table), {}, contract, lambda _: None)
