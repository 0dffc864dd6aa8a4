"""Which hosts are this machine."""

from __future__ import annotations

import pytest

from lakehouse.apps.dashboard.guard import is_loopback


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.5", False),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
        ("", False),
    ],
)
def test_is_loopback__is_true_of_this_machine_alone(host: str, loopback: bool) -> None:
    assert is_loopback(host) == loopback
