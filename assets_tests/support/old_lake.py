"""A small lake as the release wrote it that knew no versions of contracts, for tests that open it and go on.

`old_lake.json` holds its tables' schemas, rows and transactions; `write_old_lake` writes them by deltalake alone, so
that nothing of the present package has a part in it. The tables were recorded from a lake that the older release had
made of `OBJECTS` (in the order given, each loaded and derived before the next) and `QUOTES`:

    python -m assets_tests.support.old_lake record FOLDER_OF_THE_LAKE > assets_tests/support/old_lake.json
    python -m assets_tests.support.old_lake write FOLDER
"""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, write_deltalake

DAY = date(2017, 7, 7)
_HEADER = (
    "ISIN,Mnemonic,SecurityDesc,SecurityType,Currency,SecurityID,Date,Time,"
    "StartPrice,MaxPrice,MinPrice,EndPrice,TradedVolume,NumberOfTrades"
)


def bar_line(time: str, price: str, isin: str = "DE0005190003") -> str:
    prices = ",".join([price] * 4)
    return f"{isin},BMW,BAY.MOTOREN WERKE AG ST,Common stock,EUR,2504446,{DAY},{time},{prices},100,2"


OBJECTS = (
    (
        "08",
        datetime(2017, 7, 8, tzinfo=UTC),
        [bar_line("08:00", "83.29"), bar_line("08:01", "83.3"), bar_line("08:02", "0")],
    ),
    ("09", datetime(2017, 7, 8, tzinfo=UTC), [bar_line("09:00", "83.5"), bar_line("09:01", "83.4", "DE0005190004")]),
    (
        "08",
        datetime(2017, 7, 9, tzinfo=UTC),
        [bar_line("08:00", "83.31"), bar_line("08:01", "83.3"), bar_line("08:02", "83.28")],
    ),
)
"""Hour, time of publication and lines of each object version: one is corrected, two rows are refused."""
QUOTES = [("AAPL", 150.0, 0), ("AAPL", 150.5, 30), ("MSFT", 300.25, 45), ("AAPL", 151.0, 90), ("MSFT", -1.0, 100)]
"""Symbol, price and second after `FIRST_QUOTE_AT`; the last one is refused."""
FIRST_QUOTE_AT = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
RECORDED = Path(__file__).with_suffix(".json")


def put_object(vendor: Path, hour: str, published_at: datetime, lines: list[str]) -> None:
    """Writes an object to the vendor's folder, as of a time."""
    path = vendor / str(DAY) / f"{DAY}_BINS_XETR{hour}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in (_HEADER, *lines)))
    os.utime(path, ns=(int(published_at.timestamp()) * 10**9,) * 2)


def write_old_lake(folder: Path) -> None:
    """Writes the recorded tables below `folder`."""
    for name, recorded in json.loads(RECORDED.read_text()).items():
        table = DeltaTable.create(
            str(folder / name),
            schema=Schema.from_json(json.dumps(recorded["schema"])),
            partition_by=recorded["partition_by"],
            name=recorded["name"],
            description=recorded["description"],
            configuration=recorded["configuration"],
        )
        schema = pa.schema(table.schema().to_arrow())
        rows = [{field.name: _revived(row[field.name], field.type) for field in schema} for row in recorded["rows"]]
        transactions = [Transaction(*each) for each in recorded["transactions"]]
        write_deltalake(
            table,
            pa.Table.from_pylist(rows, schema),
            mode="append",
            commit_properties=CommitProperties(app_transactions=transactions),
        )


def recorded_lake(folder: Path) -> dict[str, Any]:
    """What `write_old_lake` needs of the tables below `folder`."""
    found = {}
    for log in sorted(folder.glob("**/_delta_log")):
        table = DeltaTable(str(log.parent))
        metadata = table.metadata()
        actions = [json.loads(line) for path in sorted(log.glob("*.json")) for line in path.read_text().splitlines()]
        newest = {action["txn"]["appId"]: action["txn"]["version"] for action in actions if "txn" in action}
        found[log.parent.relative_to(folder).as_posix()] = {
            "schema": json.loads(table.schema().to_json()),
            "partition_by": metadata.partition_columns,
            "name": metadata.name,
            "description": metadata.description,
            "configuration": metadata.configuration,
            "transactions": sorted(newest.items()),
            "rows": pa.table(table.to_pyarrow_table()).to_pylist(),
        }
    return found


def _revived(value: Any, kind: pa.DataType) -> Any:
    """A value as JSON has it, as Arrow takes it."""
    if value is None:
        return None
    if pa.types.is_timestamp(kind):
        return datetime.fromisoformat(value)
    if pa.types.is_date(kind):
        return date.fromisoformat(value)
    if pa.types.is_list(kind):
        return [_revived(each, kind.value_type) for each in value]
    if pa.types.is_struct(kind):
        return {field.name: _revived(value[field.name], field.type) for field in kind}
    return value


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write_old_lake(Path(sys.argv[2]))
    else:
        print(json.dumps(recorded_lake(Path(sys.argv[2])), default=lambda moment: moment.isoformat(), indent=1))
