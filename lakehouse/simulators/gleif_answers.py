"""What GLEIF's API answers about the entities of a simulated publisher: JSON:API documents, in pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from lakehouse.simulators.gleif import Gleif, Row

_DIRECT, _ULTIMATE = "IS_DIRECTLY_CONSOLIDATED_BY", "IS_ULTIMATELY_CONSOLIDATED_BY"
_RELATIONSHIPS = {"direct-parent-relationship": _DIRECT, "ultimate-parent-relationship": _ULTIMATE}
_EXCEPTIONS = {
    "direct-parent-reporting-exception": "DIRECT_ACCOUNTING_CONSOLIDATION_PARENT",
    "ultimate-parent-reporting-exception": "ULTIMATE_ACCOUNTING_CONSOLIDATION_PARENT",
}


def answer(
    gleif: Gleif, path: Sequence[str], query: Mapping[str, str], url: str, most_per_page: int
) -> dict[str, Any] | None:
    """The document at a path below the API's address; None where there is nothing.

    Args:
        url: the whole path's address, with which the next page's begins.
        most_per_page: records on a page, whatever `page[size]` asks for.
    """
    moment = max(gleif.states)
    match path:
        case ["lei-records"]:
            wanted = query.get("filter[lei]", "").split(",")
            rows = [_entity(row) for (lei,), row in sorted(gleif.states[moment]["lei2"].items()) if lei in wanted]
            return _page(rows, query, url, most_per_page, moment)
        case ["lei-records", lei, "isins"]:
            isins = [
                {"type": "isins", "attributes": {"lei": lei, "isin": isin}}
                for isin, owner in sorted(gleif.pairs["isin"])
                if owner == lei
            ]
            return _page(isins, query, url, most_per_page, moment)
        case ["lei-records", lei, what] if what in _RELATIONSHIPS:
            found = [row for key, row in gleif.states[moment]["rr"].items() if key[::2] == (lei, _RELATIONSHIPS[what])]
            return {"data": _relationship(found[0]), **_meta(moment)} if found else None
        case ["lei-records", lei, what] if what in _EXCEPTIONS:
            reported = gleif.states[moment]["repex"].get((lei, _EXCEPTIONS[what]))
            return None if reported is None else {"data": _exception(reported), **_meta(moment)}
        case _:
            return None


def _page(
    rows: Sequence[dict[str, Any]], query: Mapping[str, str], url: str, most: int, moment: datetime
) -> dict[str, Any]:
    size = min(int(query.get("page[size]", "15")), most)
    number = int(query.get("page[number]", "1"))
    further = urlencode({**query, "page[number]": number + 1, "page[size]": size})
    links = {"next": f"{url}?{further}"} if number * size < len(rows) else {}
    return {"data": list(rows[(number - 1) * size : number * size]), "links": links, **_meta(moment)}


def _meta(moment: datetime) -> dict[str, Any]:
    return {"meta": {"goldenCopy": {"publishDate": f"{moment:%Y-%m-%dT%H:%M:%SZ}"}}}


def _entity(row: Row) -> dict[str, Any]:
    address = {"city": row["Entity.LegalAddress.City"], "country": row["Entity.LegalAddress.Country"]}
    entity = {
        "legalName": {"name": row["Entity.LegalName"]},
        "legalAddress": address,
        "jurisdiction": row["Entity.LegalJurisdiction"],
        "status": row["Entity.EntityStatus"],
    }
    registration = {
        "status": row["Registration.RegistrationStatus"],
        "lastUpdateDate": row["Registration.LastUpdateDate"],
    }
    said = {"lei": row["LEI"], "entity": entity, "registration": registration}
    return {"type": "lei-records", "id": row["LEI"], "attributes": said}


def _relationship(row: Row) -> dict[str, Any]:
    relationship = {
        "startNode": {"id": row["Relationship.StartNode.NodeID"]},
        "endNode": {"id": row["Relationship.EndNode.NodeID"]},
        "type": row["Relationship.RelationshipType"],
        "status": row["Relationship.RelationshipStatus"],
    }
    registration = {"status": row["Registration.RegistrationStatus"]}
    return {"type": "relationship-records", "attributes": {"relationship": relationship, "registration": registration}}


def _exception(row: Row) -> dict[str, Any]:
    said = {"lei": row["LEI"], "category": row["Exception.Category"], "reason": row["Exception.Reason.1"]}
    return {"type": "reporting-exceptions", "attributes": said}
