"""The files of deploy/: what an engine or a cluster would run is linted, validated, and asked for its options."""

from __future__ import annotations

import configparser
import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from assets_tests.conftest import PROJECT_ROOT
from assets_tests.integration.test_cli import said

DOCS, DEPLOY = PROJECT_ROOT / "docs", PROJECT_ROOT / "deploy"


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
    # Dagster's webserver uses connections as psycopg 2 has them: leaving their `with` block doesn't close them.
    url = services["webserver"]["environment"]["DAGSTER_POSTGRES_URL"]
    assert url.startswith("postgresql+psycopg2://")
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

    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql+psycopg2://dagster@localhost/dagster")
    (tmp_path / "dagster.yaml").write_text((DEPLOY / "dagster.yaml").read_text())
    config, _ = dagster_instance_config(str(tmp_path))
    assert config["storage"] == {"postgres": {"postgres_url": {"env": "DAGSTER_POSTGRES_URL"}}}
    assert (PROJECT_ROOT / "requirements" / "deploy.txt").read_text().count("dagster-postgres==") == 1
