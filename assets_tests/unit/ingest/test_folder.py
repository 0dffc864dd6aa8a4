"""Objects in a folder: what can be read is listed whatever lies beside it, and what is passed over is named."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import obstore
import polars as pl
import pytest
from obstore.store import LocalStore

from lakehouse.errors import ObjectReplaced, ObjectUnreadable, SourceUnavailable
from lakehouse.ingest.folder import Folder

NOBODY = 65_534


@contextmanager
def unprivileged() -> Iterator[None]:
    """Permissions count for this process: to root every file is readable."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(was)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with one object, in a place that everybody may enter."""
    with tempfile.TemporaryDirectory() as made:
        os.chmod(made, 0o755)
        path = Path(made).resolve() / "feed"
        (path / "2017-07-07").mkdir(parents=True)
        (path / "2017-07-07" / "a.csv").write_text("a")
        yield path


def listed(folder: Path) -> tuple[list[str], list[str]]:
    """The names of the objects, and what was passed over."""
    found = Folder(folder).list()
    return sorted(found.objects["name"]), sorted(map(str, found.passed_over))


OBJECT = ["2017-07-07/a.csv"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("notes\ta.txt", r"notes\ta.txt (control characters in its name)"),
        ("notes\na.txt", r"notes\na.txt (control characters in its name)"),
        ("notes\x9b31m.txt", r"notes\x9b31m.txt (control characters in its name)"),
        ("caf\udce9.txt", r"caf\xe9.txt (its name is no UTF-8)"),
    ],
)
@pytest.mark.parametrize("is_folder", [False, True])
def test_a_name_that_can_be_no_objects_is_passed_over(name: str, said: str, is_folder: bool, folder: Path) -> None:
    (folder / name).mkdir() if is_folder else (folder / name).touch()
    assert listed(folder) == (OBJECT, [said])


@pytest.mark.parametrize("name", ["a b.csv", "100%25.csv", "x#1.csv", "Ü\u3000.csv", "a?[b]{c}=\\.csv", " .csv"])
def test_any_other_name_is_listed_and_fetched(name: str, folder: Path) -> None:
    (folder / name).write_text("content")
    row = Folder(folder).list().objects.row(by_predicate=pl.col("name") == name, named=True)
    assert Folder(folder).fetch(row["path"], row["tag"]).read() == b"content"


def test_a_folder_without_permission_is_passed_over(folder: Path) -> None:
    (folder / "secret").mkdir(mode=0)
    with unprivileged():
        assert listed(folder) == (OBJECT, ["secret/ (Permission denied)"])


def test_an_object_without_permission_is_unreadable_and_the_others_are_not(folder: Path) -> None:
    (folder / "b.csv").touch(mode=0)
    source = Folder(folder)
    with unprivileged():
        assert listed(folder) == ([*OBJECT, "b.csv"], [])
        assert source.fetch(OBJECT[0], None).read() == b"a"
        with pytest.raises(ObjectUnreadable, match=r"b\.csv can't be read: Permission denied; make it readable"):
            source.fetch("b.csv", None)
        assert (source.can_read(OBJECT[0]), source.can_read("b.csv")) == (True, False)
    (folder / "b.csv").chmod(0o644)
    with unprivileged():
        assert source.can_read("b.csv")


def test_links_are_followed_within_the_folder_alone(folder: Path) -> None:
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "passwd").write_text("root:x:0:0")
    (folder / "link.csv").symlink_to("2017-07-07/a.csv")
    (folder / "2017-07-10").symlink_to("2017-07-07")
    (folder / "passwd").symlink_to(outside / "passwd")
    (folder / "etc").symlink_to(outside)
    (folder / "feed-of-others").symlink_to(f"{folder}-of-others")
    out = "(a link that leads out of the source's folder)"
    assert listed(folder) == (
        [*OBJECT, "2017-07-10/a.csv", "link.csv"],
        [f"etc {out}", "feed-of-others (a link that can't be followed: No such file or directory)", f"passwd {out}"],
    )
    assert Folder(folder).fetch("2017-07-10/a.csv", None).read() == b"a"
    for path in ("passwd", "etc/passwd"):
        with pytest.raises(ObjectUnreadable, match="leads out of"):
            Folder(folder).fetch(path, None)


def test_loops_of_links_end(folder: Path) -> None:
    (folder / "2017-07-07" / "loop").symlink_to("..")
    (folder / "self").symlink_to("self")
    for one, other in (("x", "y"), ("y", "x")):
        (folder / one).mkdir()
        (folder / one / "across").symlink_to(f"../{other}")
        (folder / one / "o.csv").touch()
    names, passed_over = listed(folder)
    assert names == [*OBJECT, "x/across/o.csv", "x/o.csv", "y/across/o.csv", "y/o.csv"]
    assert passed_over == [
        "2017-07-07/loop (a link to a folder that contains it)",
        "self (a link that can't be followed: Too many levels of symbolic links)",
        "x/across/across (a link to a folder inside of a linked folder)",
        "y/across/across (a link to a folder inside of a linked folder)",
    ]


def test_what_is_no_file_is_named_and_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe.csv")
    (folder / "linked.csv").symlink_to("pipe.csv")
    assert listed(folder) == (
        OBJECT,
        ["linked.csv (a link to neither a file nor a folder)", "pipe.csv (neither a file nor a folder)"],
    )


def test_versions_are_those_of_lakes_that_were_filled_before(folder: Path) -> None:
    """A version is part of the ledger: another way to write it would load everything again."""
    os.utime(folder / OBJECT[0], ns=(1, 1_499_428_800_123_456_789))
    (row,) = Folder(folder).list().objects.to_dicts()
    (stored,) = obstore.list(LocalStore(folder)).collect()
    assert row["version"] == "1499428800123456-1"
    assert row["published_at"] == stored["last_modified"]


def test_a_modification_time_that_no_timestamp_holds_is_cut(folder: Path) -> None:
    os.utime(folder / OBJECT[0], (0, 15_000_000_000))
    names, _ = listed(folder)
    assert names == OBJECT


def test_what_was_replaced_or_removed_after_the_listing_is_left_for_the_next(folder: Path) -> None:
    source = Folder(folder)
    (row,) = source.list().objects.to_dicts()
    path = folder / OBJECT[0]
    path.write_text("b")
    with pytest.raises(ObjectReplaced, match="was replaced"):
        source.fetch(row["path"], row["tag"])
    path.unlink()
    with pytest.raises(ObjectReplaced, match="was removed"):
        source.fetch(row["path"], row["tag"])
    path.parent.rmdir()
    folder.rmdir()
    with pytest.raises(SourceUnavailable, match="is gone"):
        source.fetch(row["path"], row["tag"])
    with pytest.raises(SourceUnavailable, match="is no folder; set the source's URL"):
        source.list()
