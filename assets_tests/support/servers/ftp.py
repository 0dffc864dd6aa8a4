"""pyftpdlib as an FTP server in a process of its own: one folder, one user with a password, and without TLS anybody.

As root it reads files as `nobody`, for whom permissions count. Python package pyftpdlib; up in about 0.3 s.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import sys
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from assets_tests.support.servers.process import MissingBinary, ServerProcess, WhileEntered, free_port


class FtpServer(WhileEntered):
    """pyftpdlib on 127.0.0.1 that runs while the `with` block does.

    Args:
        tls: by TLS alone, with a certificate of an authority of its own.
        without: commands that it doesn't know.

    Attributes:
        files: the folder that is offered, its root.
        url: of that folder, `ftp://user@localhost:<port>`.
        user, password: the only ones that it takes.
        authority: file with the certificate of the authority.

    Raises (on entering):
        MissingBinary: the Python package is missing.
        ServerError: it did not start; with the end of its log.
    """

    def __init__(self, *, tls: bool = False, without: tuple[str, ...] = ()) -> None:
        self._tls, self._without = tls, without
        self._process: ServerProcess | None = None
        self.user, self.password = "me", secrets.token_urlsafe(12)

    def _enter(self, started: ExitStack) -> None:
        if find_spec("pyftpdlib") is None:
            raise MissingBinary("pyftpdlib is not installed (Python package: pyftpdlib)")
        self.port = free_port()
        temporary = TemporaryDirectory(prefix="lakehouse-ftp-", ignore_cleanup_errors=True)
        self._folder = Path(started.enter_context(temporary))
        self._folder.chmod(0o755)
        self.files, self.authority = self._folder / "files", self._folder / "authority.pem"
        self.files.mkdir()
        self.url = f"{'ftps' if self._tls else 'ftp'}://{self.user}@localhost:{self.port}"
        if self._tls:
            import trustme

            authority = trustme.CA()
            authority.cert_pem.write_to_path(self.authority)
            authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(self._certificate)
        started.callback(self.kill)
        self.start()

    @property
    def _certificate(self) -> Path:
        return self._folder / "server.pem"

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
        """Start it, again if it was killed: on the same port, with the same files.

        Raises:
            ServerError: with the end of its log.
        """
        certificate = str(self._certificate) if self._tls else ""
        arguments = [str(self.port), str(self.files), self.user, certificate, ",".join(self._without)]
        env = {**os.environ, "FTP_PASSWORD": self.password}
        command = [sys.executable, "-m", __name__, *arguments]
        self._process = ServerProcess(command, log=self._folder / "ftp.log", env=env, cwd=Path(__file__).parents[3])
        self._process.wait_until(self._answers, what="greeting on its port")

    def kill(self) -> None:
        """End it and every session of it."""
        if self._process is not None:
            self._process.stop()

    def _answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as probe:
            return probe.recv(4096).startswith(b"220 ")


def _serve(port: int, folder: str, user: str, certificate: str, without: list[str]) -> None:
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import FTPHandler, TLS_FTPHandler
    from pyftpdlib.servers import FTPServer

    class AsNobody(DummyAuthorizer):
        def impersonate_user(self, username: str, password: str) -> None:
            if os.getuid() == 0:
                os.seteuid(pwd.getpwnam("nobody").pw_uid)

        def terminate_impersonation(self, username: str) -> None:
            os.seteuid(os.getuid())

    class Handler(TLS_FTPHandler if certificate else FTPHandler):  # type: ignore[misc]
        authorizer = AsNobody()
        # Names go to the client byte for byte.
        unicode_errors = "surrogateescape"
        use_sendfile = False
        auth_failed_timeout = 0

    Handler.authorizer.add_user(user, os.environ["FTP_PASSWORD"], folder)
    Handler.proto_cmds = {name: said for name, said in Handler.proto_cmds.items() if name not in without}
    if certificate:
        Handler.certfile = certificate
        Handler.tls_control_required = Handler.tls_data_required = True
    else:
        Handler.authorizer.add_anonymous(folder)
    FTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    _, at_port, of_folder, of_user, by_certificate, lacking = sys.argv
    _serve(int(at_port), of_folder, of_user, by_certificate, lacking.split(","))
