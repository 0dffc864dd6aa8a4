"""Every file that is named exists, and its tests go to one worker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from assets_tests.conftest import PROJECT_ROOT, TESTS
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


@pytest.mark.slow
def test_a_crashed_worker__is_reported_and_every_other_test_runs(tmp_path: Path) -> None:
    """It had finished groups; the last group and the one that it was in have tests that nothing follows."""
    (tmp_path / "conftest.py").write_text(
        "from assets_tests.support.worker_groups import FileGroupScheduling\n"
        "def pytest_xdist_make_scheduler(config, log):\n"
        "    return FileGroupScheduling(config, log)\n"
    )
    for number in range(8):
        (tmp_path / f"test_{number}.py").write_text("def test_one(): pass\n")
    crash = "import os, time\ndef test_crash(): time.sleep(0.3); os._exit(1)\ndef test_after(): pass\n"
    (tmp_path / "test_8.py").write_text(crash)
    (tmp_path / "test_9.py").write_text("import time\ndef test_one(): time.sleep(1)\n")
    options = ("-n2", "--max-worker-restart=1", "-p", "no:cacheprovider", f"--rootdir={tmp_path}")
    command = [sys.executable, "-m", "pytest", *options, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert "1 failed, 10 passed" in ran.stdout, ran.stdout
    assert "crashed while running 'test_8.py::test_crash'" in ran.stdout
