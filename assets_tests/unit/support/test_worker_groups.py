"""Every file that is named exists, and its tests go to one worker."""

from __future__ import annotations

from assets_tests.conftest import TESTS
from assets_tests.support.worker_groups import GROUPS, FileGroupScheduling, group_of, place_of

FILES = [file for files in GROUPS.values() for file in files]


def test_groups__name_files_that_exist_and_none_of_them_twice() -> None:
    assert [file for file in FILES if not (TESTS / file).is_file()] == []
    assert len(set(FILES)) == len(FILES)


def test_group_of__is_that_of_every_test_of_its_files_or_the_file() -> None:
    for group, files in GROUPS.items():
        assert {group_of(f"assets_tests/{file}::test_one[a::b@c]") for file in files} == {group}
    assert group_of("assets_tests/unit/test_urls.py::test_one") == "assets_tests/unit/test_urls.py"


def test_place_of__groups_come_first_in_their_order() -> None:
    assert sorted(sorted(FILES), key=lambda file: place_of(f"assets_tests/{file}::test")) == FILES
    assert place_of("assets_tests/unit/test_urls.py::test_one") > place_of(f"assets_tests/{FILES[-1]}::test_one")


def test_scheduling__splits_work_by_group() -> None:
    scheduling = FileGroupScheduling.__new__(FileGroupScheduling)
    for file in FILES:
        nodeid = f"assets_tests/{file}::test_one"
        assert scheduling._split_scope(nodeid) == group_of(nodeid)
