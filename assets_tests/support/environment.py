"""Changes of the environment while native code reads it.

glibc's `setenv` frees the array of variables when that has to grow. A `getenv` of another thread meanwhile crashes the
process: from its first read of S3 on, Polars 2.1 reads a variable every few milliseconds, and tests change dozens.
"""

from __future__ import annotations

import ctypes
import os
import sys

_MOST_VARIABLES = 10_000


class Environment:
    """The process's variables in an array with room for all of them, which is changed in place: a thread that reads one
    meanwhile finds its value before or after the change.
    """

    def __init__(self) -> None:
        self._place = ctypes.c_void_p.in_dll(ctypes.CDLL(None), "environ")
        self._array = (ctypes.c_void_p * _MOST_VARIABLES)()
        self._names: list[bytes] = []
        # Kept after a change, too: a thread may still be reading the text.
        self._texts: list[ctypes.Array[ctypes.c_char]] = []

    def set(self, name: bytes | str, value: bytes | str) -> None:
        """As `os.putenv`."""
        self._adopt()
        name = os.fsencode(name)
        text = ctypes.create_string_buffer(name + b"=" + os.fsencode(value))
        self._texts.append(text)
        if name not in self._names:
            self._names.append(name)
        self._array[self._names.index(name)] = ctypes.addressof(text)

    def unset(self, name: bytes | str) -> None:
        """As `os.unsetenv`."""
        self._adopt()
        name = os.fsencode(name)
        while name in self._names:
            place = self._names.index(name)
            for number in range(place, len(self._names)):
                self._array[number] = self._array[number + 1]
            del self._names[place]

    def _adopt(self) -> None:
        """Takes the process's variables over, unless they are in the array already: native code may add some."""
        if self._place.value == ctypes.addressof(self._array):
            return
        found = ctypes.cast(self._place, ctypes.POINTER(ctypes.c_void_p))
        self._names.clear()
        while (address := found[len(self._names)]) is not None:
            self._array[len(self._names)] = address
            self._names.append(ctypes.string_at(address).partition(b"=")[0])
        self._array[len(self._names)] = None
        self._place.value = ctypes.addressof(self._array)


def change_environment_in_place() -> None:
    """Makes `os.environ` change the process's variables in this way from now on, on Linux."""
    if sys.platform == "linux":
        environment = Environment()
        os.putenv, os.unsetenv = environment.set, environment.unset  # type: ignore[assignment]
