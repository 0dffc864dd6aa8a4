"""Puts into a wheel what lies beside the package in a clone: the dbt project and Dagster's files.

All else about the project is in pyproject.toml. `lakehouse.settings.beside_package` finds these files in both places.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PROJECT = Path(__file__).parent
SHIPPED = ("dbt_project", "dagster.yaml", "workspace.yaml")
MADE_BY_DBT = ("target", "logs", ".user.yml")


class BuildWithProject(build_py):
    """Builds the package, and copies the files into its folder `shipped`."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        folder = Path(self.build_lib) / "lakehouse" / "shipped"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in SHIPPED:
            source = PROJECT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns(*MADE_BY_DBT))
            else:
                shutil.copyfile(source, folder / name)


setup(cmdclass={"build_py": BuildWithProject})
