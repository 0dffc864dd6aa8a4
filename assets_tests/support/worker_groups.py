"""Which files pytest-xdist gives to one worker, and which it begins with.

A file's tests always go to one worker: they share its module's fixtures. `--dist loadgroup`, by which tests name a
group themselves, does nothing under pytest 9.2, which calls a node's id otherwise than pytest-xdist 3.8 expects.
"""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

GROUPS = {
    # They wait for daemons, clocks and timeouts; meanwhile the other workers have the cores.
    "waiting": (
        "end_to_end/test_three_ways.py",
        "end_to_end/test_dev_ends.py",
        "integration/test_broker.py",
        "unit/domains/market/quotes/test_poller.py",
    ),
    # They share a worker's S3 servers, which take seconds to start.
    "s3": (
        "integration/test_s3.py",
        "integration/test_feed_service.py",
        "real_data/test_xetra_on_s3.py",
        "integration/test_access.py",
        "integration/test_landing.py",
        "integration/test_odd_names.py",
        "integration/test_servers.py",
        "integration/test_unreadable_objects.py",
    ),
    # They load Dagster's definitions, for which dbt's project is parsed.
    "definitions": (
        "unit/test_definitions.py",
        "unit/warehouse/test_dbt_project.py",
        "unit/components/bars/test_schedules.py",
    ),
    # They take longest of all others.
    "command_line": ("integration/test_cli.py",),
    "vendor": ("real_data/test_alpha_vantage.py",),
}
"""Files that one worker runs one after the other, in the order in which groups and files are begun."""
_PLACES = {
    f"assets_tests/{file}": (place, number, group)
    for place, (group, files) in enumerate(GROUPS.items())
    for number, file in enumerate(files)
}


def place_of(nodeid: str) -> tuple[int, int]:
    """The place of a test's group, and of its file within it; files of no group come after them, as they are."""
    place, number, _ = _PLACES.get(nodeid.partition("::")[0], (len(GROUPS), 0, ""))
    return place, number


def group_of(nodeid: str) -> str:
    """The group of a test's file, or the file itself."""
    file = nodeid.partition("::")[0]
    return _PLACES[file][-1] if file in _PLACES else file


class FileGroupScheduling(LoadFileScheduling):
    """Gives the files of a group to one worker, and every other file to any."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        super().__init__(config, log)
        # By default the files with the most tests come first, however long these take.
        self.config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)

    def remove_node(self, node: WorkerController) -> str | None:
        """Takes a worker's groups back, and returns the test that it crashed in, which is reported and not tried again.

        pytest-xdist 3.8 queues what a crashed worker has finished, too. A worker that is given such a group has nothing
        to run, and its last test waits for the next one without end.
        """
        work = self.assigned_work[node]
        crashed = next((test for tests in work.values() for test, done in tests.items() if not done), None)
        if crashed is not None:
            work[group_of(crashed)][crashed] = True
        for group in [group for group, tests in work.items() if all(tests.values())]:
            del work[group]
        super().remove_node(node)
        return crashed

    def _reschedule(self, node: WorkerController) -> None:
        """Gives a worker at least two tests, or says that no more come: it runs none before it knows the next."""
        super()._reschedule(node)
        while not node.shutting_down and self._pending_of(self.assigned_work[node]) < 2:
            super()._reschedule(node)
