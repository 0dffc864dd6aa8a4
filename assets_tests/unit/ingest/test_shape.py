"""The guessed shape of invented texts is the one in which they were written."""

from __future__ import annotations

import gzip
import io
from datetime import datetime
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.ingest import shape as shapes
from lakehouse.ingest.shape import mistakes_in, shape_of, time_formats
from lakehouse.ingest.unpacked import CorruptObject

MOMENTS = st.lists(st.datetimes(datetime(1990, 1, 1), datetime(2035, 1, 1)), min_size=3, max_size=12, unique=True)
FORMATS = ("%Y-%m-%d %H:%M", "%Y/%m/%d %H:%M:%S", "%d.%m.%Y %H:%M", "%Y%m%d %H%M%S", "%Y-%m-%dT%H:%M:%SZ")


@given(
    delimiter=st.sampled_from(";\t|,"),
    decimal=st.sampled_from(".,"),
    form=st.sampled_from(FORMATS),
    has_header=st.booleans(),
    is_packed=st.booleans(),
    moments=MOMENTS,
)
def test_shape_of__finds_how_a_text_was_written(
    delimiter: str, decimal: str, form: str, has_header: bool, is_packed: bool, moments: list[datetime]
) -> None:
    if delimiter == decimal:
        delimiter = ";"
    rows = [
        delimiter.join([moment.strftime(form), f"{1.25 + place:.2f}".replace(".", decimal), str(100 + place)])
        for place, moment in enumerate(moments)
    ]
    text = "\n".join([*([delimiter.join(("when", "price", "volume"))] if has_header else []), *rows]).encode()
    shape = shape_of("a.csv", io.BytesIO(gzip.compress(text) if is_packed else text))
    assert (shape.form.delimiter, shape.form.decimal, shape.has_header) == (delimiter, decimal, has_header)
    assert shape.rows.height == len(rows)
    assert form in time_formats(shape, shape.rows.columns[:1])
    assert [shape.is_number(column) for column in shape.rows.columns[1:]] == [True, True]
    assert mistakes_in(shape.form, "a.csv", io.BytesIO(text)) == []


@given(
    moment=st.datetimes(datetime(1990, 1, 1), datetime(2060, 1, 1)), offset=st.sampled_from(["+0100", "-05:30", "Z"])
)
def test_time_formats__have_a_pattern_that_their_texts_match(moment: datetime, offset: str) -> None:
    for day, clock, end in product(shapes._DATES, ("", *shapes._TIMES), shapes._ENDS):
        form = f"{day} {clock}{end}"
        text = moment.strftime(form.replace("%.f", f".{moment.microsecond}").replace("%z", offset))
        assert shapes._pattern(form).fullmatch(text), (form, text)
    assert not shapes._pattern("%Y-%m-%d").fullmatch(f"{moment:%d/%m/%Y}")


@pytest.mark.parametrize("power", [0, 3, 6, 9])
def test_time_formats__knows_epochs_of_every_unit(power: int) -> None:
    rows = "\n".join(f"{(1_709_769_600 + 60 * place) * 10**power},1.5" for place in range(5))
    assert time_formats(shape_of("a.csv", io.BytesIO(rows.encode())), ["column_1"]) == ["epoch"]


def test_time_formats__leaves_day_and_month_open_where_both_fit() -> None:
    rows = "day,price\n03/04/2024 10:00,1.5\n05/06/2024 10:00,1.5\n"
    found = time_formats(shape_of("a.csv", io.BytesIO(rows.encode())), ["day"])
    assert found == ["%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b"PAR1 and no more", "damaged Parquet"),
        (b"[[1, 2], [3, 4]]", "rows that are arrays"),
        (b"a,b\n", "a header and no rows"),
        (b'{"a": ', "neither JSON Lines nor a JSON document"),
    ],
)
def test_shape_of__says_why_there_are_no_rows(body: bytes, words: str) -> None:
    with pytest.raises(CorruptObject, match=words):
        shape_of("a.csv", io.BytesIO(body))
