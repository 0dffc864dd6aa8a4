"""Documents over HTTP are asked for once a minute; those of servers on this machine each time."""

from __future__ import annotations

import json

import pytest

from lakehouse.ingest.http import downloads
from lakehouse.ingest.http.downloads import Downloads, NotThere
from lakehouse.simulators.request_server import ApiRequest, ApiResponse, RequestServer


@pytest.mark.parametrize(("loopback", "expected"), [(("127.0.0.1",), [1, 2, 3]), ((), [1, 1, 2])])
def test_document__is_kept_for_a_minute(
    monkeypatch: pytest.MonkeyPatch, loopback: tuple[str, ...], expected: list[int]
) -> None:
    monkeypatch.setattr(downloads, "LOOPBACK", loopback)
    asked: list[ApiRequest] = []

    def answer(request: ApiRequest) -> ApiResponse:
        asked.append(request)
        if request.path == "/nothing":
            return ApiResponse(b"Not Found", 404)
        return ApiResponse(json.dumps({"number": len(asked)}).encode())

    clock = [0.0]
    requests, found = Downloads(now=lambda: clock[0]), []
    with RequestServer(answer) as server:
        for clock[0] in (1.0, 60.0, 62.0):
            found.append(int(requests.document(f"{server.url}/index")["number"]))
        assert found == expected
        for clock[0] in (70.0, 80.0):
            with pytest.raises(NotThere, match="status 404"):
                requests.document(f"{server.url}/nothing")
        assert len(asked) == expected[-1] + (2 if loopback else 1)
