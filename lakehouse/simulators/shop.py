"""A shop: invoice lines of some weeks, with prices and descriptions that change, cancellations, free items, stock
movements, lines without a customer, and lines that are there twice.

It publishes them as daily files or as documents, in the columns of the UCI Online Retail data set. While it works, it
adds, edits and deletes lines, and fills its collection anew.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

COLUMNS = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")
_ITEMS = ("LAMP", "T-LIGHT HOLDER", "CAKE STAND", "PAPER CHAIN", "LUNCH BAG", "ALARM CLOCK", "WICKER BASKET", "TEA SET")
_COLOURS = ("RED", "WHITE", "PINK", "BLUE", "GREEN")
_COUNTRIES = ("United Kingdom",) * 8 + ("France", "Germany", "EIRE", "Spain")
_ITEM_COUNT = 40
_FIRST_INVOICE, _FIRST_CUSTOMER = 536_365, 12_346


@dataclass(frozen=True)
class ShopLine:
    """A line of an invoice; its price is in hundredths."""

    invoice_no: str
    stock_code: str
    description: str | None
    quantity: int
    invoiced_at: datetime
    price: int
    customer: int | None
    country: str

    def texts(self) -> list[str]:
        """The line as a daily file has it."""
        customer = "" if self.customer is None else f"{self.customer}.0"
        return [
            *(self.invoice_no, self.stock_code, self.description or "", str(self.quantity)),
            *(f"{self.invoiced_at:%Y-%m-%d %H:%M:%S}", f"{self.price / 100:.2f}", customer, self.country),
        ]

    def document(self) -> dict[str, Any]:
        """The line as a document: NaN for what is missing, and the date as text, month first."""
        at = self.invoiced_at
        values = (
            *(self.invoice_no, self.stock_code, self.description or float("nan"), self.quantity),
            *(f"{at.month}/{at.day}/{at.year} {at.hour}:{at.minute:02}", self.price / 100),
            *(float("nan") if self.customer is None else float(self.customer), self.country),
        )
        return dict(zip(COLUMNS, values, strict=True))


class Shop:
    """A shop that is open on all days but Saturdays.

    Attributes:
        lines: that it has now, by number.
    """

    def __init__(self, first: date, last: date, *, seed: int = 1, invoices_a_day: int = 12) -> None:
        self._chance = random.Random(seed)
        self._invoice = _FIRST_INVOICE
        pairs = self._chance.choices(_PAIRS, k=_ITEM_COUNT)
        self._names = {f"{20_000 + number}": f"{colour} {name}" for number, (name, colour) in enumerate(pairs)}
        self._prices = {code: self._chance.randint(29, 1295) for code in self._names}
        self._homes = {
            _FIRST_CUSTOMER + number: self._chance.choice(_COUNTRIES) for number in range(max(10, invoices_a_day * 4))
        }
        made = [line for day in _open_days(first, last) for line in self._day(day, invoices_a_day)]
        self.lines: dict[int, ShopLine] = dict(enumerate(made))
        self._next = len(made)

    @property
    def days(self) -> list[date]:
        """The days with lines."""
        return sorted({line.invoiced_at.date() for line in self.lines.values()})

    def write_day(self, folder: Path, day: date) -> Path:
        """Writes the file of a day."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{day}.csv"
        with path.open("w", newline="") as file:
            rows = [line.texts() for line in self.lines.values() if line.invoiced_at.date() == day]
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
        return path

    def documents(self) -> list[dict[str, Any]]:
        """All lines as documents, by `_id`."""
        return [{"_id": number, **line.document()} for number, line in self.lines.items()]

    def work(self, collection: Any, steps: int) -> None:
        """Adds, edits and deletes lines, here and in a collection (of pymongo) that has them by `_id`."""
        for _ in range(steps):
            number = self._chance.choice(list(self.lines))
            match self._chance.randrange(4):
                case 0:
                    self.delete(number)
                    collection.delete_one({"_id": number})
                case 1:
                    self.edit(number)
                    collection.replace_one({"_id": number}, self.lines[number].document())
                case _:
                    number = self.add(self._chance.choice(self.days))
                    collection.insert_one({"_id": number, **self.lines[number].document()})

    def refill(self, collection: Any) -> None:
        """Drops a collection and fills it with the same lines in another order, under other identifiers."""
        collection.drop()
        documents = [line.document() for line in self.lines.values()]
        self._chance.shuffle(documents)
        collection.insert_many(documents)

    def add(self, day: date) -> int:
        """Adds a line to a day; returns its number."""
        self._next += 1
        self.lines[self._next] = self._invoice_lines(day, 1)[0]
        return self._next

    def edit(self, number: int) -> None:
        """Changes the price and the quantity of a line."""
        line = self.lines[number]
        self.lines[number] = replace(line, price=line.price + 5, quantity=line.quantity + 1)

    def delete(self, number: int) -> None:
        """Deletes a line."""
        del self.lines[number]

    def _day(self, day: date, invoices: int) -> Iterator[ShopLine]:
        for code in self._chance.sample(sorted(self._prices), k=max(1, len(self._prices) // 10)):
            self._prices[code] = max(5, round(self._prices[code] * self._chance.choice((0.8, 0.9, 1.1, 1.25))))
            if self._chance.random() < 0.1:
                self._names[code] += ", BOXED"
        for _ in range(invoices):
            lines = self._invoice_lines(day, self._chance.randint(1, 8))
            yield from lines
            kind = self._chance.random()
            if kind < 0.08:
                yield from self._cancelled(lines)
            elif kind < 0.1:
                yield lines[0]
            elif kind < 0.13:
                yield replace(lines[0], price=0)
            elif kind < 0.15:
                yield replace(lines[0], description=None, quantity=-5, price=0, customer=None)

    def _invoice_lines(self, day: date, count: int) -> list[ShopLine]:
        self._invoice += 1
        at = datetime(day.year, day.month, day.day, self._chance.randint(8, 18), self._chance.randrange(60))
        customer = self._chance.choice(list(self._homes)) if self._chance.random() < 0.75 else None
        country = _COUNTRIES[0] if customer is None else self._homes[customer]
        return [
            ShopLine(
                *(str(self._invoice), code, self._names[code], self._chance.choice((1, 2, 6, 12)), at),
                *(self._prices[code], customer, country),
            )
            for code in self._chance.sample(sorted(self._names), k=count)
        ]

    def _cancelled(self, lines: Sequence[ShopLine]) -> Iterator[ShopLine]:
        self._invoice += 1
        for line in lines[:2]:
            at = line.invoiced_at + timedelta(hours=1)
            yield replace(line, invoice_no=f"C{self._invoice}", quantity=-line.quantity, invoiced_at=at)


def _open_days(first: date, last: date) -> Iterator[date]:
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        if day.isoweekday() != 6:
            yield day


_PAIRS = [(name, colour) for name in _ITEMS for colour in _COLOURS]
