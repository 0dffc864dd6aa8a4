"""What tests of modules that ask vendors share."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from assets_tests.unit.scripted_vendor import Vendor
from lakehouse.sources import api as api_module


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Vendor]:
    monkeypatch.setattr(api_module, "FIRST_WAIT_S", 0.005)
    with Vendor() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
