"""The page of settings: the fields of `lakehouse.settings.Settings`, and the variables that sources read."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import lakehouse
from lakehouse.settings import Settings
from scripts.reference.markdown import code, plain, table

_SOURCE = Path(lakehouse.__file__).parent
_OF_SOURCES = {
    "requests_per_minute": "The rate of your plan with its vendor.",
    "url": "Where its objects are, or the address that answers.",
    "report_url": "Where its report is written.",
    "symbols": "Its symbols, separated by commas, instead of those in the YAML.",
    "nats_url": "The NATS server that its quotes come by.",
    "queries": "What it searches for, separated by commas.",
    "leis": "Legal entities that it asks about, besides those of the lake, separated by commas.",
    "ends": "The day with which Dagster's pages end its partitions, where its vendor delivers nothing any more.",
    "instruments": "Instruments that it asks about, as `US4592001014/XNYS`, separated by commas.",
    "time_zone": "The time zone whose days count.",
    "model": "The folder of a model for search by meaning.",
    "mappings_url": "Where its files of pairs of identifiers are.",
    "api_url": "Where its answers are, or the address that answers.",
}
"""What the variables `LAKEHOUSE_<SOURCE>_<WHAT>` mean."""
_SECRETS = {
    "LAKEHOUSE_MASK_KEY": "Key of the masks in roles' files; otherwise one is made below the home.",
    "LAKEHOUSE_PSEUDONYM_KEY": "Key of pseudonyms (see `lakehouse pseudonyms`).",
    "LAKEHOUSE_ROLE_<NAME>_KEY": "Key of the encrypted file of a role.",
}

_OWN_KEYS = {
    "alpha_vantage": "ALPHA_VANTAGE_API_KEY",
    "iex": "IEX_TOKEN",
    "openfigi": "OPENFIGI_API_KEY",
    "permid": "PERMID_API_KEY",
}
"""Source in `lakehouse/defs` -> the variable of its key."""


def pages() -> dict[str, str]:
    """The page."""
    text = f"""# Settings

Each is a variable of the environment, or a line of the file `.env` beside `pyproject.toml` (in the user's data folder,
where Lakehouse was installed from a wheel). The environment counts first.

{table(("variable", "default", "meaning"), _own())}

## Of sources

`LAKEHOUSE_<SOURCE>_<WHAT>` sets something of one source, whose name is in upper case: `LAKEHOUSE_XETRA_URL`.

{table(("what", "meaning"), [(code(what.upper()), _OF_SOURCES[what]) for what in of_sources()])}

Besides, a source whose YAML has a `request` takes the options that may be set there, as
`LAKEHOUSE_ALPHA_VANTAGE_ADJUSTED`.

## Keys and tokens

Each is a variable, or a file of that name in `secrets` below the home that its owner alone may read. The YAML of a
source names the variables of its vendor's keys.

{table(("variable", "meaning"), [*((code(name), text) for name, text in _SECRETS.items()), *vendors_keys()])}

## Of others

`DAGSTER_HOME` is Dagster's storage (default: `dagster` below the home). `AWS_*`, `GOOGLE_*` and `AZURE_STORAGE_*` are
read by the libraries that open buckets, `XDG_DATA_HOME` where Lakehouse was installed from a wheel, and
`LAKEHOUSE_SOAK=1` makes the tests count more.
"""
    return {"settings.md": text}


def _own() -> list[tuple[str, str, str]]:
    rows = []
    for name, field in Settings.model_fields.items():
        default = "" if field.default_factory is not None or field.default is None else code(field.default)
        if name == "home":
            default = code(".lakehouse")
        rows.append((code(f"LAKEHOUSE_{name.upper()}"), default, plain(field.description)))
    return rows


def of_sources() -> list[str]:
    """What sources look up by `source_variable`, where the code names it."""
    found = set()
    for path in sorted(_SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                name = node.args[1] if node.func.attr == "source_variable" and len(node.args) > 1 else None
                if isinstance(name, ast.Constant):
                    found.add(str(name.value))
    return sorted(found | {"mappings_url", "api_url"})


def vendors_keys() -> list[tuple[str, str]]:
    """The variables of the keys of vendors that ship with the project."""
    rows = [(code(variable), f"Key of `{name}`.") for name, variable in _OWN_KEYS.items()]
    for path in sorted((_SOURCE / "vendors").glob("*.yaml")):
        for variable in re.findall(r"variable: ([A-Z][A-Z0-9_]*)", path.read_text()):
            rows.append((code(variable), f"Key of `{path.stem}`."))
    return rows
