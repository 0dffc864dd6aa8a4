"""Identifiers are judged by the column as they are text by text, and about a million a second."""

from __future__ import annotations

import random
import time

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.lake.standards import STANDARDS

_CAPITALS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_FORMS = {
    "isin": r"(US|DE|XS|EU|ZZ|[A-Z]{2})[0-9A-Z]{9}[0-9]",
    "figi": r"(BB|KY|[B-DF-HJ-NP-TV-Z]{2})G[0-9B-DF-HJ-NP-TV-Z]{8}[0-9]",
    "cusip": r"[0-9A-Z*@#]{8}[0-9]",
    "sedol": r"([0-9]{6}|[B-DF-HJ-NP-TV-Z][0-9B-DF-HJ-NP-TV-Z]{5})[0-9]",
    "wkn": r"[0-9A-Z]{6}",
    "lei": r"[0-9A-Z]{18}[0-9]{2}",
    "bic": r"[0-9A-Z]{4}(DE|XK|[A-Z]{2})[0-9A-Z]{2}([0-9A-Z]{3})?",
    "mic": r"[0-9A-Z]{4}",
    "iban": r"DE[0-9]{20}",
    "country": r"[A-Z]{2}",
    "currency": r"[A-Z]{3}",
}
"""About the form that texts of a standard have, so that many of them are sound."""
BULK = ["isin", "figi", "cusip", "sedol", "wkn", "lei", "bic", "mic"]


def texts_of(name: str) -> st.SearchStrategy[list[str | None]]:
    near = st.from_regex(rf"\A{_FORMS[name]}\Z")
    sound = near.map(lambda text: corrected(name, text))
    other = st.text(alphabet=st.one_of(st.sampled_from(_CAPITALS + "*@# \n\x00aéſ①"), st.characters(codec="utf-8")))
    return st.lists(st.one_of(st.none(), near, sound, near.map(lambda text: f"{text}\n"), other), max_size=30)


def corrected(name: str, text: str) -> str:
    """The text with the check digits that it should have."""
    standard = STANDARDS[name]
    digits = standard.expected(text)
    if digits is None or standard.check_digits is None:
        return text
    start, length = standard.check_digits
    return text[:start] + digits + text[start + length :]


@pytest.mark.slow
@pytest.mark.parametrize("name", STANDARDS)
def test_follow__equals_the_rule_for_one_text(name: str) -> None:
    standard = STANDARDS[name]

    @given(texts=texts_of(name))
    def hold(texts: list[str | None]) -> None:
        found = standard.follow(pl.Series("text", texts, dtype=pl.String)).to_list()
        assert found == [text is not None and standard.follows(text) for text in texts]

    hold()


def random_texts(name: str, count: int) -> list[str]:
    """Texts of a standard's length, of which some are sound."""
    chance = random.Random(f"texts of {name}")
    length = {"isin": 12, "figi": 12, "cusip": 9, "sedol": 7, "wkn": 6, "lei": 20, "bic": 11, "mic": 4}[name]
    prefixes = {"isin": ["US", "DE", "XS", "EU", "QQ"], "figi": ["BBG", "KYG", "GHG", "NRG", "BBX"]}.get(name, [""])
    body = {"figi": "0123456789BCDFGHJKLMNPQRSTVWXYZ", "sedol": "0123456789BCDFGHJKLMNPQRSTVWXYZ"}.get(name, _CAPITALS)
    texts = []
    for _ in range(count):
        text = chance.choice(prefixes)
        text += "".join(chance.choices(body, k=length - len(text) - 2)) + f"{chance.randrange(100):02}"
        texts.append(text)
    return texts


@pytest.mark.parametrize("name", BULK)
def test_follow__equals_the_rule_for_one_text_on_many(name: str) -> None:
    texts, standard = random_texts(name, 10_000), STANDARDS[name]
    expected = [standard.follows(text) for text in texts]
    assert standard.follow(pl.Series("text", texts)).to_list() == expected
    # A slice of a column begins somewhere within its bytes.
    assert standard.follow(pl.Series("text", texts)[77:]).to_list() == expected[77:]
    assert any(expected)


@pytest.mark.parametrize("name", ["isin", "lei"])
def test_follow__judges_about_a_million_a_second(name: str) -> None:
    texts = pl.Series("text", random_texts(name, 50_000) * 10)
    standard = STANDARDS[name]
    started = time.process_time()
    standard.follow(texts)
    # Text by text it takes ten seconds.
    assert time.process_time() - started < 2


def test_expected__is_the_check_digit_of_the_other_characters() -> None:
    assert STANDARDS["isin"].expected("US0378331006") == "5"
    assert STANDARDS["lei"].expected("529900GRZ2BQY5ZM9N48") == "49"
    assert STANDARDS["figi"].expected("BBG000BLNNH5") == "6"
    assert STANDARDS["iban"].expected("DE00370400440532013000") == "89"
    assert STANDARDS["cusip"].expected("037833101") == "0"
    assert STANDARDS["sedol"].expected("0263495") == "4"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("isin", "US0378331005"),
        ("isin", "ZZ0378331005"),
        ("figi", "GHG000000009"),
        ("figi", "KYG000000007"),
        ("lei", "1"),
        ("lei", "98"),
        ("isin", ""),
        ("wkn", "A0RPWO"),
    ],
)
def test_expected__is_none_for_a_sound_text_and_for_one_that_no_digit_corrects(name: str, text: str) -> None:
    assert STANDARDS[name].expected(text) is None
