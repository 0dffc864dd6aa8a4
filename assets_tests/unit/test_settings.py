"""Which lake a process means."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakehouse import settings as module
from lakehouse.api import Lake
from lakehouse.settings import PROJECT_ROOT, Settings, SettingsError, default_home, dotenv_file, settings


@pytest.fixture(autouse=True)
def no_home_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAKEHOUSE_HOME")


def test_a_clone_keeps_its_lake_beside_pyproject_whatever_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings().home == default_home() == PROJECT_ROOT / ".lakehouse"
    assert Settings().lake == str(PROJECT_ROOT / ".lakehouse" / "lake")
    assert dotenv_file() == PROJECT_ROOT / ".env"


@pytest.mark.parametrize(
    ("data_home", "folder"), [("/data/me", "/data/me"), ("", "~/.local/share"), ("relative", "~/.local/share")]
)
def test_a_wheel_keeps_its_lake_in_the_users_data_folder(
    data_home: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", data_home)
    monkeypatch.chdir(tmp_path)
    site_packages = tmp_path / "lib" / "site-packages"
    expected = Path(folder).expanduser() / "lakehouse"
    assert default_home(site_packages) == expected
    assert dotenv_file(site_packages) == expected / ".env"


def test_a_dotenv_file_of_the_working_directory_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHON_DOTENV_DISABLED")
    (tmp_path / "clone").mkdir()
    (tmp_path / "clone" / "pyproject.toml").touch()
    (tmp_path / "clone" / ".env").write_text("LAKEHOUSE_LAKE_URI=/of/the/clone\n")
    (tmp_path / ".env").write_text("LAKEHOUSE_LAKE_URI=/of/the/working/directory\n")
    # What the file sets goes with the test.
    monkeypatch.setenv("LAKEHOUSE_LAKE_URI", "")
    monkeypatch.delenv("LAKEHOUSE_LAKE_URI")
    monkeypatch.setattr(module, "dotenv_file", lambda: tmp_path / "clone" / ".env")
    monkeypatch.chdir(tmp_path)
    settings.cache_clear()
    assert settings().lake == "/of/the/clone"


def test_a_lake_may_be_given_as_a_file_url() -> None:
    assert Settings(lake_uri="file:///data/my%20lake/").lake == "/data/my lake"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOCKED_MEMORY", "bogus"),
        ("LOCKED_MEMORY", ""),
        ("HOME", ""),
        ("LAKE_URI", " "),
        ("LOCKED_SECONDS", "abc"),
        ("LOCKED_SECONDS", "inf"),
        ("OBJECT_MAX_BYTES", "8GiB"),
        ("DATABASE_URL", "mysql://host/bank"),
        ("DATABASE_URL", "host=/tmp dbname=bank"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"LAKEHOUSE_{name}", value)
    with pytest.raises(SettingsError, match=f"LAKEHOUSE_{name} is {value!r}"):
        settings()


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("ftp://host/lake", "ftp:// is not a kind of place that is known here; use a folder"),
        ("S3://bucket", "schemes are written in lower case: s3://"),
        ("gs://bucket", "gs:// is not a kind of place that is known here"),
        ("s3://", "it names no place"),
        ("s3:/bucket/lake", "s3:/ lacks a slash"),
        ("s3://key:s3cret@bucket/lake", "it has a password in it"),
    ],
)
def test_a_lake_at_a_url_of_another_kind_is_refused_by_name(
    uri: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_LAKE_URI", uri)
    with pytest.raises(SettingsError, match=f"LAKEHOUSE_LAKE_URI is .*{said}") as refused:
        _ = settings().lake
    assert "s3cret" not in str(refused.value)
    with pytest.raises(SettingsError, match=said):
        Lake.open(uri)


def test_a_lake_without_a_name_is_not_the_current_folder() -> None:
    with pytest.raises(SettingsError, match="it names no place; write file:///folder"):
        Settings(lake_uri="file://").lake  # noqa: B018


def test_a_database_url_is_never_shown_with_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "s3cret" not in repr(Settings(database_url="postgresql://bank:s3cret@host/bank"))
    monkeypatch.setenv("LAKEHOUSE_DATABASE_URL", "mysql://bank:s3cret@host/bank")
    with pytest.raises(SettingsError) as refused:
        settings()
    assert "s3cret" not in str(refused.value)


def test_a_blank_database_url_means_the_embedded_server() -> None:
    assert Settings(database_url=" ").database_url is None
