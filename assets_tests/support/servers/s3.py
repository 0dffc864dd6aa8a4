"""What every S3 server of the tests offers to its callers, whichever program plays it.

Belongs here: the interface (endpoint, keys, buckets, environment). How a program is started is in its module.
"""

from __future__ import annotations

import urllib.request
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import obstore
from obstore.store import S3Store

from assets_tests.support.servers.process import WhileEntered

REGION = "us-east-1"


class S3Server(WhileEntered):
    """An S3 server on 127.0.0.1 that runs while the `with` block does.

    Attributes:
        endpoint: its URL, `http://127.0.0.1:<port>`.
        access_key, secret_key: credentials of its one user, new for every server.
    """

    endpoint: str
    access_key: str
    secret_key: str

    def _enter(self, started: ExitStack) -> None:
        # A process killed a moment ago may still be closing a file.
        folder = TemporaryDirectory(prefix="lakehouse-s3-", ignore_cleanup_errors=True)
        self._start(Path(started.enter_context(folder)), started)

    def _start(self, folder: Path, started: ExitStack) -> None:
        """Start the server's processes in `folder`; put on `started` what ends them.

        Raises:
            ServerError: with the end of the server's log.
        """
        raise NotImplementedError

    def create_bucket(self, name: str) -> str:
        """Create a bucket, unversioned, and return its name.

        Raises:
            urllib.error.HTTPError: the server refuses.
        """
        url = obstore.sign(self.store(name), "PUT", "", timedelta(minutes=1))
        with urllib.request.urlopen(urllib.request.Request(url, method="PUT"), timeout=10):
            return name

    def store(self, bucket: str, *, secret_key: str | None = None) -> S3Store:
        """An obstore store on a bucket, with the server's own secret or another."""
        return S3Store(
            bucket,
            endpoint=self.endpoint,
            region=REGION,
            access_key_id=self.access_key,
            secret_access_key=secret_key or self.secret_key,
            client_options={"allow_http": True},
        )

    def environment(self) -> dict[str, str]:
        """The environment variables that point the lakehouse, and every AWS SDK, to this server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": REGION,
            "AWS_ALLOW_HTTP": "true",
            # Newer SDKs send a trailing checksum with every upload; Ceph before Squid does not read it.
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        }
