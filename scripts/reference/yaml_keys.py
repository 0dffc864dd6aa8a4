"""The page of YAML keys: the attributes of each component, from the models that read them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from lakehouse import catalog
from lakehouse.analyses.described import AnalysisConfig
from lakehouse.derive.table_report import ReportConfig
from scripts.reference.markdown import code, plain, table

Schema = Mapping[str, Any]


def components() -> dict[str, type[BaseModel]]:
    """Component type -> the model of its attributes."""
    of_kinds = {catalog.component_of(kind): kind.model for kind in catalog.kinds().values()}
    return {**of_kinds, catalog.ANALYSIS: AnalysisConfig, catalog.REPORT: ReportConfig}


def pages() -> dict[str, str]:
    """A page per component."""
    made = {}
    for component, model in components().items():
        schema = model.model_json_schema(mode="validation")
        parts = [_part(name, part) for name, part in sorted(schema.get("$defs", {}).items()) if "properties" in part]
        name = component.rpartition(".")[2]
        made[f"yaml-{name}.md"] = (
            "\n\n".join(
                [
                    f"# YAML: {name}",
                    f"The `attributes` of a `defs.yaml` of the type `{component}`. {plain(schema.get('description'))}",
                    _fields(schema),
                    *parts,
                ]
            )
            + "\n"
        )
    return made


def _part(name: str, schema: Schema) -> str:
    return "\n\n".join(filter(None, [f"## {name}", plain(schema.get("description")), _fields(schema)]))


def _fields(schema: Schema) -> str:
    required = schema.get("required", [])
    rows = []
    for key, field in schema["properties"].items():
        default = "required" if key in required else code(_text(field["default"])) if "default" in field else ""
        rows.append((code(key), _type(field), default, _described(field)))
    return table(("key", "type", "default", "meaning"), rows)


def _described(field: Schema) -> str:
    limits = [f"{word} {field[key]}" for key, word in _LIMITS.items() if key in field]
    return " ".join(filter(None, [plain(field.get("description")), f"({', '.join(limits)})" if limits else ""]))


_LIMITS = {
    "minimum": "at least",
    "exclusiveMinimum": "more than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
    "minItems": "entries: at least",
}


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if value is not None else ""


def _type(field: Schema) -> str:
    return " or ".join(dict.fromkeys(_types(field)))


def _types(field: Schema) -> Iterator[str]:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        yield f"[{name}](#{name.lower()})"
    elif "const" in field:
        yield code(field["const"])
    elif "enum" in field:
        yield from (code(value) for value in field["enum"])
    elif "anyOf" in field or "oneOf" in field:
        for option in field.get("anyOf") or field["oneOf"]:
            if option.get("type") != "null":
                yield from _types(option)
    elif field.get("type") == "array":
        yield f"list of {_type(field.get('items', {})) or 'values'}"
    elif field.get("type") == "object":
        values = field.get("additionalProperties")
        yield f"mapping to {_type(values)}" if isinstance(values, dict) and values else "mapping"
    elif "type" in field:
        yield field.get("format") or field["type"]
    elif "allOf" in field:
        for option in field["allOf"]:
            yield from _types(option)
