"""ministack as a quick S3 server: one Python process, its objects in a temporary folder.

Conditional writes and multipart uploads are right. It accepts any secret, so that it can't show a refusal.
Python package ministack; ready in about 0.2 s.
"""

from __future__ import annotations

import os
import secrets
import sys
import urllib.request
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from assets_tests.support.servers.process import MissingBinary, ServerProcess, free_port
from assets_tests.support.servers.s3 import REGION, S3Server


class MinistackS3(S3Server):
    """ministack with its S3 service alone.

    Raises (on entering):
        MissingBinary: the Python package is missing.
        ServerError: it did not start; with the end of its log.
    """

    def _start(self, folder: Path, started: ExitStack) -> None:
        if find_spec("ministack") is None:
            raise MissingBinary("ministack is not installed (Python package: ministack)")
        self.access_key = secrets.token_hex(10).upper()
        self.secret_key = secrets.token_urlsafe(30)
        port = free_port()
        data, scratch = folder / "data", folder / "scratch"
        data.mkdir()
        scratch.mkdir()
        env = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        env |= {
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": "127.0.0.1",
            "MINISTACK_REGION": REGION,
            "GATEWAY_PORT": str(port),
            "SERVICES": "s3",
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(data),
            "STATE_DIR": str(scratch / "state"),
            "TMPDIR": str(scratch),
            # It checks the signature of presigned requests alone, against this one user.
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "LOG_LEVEL": "WARNING",
        }
        process = ServerProcess([sys.executable, "-m", "ministack"], log=folder / "ministack.log", env=env)
        started.callback(process.stop)
        self.endpoint = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            with urllib.request.urlopen(f"{self.endpoint}/_ministack/health", timeout=2) as response:
                return response.status == 200

        process.wait_until(answers, what="answer on its S3 port")
