"""The pages of docs/ for people who run Lakehouse: each command runs, in the order of its page, on a lake that the
tutorial fills with a vendor's files, or on one with a day of a shop.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import nbclient
import nbformat
import pytest

from assets_tests.conftest import PROJECT_ROOT
from assets_tests.integration.test_cli import said
from assets_tests.support.patience import PATIENCE_S
from assets_tests.support.pence_vendor import Daily, write_files
from assets_tests.support.shop_files import Line, put_day
from lakehouse import catalog
from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.derive.check_history import CheckResult, record
from lakehouse.derive.table_report import ReportConfig
from lakehouse.governance.models import models
from lakehouse.ingest.load import load
from lakehouse.lake.strict_yaml import yaml_documents
from lakehouse.settings import Settings, settings
from lakehouse.warehouse.publish import publish
from scripts.reference.commands import commands as known_commands

DOCS = PROJECT_ROOT / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))
OF_TUTORIAL = ("bi.md", "operations.md")
"""Pages whose commands run on the tutorial's lake, apart from the tutorial itself."""
OF_SHOP = "governance.md"
ELSEWHERE = {"scale.md": "test_compute_on_ray", "deployment.md": "test_deploy"}
"""Pages whose commands need a cluster or an engine -> the tests of what they start; here their names are checked."""
NOT_RUN = {
    "make demo": "the tests of the demo run it",
    "make install": "it would install",
    ".venv/bin/pip install --editable '.[ray]'": "it would install",
    "git pull": "it would change the clone",
}
"""Commands of people on their own clone."""
SALE = Line("536365", "10001", "LAMP", 2, datetime(2024, 3, 12, 9), Decimal("1.25"), "17850", "France")


def console_lines(page: str) -> list[str]:
    """The commands of a page's console blocks."""
    blocks = re.findall(r"^```console\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert all(line.startswith("$ ") for line in lines), page
    return [line.removeprefix("$ ") for line in lines]


class Place:
    """The folder in which the commands run, and what stands in the pages for its parts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.amounts: Daily = {}
        self.home = folder / "home"
        self.variables = {
            "LAKEHOUSE_DEFS": str(folder / "defs"),
            "LAKEHOUSE_HOME": str(self.home),
            "LAKEHOUSE_RETAIL_URL": str(folder / "shop"),
            "DAGSTER_HOME": str(folder / "dagster"),
        }
        self._written = {
            "/data/acme": folder / "acme",
            ".lakehouse/lake": self.home / "lake",
            "/backup": folder / "saved",
            "/restored": folder / "again",
        }

    def filled(self, line: str) -> str:
        """A command with this place's folders."""
        for written, own in self._written.items():
            line = line.replace(written, shlex.quote(str(own)))
        return line

    @contextmanager
    def entered(self) -> Iterator[pytest.MonkeyPatch]:
        """The block runs in the folder, by its settings."""
        with pytest.MonkeyPatch.context() as patched:
            patched.chdir(self.folder)
            for name, value in self.variables.items():
                patched.setenv(name, value)
            settings.cache_clear()
            yield patched
        settings.cache_clear()

    def run(self, page: str) -> None:
        """Runs a page's commands and its Python; a variable that a command sets is set for the rest of the page."""
        with self.entered() as patched:
            for line in console_lines(page):
                if line in NOT_RUN:
                    continue
                first, *arguments = shlex.split(self.filled(line))
                if first == "export":
                    for name, value in (argument.split("=", 1) for argument in arguments):
                        patched.setenv(name, value)
                    settings.cache_clear()
                elif first in ("cp", "mkdir"):
                    subprocess.run([first, *arguments], check=True)
                else:
                    assert first == ".venv/bin/lakehouse", line
                    said(*arguments, code=0)
                    if arguments[0] == "init":
                        catalog._described.cache_clear()  # the next command is another process's
            for block in re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL):
                exec(compile(block, page, "exec"), {})


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The lake after the commands of the tutorial."""
    place = Place(tmp_path_factory.mktemp("tutorial"))
    for name in ("defs", "saved"):
        (place.folder / name).mkdir()
    place.amounts = write_files(place.folder / "acme")
    place.run("tutorial.md")
    return place


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A lake with a day of a shop, its marts, and the result of a check."""
    place = Place(tmp_path_factory.mktemp("shop"))
    (place.folder / "defs").mkdir()
    put_day(place.folder / "shop", SALE.day, [SALE])
    with place.entered():
        lake, source = Lake.open(), described_source("retail")
        months = [SALE.day.replace(day=1)]
        load(lake, source.datasets[0], months)
        for table in source.tables:
            table.derive(lake, source, months)
        record(lake, [CheckResult("retail", "sale_lines", "a_check", False, "error", "it failed")], "run", "all")
        publish(settings())
    return place


def test_tutorial__draws_a_chart(tutorial: Place) -> None:
    assert (tutorial.folder / "vod.html").stat().st_size > 10_000


def test_tutorial__brings_a_vendors_files_to_the_marts(tutorial: Place) -> None:
    assert (tutorial.folder / "defs" / "acme" / "defs.yaml").is_file()
    with tutorial.entered():
        assert "nothing is wrong" in said("check", "acme", code=0)
    with duckdb.connect(str(tutorial.home / "warehouse.duckdb"), read_only=True) as marts:
        rows = marts.execute(
            "SELECT symbol, session, open, high, low, close, volume "
            "FROM marts.fct_daily_bar JOIN marts.dim_instrument USING (instrument_key)"
        ).fetchall()
    assert {(row[0], row[1]): row[2:] for row in rows} == tutorial.amounts


@pytest.mark.parametrize("page", OF_TUTORIAL)
def test_page__runs(tutorial: Place, page: str) -> None:
    tutorial.run(page)


def test_bi__writes_files(tutorial: Place) -> None:
    assert (tutorial.folder / "bars.parquet").exists()


def test_governance__runs_and_writes_a_file_for_the_role(shop: Place) -> None:
    shop.run(OF_SHOP)
    assert (shop.home / "roles" / "sales_france.duckdb").exists()


def test_notebook__runs_in_a_kernel(tutorial: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in tutorial.variables.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(DOCS / "notebooks" / "first-look.ipynb", as_version=4)
    assert not [cell for cell in notebook.cells if cell.get("outputs")], "clear the outputs before a commit"
    nbclient.NotebookClient(notebook, timeout=PATIENCE_S, resources={"metadata": {"path": str(PROJECT_ROOT)}}).execute()
    frames = [output for cell in notebook.cells for output in cell.get("outputs", ()) if "data" in output]
    assert any("image/png" in output["data"] for output in frames)
    assert any("return_pct" in output["data"].get("text/plain", "") for output in frames)


def test_blocks__are_of_kinds_that_are_run() -> None:
    """A block of another language, or a page with commands that no test runs, would need a line here."""
    for page in PAGES:
        text = (DOCS / page).read_text()
        kinds = set(re.findall(r"^```(\w+)$", text, re.MULTILINE))
        others = {"deployment.md": {"sh"}, "scale.md": {"console", "yaml"}}
        assert kinds <= others.get(page, {"console", "python"}), page
        assert not kinds or page in {"tutorial.md", *OF_TUTORIAL, OF_SHOP, *ELSEWHERE}, page
        assert re.findall(r"^    (?:\.venv|lakehouse|export|pip|make) .*", text, re.MULTILINE) == [], page


def test_commands__in_the_text_have_the_names_and_options_that_there_are() -> None:
    known = dict(known_commands())
    for page in PAGES:
        for words in map(str.split, re.findall(r"`(?:\.venv/bin/)?(lakehouse(?: [^`]+)?)`", (DOCS / page).read_text())):
            name = next(name for end in range(len(words), 0, -1) if (name := " ".join(words[:end])) in known)
            rest = words[len(name.split()) :]
            assert not (hasattr(known[name], "commands") and rest and not rest[0].startswith("-")), (page, words)
            options = {"--help"} | {
                option for each in known[name].params for option in (*each.opts, *each.secondary_opts)
            }
            assert [word for word in rest if word.startswith("--") and word not in options] == [], (page, words)


def test_scale__describes_a_report_that_loads() -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```", (DOCS / "scale.md").read_text(), re.MULTILINE | re.DOTALL)
    (document,) = yaml_documents(block)
    config = ReportConfig.model_validate(document["attributes"])
    schema, _, mart = config.of.partition(".")
    assert schema == "marts"
    assert {*config.columns.values()} <= {column.name for column in models()[mart].columns}


def test_scale__names_settings_and_a_command_that_there_are() -> None:
    exported = {name for line in console_lines("scale.md") for name in re.findall(r"(LAKEHOUSE_\w+)=", line)}
    assert exported
    assert exported <= {f"LAKEHOUSE_{name.upper()}" for name in Settings.model_fields}
    run = [line.split()[1:] for line in console_lines("scale.md") if line.startswith(".venv/bin/lakehouse ")]
    known = dict(known_commands())
    for name, *arguments in run:
        options = {option for each in known[f"lakehouse {name}"].params for option in each.opts}
        assert {word for word in arguments if word.startswith("--")} <= options


def test_make__has_the_targets_that_are_named() -> None:
    for page in PAGES:
        for target in re.findall(r"`make ([a-z-]+)", (DOCS / page).read_text()):
            subprocess.run(["make", "--dry-run", target], cwd=PROJECT_ROOT, check=True, capture_output=True)


def test_performance__names_options_of_the_benchmark() -> None:
    named = set(re.findall(r"--[a-z]+", (DOCS / "performance.md").read_text().partition("<!--")[0]))
    assert named == set(re.findall(r'add_argument\("(--\w+)"', (PROJECT_ROOT / "benchmarks/run.py").read_text())) - {
        "--write"
    }


def test_extras__that_are_installed_are_the_project_s() -> None:
    extras = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for page in PAGES:
        assert set(re.findall(r"'\.\[(\w+)\]'", (DOCS / page).read_text())) <= extras.keys()


def test_operations__quotes_messages_that_there_are() -> None:
    text = (DOCS / "operations.md").read_text()
    messages = (DOCS / "reference" / "errors.md").read_text() + (
        PROJECT_ROOT / "lakehouse" / "cli" / "explained.py"
    ).read_text()
    quoted = [
        each for line in re.findall(r"^\d+\. (.*)", text, re.MULTILINE) for each in re.findall(r"^`([^`]+)`", line)
    ]
    assert len(quoted) >= 4
    assert [each for each in quoted if each not in messages] == []
    assert len(re.findall(r"^\d+\. ", text, re.MULTILINE)) == 10
