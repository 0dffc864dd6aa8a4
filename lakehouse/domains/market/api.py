"""The API of a market data vendor, requested symbol by symbol."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from lakehouse.errors import SourceError
from lakehouse.ingest.http.config import Api


class SymbolsApi(Api):
    """A vendor's API and the symbols to request."""

    symbols: tuple[str, ...] = Field(
        min_length=1, description="Symbols to request; LAKEHOUSE_<SOURCE>_SYMBOLS (comma-separated) takes precedence."
    )


@dataclass(frozen=True)
class Symbols:
    """The symbols of a source: `declared` by its YAML, or `said` by LAKEHOUSE_<SOURCE>_SYMBOLS."""

    source: str
    declared: tuple[str, ...]
    said: str | None = None

    def __call__(self) -> tuple[str, ...]:
        """The symbols to request, each once, in the given order.

        Raises:
            SourceError: the variable is set, but names none; or a symbol can't name an object.
        """
        symbols = self.declared if self.said is None else [symbol.strip() for symbol in self.said.split(",")]
        variable = f"LAKEHOUSE_{self.source.upper()}_SYMBOLS"
        if not any(symbols):
            raise SourceError(
                f"{variable} names no symbol; list some, separated by commas, or unset it to take those of the "
                f"defs.yaml of {self.source}"
            )
        if unfit := sorted(symbol for symbol in symbols if "/" in symbol or symbol in (".", "..")):
            raise SourceError(
                f"{', '.join(unfit)} can't be asked for: symbols stand in addresses and in names of objects, which a "
                f"slash divides. Take it out of {variable} or the defs.yaml"
            )
        return tuple(dict.fromkeys(symbol for symbol in symbols if symbol))
