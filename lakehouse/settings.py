"""Settings: where the lake, the warehouse and the vendors are. From the environment, or from a `.env` file in
the working directory.

One object, made once a process by `settings()`. No other module reads the environment, apart from the libraries
that take the AWS_* variables themselves.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from pydantic import AwareDatetime, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT_ROOT = Path(__file__).parents[1]


class Settings(BaseSettings):
    """All settings, each from the variable `LAKEHOUSE_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="LAKEHOUSE_", extra="ignore")

    home: Path = Field(default=Path(".lakehouse"), description="Folder of everything that this installation keeps.")
    lake_uri: str | None = Field(
        default=None, description="Where the tables are: a folder or s3://bucket/prefix. Default: <home>/lake."
    )
    as_of: AwareDatetime | None = Field(
        default=None, description="Moment as of which dbt's models read the lake; unset: now."
    )

    def model_post_init(self, context: object) -> None:
        self.home = self.home.expanduser().absolute()

    @property
    def lake(self) -> str:
        """The lake's root: an absolute folder or an s3:// URI, without a trailing slash."""
        if self.lake_uri is None:
            return str(self.home / "lake")
        if "://" in self.lake_uri:
            return self.lake_uri.rstrip("/")
        return str(Path(self.lake_uri).expanduser().absolute())

    @property
    def warehouse(self) -> Path:
        """The published DuckDB file."""
        return self.home / "warehouse.duckdb"

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
        """A vendor's key or token, or None where the variable is unset or blank. It is read when it is needed and
        not kept here, so that no dump of the settings shows it.
        """
        return os.environ.get(variable, "").strip() or None


@cache
def settings() -> Settings:
    """The settings of this process; `.env` in the working directory fills what the environment leaves open."""
    from dotenv import load_dotenv

    load_dotenv(Path.cwd() / ".env")
    return Settings()
