"""Reads the `defs.yaml` files and looks up sources by name.

A file that can't be read doesn't affect the other sources: it is listed as broken, with the line.

The models of the descriptions belong in the domains.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_args

from pydantic import BaseModel, ValidationError

from lakehouse.errors import SourceError, did_you_mean
from lakehouse.ingest.strict import Description
from lakehouse.lake.strict_yaml import yaml_documents

if TYPE_CHECKING:
    import yaml

    from lakehouse.ingest.noted import Remembered

OWN_COMPONENTS = "lakehouse.components."
"""Prefix of the project's own component types."""


class InvalidYaml(SourceError):
    """A defs.yaml has entries that can't be used; `problems` has a line for each."""

    def __init__(self, message: str, hint: str | None = None, *, problems: Sequence[str] = ()) -> None:
        super().__init__(message, hint)
        self.problems = tuple(problems)

    @classmethod
    def of(cls, problems: Sequence[str]) -> Self:
        """The error with all of the problems."""
        return cls("; ".join(problems), problems=problems)


@dataclass(frozen=True)
class Descriptions:
    """The parsed files: source name -> (component type, model) and -> file, and the error of each broken file."""

    found: dict[str, tuple[str, Description]] = field(default_factory=dict)
    broken: dict[Path, SourceError] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    made: dict[str, Remembered[Any]] = field(default_factory=dict, compare=False, repr=False)
    """Source name -> what was made of its description: sources are looked up hundreds of times in a run."""

    def require(self, name: str, kind: str, known: Collection[str]) -> None:
        """Checks that `name` is among the `known` names of a kind.

        Raises:
            SourceError: no defs.yaml describes it, or the one in the folder of that name is broken.
        """
        if name in known:
            return
        for path, error in self.broken.items():
            if path.parent.name == name:
                raise error
        broken = "".join(f". {error}" for error in self.broken.values())
        raise SourceError(
            f"no {kind} '{name}'; there is {', '.join(known) or 'none'}{did_you_mean(name, known)}. "
            f"A {kind} is a defs.yaml below lakehouse/defs or LAKEHOUSE_DEFS{broken}"
        )


def described(
    models: Mapping[str, type[Description]],
    folders: Sequence[Path],
    reserved: Collection[str],
    apart: Collection[str] = (),
) -> Descriptions:
    """Parses the `defs.yaml` files below folders.

    Args:
        models: component type -> model of its attributes.
        reserved: names that no source may have.
        apart: component types of what is no source; their files are read elsewhere.
    """
    descriptions = Descriptions()
    for path in (path for folder in folders for path in sorted(folder.rglob("defs.yaml"))):
        try:
            for name, entry in _described_in(path, models, apart).items():
                if name in reserved:
                    raise SourceError(
                        f"{path}: source {name!r} is a schema of the lake's own; {', '.join(reserved)} are taken"
                    )
                if name in descriptions.files:
                    other = descriptions.files[name]
                    raise SourceError(f"{path}: source {name!r} is described by {other}, too; rename one of them")
                descriptions.files[name] = path
                descriptions.found[name] = entry
        except SourceError as error:
            descriptions.broken[path] = error
    return descriptions


def _described_in(
    path: Path, models: Mapping[str, type[Description]], apart: Collection[str]
) -> dict[str, tuple[str, Description]]:
    import yaml

    found: dict[str, tuple[str, Description]] = {}
    try:
        text = path.read_text()
        documents = yaml_documents(text)
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}, {error}" if str(error).startswith("line ") else f"{path}: {error}") from error
    problems: list[str] = []
    for number, document in enumerate(documents or [None]):
        kind = document.get("type") if isinstance(document, dict) else None
        if isinstance(kind, str) and kind in apart:
            continue
        if not isinstance(kind, str) or (kind.startswith(OWN_COMPONENTS) and kind not in models):
            near = did_you_mean(kind, models) if isinstance(kind, str) else ""
            problems.append(
                f"{path}: its type is {'missing' if kind is None else repr(kind)}; set it to {' or '.join(models)}, "
                f"or remove the file{near}"
            )
        elif kind not in models:
            _require_module(path, kind, models)
        else:
            attributes = document.get("attributes") or {}
            try:
                said = models[kind].model_validate(attributes)
                found[said.source] = (kind, said)
            except ValidationError as error:
                nodes = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
                problems += yaml_problems(path, nodes[number], error, models[kind])
    if problems:
        raise InvalidYaml.of(problems)
    return found


def faulty_documents(folder: Path, kind: str, model: type[BaseModel]) -> dict[Path, SourceError]:
    """The faults in the documents of a type that is no source's, in the `defs.yaml` files below a folder. Files that
    are no YAML are left to `described`.
    """
    import yaml

    found: dict[Path, SourceError] = {}
    for path in sorted(folder.rglob("defs.yaml")):
        try:
            text = path.read_text()
            documents = yaml_documents(text)
        except (OSError, ValueError):
            continue
        problems: list[str] = []
        for number, document in enumerate(documents):
            if isinstance(document, dict) and document.get("type") == kind:
                try:
                    model.model_validate(document.get("attributes") or {})
                except ValidationError as error:
                    nodes = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
                    problems += yaml_problems(path, nodes[number], error, model)
        if problems:
            found[path] = InvalidYaml.of(problems)
    return found


def _require_module(path: Path, kind: str, models: Iterable[str]) -> None:
    """Checks that the module of another package's component exists: Dagster would load no source at all without it.

    Raises:
        SourceError: it doesn't.
    """
    module = kind.rpartition(".")[0]
    try:
        exists = bool(module) and find_spec(module) is not None
    except (ImportError, ValueError):
        exists = False
    if not exists:
        raise SourceError(
            f"{path}: its type is {kind!r}, and there is no module {module!r}; install it, set the type to "
            f"{' or '.join(models)}, or remove the file"
        )


def yaml_problems(path: Path, document: yaml.Node, error: ValidationError, model: type[BaseModel]) -> Iterator[str]:
    """What is wrong in a document of a defs.yaml, each with the file, the line and the entry; of an unknown entry also
    the known ones.
    """
    for problem in error.errors(include_url=False):
        where = ".".join(map(str, problem["loc"]))
        line = _line(document, ("attributes", *problem["loc"]))
        text = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            known = _entries_at(model, problem["loc"][:-1])
            text = f"the entry is unknown; there are {', '.join(known)}{did_you_mean(str(problem['loc'][-1]), known)}"
        yield f"{path}, line {line}: {where}: {text}"


def _entries_at(model: type[BaseModel], loc: Sequence[Any]) -> list[str]:
    """The names of the entries that a model takes at a place."""
    models = [model]
    for part in loc:
        inner = [
            found
            for each in models
            if part in each.model_fields
            for found in _models_in(each.model_fields[part].annotation)
        ]
        # A place also names positions of lists and members of unions.
        models = inner or [each for each in models if each.__name__ == part] or models
    fields = [entry for each in models for entry in each.model_fields.items()]
    # What is left out of a dump is there for old files alone.
    return list(dict.fromkeys(field.alias or name for name, field in fields if not field.exclude))


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _line(node: yaml.Node, loc: Sequence[Any]) -> int:
    """The line of the entry at `loc`, or of its innermost ancestor in the document."""
    line = node.start_mark.line + 1
    for part in loc:
        entries = node.value if isinstance(node.value, list) else []
        pairs = [entry for entry in entries if isinstance(entry, tuple) and entry[0].value == str(part)]
        if pairs:
            key, node = pairs[0]
            line = key.start_mark.line + 1
        elif isinstance(part, int) and part < len(entries) and not isinstance(entries[part], tuple):
            node = entries[part]
            line = node.start_mark.line + 1
    return int(line)
