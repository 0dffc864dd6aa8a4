"""Reads requests for orders: JSON lines that clients send."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

METHODS = ("Credit Card", "PayPal", "Cash on Delivery", "Bank Transfer", "Other")
_NEEDED = ("key", "customer_id", "products", "payment_amount", "delivery_address")
_OPTIONAL = ("payment_method",)
_LARGEST = 2**31 - 1
_KEY_LENGTH = 200


@dataclass(frozen=True)
class Request:
    """A line as it was read.

    Attributes:
        key: the client's name of the order; None where the line has none.
        body: the line without its key; its text where it is no JSON object.
        fault: why it can't be an order, or None.
    """

    key: str | None
    body: Any
    fault: str | None = None


def read_request(text: str) -> Request:
    """Reads a line; whether the customer and the products exist is left to the acknowledgement."""
    try:
        document = json.loads(text, parse_float=Decimal)
    except (json.JSONDecodeError, RecursionError):
        return Request(None, _storable(text), "the line is no JSON")
    if not isinstance(document, dict):
        return Request(None, _storable(text), "the line is no JSON object")
    return request_of(document)


def request_of(document: Mapping[str, Any]) -> Request:
    """The request in an object such as {"key", "customer_id", "products": {"1": 1}, "payment_amount",
    "delivery_address"}.
    """
    fault = _fault_of(document)
    key = document.get("key")
    body = {name: value for name, value in document.items() if name != "key"}
    if fault is None:
        # One form of each number, so that the same request is equal however it was written.
        body["payment_amount"] = str(Decimal(str(body["payment_amount"])).quantize(Decimal("0.01")))
        body["products"] = {str(int(product)): count for product, count in body["products"].items()}
        return Request(key, body)
    is_key = isinstance(key, str) and 0 < len(key) <= _KEY_LENGTH and "\0" not in key and key.isprintable()
    return Request(key if is_key else None, _storable(json.dumps(body, default=str)), fault)


def _storable(text: str) -> str:
    """Text as PostgreSQL can keep it."""
    return text.strip().replace("\\u0000", "").replace("\0", "").encode(errors="replace").decode()[:10_000]


def _fault_of(request: Mapping[str, Any]) -> str | None:
    if unknown := sorted(set(request) - {*_NEEDED, *_OPTIONAL}):
        return f"{unknown[0]} is no member of an order; they are {', '.join((*_NEEDED, *_OPTIONAL))}"
    for member in _NEEDED:
        if request.get(member) in (None, "", {}):
            return f"it has no {member}"
    key, address, products = request["key"], request["delivery_address"], request["products"]
    if not isinstance(key, str) or len(key) > _KEY_LENGTH or not key.isprintable() or "~" in key:
        # A tilde separates the key from the number of a fork.
        return f"key has to be printable text of at most {_KEY_LENGTH} characters without ~"
    if not _is_count(request["customer_id"]):
        return "customer_id has to be a number above 0"
    if not isinstance(products, dict):
        return 'products has to be an object of ids and quantities, such as {"1": 2}'
    for product, quantity in products.items():
        if not re.fullmatch(r"[1-9][0-9]{0,8}", product):
            return f"product {product!r} is no id"
        if not _is_count(quantity):
            return f"the quantity of product {product} has to be a number above 0"
    if not isinstance(address, str) or not address.strip() or not address.replace("\n", "").isprintable():
        return "delivery_address has to be text"
    if request.get("payment_method", METHODS[0]) not in METHODS:
        return f"payment_method has to be one of {', '.join(METHODS)}"
    return _fault_of_amount(request["payment_amount"])


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST


def _fault_of_amount(value: object) -> str | None:
    fault = "payment_amount has to be a number above 0 with at most two decimals"
    if isinstance(value, bool) or not isinstance(value, int | str | float | Decimal):
        return fault
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return fault
    if not amount.is_finite() or not 0 < amount < Decimal(10) ** 16 or amount != round(amount, 2):
        return fault
    return None
