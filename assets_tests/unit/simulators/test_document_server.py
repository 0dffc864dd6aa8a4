"""The simulated file server keeps what is uploaded, byte by byte, and fails as told."""

from __future__ import annotations

from pathlib import Path
from random import Random

import httpx
import pytest

from lakehouse.errors import SourceUnavailable
from lakehouse.ingest.file_server import FileServer
from lakehouse.simulators.document_server import DocumentServer


def test_upload__keeps_any_bytes(tmp_path: Path) -> None:
    chance = Random(1)
    contents = {f"ä {number}.pdf": chance.randbytes(chance.randrange(3000)) for number in range(20)}
    contents["ends.pdf"] = b"%PDF\r\n\r\n--\n\r"
    with DocumentServer(tmp_path / "files") as server:
        place = FileServer(server.url)
        for name, content in contents.items():
            place.upload(name, content)
        listed = place.list().objects
        assert sorted(listed["name"]) == sorted(contents)
        for name, path, tag in listed.select("name", "path", "tag").iter_rows():
            assert place.fetch(path, tag).read() == contents[name]
        place.upload("ends.pdf", b"other")
        changed = place.list().objects.join(listed, on=["name", "version"], how="anti")
        assert changed["name"].to_list() == ["ends.pdf"]


@pytest.mark.parametrize("name", ["../above.pdf", ".hidden", "a\\b.pdf"])
def test_upload__refuses_names_that_leave_the_folder(tmp_path: Path, name: str) -> None:
    with DocumentServer(tmp_path / "files") as server:
        with pytest.raises(SourceUnavailable):
            FileServer(server.url).upload(name, b"")
        assert server.names == []


def test_faults__are_those_of_real_servers(tmp_path: Path) -> None:
    with DocumentServer(tmp_path / "files") as server:
        FileServer(server.url).upload("a.pdf", b"0123456789")
        answers = {}
        for fault in ("error", "cut", "page", "gone"):
            server.faults = {"a.pdf": fault}
            found = httpx.get(f"{server.url}/download/a.pdf")
            answers[fault] = (found.status_code, len(found.content) < 10)
        assert answers == {"error": (500, False), "cut": (200, True), "page": (200, False), "gone": (404, False)}
