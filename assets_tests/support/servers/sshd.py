"""OpenSSH's sshd as a real SFTP server: one folder, one user with a key, host keys of its own.

Debian package: openssh-server. Up in about 0.1 s. As root it runs under `nobody`, for whom permissions count; only
that user (else the one of this process) can log in, by key: sshd looks up passwords as root alone.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncssh

from assets_tests.support.servers.process import ServerProcess, WhileEntered, free_port, require_binary

CONFIGURATION = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM yes
PasswordAuthentication no
KbdInteractiveAuthentication no
Subsystem sftp internal-sftp
ForceCommand internal-sftp
"""


class Sshd(WhileEntered):
    """sshd on 127.0.0.1 that runs while the `with` block does.

    Attributes:
        files: the folder that is offered. Its files are this process's; the server's user needs permission.
        url: of that folder, `sftp://user@127.0.0.1:<port>/...`.
        key_file, known_hosts: the user's private key, and the file that knows the server's key.

    Raises (on entering):
        MissingBinary: the Debian package is missing.
        ServerError: it did not start; with the end of its log.
    """

    def __init__(self) -> None:
        self._process: ServerProcess | None = None

    def _enter(self, started: ExitStack) -> None:
        binary = require_binary("sshd", "openssh-server")
        self.user = pwd.getpwuid(os.getuid() or pwd.getpwnam("nobody").pw_uid)
        self.port = free_port()
        temporary = TemporaryDirectory(prefix="lakehouse-sshd-", ignore_cleanup_errors=True)
        self._folder = Path(started.enter_context(temporary))
        self._folder.chmod(0o755)
        # PAM's rules go by the program's name: those of the machine's own sshd write to its logs and need root.
        self._program = self._folder / "lakehouse-sshd"
        self._program.symlink_to(binary)
        self.files = self._folder / "files"
        self.files.mkdir()
        self.url = f"sftp://{self.user.pw_name}@127.0.0.1:{self.port}{self.files}"
        self.key_file, self.known_hosts = self._folder / "user_key", self._folder / "known_hosts"
        user_key, host_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
        user_key.write_private_key(self.key_file)
        user_key.write_public_key(self._folder / "authorized_keys")
        host_key.write_private_key(self._folder / "host_key")
        for private in (self.key_file, self._folder / "host_key"):
            private.chmod(0o600)
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {host_key.export_public_key().decode()}")
        (self._folder / "sshd_config").write_text(CONFIGURATION.format(port=self.port, folder=self._folder))
        if os.getuid() == 0:
            os.chown(self._folder / "host_key", self.user.pw_uid, self.user.pw_gid)
        started.callback(self.kill)
        self.start()

    def put(self, name: str, content: bytes) -> None:
        """Writes a file below the folder that is offered, and the folders above it."""
        path = self.files / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def empty(self) -> None:
        """Removes every file and folder."""
        shutil.rmtree(self.files)
        self.files.mkdir()

    def start(self) -> None:
        """Start it, again if it was killed: on the same port, with the same keys and files.

        Raises:
            ServerError: with the end of its log.
        """
        command = [str(self._program), "-D", "-e", "-f", str(self._folder / "sshd_config")]
        if os.getuid() == 0:
            ids = ["--pdeathsig=TERM", f"--reuid={self.user.pw_uid}", f"--regid={self.user.pw_gid}", "--clear-groups"]
            command = [require_binary("setpriv", "util-linux"), *ids, "--", *command]
        self._process = ServerProcess(command, log=self._folder / "sshd.log", env=dict(os.environ))
        self._process.wait_until(self._answers, what="greeting on its port")

    def kill(self) -> None:
        """End it and every session of it."""
        if self._process is None:
            return
        sessions = _children(self._process.pid)
        self._process.stop()
        for pid in sessions:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as probe:
            return probe.recv(4096).startswith(b"SSH-2.0-")


def _children(pid: int) -> list[int]:
    """The processes below a process: each session of sshd has a process group of its own."""
    below = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return below + [each for child in below for each in _children(child)]
