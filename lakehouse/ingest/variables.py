"""The interface to the installation's settings, for code that must not depend on `lakehouse.settings`."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Variables(Protocol):
    """The settings of sources, looked up by name."""

    @property
    def home(self) -> Path:
        """Folder with all of the installation's files."""

    @property
    def lake(self) -> str:
        """The lake's root: an absolute folder or an s3:// URI."""

    @property
    def database_url(self) -> str | None:
        """PostgreSQL of the user's own; None for the embedded one."""

    @property
    def postgres(self) -> Path:
        """Folder of the embedded PostgreSQL."""

    @property
    def answer_max_bytes(self) -> int:
        """Bytes that an answer of an API may have."""

    @property
    def object_max_bytes(self) -> int:
        """Bytes that an object may unpack to."""

    def source_variable(self, source: str, what: str) -> str | None:
        """The value of LAKEHOUSE_<SOURCE>_<WHAT>; None if it is unset."""

    def secret(self, variable: str) -> str | None:
        """A key or token; None if it is unset or blank."""
