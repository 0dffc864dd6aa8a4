"""How commands are printed that a newcomer may type next."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lakehouse.cli.next_steps import as_typed


def test_as_typed__is_what_starts_this_program_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "my folder" / "bin" / "lakehouse"
    program.parent.mkdir(parents=True)
    program.touch(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [str(program)])
    assert as_typed() == "'my folder/bin/lakehouse'"
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    assert as_typed() == "lakehouse"
    monkeypatch.setattr("sys.argv", ["pytest"])
    assert as_typed() == "lakehouse"
