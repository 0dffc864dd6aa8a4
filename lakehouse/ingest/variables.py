"""What is asked of an installation's settings, by whom they are not known."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Variables(Protocol):
    """The settings of sources, looked up by name."""

    @property
    def home(self) -> Path:
        """Folder of everything that the installation keeps."""

    @property
    def answer_max_bytes(self) -> int:
        """Bytes that an answer of an API may have."""

    @property
    def object_max_bytes(self) -> int:
        """Bytes that an object may unpack to."""

    def source_variable(self, source: str, what: str) -> str | None:
        """The value of LAKEHOUSE_<SOURCE>_<WHAT>; None where it is unset."""

    def secret(self, variable: str) -> str | None:
        """A key or token; None where it is unset or blank."""
