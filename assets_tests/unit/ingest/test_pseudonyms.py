"""Pseudonyms are the same in every process, of no use without all three parts, and end with the person's key."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from assets_tests.support.patience import PATIENCE_S
from lakehouse.errors import SourceError
from lakehouse.ingest.pseudonyms import Pseudonyms
from lakehouse.settings import Settings, SettingsError


@pytest.fixture
def pseudonyms(tmp_path: Path) -> Pseudonyms:
    return Pseudonyms("retail", tmp_path / "home" / "pseudonyms.sqlite", "a key")


def test_of__gives_a_person_one_pseudonym(pseudonyms: Pseudonyms) -> None:
    found = pseudonyms.of(["17850", "13047", "17850"])
    assert len(set(found.values())) == 2
    assert all(re.fullmatch("pn_[0-9a-f]{24}", each) for each in found.values())
    assert pseudonyms.of(["13047", "17850"]) == found
    assert pseudonyms.known("17850") == found["17850"]
    assert pseudonyms.known("1") is None
    # A pseudonym stands for itself, so that what was landed with it can be loaded.
    assert pseudonyms.of([found["17850"]]) == {found["17850"]: found["17850"]}
    assert pseudonyms.values() == {pseudonym: value for value, pseudonym in found.items()}


def test_of__depends_on_source_and_both_keys(pseudonyms: Pseudonyms, tmp_path: Path) -> None:
    others = (
        replace(pseudonyms, source="other"),
        replace(pseudonyms, key="another key"),
        replace(pseudonyms, path=tmp_path / "another.sqlite"),
    )
    assert len({each.of(["17850"])["17850"] for each in (pseudonyms, *others)}) == 4
    assert pseudonyms.fingerprint != others[1].fingerprint
    assert "a key" not in repr(pseudonyms)


def test_erase__leaves_nothing_that_leads_to_the_person(pseudonyms: Pseudonyms) -> None:
    number = "customer-17850"
    before = pseudonyms.of([number])[number]
    assert pseudonyms.erase(number)
    assert not pseudonyms.erase(number)
    assert before not in pseudonyms.values()
    assert number.encode() not in pseudonyms.path.read_bytes()
    assert pseudonyms.of([number])[number] != before


def test_key_map__is_the_users_alone(pseudonyms: Pseudonyms) -> None:
    pseudonyms.of(["17850"])
    assert stat.S_IMODE(pseudonyms.path.stat().st_mode) == 0o600


def test_key_map__that_is_damaged_is_named(pseudonyms: Pseudonyms) -> None:
    pseudonyms.path.parent.mkdir()
    pseudonyms.path.write_bytes(b"no database" * 100)
    with pytest.raises(SourceError, match=r"pseudonyms\.sqlite can't be used"):
        pseudonyms.of(["17850"])


def test_of__agrees_among_processes_that_ask_at_once(pseudonyms: Pseudonyms) -> None:
    code = f"""
from pathlib import Path
from lakehouse.ingest.pseudonyms import Pseudonyms
print(sorted(Pseudonyms("retail", Path({str(pseudonyms.path)!r}), "a key").of(map(str, range(500))).items()))
"""
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = {each.communicate(timeout=PATIENCE_S)[0] for each in running}
    assert len(said) == 1
    assert said.pop().strip() == str(sorted(pseudonyms.of(map(str, range(500))).items()))


def test_secret__may_be_a_file_that_only_its_owner_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Settings(home=tmp_path)
    file = config.secret_file("LAKEHOUSE_PSEUDONYM_KEY")
    assert config.secret("LAKEHOUSE_PSEUDONYM_KEY") is None
    file.parent.mkdir()
    file.write_text("of the file\n")
    os.chmod(file, 0o640)
    with pytest.raises(SettingsError, match="chmod 600"):
        config.secret("LAKEHOUSE_PSEUDONYM_KEY")
    os.chmod(file, 0o600)
    assert config.secret("LAKEHOUSE_PSEUDONYM_KEY") == "of the file"
    monkeypatch.setenv("LAKEHOUSE_PSEUDONYM_KEY", "of the environment")
    assert config.secret("LAKEHOUSE_PSEUDONYM_KEY") == "of the environment"
