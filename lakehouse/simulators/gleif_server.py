"""GLEIF on loopback: the index of golden copies, the indexes of the mappings, the files that they name, and the API.

What is published belongs in `gleif`; this serves what lies in its folder, so that a file that was damaged on purpose is
served as it is.
"""

from __future__ import annotations

import json
import re
from collections import deque
from pathlib import Path
from typing import Any, Literal, Self

from lakehouse.simulators.gleif import Gleif
from lakehouse.simulators.gleif_answers import answer
from lakehouse.simulators.request_server import ApiRequest, ApiResponse, RequestServer

Fault = Literal["too many", "server error", "html", "missing"]
"""429, 500, an error page with status 200, and 404."""
_GOLDEN = re.compile(r"(\d{8})-(\d{4})-gleif-goldencopy-(lei2|rr|repex)-(.+)\.csv\.zip")
_KINDS = {"golden-copy": None, "intra-day": "IntraDay", "last-day": "LastDay", "last-week": "LastWeek"}
_KINDS |= {"last-month": "LastMonth"}
_INDEX, _MAPPINGS, _FILES = "/api/v2/golden-copies/publishes", "/api/v2/", "/storage/"
_API = "/api/v1/"


class GleifServer:
    """A server of a publisher's files while its context is open.

    Args:
        per_page: publications on a page of the index, and records on one of the API at most.

    `requests` are the paths that were asked for, `faults` what the next requests get.
    """

    def __init__(self, gleif: Gleif, *, per_page: int = 10) -> None:
        self.requests: list[str] = []
        self.faults: deque[Fault] = deque()
        self._gleif, self._folder = gleif, gleif.folder
        self._per_page = per_page
        self._server = RequestServer(self._answer)

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.__exit__(*raised)

    @property
    def url(self) -> str:
        """The address of the index of golden copies."""
        return f"{self._server.url}{_INDEX}"

    @property
    def mappings_url(self) -> str:
        """The address below which the indexes of the mappings are."""
        return f"{self._server.url}{_MAPPINGS}".rstrip("/")

    @property
    def api_url(self) -> str:
        """The address of the API."""
        return f"{self._server.url}{_API}".rstrip("/")

    def _answer(self, request: ApiRequest) -> ApiResponse:
        self.requests.append(request.path)
        match self.faults.popleft() if self.faults else None:
            case "too many":
                return ApiResponse(b"Too Many Requests", 429, {"Retry-After": "0.01"})
            case "server error":
                return ApiResponse(b"Internal Server Error", 500, {"Retry-After": "0.01"})
            case "html":
                page = b"<!DOCTYPE html><html><title>Maintenance</title></html>"
                return ApiResponse(page, headers={"Content-Type": "text/html"})
            case "missing":
                return ApiResponse(b"Not Found", 404)
        if request.path == _INDEX:
            return self._index(int(request.query.get("page", "1")))
        if request.path in (f"{_MAPPINGS}isin-lei", f"{_MAPPINGS}bic-lei"):
            return self._mappings(request.path.rpartition("/")[2].partition("-")[0])
        if request.path.startswith(_API):
            url, parts = f"{self._server.url}{request.path}", request.path.removeprefix(_API).split("/")
            document = answer(self._gleif, parts, request.query, url, self._per_page)
            return (
                ApiResponse(b'{"errors": []}', 404) if document is None else ApiResponse(json.dumps(document).encode())
            )
        path = self._folder / request.path.rpartition("/")[2]
        if request.path.startswith(_FILES) and path.is_file():
            return ApiResponse(path.read_bytes(), headers={"Content-Type": "application/zip"})
        return ApiResponse(b"Not Found", 404)

    def _index(self, number: int) -> ApiResponse:
        """A page of the publications, the newest first."""
        published: dict[str, dict[str, Any]] = {}
        for path in sorted(self._folder.glob("*-gleif-goldencopy-*.csv.zip")):
            if (match := _GOLDEN.fullmatch(path.name)) is None:
                continue
            day, time, kind, what = match.groups()
            moment = f"{day[:4]}-{day[4:6]}-{day[6:]} {time[:2]}:{time[2:]}:00"
            entry = published.setdefault(moment, {"publish_date": moment})
            about = entry.setdefault(kind, {"type": kind, "publish_date": moment, "delta_files": {}})
            files = {"csv": self._described(path, "csv"), "xml": self._described(path, "xml")}
            if (span := _KINDS[what]) is None:
                about["full_file"] = files
            else:
                about["delta_files"][span] = files
        entries = [published[moment] for moment in sorted(published, reverse=True)]
        start = (number - 1) * self._per_page
        following = f"{self.url}?page={number + 1}" if start + self._per_page < len(entries) else None
        document = {"data": entries[start : start + self._per_page], "links": {"next": following}}
        return ApiResponse(json.dumps(document).encode())

    def _described(self, path: Path, form: str) -> dict[str, Any]:
        name = path.name.replace(".csv.", f".{form}.")
        size = path.stat().st_size
        return {"type": form, "size": size, "url": f"{self._server.url}{_FILES}{path.stem[:8]}/{name}"}

    def _mappings(self, what: str) -> ApiResponse:
        """The mappings, the newest first, by the names that the publisher gives them."""
        found = []
        for path in sorted(self._folder.glob(f"lei-{what}-*.csv.zip"), reverse=True):
            moment = path.name.removeprefix(f"lei-{what}-").removesuffix(".csv.zip")
            name = f"isin-lei-{moment}.zip" if what == "isin" else f"LEI-BIC-{moment[:8]}.zip"
            link = f"{self._server.url}{_FILES}{path.name}"
            said = {"fileName": name, "uploadedAt": moment, "downloadLink": link}
            found.append({"type": "mapping-files", "id": moment, "attributes": said})
        return ApiResponse(json.dumps({"data": found}).encode())
