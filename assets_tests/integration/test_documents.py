"""Documents in a folder: pages, reasons, what vanishes and returns, and search against an independent BM25."""

from __future__ import annotations

import io
import json
import math
import random
import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pypdf
import pytest

from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.derive.rebuild import rebuild
from lakehouse.ingest.file_server import FileServer
from lakehouse.ingest.load import LoadResult, load
from lakehouse.simulators.document_server import DocumentServer
from lakehouse.simulators.pdf_files import pdf

WORDS = """
    refund return lamp damaged photo leave annual request password change office travel receipt invoice customer
    supplier contract notice delivery stock price discount payment bank holiday training safety fire meeting minutes
""".split()  # noqa: SIM905


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "files"
    place.mkdir()
    monkeypatch.setenv("LAKEHOUSE_DOCUMENTS_URL", str(place))
    return place


def take() -> LoadResult:
    lake, source = Lake.open(), described_source("documents")
    loaded = load(lake, source.datasets[0], [])
    for table in source.tables:
        table.derive(lake, source, [])
    return loaded


def rows(query: str) -> list[tuple[Any, ...]]:
    found = Lake.open().sql(query)
    assert found is not None
    return found.fetchall()


def encrypted(content: bytes) -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(content))
    writer.encrypt("secret", algorithm="RC4-128")
    made = io.BytesIO()
    writer.write(made)
    return made.getvalue()


def bm25(chunks: dict[tuple[str, int], str], query: str) -> list[tuple[str, int]]:
    """The chunks by Okapi BM25 (k1 = 1.2, b = 0.75), best first."""

    def terms(text: str) -> list[str]:
        return [term for term in re.split("[^a-z0-9]+", text.lower()) if len(term) > 1]

    counted = {place: Counter(terms(text)) for place, text in chunks.items()}
    mean = sum(sum(found.values()) for found in counted.values()) / len(counted)
    scores: dict[tuple[str, int], float] = {}
    for term in set(terms(query)):
        having = [place for place, found in counted.items() if term in found]
        weight = math.log(1 + (len(counted) - len(having) + 0.5) / (len(having) + 0.5))
        for place in having:
            count, length = counted[place][term], sum(counted[place].values())
            score = weight * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length / mean))
            scores[place] = scores.get(place, 0) + score
    return sorted(scores, key=lambda place: (-round(scores[place], 6), place))


def test_a_hundred_documents_are_read_or_have_a_reason(folder: Path) -> None:
    chance = random.Random(1)
    good = {}
    for number in range(90):
        pages = [" ".join(chance.choices(WORDS, k=chance.randint(5, 60))) for _ in range(chance.randint(1, 3))]
        good[f"doc {number}.pdf"] = pages
        (folder / f"doc {number}.pdf").write_bytes(pdf(pages))
    (folder / "same content.pdf").write_bytes(pdf(good["doc 7.pdf"]))
    whole = pdf(["refund of a lamp"])
    for name, content in {
        "scan.pdf": pdf(["", ""]),
        "locked.pdf": encrypted(whole),
        "cut.pdf": whole[: len(whole) // 2],
        "page.pdf": b"<html>not found</html>",
    }.items():
        (folder / name).write_bytes(content)
    loaded = take()
    assert loaded.objects == {"loaded": 91, "empty": 0, "failed": 4}
    assert rows("SELECT name, reason FROM documents.files WHERE status <> 'loaded' ORDER BY 1") == [
        ("cut.pdf", "cut.pdf is cut: it lacks the end of a PDF file. Have it sent again"),
        ("locked.pdf", "locked.pdf is encrypted; have it sent without a password"),
        ("page.pdf", "page.pdf is no PDF file; have it sent again"),
        ("scan.pdf", "scan.pdf has no text; it may be a scan: have it recognised (OCR) and sent again"),
    ]
    assert rows("SELECT count(*), count(DISTINCT sha256) FROM documents.files WHERE status = 'loaded'") == [(91, 90)]
    found = dict(rows("SELECT (name, page), body FROM documents.pages"))
    names = {"same content.pdf": "doc 7.pdf"}
    read = {(names.get(name, name), page): " ".join(text.split()) for (name, page), text in found.items()}
    assert read == {(name, place): text for name, pages in good.items() for place, text in enumerate(pages, 1)}

    stored = dict(found)
    for query in ("refund for a damaged lamp", "annual leave", "bank", "travel receipt contract of a supplier"):
        ranked = rows(f"SELECT name, page FROM documents.search('{query}', k := 25)")
        assert ranked == bm25(stored, query)[:25]
    assert rows("FROM documents.search('unheard')") == []
    lake, source = Lake.open(), described_source("documents")
    assert not rebuild(lake, source, verify=True).differs
    assert all(check.run(lake, source, None).passed for check in source.checks if check.blocking)


def test_documents_change_vanish_and_come_back(folder: Path) -> None:
    (folder / "a.pdf").write_bytes(pdf(["first text"]))
    (folder / "b.pdf").write_bytes(pdf(["other text"]))
    assert take().rows_received == 2
    assert take().rows_received == 0
    (folder / "a.pdf").write_bytes(pdf(["second text", "and a page"]))
    (folder / "b.pdf").unlink()
    take()
    assert rows("SELECT name, page, body FROM documents.pages ORDER BY ALL") == [
        ("a.pdf", 1, "second text"),
        ("a.pdf", 2, "and a page"),
    ]
    assert rows("SELECT name, status, page_count FROM documents.files ORDER BY ALL") == [
        ("a.pdf", "loaded", 2),
        ("b.pdf", "vanished", None),
    ]
    assert take().objects == {"loaded": 0, "empty": 0, "failed": 0}
    (folder / "c.pdf").write_bytes(pdf(["other text"]))
    (folder / "b.pdf").write_bytes(pdf(["other text"]))
    take()
    (folder / "b.pdf").unlink()
    take()
    # Of two files with the same content one is left.
    assert rows("SELECT name FROM documents.search('other')") == [("c.pdf",)]
    source = described_source("documents")
    assert not rebuild(Lake.open(), source, verify=True).differs
    assert all(check.run(Lake.open(), source, None).passed for check in source.checks if check.blocking)


def test_a_file_server_is_read_like_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"a b.pdf": (pdf(["first text"]), '"1"'), "c.pdf": (pdf(["other text"]), '"1"')}

    class Handler(BaseHTTPRequestHandler):
        """Lists and gives `files`; doesn't know HEAD."""

        def do_GET(self) -> None:
            name = unquote(self.path.removeprefix("/download/"))
            if self.path == "/files":
                content, tag = json.dumps([*files, "../leaves.pdf"]).encode(), ""
            elif name in files:
                content, tag = files[name]
            else:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", tag)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            monkeypatch.setenv("LAKEHOUSE_DOCUMENTS_URL", f"http://127.0.0.1:{server.server_port}")
            assert take().objects == {"loaded": 2, "empty": 0, "failed": 0}
            assert rows("SELECT name FROM documents.search('first')") == [("a b.pdf",)]
            assert take().rows_received == 0
            files["a b.pdf"] = (pdf(["second text"]), '"2"')
            del files["c.pdf"]
            take()
            assert rows("SELECT name, body FROM documents.pages") == [("a b.pdf", "second text")]
            (known,) = (check for check in described_source("documents").checks if check.name == "objects_known")
            assert not known.run(Lake.open(), described_source("documents"), None).passed
        finally:
            server.shutdown()
            thread.join()


def test_a_file_that_the_server_fails_on_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with DocumentServer(tmp_path / "files") as server:
        monkeypatch.setenv("LAKEHOUSE_DOCUMENTS_URL", server.url)
        place = FileServer(server.url)
        for name in ("a.pdf", "b.pdf", "c.pdf"):
            place.upload(name, pdf([f"text of {name[0] * 3}"]))
        take()
        server.faults = {"a.pdf": "error", "b.pdf": "page", "c.pdf": "gone"}
        place.upload("d.pdf", pdf(["text of ddd"]))
        take()
        # What could be read before stays; what is gone is withdrawn.
        assert rows("SELECT DISTINCT name FROM documents.pages ORDER BY 1") == [("a.pdf",), ("b.pdf",), ("d.pdf",)]
        states = "SELECT name, status, reason FROM documents.files ORDER BY 1"
        (a, b, c, d) = rows(states)
        assert (a[1], b[1], c[1], d[1]) == ("failed", "failed", "vanished", "loaded")
        assert "a.pdf can't be given: 500" in a[2]
        assert b[2] == "b.pdf is no PDF file; have it sent again"
        server.faults = {}
        take()
        assert [row[1] for row in rows(states)] == ["loaded"] * 4
        assert len(rows("SELECT DISTINCT name FROM documents.pages")) == 4
        # A file under another name is the same document.
        (server.folder / "d.pdf").rename(server.folder / "renamed.pdf")
        digests = "SELECT sha256 FROM documents.pages WHERE body LIKE '%ddd%'"
        before = rows(digests)
        take()
        assert rows(digests) == before
        assert rows("SELECT name FROM documents.search('ddd')") == [("renamed.pdf",)]
        source = described_source("documents")
        assert not rebuild(Lake.open(), source, verify=True).differs
