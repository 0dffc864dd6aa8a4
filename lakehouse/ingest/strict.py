"""The base models of a `defs.yaml`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Strict(BaseModel):
    """A part of a defs.yaml; unknown entries are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    renamed: ClassVar[Mapping[str, str]] = {}
    """Former names of entries, which are still accepted, with a warning: former -> present."""

    @model_validator(mode="before")
    @classmethod
    def _read_former_names(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not (former := [name for name in cls.renamed if name in given]):
            return given
        for name in former:
            _warn(name, cls.renamed[name])
        return {cls.renamed.get(name, name): value for name, value in given.items()}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other values; doesn't copy the original's cached properties."""
        copied = super().model_copy(update=update, deep=deep)
        for name in set(copied.__dict__) - set(type(copied).model_fields):
            del copied.__dict__[name]
        return copied


# What Dagster demands of them: a name that it refuses would keep it from loading every source.
_Owner = Annotated[str, Field(pattern=r"^(team:\S.*|[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7})$")]
_TagName = Annotated[str, Field(pattern=r"^([A-Za-z0-9_.-]{1,63}/)?[A-Za-z0-9_.-]{1,63}$")]
_Tag = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{0,63}$")]


class Description(Strict):
    """The entries that every `defs.yaml` has. A kind of source adds its own."""

    source: str = Field(
        pattern=r"^[a-z][a-z0-9_]*$",
        description="Name of the source; the first part of its assets' keys and its SQL schema.",
    )
    description: str = ""
    owners: list[_Owner] = Field([], description="Dagster's names of people or teams, such as team:market-data.")
    tags: dict[_TagName, _Tag] = Field({}, description="Tags of its assets in Dagster.")


@cache
def _warn(former: str, present: str) -> None:
    logging.getLogger(__name__).warning(
        "the entry `%s` of a defs.yaml is called `%s` now; the former name will not be read by the next version",
        *(former, present),
    )
