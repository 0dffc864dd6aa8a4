"""What texts mean, as vectors of a model of the user's own: a folder that Model2Vec wrote (`embeddings` extra).

Static models need no PyTorch, embed thousands of chunks a second on one core, and give the same vectors everywhere.
`tables` stores the vectors of chunks; a query is embedded where it is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.errors import SourceError
from lakehouse.lake.sql import Relation

if TYPE_CHECKING:
    import duckdb

_FILES = ("config.json", "model.safetensors", "tokenizer.json")
"""What a model is, by Model2Vec's format."""


@dataclass(frozen=True)
class Model:
    """A model in a folder.

    Args:
        variable: the setting that names the folder.
    """

    folder: Path
    variable: str

    @property
    def digest(self) -> str:
        """A digest of its files.

        Raises:
            SourceError: there is no model in the folder.
        """
        lacking = [name for name in _FILES if not (self.folder / name).is_file()]
        if lacking:
            raise SourceError(
                f"{self.folder} is not a model: it lacks {', '.join(lacking)}; set {self.variable} to a folder that "
                "Model2Vec wrote (StaticModel.save_pretrained), or unset it"
            )
        return _digest(self.folder, tuple((self.folder / name).stat().st_mtime_ns for name in _FILES))

    def vectors(self, texts: Sequence[str]) -> list[list[float] | None]:
        """The texts' vectors; None for a text of which the model knows no word.

        Raises:
            SourceError: there is no model in the folder, or the extra isn't installed.
        """
        if find_spec("model2vec") is None:
            raise SourceError(
                f"{self.variable} names a model, but Model2Vec is not installed: install lakehouse[embeddings], or "
                f"unset {self.variable}"
            )
        made = _opened(self.folder, self.digest).encode(list(texts)) if texts else ()
        return [row.tolist() if row.any() else None for row in made]

    def embed(self, connection: duckdb.DuckDBPyConnection, name: str, chunks: Relation) -> None:
        """Makes a table of chunk_id and vector. Not a function in SQL: DuckDB crashes where it calls one from several
        threads.
        """
        import pyarrow as pa

        rows = connection.sql(f"SELECT chunk_id, body FROM {chunks}").to_arrow_table()
        vectors = pa.array(self.vectors(rows["body"].to_pylist()), pa.list_(pa.float64()))
        connection.register(name, pa.table({"chunk_id": rows["chunk_id"], "vector": vectors}))


@cache
def _digest(folder: Path, written: tuple[int, ...]) -> str:
    hashed = blake2b(digest_size=8)
    for name in _FILES:
        hashed.update((folder / name).read_bytes())
    return hashed.hexdigest()


@cache
def _opened(folder: Path, digest: str) -> Any:
    from model2vec import StaticModel

    return StaticModel.from_pretrained(folder)
