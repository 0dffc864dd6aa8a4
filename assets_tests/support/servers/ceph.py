"""Ceph's object gateway as a real S3 server: one monitor, one OSD in memory, one radosgw.

It checks signatures, lists and pages as Ceph in production does, and decides conditional writes in the object
store itself. Debian packages: ceph-mon, ceph-osd, radosgw. Up in about a second, 140 MB of memory when empty.
"""

from __future__ import annotations

import os
import secrets
import urllib.request
import uuid
from contextlib import ExitStack
from pathlib import Path

from assets_tests.support.servers.process import ServerProcess, free_port, require_binary, run_to_end
from assets_tests.support.servers.s3 import S3Server

MEMSTORE_BYTES = 4 << 30

# Authentication among the three daemons is off (they belong to one test run); users of the S3 interface still
# need their keys. Without cephx radosgw refuses to talk to a monitor unless `crc` is allowed, and paxos would
# wait a second for each map change of the first start. A request sent before its pool is up is repeated
# at the objecter's tick, every 5 s by default.
CONFIGURATION = """\
[global]
fsid = {fsid}
mon_host = v2:127.0.0.1:{monitor_port}/0
public_addr = 127.0.0.1
public_network = 127.0.0.0/8
ms_bind_ipv6 = false
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_mon_client_mode = crc secure
paxos_propose_interval = 0.05
objecter_tick_interval = 0.5
run_dir = {folder}/run
crash_dir = {folder}/run
admin_socket = {folder}/run/$name.asok
pid_file = {folder}/run/$name.pid
keyring = {folder}/keyring
log_file = {folder}/$name.log
log_to_syslog = false
err_to_syslog = false
mon_cluster_log_to_syslog = false
mon_cluster_log_file = {folder}/cluster.log
mon_data = {folder}/mon
mon_allow_pool_size_one = true
osd_data = {folder}/osd
osd_objectstore = memstore
memstore_device_bytes = {memstore_bytes}
osd_crush_chooseleaf_type = 0
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_pool_default_pg_autoscale_mode = off
rgw_data = {folder}
rgw_rados_pool_pg_num_min = 1
"""


class CephS3(S3Server):
    """Ceph RGW, version of the installed Debian packages. Its data live in memory and are gone at the end.

    Raises (on entering):
        MissingBinary: a Debian package is missing.
        ServerError: a daemon did not start; with the end of its log.
    """

    def _start(self, folder: Path, started: ExitStack) -> None:
        monitor = require_binary("ceph-mon", "ceph-mon")
        osd = require_binary("ceph-osd", "ceph-osd")
        gateway = require_binary("radosgw", "radosgw")
        admin = require_binary("radosgw-admin", "radosgw")
        ceph = require_binary("ceph", "ceph-common")
        monmaptool = require_binary("monmaptool", "ceph-base")

        self.access_key = secrets.token_hex(10).upper()
        self.secret_key = secrets.token_urlsafe(30)
        fsid, osd_id, monitor_port, port = str(uuid.uuid4()), str(uuid.uuid4()), free_port(), free_port()
        for name in ("mon", "osd", "run"):
            (folder / name).mkdir()
        (folder / "keyring").touch()
        config = folder / "ceph.conf"
        config.write_text(
            CONFIGURATION.format(fsid=fsid, monitor_port=monitor_port, folder=folder, memstore_bytes=MEMSTORE_BYTES)
        )
        # A ceph.conf or CEPH_ARGS of the machine must not reach the daemons.
        env = {key: value for key, value in os.environ.items() if not key.startswith(("CEPH_", "AWS_"))}
        env["CEPH_CONF"] = str(config)
        setup_log = folder / "setup.log"

        def setup(*command: str) -> None:
            run_to_end(command, log=setup_log, env=env)

        def daemon(log_name: str, *command: str) -> ServerProcess:
            process = ServerProcess(command, log=folder / log_name, env=env)
            # Killed: an in-memory cluster saves nothing, and an OSD would wait 5 s for its monitor's consent.
            started.callback(process.stop)
            return process

        monmap = str(folder / "monmap")
        setup(monmaptool, "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{monitor_port}]", monmap)
        setup(monitor, "--mkfs", "-i", "a", "--monmap", monmap)
        daemon("mon.a.log", monitor, "-f", "-i", "a")
        setup(ceph, "--connect-timeout", "20", "osd", "new", osd_id)
        setup(osd, "-i", "0", "--mkfs", "--osd-uuid", osd_id)
        daemon("osd.0.log", osd, "-f", "-i", "0")
        keys = [f"--access-key={self.access_key}", f"--secret-key={self.secret_key}"]
        setup(admin, "user", "create", "--uid=lakehouse", "--display-name=lakehouse", *keys)
        # Without tcp_nodelay a small answer on a kept connection waits 40 ms for the client's delayed ACK.
        frontend = f"beast endpoint=127.0.0.1:{port} tcp_nodelay=1"
        rgw = daemon("client.rgw.log", gateway, "-f", "-n", "client.rgw", "--rgw-frontends", frontend)
        self.endpoint = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            with urllib.request.urlopen(self.endpoint, timeout=2) as response:
                return response.status == 200

        rgw.wait_until(answers, what="answer on its S3 port")
