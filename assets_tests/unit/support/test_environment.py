"""Changed in place, the environment can be read by native code, and child processes have it as Python does."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the environment is changed in place on Linux alone")


def of_a_child() -> dict[str, str]:
    lines = subprocess.run(["env", "--null"], capture_output=True, text=True, check=True).stdout.split("\0")
    return dict(line.split("=", 1) for line in lines if line)


def test_a_child_process__has_what_python_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert os.putenv.__module__ == "assets_tests.support.environment"
    monkeypatch.setenv("SOME", "a=b")
    monkeypatch.setenv("SOME_É", "ü")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.setenv("SOME", "c")
    found = of_a_child()
    assert {name: found[name] for name in ("SOME", "SOME_É", "EMPTY")} == {"SOME": "c", "SOME_É": "ü", "EMPTY": ""}
    assert {name: found[name] for name in os.environ} == dict(os.environ)
    monkeypatch.delenv("SOME")
    assert of_a_child() == {name: value for name, value in found.items() if name != "SOME"}


def test_variables_of_native_code__are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    library = ctypes.CDLL(None)
    library.getenv.restype = ctypes.c_char_p
    library.setenv(b"OF_NATIVE_CODE", b"1", 1)
    try:
        monkeypatch.setenv("SOME", "2")
        assert (library.getenv(b"OF_NATIVE_CODE"), library.getenv(b"SOME")) == (b"1", b"2")
        assert {"OF_NATIVE_CODE": "1", "SOME": "2"}.items() <= of_a_child().items()
    finally:
        os.unsetenv("OF_NATIVE_CODE")
    assert library.getenv(b"OF_NATIVE_CODE") is None


def test_the_array_of_variables__stays_where_it_is_while_it_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a thread that is going through it reads no freed memory, as it would after `setenv`."""
    place = ctypes.c_void_p.in_dll(ctypes.CDLL(None), "environ")
    monkeypatch.setenv("SOME", "first")
    array, text = place.value, ctypes.c_char_p.from_address(_place_of("SOME"))
    read = text.value
    for number in range(1000):
        monkeypatch.setenv(f"SOME_{number}", "value")
        monkeypatch.setenv("SOME", str(number))
    assert place.value == array
    assert (read, text.value) == (b"SOME=first", b"SOME=999")


def _place_of(name: str) -> int:
    """The address of the array's pointer to a variable."""
    address: int = ctypes.c_void_p.in_dll(ctypes.CDLL(None), "environ").value or 0
    while not (ctypes.c_char_p.from_address(address).value or b"").startswith(f"{name}=".encode()):
        address += ctypes.sizeof(ctypes.c_void_p)
    return address
