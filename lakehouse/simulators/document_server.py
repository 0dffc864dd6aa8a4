"""A file server on loopback: `GET /files`, `GET /download/<name>`, and `POST /upload` of a file as multipart form data.

The files lie in a folder, so that they outlast the server. Faults on demand are those of real servers: an error, a body
that ends early, an error page with status 200, and a file that is listed but gone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from email.utils import formatdate
from pathlib import Path
from typing import Literal, Self
from urllib.parse import unquote

from lakehouse.simulators.request_server import ApiRequest, ApiResponse, RequestServer

Fault = Literal["error", "cut", "page", "gone"]
"""Status 500, the first half of the file, an HTML page in its place, and status 404."""


@dataclass
class DocumentServer:
    """The server while its context is open.

    Args:
        folder: of the files; made if it is missing.
        faults: what happens to a file as long as it is named here.
    """

    folder: Path
    faults: dict[str, Fault] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._server = RequestServer(self._answer).__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.__exit__(*raised)

    @property
    def url(self) -> str:
        """Its address."""
        return self._server.url

    @property
    def names(self) -> list[str]:
        """The names of its files."""
        return sorted(path.name for path in self.folder.iterdir() if path.is_file())

    def _answer(self, request: ApiRequest) -> ApiResponse:
        if request.path == "/files":
            return ApiResponse(json.dumps(self.names).encode())
        if request.path == "/upload":
            return self._uploaded(request)
        if not request.path.startswith("/download/"):
            return _refusal(404, "no such path")
        return self._download(unquote(request.path.removeprefix("/download/")))

    def _download(self, name: str) -> ApiResponse:
        fault = self.faults.get(name)
        if name not in self.names or fault == "gone":
            return _refusal(404, "no such file")
        if fault == "error":
            return _refusal(500, "the file can't be read")
        if fault == "page":
            return ApiResponse(b"<html><body>Please log in</body></html>", headers={"Content-Type": "text/html"})
        path = self.folder / name
        content = path.read_bytes()
        headers = {
            "Content-Type": "application/pdf",
            "ETag": f'"{hashlib.blake2b(content, digest_size=8).hexdigest()}"',
            "Last-Modified": formatdate(path.stat().st_mtime, usegmt=True),
        }
        return ApiResponse(content[: len(content) // 2] if fault == "cut" else content, headers=headers)

    def _uploaded(self, request: ApiRequest) -> ApiResponse:
        files = _parts_of(request.headers, request.body)
        if not files or any(not name or "/" in name or "\\" in name or name.startswith(".") for name in files):
            return _refusal(400, "the form has no file, or one whose name leaves the folder")
        for name, content in files.items():
            (self.folder / name).write_bytes(content)
        return ApiResponse(json.dumps(sorted(files)).encode(), status=201)


def _parts_of(headers: Mapping[str, str], body: bytes) -> dict[str, bytes]:
    """The files of a form, by name."""
    head = f"Content-Type: {headers.get('content-type', '')}\r\n\r\n".encode()
    form = BytesParser(policy=HTTP).parsebytes(head + body)
    if not form.is_multipart():
        return {}
    found = {}
    for part in form.iter_parts():
        content = part.get_payload(decode=True)
        if (name := part.get_filename()) is not None and isinstance(content, bytes):
            found[name] = content
    return found


def _refusal(status: int, why: str) -> ApiResponse:
    return ApiResponse(json.dumps({"error": why}).encode(), status=status)
