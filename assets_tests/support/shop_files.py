"""A small shop's invoice lines as daily files, and what the lake makes of them, in plain Python."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

HEADER = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")


@dataclass(frozen=True)
class Line:
    """An invoice line."""

    invoice_no: str
    stock_code: str
    description: str | None
    quantity: int
    invoiced_at: datetime
    unit_price: Decimal
    customer_id: str | None
    country: str

    @property
    def day(self) -> date:
        return self.invoiced_at.date()

    @property
    def is_proper(self) -> bool:
        return self.invoice_no[0] not in "CA" and self.quantity > 0 and self.unit_price > 0

    @property
    def kind(self) -> str:
        if self.invoice_no.startswith("C"):
            return "cancellation"
        if self.invoice_no.startswith("A"):
            return "adjustment"
        if self.quantity < 0:
            return "stock_movement"
        return "free" if self.unit_price == 0 else "sale"

    def texts(self) -> list[str]:
        customer = f"{self.customer_id}.0" if self.customer_id else ""
        moment = f"{self.invoiced_at:%Y-%m-%d %H:%M:%S}"
        price = str(self.unit_price)
        return [
            *(self.invoice_no, self.stock_code, self.description or "", str(self.quantity)),
            *(moment, price, customer, self.country),
        ]


def put_day(folder: Path, day: date, lines: Iterable[Line]) -> None:
    """Writes the file of a day."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{day}.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADER, *(line.texts() for line in lines)])


def most(values: Iterable[str | None]) -> str | None:
    """The value that occurs most, the first in alphabetical order of several."""
    counted = Counter(values)
    return min(counted, key=lambda value: (-counted[value], value is None, value or ""))


def highest(prices: Iterable[Decimal]) -> Decimal:
    """The price that occurs most, the highest of several."""
    counted = Counter(prices)
    return max(counted, key=lambda price: (counted[price], price))


def by_day(lines: Iterable[Line]) -> list[tuple[date, list[Line]]]:
    found: defaultdict[date, list[Line]] = defaultdict(list)
    for line in lines:
        found[line.day].append(line)
    return sorted(found.items())


def item_versions(lines: Sequence[Line]) -> set[tuple[object, ...]]:
    """(stock_code, description, list_price, valid_from, valid_to) of all versions."""
    found: set[tuple[object, ...]] = set()
    for code, own in _grouped(lines, "stock_code").items():
        sales = [line for line in own if line.is_proper]
        sales = [line for line in sales if line.customer_id] or sales
        states = [
            (day, most(line.description for line in of_day), highest(line.unit_price for line in of_day))
            for day, of_day in by_day(sales)
        ]
        changes = [state for place, state in enumerate(states) if not place or state[1:] != states[place - 1][1:]]
        first = min(line.day for line in own)
        if not changes:
            texts = [line.description for line in own if line.description is not None]
            found.add((code, most(texts) if texts else None, None, first, None))
        starts = [first, *(day for day, *_ in changes[1:])]
        ends: list[date | None] = [*starts[1:], None]
        for (_, text, price), start, end in zip(changes, starts, ends, strict=False):
            found.add((code, text, price, start, end))
    return found


def customer_versions(lines: Sequence[Line]) -> set[tuple[object, ...]]:
    """(customer_id, country, valid_from, valid_to) of all versions."""
    found: set[tuple[object, ...]] = set()
    for customer, own in _grouped([line for line in lines if line.customer_id], "customer_id").items():
        states = [(day, most(line.country for line in of_day)) for day, of_day in by_day(own)]
        changes = [state for place, state in enumerate(states) if not place or state[1] != states[place - 1][1]]
        ends: list[date | None] = [*(day for day, _ in changes[1:]), None]
        found |= {(customer, country, day, end) for (day, country), end in zip(changes, ends, strict=True)}
    return found


def _grouped(lines: Iterable[Line], field: str) -> Mapping[str, list[Line]]:
    found: defaultdict[str, list[Line]] = defaultdict(list)
    for line in lines:
        found[getattr(line, field)].append(line)
    return found
