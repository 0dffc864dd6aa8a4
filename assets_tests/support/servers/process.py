"""Processes that live as long as a `with` block.

Belongs here: starting a server, waiting until it answers, quoting its log when it doesn't, ending it with all
its children. What a particular server needs (options, first requests) belongs in that server's module.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from assets_tests.support.patience import PATIENCE_S

LOG_TAIL_LINES = 25


class ServerError(RuntimeError):
    """A server did not start, or ended, or did not do what it was asked in time."""


class MissingBinary(ServerError):
    """A server's program is not installed; the message names the package that has it."""


def require_binary(name: str, package: str) -> str:
    """Path of the program `name`.

    Raises:
        MissingBinary: it is not on the PATH; the message names `package`.
    """
    found = shutil.which(name)
    if found is None:
        raise MissingBinary(f"{name} is not installed (Debian package: {package})")
    return found


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def log_tail(log: Path, lines: int = LOG_TAIL_LINES) -> str:
    """The last lines of a log file, for an error message."""
    if not log.exists():
        return f"({log.name}: no such file)"
    tail = log.read_text(errors="replace").splitlines()[-lines:]
    return f"--- last lines of {log.name} ---\n" + "\n".join(tail)


def run_to_end(command: Sequence[str], *, log: Path, env: Mapping[str, str], timeout: float = PATIENCE_S) -> str:
    """Run a command that ends by itself and return what it printed; stderr is appended to `log`.

    Raises:
        ServerError: it failed or took longer than `timeout` seconds; with the end of the log.
    """
    with log.open("ab") as errors:
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=dict(env),
                timeout=timeout,
            )
        except subprocess.TimeoutExpired as expired:
            raise ServerError(f"{command[0]} took longer than {timeout} s\n{log_tail(log)}") from expired
    output = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise ServerError(f"{' '.join(command)} ended with {done.returncode}\n{output}{log_tail(log)}")
    return output


class WhileEntered:
    """Something that runs while its `with` block does: what `_enter` has put on its stack is ended, in reverse, at the
    end of the block, and also where the start fails half way.
    """

    def __enter__(self) -> Self:
        with ExitStack() as started:
            self._enter(started)
            self._running = started.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()

    def _enter(self, started: ExitStack) -> None:
        """Start it; put on `started` what ends it.

        Raises:
            MissingBinary: something is not installed.
            ServerError: it did not start.
        """
        raise NotImplementedError


class ServerProcess:
    """A running program in a process group of its own, its output in a log file.

    The kernel ends it when the thread that started it ends (PR_SET_PDEATHSIG, by util-linux's setpriv), so
    that it does not outlive a test run that was itself killed. Start servers from the main thread therefore.
    """

    def __init__(self, command: Sequence[str], *, log: Path, env: Mapping[str, str], cwd: Path | None = None) -> None:
        self.name = Path(command[0]).name
        self.log = log
        setpriv = shutil.which("setpriv")
        guard = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*guard, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def wait_until(self, ready: Callable[[], bool], *, timeout: float = PATIENCE_S, what: str) -> None:
        """Return as soon as `ready()` is true, asked every 50 ms; an OSError of its counts as "not yet".

        Raises:
            ServerError: the process ended, or `timeout` seconds passed; with the end of the log.
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                if ready():
                    return
            except OSError:
                pass
            if self._process.poll() is not None:
                raise ServerError(
                    f"{self.name} ended with {self._process.returncode} before {what}\n{log_tail(self.log)}"
                )
            if time.monotonic() > deadline:
                raise ServerError(f"{self.name}: no {what} within {timeout} s\n{log_tail(self.log)}")
            time.sleep(0.05)

    def stop(self, *, grace: float = 0) -> None:
        """End the process group: SIGTERM, up to `grace` seconds to obey, SIGKILL to what is left of it."""
        if grace and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(grace)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
