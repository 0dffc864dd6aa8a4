"""The ways in which APIs divide an answer into pages: what to request after each page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from lakehouse.ingest.json_lines import at
from lakehouse.ingest.strict import Strict

_MEMBER = "Path of the member, such as meta.next_token."


@dataclass(frozen=True)
class Page:
    """A page of an answer: its `number` from 0, the JSON document, its records, and the address of the next page in its
    header `Link` (RFC 8288).
    """

    number: int
    document: Any
    records: list[Any]
    link: str | None


class Paging(Protocol):
    """A way of paging."""

    def first(self) -> dict[str, str]:
        """The parameters of the first page."""

    def following(self, page: Page) -> dict[str, str] | str | None:
        """The parameters, or the address, of the page after `page`; None after the last."""


class PageNumbers(Strict):
    """Pages are numbered; the last one is empty."""

    by: Literal["number"]
    parameter: str = Field("page", description="Parameter with the page's number.")
    start: int = Field(1, ge=0, description="Number of the first page.")

    def first(self) -> dict[str, str]:
        return {self.parameter: str(self.start)}

    def following(self, page: Page) -> dict[str, str] | None:
        return {self.parameter: str(self.start + page.number + 1)} if page.records else None


class Tokens(Strict):
    """Each page has a token for the next page; the last one has none."""

    by: Literal["token"]
    parameter: str = Field(description="Parameter that takes the token.")
    member: str = Field(description=_MEMBER)

    def first(self) -> dict[str, str]:
        return {}

    def following(self, page: Page) -> dict[str, str] | None:
        token = at(page.document, self.member)
        return {self.parameter: str(token)} if token not in (None, "", False) else None


class LastRecord(Strict):
    """Each page begins after the last record of the previous one; the last one is empty."""

    by: Literal["last"]
    parameter: str = Field(description="Parameter that takes the last record's value.")
    member: str = Field(description="Path of that value in a record, such as id.")

    def first(self) -> dict[str, str]:
        return {}

    def following(self, page: Page) -> dict[str, str] | None:
        value = at(page.records[-1], self.member) if page.records else None
        return {self.parameter: str(value)} if value is not None else None


class Links(Strict):
    """The header Link has the next page's address (RFC 8288), except that of the last page."""

    by: Literal["link"]

    def first(self) -> dict[str, str]:
        return {}

    def following(self, page: Page) -> str | None:
        return page.link


AnyPaging = Annotated[PageNumbers | Tokens | LastRecord | Links, Field(discriminator="by")]
