"""Small lakes as earlier releases wrote them, for tests that open them and go on.

`old_lake.json` and `whole_volumes_lake.json` hold their tables' schemas, rows and transactions; `write_old_lake` writes
them by deltalake alone, so that nothing of the present package has a part in it. The former was recorded from a lake
that the release which knew no versions of contracts had made of `OBJECTS` (in the order given, each loaded and derived
before the next) and `QUOTES`; the latter from one that the last release with whole volumes had made of `KLINES` and
`DAILY` (its defs.yaml of binance said `volume_unit: 1.0e-8`):

    python -m assets_tests.support.old_lake record FOLDER_OF_THE_LAKE > assets_tests/support/old_lake.json
    python -m assets_tests.support.old_lake write FOLDER
"""

from __future__ import annotations

import json
import os
import sys
import zipfile
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
WHOLE_VOLUMES = Path(__file__).with_name("whole_volumes_lake.json")
KLINES = {
    ("BTCUSDT", date(2025, 1, 1)): [
        "1735689600000000,93576.01,93610.93,93537.5,93610.93,8.21827,0,0,2631,0,0,0",
        "1735689660000000,93610.93,93652,93606.2,93652,12.10003,0,0,1993,0,0,0",
        "1735689720000000,93652,93652,93652,93652,0,0,0,0,0,0,0",
        "1735689780000000,93651.99,93700.3,93644.7,93700.1,0.10007,0,0,2210,0,0,0",
    ],
    ("BTCUSDT", date(2025, 1, 2)): ["1735776000000000,94591.78,94595,94544.3,94569.7,20.70013,0,0,1780,0,0,0"],
    ("DOGEUSDT", date(2025, 1, 1)): [
        "1735689600000000,0.31600000,0.31700000,0.31500000,0.31610000,350000.00000000,0,0,900,0,0,0",
        "1735689660000000,0.31610000,0.33000000,0.31600000,0.32900000,1250000.00000000,0,0,900,0,0,0",
        "1735689720000000,0.32900000,0.32950000,0.30000000,0.32500000,4800000.00000000,0,0,900,0,0,0",
    ],
    ("PEPEUSDT", date(2025, 1, 1)): [
        "1735689600000000,0.00002001,0.00002010,0.00001990,0.00002005,912345678.00,0,0,300,0,0,0",
        "1735689660000000,0.00002001,0.00002010,0.00001990,0.00002005,95123456789.00,0,0,300,0,0,0",
    ],
}
"""Lines of Binance's files. More than 1,000,000 coins a minute were refused, as more than 10^14 units."""
DAILY = (
    "Date,Open,High,Low,Close,Volume,Ex-Dividend,Split Ratio,Adj. Close",
    "2018-03-26,108.0,110.5,107.5,110.31,18182800.0,0.0,1.0,110.31",
    "2018-03-27,111.0,111.5,106.5,107.11,18343800.0,0.56,1.0,107.11",
)
"""A file of daily prices as wiki's."""


def put_object(vendor: Path, hour: str, published_at: datetime, lines: list[str]) -> None:
    """Writes an object to the vendor's folder, as of a time."""
    path = vendor / str(DAY) / f"{DAY}_BINS_XETR{hour}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in (_HEADER, *lines)))
    os.utime(path, ns=(int(published_at.timestamp()) * 10**9,) * 2)


def put_klines(vendor: Path) -> None:
    """Writes the files of `KLINES` to the vendor's folder, always the same bytes."""
    for (symbol, day), lines in KLINES.items():
        name = f"{symbol}-1m-{day}"
        path = vendor / symbol / "1m" / f"{name}.zip"
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(zipfile.ZipInfo(f"{name}.csv"), "".join(f"{line}\n" for line in lines))
        os.utime(path, (datetime(day.year, day.month, day.day + 1, tzinfo=UTC).timestamp(),) * 2)


def put_daily(vendor: Path) -> None:
    """Writes the file of `DAILY` to the vendor's folder."""
    vendor.mkdir(parents=True, exist_ok=True)
    path = vendor / "jpm.csv"
    path.write_text("".join(f"{line}\n" for line in DAILY))
    os.utime(path, (datetime(2018, 3, 28, tzinfo=UTC).timestamp(),) * 2)


def write_old_lake(folder: Path, recorded_lake: Path = RECORDED) -> None:
    """Writes the recorded tables below `folder`."""
    for name, recorded in json.loads(recorded_lake.read_text()).items():
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
