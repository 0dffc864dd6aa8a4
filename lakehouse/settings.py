"""Settings: where the lake, the warehouse and the vendors are. From the environment, or from a `.env` file beside
pyproject.toml (in the user's data folder, where Lakehouse was installed from a wheel).

Nothing depends on the working directory: the same command uses the same lake everywhere.

`settings()` makes one object per process. No other module reads the environment, except libraries that read the AWS_*
variables themselves.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from lakehouse.errors import LakehouseError
from lakehouse.urls import fault_of, scheme_of, without_password

LAKE_PLACES = {"s3": "s3://bucket/prefix"}
"""Places of a lake other than a folder: scheme -> form of its URLs."""
PROJECT_ROOT = Path(__file__).parents[1]
_SHIPPED = Path(__file__).parent / "shipped"
"""What lies beside the package in a clone, where Lakehouse was installed from a wheel (see setup.py)."""


def default_home(root: Path = PROJECT_ROOT) -> Path:
    """The home that is used unless LAKEHOUSE_HOME names another: `.lakehouse` beside pyproject.toml in a clone, and the
    user's data folder (XDG) where there is no clone.
    """
    return root / ".lakehouse" if is_clone(root) else _data_folder()


def dotenv_file(root: Path = PROJECT_ROOT) -> Path:
    """The file with values for variables that the environment doesn't set."""
    return (root if is_clone(root) else _data_folder()) / ".env"


def beside_package(name: str) -> Path:
    """A file or folder that a clone has beside the package, such as `dbt_project`."""
    return (PROJECT_ROOT if is_clone() else _SHIPPED) / name


def is_clone(root: Path = PROJECT_ROOT) -> bool:
    """Whether Lakehouse runs from a clone of its repository, rather than from an installed wheel."""
    return (root / "pyproject.toml").is_file()


def _data_folder() -> Path:
    given = Path(os.environ.get("XDG_DATA_HOME", ""))
    # The XDG specification says to ignore a relative path.
    return (given if given.is_absolute() else Path.home() / ".local" / "share") / "lakehouse"


class SettingsError(LakehouseError, ValueError):
    """A variable has a value that can't be used; the message names it."""


class Settings(BaseSettings):
    """All settings, each from the variable `LAKEHOUSE_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="LAKEHOUSE_", extra="ignore")

    home: Path = Field(default_factory=default_home, description="Folder of all files of this installation.")
    lake_uri: str | None = Field(
        default=None, description="Where the tables are: a folder or s3://bucket/prefix. Default: <home>/lake."
    )
    defs: Path | None = Field(
        default=None,
        description="Folder of your own defs.yaml files, loaded beside the project's. Default: only the project's, or "
        "those in <home>/defs too, where Lakehouse was installed from a wheel.",
    )
    database_url: str | None = Field(
        default=None,
        repr=False,
        description="Your own PostgreSQL, as postgresql://user@host/database. Default: embedded, in <home>/postgres.",
    )
    orders_notices: str | None = Field(
        default=None,
        repr=False,
        description="Where notices of orders go: a file's path, smtp://host:port?from=ADDRESS (or smtps://, or with "
        "starttls=yes), or https://host/path of a webhook. Default: they stay in the database.",
    )
    alerts: str | None = Field(
        default=None,
        repr=False,
        description="Where alerts go, one or several with blanks between: a file's path, https://host/path of a "
        "webhook (Slack's, too), or smtp://host:port?from=ADDRESS&to=ADDRESS. Default: nowhere.",
    )
    roles: Path | None = Field(default=None, description="The file of roles. Default: <home>/roles.yaml.")
    openlineage_url: str | None = Field(
        default=None,
        repr=False,
        description="Where OpenLineage events go: a file, or the http(s):// URL of a server. Default: nowhere.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Level from which on lines are logged."
    )
    log_file: Path | None = Field(
        default=None, description="File that log lines go to as JSON, besides the screen. Default: no file."
    )
    log_file_bytes: int = Field(default=10 * 2**20, gt=0, description="Size from which on the log file is rotated.")
    log_files_kept: int = Field(default=5, ge=0, description="Rotated log files that are kept.")
    answer_max_bytes: int = Field(
        default=64 * 2**20, gt=0, description="Bytes that an answer of an API may have; a larger one is refused."
    )
    object_max_bytes: int = Field(
        default=8 * 2**30, gt=0, description="Bytes that an object may unpack to; a larger one fails."
    )

    compute: Literal["local", "ray"] = Field(
        default="local",
        description="Where loads and derivations run: local (in this process) or ray (on a cluster).",
    )
    ray_address: str = Field(default="auto", description="Of a Ray cluster, host:port; auto finds one on this machine.")
    ray_cpus: float = Field(default=1.0, gt=0, description="CPUs of a task on Ray.")
    ray_memory_mib: int = Field(default=2048, gt=0, description="Memory of a task on Ray, MiB.")

    locked_memory: str = Field(
        default="1GB",
        pattern=r"^(?i:\d+(\.\d+)? ?[kmgt]i?b)$",
        description="Memory of a query on a locked lake, such as 500MB or 2GiB.",
    )
    locked_seconds: float = Field(
        default=60.0, gt=0, le=86_400, description="Longest time of a query on a locked lake."
    )

    @field_validator("database_url", mode="before")
    @classmethod
    def _require_postgresql(cls, value: object) -> object:
        """Takes an empty value as unset, and rejects other databases."""
        if isinstance(value, str) and not value.strip():
            return None
        if isinstance(value, str) and scheme_of(value) != "postgresql":
            raise ValueError("it is no URL as postgresql://user@host/database")
        return value

    @field_validator("home", "lake_uri", "roles", "defs", "log_file", mode="before")
    @classmethod
    def _require_a_name(cls, value: object) -> object:
        """Rejects an empty path, which would be the current folder."""
        if isinstance(value, str) and not value.strip():
            raise ValueError("it names no file or folder")
        return value

    def model_post_init(self, context: object) -> None:
        self.home = self.home.expanduser().absolute()
        if self.defs is not None:
            self.defs = self.defs.expanduser().absolute()
        if self.log_file is not None:
            self.log_file = self.log_file.expanduser().absolute()

    @property
    def lake(self) -> str:
        """The lake's root: an absolute folder or an s3:// URI, without a trailing slash."""
        if self.lake_uri is None:
            return str(self.home / "lake")
        if fault := fault_of(self.lake_uri, LAKE_PLACES):
            raise SettingsError(f"LAKEHOUSE_LAKE_URI is {without_password(self.lake_uri)!r}: {fault}")
        if self.lake_uri.startswith("file:///"):
            return str(Path(unquote(self.lake_uri.removeprefix("file://"))).absolute())
        if scheme_of(self.lake_uri) is not None:
            return self.lake_uri.rstrip("/")
        return str(Path(self.lake_uri).expanduser().absolute())

    @property
    def own_defs(self) -> Path | None:
        """The folder of the user's own defs.yaml files, which may not exist yet; None: there is only the project's."""
        return self.defs or (None if is_clone() else self.home / "defs")

    @property
    def warehouse(self) -> Path:
        """The published DuckDB file."""
        return self.home / "warehouse.duckdb"

    @property
    def roles_file(self) -> Path:
        """The file that says who may see what."""
        return self.home / "roles.yaml" if self.roles is None else self.roles.expanduser().absolute()

    @property
    def postgres(self) -> Path:
        """Folder of the embedded PostgreSQL."""
        return self.home / "postgres"

    @property
    def dagster_home(self) -> Path:
        """Dagster's own storage, unless DAGSTER_HOME says otherwise."""
        return Path(os.environ.get("DAGSTER_HOME", self.home / "dagster")).absolute()

    def source_variable(self, source: str, what: str) -> str | None:
        """The value of `LAKEHOUSE_<SOURCE>_<WHAT>`, or None. Vendors are YAML files, so their variables are
        looked up by name.
        """
        return os.environ.get(f"LAKEHOUSE_{source}_{what}".upper())

    def secret(self, variable: str) -> str | None:
        """A key or token: the variable, or the file of its name in `secrets` below the home, which must be readable by
        its owner alone. None where there is neither. It is read when it is needed and not kept here, so that no dump of
        the settings shows it.

        Raises:
            SettingsError: others may read the file.
        """
        if given := os.environ.get(variable, "").strip():
            return given
        file = self.secret_file(variable)
        try:
            if file.stat().st_mode & 0o077:
                raise SettingsError(f"{file} can be read by others: run chmod 600 {file}")
            return file.read_text().strip() or None
        except FileNotFoundError:
            return None

    def secret_file(self, variable: str) -> Path:
        """The file that may hold a key or token."""
        return self.home / "secrets" / variable


@cache
def settings() -> Settings:
    """The settings of this process; a `.env` file (see `dotenv_file`) fills what the environment leaves open.

    Raises:
        SettingsError: a variable's value can't be used.
    """
    from dotenv import load_dotenv

    load_dotenv(dotenv_file())
    try:
        return Settings()
    except ValidationError as error:
        wrong = [
            f"LAKEHOUSE_{'_'.join(map(str, each['loc'])).upper()} is {without_password(str(each['input']))!r}"
            for each in error.errors()
        ]
        why = "; ".join(each["msg"] for each in error.errors())
        raise SettingsError(f"{', '.join(wrong)}: {why}", "Correct or unset it") from None
