"""docs/reference says what the code says: its pages are current, and name everything there is."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import lakehouse
from assets_tests.conftest import PROJECT_ROOT
from lakehouse.cli.app import app
from lakehouse.errors import LakehouseError
from lakehouse.lake.contract import Contract
from lakehouse.settings import Settings
from scripts.reference import errors, tables
from scripts.reference.commands import commands
from scripts.reference.pages import all_pages
from scripts.reference.yaml_keys import components

pytestmark = pytest.mark.slow

FOLDER = PROJECT_ROOT / "docs" / "reference"
PACKAGE = Path(lakehouse.__file__).parent
_LINE = re.compile(r'    (\w+) \}o(--|\.\.)\|\| (\w+) : "[\w, ]+"')


@cache
def made() -> dict[str, str]:
    return all_pages()


def page(name: str) -> str:
    return (FOLDER / name).read_text()


def test_every_page_is_current() -> None:
    stored = {path.name: path.read_text() for path in FOLDER.glob("*.md")}
    differing = sorted(name for name in stored.keys() | made().keys() if stored.get(name) != made().get(name))
    assert differing == [], "run make reference"


def test_settings__names_every_setting() -> None:
    text = page("settings.md")
    for name, field in Settings.model_fields.items():
        assert f"`LAKEHOUSE_{name.upper()}`" in text
        assert field.description


def test_settings__names_the_variables_of_shipped_vendors() -> None:
    for path in PACKAGE.glob("vendors/*.yaml"):
        key = (yaml.safe_load(path.read_text())["attributes"].get("api") or {}).get("key")
        assert key is None or f"`{key['variable']}`" in page("settings.md")


@pytest.mark.parametrize("component", components())
def test_yaml__names_every_key(component: str) -> None:
    text = page(f"yaml-{component.rpartition('.')[2]}.md")
    for name, field in components()[component].model_fields.items():
        assert f"| `{field.alias or name}` |" in text


def test_tables__name_every_table_and_column_of_the_contracts() -> None:
    pages = "\n".join(page(path.name) for path in FOLDER.glob("tables-*.md"))
    found = 0
    # Of a captured database, the log of changes has the columns of its table besides.
    for path in set(PACKAGE.rglob("contracts/*.yaml")) - set(PACKAGE.glob("ingest/postgres/contracts/changes.yaml")):
        for contract in yaml.safe_load_all(path.read_text()):
            assert f".{contract['table'].rpartition('/')[2]}\n" in pages, path
            for column in contract["columns"]:
                assert f"| `{column['name']}` |" in pages, (path, column["name"])
                found += 1
    assert found > 500


def test_tables__name_every_mart() -> None:
    pages = "\n".join(page(path.name) for path in FOLDER.glob("tables-*.md"))
    marts = list((PROJECT_ROOT / "dbt_project" / "models" / "marts").rglob("*.sql"))
    assert len(marts) > 20
    for mart in marts:
        assert f"## marts.{mart.stem}\n" in pages


def test_commands__name_what_help_names() -> None:
    text = page("commands.md")
    for name, command in commands():
        assert f"\n## {name}\n" in text
        for parameter in command.params:
            if parameter.param_type_name == "option" and not parameter.hidden and "completion" not in parameter.name:
                assert all(f"`{option}" in text for option in parameter.opts), (name, parameter.opts)
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    named = re.findall(r"^│ ([a-z][a-z-]+) ", shown, re.MULTILINE)
    assert len(named) > 20
    assert {f"lakehouse {name}" for name in named} <= {name for name, _ in commands()}


def test_errors__names_every_class_that_is_imported() -> None:
    found, waiting = set(), [LakehouseError]
    while waiting:
        each = waiting.pop()
        if each.__module__.startswith("lakehouse."):
            found.add(each.__name__)
        waiting += each.__subclasses__()
    assert found <= errors.error_classes().keys()
    assert all(f"\n## {name}\n" in page("errors.md") for name in found)
    assert all(each.meaning for each in errors.error_classes().values())


def test_diagrams__are_mermaid_of_entities_that_they_name() -> None:
    diagrams = [
        (path.name, block)
        for path in FOLDER.glob("*.md")
        for block in re.findall(r"```mermaid\n(.*?)```", path.read_text(), re.DOTALL)
    ]
    assert len(diagrams) > 10
    for name, block in diagrams:
        entities = set(re.findall(r"^    (\w+) \{$", block, re.MULTILINE))
        rest = re.sub(r"^    \w+ \{\n(?:        \w+ \w+ (?:PK|FK|PK, FK)\n)*    \}\n", "", block, flags=re.MULTILINE)
        kind, *lines = rest.splitlines()
        assert kind == "erDiagram", name
        for line in lines:
            found = _LINE.fullmatch(line)
            assert found is not None, (name, line)
            assert {found[1], found[3]} <= entities, (name, line)


def test_diagrams__have_every_foreign_key() -> None:
    star = page("star.md")
    assert all(f"{each.many} }}o--|| {each.one}" in star for each in tables.foreign_keys())
    assert "fct_daily_bar }o--|| dim_session" in star
    banking = page("tables-banking.md")
    for path in PACKAGE.glob("domains/banking/contracts/*.yaml"):
        for contract in yaml.safe_load_all(path.read_text()):
            for column in contract["columns"]:
                if "references" in column:
                    assert f"{contract['table']} }}o--|| {column['references'].split('.')[-2]}" in banking


def test_relations__follow_from_keys_and_versions() -> None:
    def of(text: str, *columns: str) -> Contract:
        described = [
            {"name": name.rstrip("?"), "type": "string", "description": name, "nullable": name.endswith("?")}
            for name in columns
        ]
        return Contract.model_validate(
            {"table": "any", "description": "any", "key": text.split(), "partition_by": [], "columns": described}
        )

    found = tables.relations(
        {
            "items": of("code valid_from", "code", "valid_from", "valid_to"),
            "sales": of("line", "line", "code", "object", "row_number"),
            "lines": of("object row_number", "object", "row_number"),
            "notes": of("line number", "line", "number"),
            # A column that may be NULL refers by itself; among several it has the name by chance.
            "shops": of("shop", "shop", "line", "number?", "code?"),
        }
    )
    assert {(each.many, each.one, each.by) for each in found} == {
        ("sales", "items", "code"),
        ("notes", "sales", "line"),
        ("shops", "items", "code"),
        ("shops", "sales", "line"),
    }


@pytest.mark.parametrize("domain", ["banking", "market", "orders", "reference", "retail"])
def test_diagrams__link_the_tables_of_a_domain(domain: str) -> None:
    assert page(f"tables-{domain}.md").count("}o") >= 4
