"""Documents are found by meaning, with a model in a folder: nearest first, and only new chunks are embedded."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from assets_tests.integration.test_documents import rows, take
from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.cli.app import app
from lakehouse.derive.rebuild import rebuild
from lakehouse.domains.documents import meaning
from lakehouse.errors import SourceError
from lakehouse.simulators.pdf_files import pdf

VECTORS = {"money": (1.0, 0.0, 0.0), "refund": (0.9, 0.1, 0.0), "lamp": (0.0, 1.0, 0.0), "candle": (0.0, 0.9, 0.2)}
TEXTS = {"returns.pdf": "refund refund notice", "lights.pdf": "candle lamp notice", "leave.pdf": "annual leave"}


def model(folder: Path, vectors: dict[str, tuple[float, ...]]) -> Path:
    """A model that knows some words."""
    from model2vec import StaticModel
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(
        models.WordLevel({"[UNK]": 0} | {word: n for n, word in enumerate(vectors, start=1)}, "[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    StaticModel(np.array([(0.0, 0.0, 0.0), *vectors.values()], dtype=np.float32), tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture
def library(own_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "files"
    place.mkdir()
    for name, text in TEXTS.items():
        (place / name).write_bytes(pdf([text]))
    monkeypatch.setenv("LAKEHOUSE_DOCUMENTS_URL", str(place))
    monkeypatch.setenv("LAKEHOUSE_DOCUMENTS_MODEL", str(model(tmp_path / "model", VECTORS)))
    take()
    return place


def similar(query: str) -> list[tuple[Any, ...]]:
    return Lake.open().similar_documents(query).project("name, score").fetchall()


def cosine(words: str, query: str) -> float:
    """By the model's definition: the mean of the vectors of known words, as plain Python computes it."""

    def mean(text: str) -> list[float]:
        found = [VECTORS[word] for word in text.split() if word in VECTORS]
        return [sum(axis) / len(found) for axis in zip(*found, strict=True)]

    one, other = mean(words), mean(query)
    return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))


def test_similar__ranks_by_the_cosine_of_means(library: Path) -> None:
    for query in ("money", "lamp", "annual money"):
        # The model knows no word of the third document.
        known = ((cosine(text, query), name) for name, text in TEXTS.items() if name != "leave.pdf")
        expected = sorted(known, reverse=True)
        found = similar(query)
        assert [name for name, _ in found] == [name for _, name in expected]
        assert [score for _, score in found] == pytest.approx([score for score, _ in expected], abs=1e-5)


def test_embeddings__are_made_of_new_chunks_alone(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded: list[str] = []
    opened = meaning._opened

    def counted(folder: Path, digest: str) -> Any:
        class Counted:
            def encode(self, texts: list[str]) -> Any:
                embedded.extend(texts)
                return opened(folder, digest).encode(texts)

        return Counted()

    monkeypatch.setattr(meaning, "_opened", counted)
    take()
    assert embedded == []
    (library / "more.pdf").write_bytes(pdf(["money lamp"]))
    take()
    assert [text.strip() for text in embedded] == ["money lamp"]
    assert len(rows("SELECT * FROM documents.embeddings")) == 3
    assert similar("money lamp")[0][0] == "more.pdf"
    stored = rows("FROM documents.embeddings ORDER BY chunk_id")
    rebuild(Lake.open(), described_source("documents"))
    assert rows("FROM documents.embeddings ORDER BY chunk_id") == stored


def test_similar__as_of_a_moment_knows_the_documents_of_then(library: Path) -> None:
    moment = datetime.now(UTC)
    (library / "more.pdf").write_bytes(pdf(["money lamp"]))
    take()
    then = Lake.open(as_of=moment).similar_documents("money lamp").project("name").fetchall()
    assert {name for (name,) in then} == {"returns.pdf", "lights.pdf"}
    assert similar("money lamp")[0][0] == "more.pdf"


def test_embeddings__of_another_model_replace_all(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name for (name,) in rows("SELECT DISTINCT model FROM documents.embeddings")}
    other = model(tmp_path / "other", VECTORS | {"annual": (1.0, 0.0, 0.0), "leave": (1.0, 0.0, 0.0)})
    monkeypatch.setenv("LAKEHOUSE_DOCUMENTS_MODEL", str(other))
    take()
    after = {name for (name,) in rows("SELECT DISTINCT model FROM documents.embeddings")}
    assert len(before) == len(after) == 1
    assert before != after
    assert similar("money")[0][0] == "leave.pdf"


def test_search__by_meaning_says_what_is_missing(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = CliRunner().invoke(app, ["documents", "search", "money", "--by-meaning", "-k", "1"])
    assert done.exit_code == 0, done.output
    assert "returns.pdf" in done.output
    monkeypatch.setenv("LAKEHOUSE_DOCUMENTS_MODEL", str(tmp_path))
    with pytest.raises(SourceError, match="LAKEHOUSE_DOCUMENTS_MODEL"):
        take()
    monkeypatch.delenv("LAKEHOUSE_DOCUMENTS_MODEL")
    done = CliRunner().invoke(app, ["documents", "search", "money", "--by-meaning"])
    assert done.exit_code == 2
    assert "LAKEHOUSE_DOCUMENTS_MODEL" in done.output
