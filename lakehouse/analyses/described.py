"""Reads the analyses that `defs.yaml` files describe. A file that can't be read doesn't affect the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from lakehouse.analyses.limited import Limits
from lakehouse.analyses.reading import definition_in
from lakehouse.analyses.spec import AnalysisError, Definition, definition_of

COMPONENT = "Analysis"
"""The component's name in a defs.yaml, after the prefix of Lakehouse's components."""


class AnalysisConfig(BaseModel):
    """The attributes of an analysis's defs.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    analysis: str = Field(description="Name of the analysis; part of its assets' keys.")
    description: str = ""
    author: str = ""
    owners: list[str] = []
    seconds: float = Field(Limits().seconds, gt=0, description="End a run of its assets after this time.")
    megabytes: int = Field(Limits().megabytes, gt=0, description="End a run of its assets when it takes more memory.")
    inputs: dict[str, Any] = Field({}, description="Values of the input keys, which a run may replace.")
    rows: list[Any] = Field(description="The tasks: order, funcPath, inputKeys, kwargs, outputKeys.")

    @property
    def limits(self) -> Limits:
        """What a run of its assets may take."""
        return Limits(self.seconds, self.megabytes)

    def definition(self) -> Definition:
        """The definition.

        Raises:
            InvalidAnalysis: some rows are none; with all faults.
        """
        return definition_of(self.analysis, self.rows, self.inputs, description=self.description, author=self.author)


@dataclass(frozen=True)
class DescribedAnalyses:
    """The definitions by name, their files, and the error of each broken file."""

    found: Mapping[str, Definition] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    broken: Mapping[Path, AnalysisError] = field(default_factory=dict)


def described_in(folders: Sequence[Path]) -> DescribedAnalyses:
    """The analyses of the defs.yaml files below folders."""
    found: dict[str, Definition] = {}
    files: dict[str, Path] = {}
    broken: dict[Path, AnalysisError] = {}
    for path in (path for folder in folders for path in sorted(folder.rglob("defs.yaml"))):
        try:
            text = path.read_text()
            if not _is_analysis(text):
                continue
            definition = definition_in(path.parent.name, text)
            if definition.name in found:
                raise AnalysisError(f"{files[definition.name]} describes {definition.name}, too; rename one of them")
            found[definition.name], files[definition.name] = definition, path
        except (AnalysisError, OSError) as error:
            broken[path] = AnalysisError(f"{path}: {error}")
    return DescribedAnalyses(found, files, broken)


def _is_analysis(text: str) -> bool:
    return any(line.startswith("type:") and line.rstrip().endswith(f".{COMPONENT}") for line in text.splitlines())
