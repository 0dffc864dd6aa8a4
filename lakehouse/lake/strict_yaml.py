"""Reads YAML in which no key may stand twice: of two, the second would win without a word."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import yaml


def yaml_documents(text: str) -> list[Any]:
    """The documents of a YAML text.

    Raises:
        ValueError: the text is no YAML, or a key stands in one mapping twice; with the line, where it is known.
    """
    import yaml

    try:
        return list(yaml.load_all(text, _loader()))
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{line}{error.problem}") from error
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


@cache
def _loader() -> type[yaml.SafeLoader]:
    import yaml

    # The loader in C is several times as fast; not every build has it.
    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for key, _ in node.value:
                name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
                if name in seen:
                    problem = f"the key {key.value!r} stands here a second time; remove one of the two"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                if name is not None:
                    seen.add(name)
            mapping: dict[Any, Any] = super().construct_mapping(node, deep)
            return mapping

    return Loader
