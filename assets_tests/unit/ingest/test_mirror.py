"""A mirror follows any changes as its system has them, reading only the days that they touch; in old mirrors too."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.ingest.mirror import Change, HistoryLost, Mirror, Record

UNPLACED = "2000-01-01"
Content = dict[str, tuple[str | None, str]]


@dataclass
class System:
    """A system with a history of changes; a position is how many there were."""

    now: Content = field(default_factory=dict)
    history: list[Change] = field(default_factory=list)
    is_lost: bool = False

    def put(self, key: str, day: str | None, text: str) -> None:
        self.now[key] = (day, text)
        self.history.append(Change(key, Record(key, day, text), datetime.now(UTC) - timedelta(minutes=2)))

    def delete(self, key: str) -> None:
        if self.now.pop(key, None) is not None:
            self.history.append(Change(key, None))

    def position(self) -> str | None:
        return str(len(self.history))

    def records(self) -> Iterator[Record]:
        return (Record(key, day, text) for key, (day, text) in self.now.items())

    def changes(self, position: str) -> tuple[list[Change], str]:
        if self.is_lost:
            self.is_lost = False
            raise HistoryLost("lost")
        return self.history[int(position) :], str(len(self.history))


def mirrored(mirror: Mirror) -> dict[str, list[str]]:
    """Day -> the texts of its records."""
    found = {}
    for name, path in mirror.list().objects.select("name", "path").iter_rows():
        with mirror.fetch(path, None) as file:
            lines = gzip.decompress(file.read()).decode().splitlines()
        found[name] = sorted(json.dumps(dict(list(json.loads(line).items())[1:])) for line in lines)
    return {name: texts for name, texts in found.items() if texts}


def wanted(system: System) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for day, text in system.now.values():
        found.setdefault(f"{day or UNPLACED}.jsonl.gz", []).append(text)
    return {name: sorted(texts) for name, texts in found.items()}


steps = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "delete", "load", "lose"]),
        st.integers(0, 6),
        st.sampled_from(["2024-01-01", "2024-01-02", "2024-01-03", None]),
        st.integers(0, 2),
    ),
    max_size=25,
)


@given(steps=steps)
def test_a_mirror_equals_its_system(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Any, ...]]) -> None:
    system = System()
    mirror = Mirror(str(tmp_path_factory.mktemp("mirror")), lambda: system, UNPLACED)
    system.put('"first"', "2024-01-01", '{"n": 0}')
    for kind, key, day, value in steps:
        if kind == "put":
            system.put(f'"{key}"', day, json.dumps({"n": value}))
        elif kind == "delete":
            system.delete(f'"{key}"')
        elif kind == "lose":
            system.is_lost = True
        else:
            mirror.refresh()
    if system.now:
        assert mirrored(mirror) == wanted(system)


@pytest.fixture
def filled(tmp_path: Path) -> tuple[System, Mirror]:
    system = System()
    for number in range(200):
        system.put(f'"{number}"', f"2024-01-{number % 20 + 1:02d}", json.dumps({"n": number}))
    mirror = Mirror(str(tmp_path / "mirror"), lambda: system, UNPLACED)
    mirror.refresh()
    return system, mirror


def test_refresh__reads_only_the_days_of_the_changes(
    filled: tuple[System, Mirror], monkeypatch: pytest.MonkeyPatch
) -> None:
    system, mirror = filled
    read: list[str] = []
    fetch = type(mirror._kept).fetch
    monkeypatch.setattr(
        type(mirror._kept), "fetch", lambda self, path, tag: (read.append(path), fetch(self, path, tag))[1]
    )
    system.put('"7"', "2024-01-09", '{"n": 700}')
    system.delete('"12"')
    mirror.refresh()
    assert {path.split("/")[1] for path in read if path.startswith("days/")} == {
        f"2024-01-{day:02d}.jsonl.gz"[:10] for day in (8, 9, 13)
    }
    assert mirrored(mirror) == wanted(system)
    state = mirror.state()
    assert state.has_changes
    assert state.lag is not None
    assert state.lag > timedelta(minutes=1)


def test_refresh__goes_on_from_a_mirror_of_an_earlier_release(filled: tuple[System, Mirror], tmp_path: Path) -> None:
    system, mirror = filled
    folder = tmp_path / "mirror"
    (manifest,) = (folder / "manifests").iterdir()
    said = json.loads(manifest.read_text())
    (folder / manifest.name).write_text(json.dumps({name: said[name] for name in ("position", "objects")}))
    for newer in ("manifests", "keys"):
        shutil.rmtree(folder / newer)
    again = replace(mirror, _seen={})
    system.put('"7"', "2024-01-09", '{"n": 700}')
    system.delete('"12"')
    assert mirrored(again) == wanted(system)
    assert (folder / "manifests" / "0000000002.json").exists()
