"""Rows of JSON documents, headings that are spelled in several ways, and columns that may be missing."""

from __future__ import annotations

import io

import pytest

from lakehouse.ingest.formats import BlockReader, Received, read_whole
from lakehouse.ingest.row_format import RowFormat
from lakehouse.ingest.unpacked import CorruptObject


def read(text: str, form: RowFormat) -> Received:
    found = read_whole(BlockReader("object", io.BytesIO(text.encode()), form, 1_000_000))
    assert found is not None
    return found


def values(received: Received) -> list[tuple[str | None, ...]]:
    return [] if received.frame is None else received.frame.drop("row_number").rows()


DOCUMENT = RowFormat(format="json", columns={"code": "id", "at": "document.meta.at"})


@pytest.mark.parametrize("records", ['{"id": "A"}', '[{"id": "A"}]'])
def test_json__a_row_is_a_record_with_the_other_members_of_its_document(records: str) -> None:
    assert values(read(f'{{"meta": {{"at": 7}}, "data": {records}}}', DOCUMENT)) == [("A", "7")]


def test_json__a_document_without_records_is_empty_and_one_without_the_member_is_corrupt() -> None:
    assert read('{"data": []}', DOCUMENT).rows == 0
    with pytest.raises(CorruptObject, match="no rows at its member data"):
        read('{"errors": []}', DOCUMENT)


def test_loose_headings__are_compared_by_letters_and_digits() -> None:
    form = RowFormat(format="csv", loose_headings=True, columns={"mic": "OPERATING MIC", "land": "COUNTRY (ISO 3166)"})
    assert values(read("Operating_MIC,COUNTRY\nXETR,DE\n", form)) == [("XETR", "DE")]


def test_optional__a_missing_column_has_no_values_and_another_one_is_named() -> None:
    form = RowFormat(format="csv", optional=("gone",), columns={"code": "code", "gone_at": "gone"})
    assert values(read("code\nA\nB\n", form)) == [("A", None), ("B", None)]
    with pytest.raises(CorruptObject, match="lacks the column code"):
        read("gone\n1\n", form)
