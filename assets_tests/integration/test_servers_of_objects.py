"""Objects on SFTP and FTP servers keep the promises of those in a folder: what can be read is listed whatever lies
beside it, a file that was replaced is noticed, and a fault says what to do.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from assets_tests.support.folder_source import DAY, FolderSource, bar_line
from assets_tests.support.patience import PATIENCE_S
from assets_tests.support.servers.ftp import FtpServer
from assets_tests.support.servers.process import MissingBinary, free_port
from assets_tests.support.servers.sshd import Sshd
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.errors import ObjectReplaced, ObjectUnreadable, SourceError, SourceUnavailable
from lakehouse.ingest.access import Access
from lakehouse.ingest.discover import discover
from lakehouse.ingest.load import load
from lakehouse.ingest.object_source import ObjectSource
from lakehouse.ingest.object_store import objects_at
from lakehouse.settings import settings

NAME = f"{DAY}/{DAY}_BINS_XETR08.csv"


Server = Sshd | FtpServer


@pytest.fixture(scope="module")
def servers() -> Iterator[Callable[[str], Server]]:
    """A server of each kind, started when it is first asked for."""
    made: dict[str, Server] = {}
    kinds: dict[str, Callable[[], Server]] = {"sftp": Sshd, "ftp": FtpServer, "ftps": lambda: FtpServer(tls=True)}
    with ExitStack() as running:

        def server(kind: str) -> Server:
            if kind not in made:
                made[kind] = running.enter_context(kinds[kind]())
            return made[kind]

        yield server


@pytest.fixture(params=["sftp", "ftp", "ftps"])
def server(
    request: pytest.FixtureRequest,
    servers: Callable[[str], Server],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Server:
    """A server with one object and nothing else; no keys of the user's are at hand."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    try:
        running = servers(request.param)
    except MissingBinary as missing:
        pytest.skip(str(missing))
    if isinstance(running, FtpServer):
        monkeypatch.setenv("VENDOR_PASSWORD", running.password)
        if running.authority.exists():
            monkeypatch.setenv("SSL_CERT_FILE", str(running.authority))
    running.empty()
    running.put(NAME, b"content")
    return running


only_sftp = pytest.mark.parametrize("server", ["sftp"], indirect=True)
only_ftp = pytest.mark.parametrize("server", ["ftp", "ftps"], indirect=True)


def access_to(server: Server, **said: Any) -> dict[str, Any]:
    """What YAML says of a server."""
    if isinstance(server, FtpServer):
        return {"credentials": {"password": "VENDOR_PASSWORD"}} | said
    return {"key_file": str(server.key_file), "known_hosts": str(server.known_hosts)} | said


def source(server: Server, folder: str = "", **said: Any) -> ObjectSource:
    access = Access.model_validate(access_to(server, **said))
    return objects_at(f"{server.url}{folder}", access.resolve(settings().secret))


def denied(server: Server) -> str:
    return "550 Permission denied." if isinstance(server, FtpServer) else "Permission denied"


def listed(place: ObjectSource) -> tuple[list[str], list[str]]:
    found = place.list()
    return sorted(found.objects["name"]), sorted(map(str, found.passed_over))


def test_a_file_is_listed_with_its_time_and_size_and_read(server: Server) -> None:
    os.utime(server.files / NAME, (0, 1_499_428_800))
    place = source(server)
    (row,) = place.list().objects.to_dicts()
    assert (row["name"], row["version"], row["size"]) == (NAME, "1499428800000000-7", 7)
    assert row["published_at"].isoformat() == "2017-07-07T12:00:00+00:00"
    assert place.fetch(row["path"], row["tag"]).read() == b"content"
    assert place.holds(row["path"], row["tag"])
    assert place.can_read(row["path"])
    assert place.list(str(DAY)).objects["name"].to_list() == [NAME]
    assert place.list("1999-01-01").objects.is_empty()


def test_a_large_file_comes_whole_and_lies_on_disk(server: Server) -> None:
    content = os.urandom(40_000_001)
    server.put("large.bin", content)
    with source(server).fetch("large.bin", None) as file:
        assert file.read() == content
        assert file.fileno() > 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("notes\ta.txt", r"notes\ta.txt (control characters in its name)"),
        ("notes\x9b31m.txt", r"notes\x9b31m.txt (control characters in its name)"),
        ("caf\udce9.txt", r"caf\xe9.txt (its name is no UTF-8)"),
    ],
)
def test_a_name_that_can_be_no_objects_is_passed_over(name: str, said: str, server: Server) -> None:
    server.put(name, b"")
    assert listed(source(server)) == ([NAME], [said])


@pytest.mark.parametrize("name", ["a b.csv", "100%25.csv", "x#1?.csv", "Ü\u3000.csv", " .csv", "~/x.csv", "a\\b.csv"])
def test_any_other_name_is_listed_and_read(name: str, server: Server) -> None:
    server.put(name, b"odd")
    place = source(server)
    row = next(row for row in place.list().objects.to_dicts() if row["name"] == name)
    assert place.fetch(row["path"], row["tag"]).read() == b"odd"


def test_a_folder_of_any_name_is_named_by_a_url(server: Server) -> None:
    server.put("my feed#1/a%b/x.csv", b"odd")
    assert listed(source(server, "/my%20feed%231/a%25b")) == (["x.csv"], [])


def test_an_object_without_permission_fails_alone(server: Server) -> None:
    (server.files / "b.csv").touch(mode=0)
    server.put("secret/c.csv", b"")
    (server.files / "secret").chmod(0)
    place = source(server)
    assert listed(place) == ([NAME, "b.csv"], [f"secret/ ({denied(server)})"])
    assert not place.can_read("b.csv")
    with pytest.raises(ObjectUnreadable, match=rf"b\.csv can't be read: {denied(server)}; have it made readable"):
        place.fetch("b.csv", None)
    assert place.fetch(NAME, None).read() == b"content"
    (server.files / "b.csv").chmod(0o644)
    assert place.can_read("b.csv")
    (server.files / "secret").chmod(0o755)


def test_what_was_replaced_or_removed_after_the_listing_is_left_for_the_next(server: Server) -> None:
    place = source(server)
    (row,) = place.list().objects.to_dicts()
    server.put(NAME, b"another content")
    assert not place.holds(row["path"], row["tag"])
    with pytest.raises(ObjectReplaced, match="was replaced"):
        place.fetch(row["path"], row["tag"])
    (server.files / NAME).unlink()
    assert place.holds(row["path"], row["tag"])
    with pytest.raises(ObjectReplaced, match="was removed"):
        place.fetch(row["path"], row["tag"])


def test_links_to_files_are_followed_and_a_walk_ends(server: Server) -> None:
    if isinstance(server, Sshd):  # pyftpdlib takes it for a file, and doesn't list what leads nowhere
        os.mkfifo(server.files / "pipe")
    for name, target in (("link.csv", NAME), ("loop", "."), ("gone", "nowhere"), ("self", "self")):
        (server.files / name).symlink_to(target)
    names, passed_over = listed(source(server))
    assert names == [NAME, "link.csv"]
    named = ["gone", "loop", "pipe", "self"] if isinstance(server, Sshd) else ["loop"]
    assert [entry.partition(" (")[0] for entry in passed_over] == named


def test_a_folder_that_is_not_there_is_named(server: Server) -> None:
    with pytest.raises(SourceUnavailable, match=r"/no-such can't be .*: .*[Nn]o such .*; set the source's URL"):
        source(server, "/no-such").list()


@only_sftp
def test_a_host_whose_key_is_not_known_is_not_trusted(server: Sshd, tmp_path: Path) -> None:
    other = tmp_path / "known"
    other.write_text(
        f"[127.0.0.1]:{server.port} {asyncssh.generate_private_key('ssh-ed25519').export_public_key().decode()}"
    )
    for known in (None, str(other)):
        with pytest.raises(SourceUnavailable, match=r"shows a host key that is not in .*add it there"):
            source(server, known_hosts=known).list()
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "known_hosts").write_text(server.known_hosts.read_text())
    assert listed(source(server, known_hosts=None)) == ([NAME], [])


@only_sftp
def test_a_refused_user_and_files_that_are_no_keys_are_named(server: Sshd, tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match=r"refuses the user .*name a key file as access\.key_file"):
        source(server, key_file=None).list()
    (tmp_path / "no-key").write_text("this is none")
    for wrong in ("no-key", "not-there"):
        with pytest.raises(SourceError, match=r"can't be used: .*correct access"):
            source(server, key_file=str(tmp_path / wrong)).list()
    with pytest.raises(SourceError, match=r"sftp:// takes no access_key_id, region, secret_access_key; it takes"):
        source(server, region="x", credentials={"access_key_id": "A", "secret_access_key": "B"})


@only_sftp
@pytest.mark.filterwarnings("ignore:.*round:UserWarning")
def test_an_encrypted_key_is_opened_by_the_passphrase_of_a_variable(
    server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encrypted = tmp_path / "encrypted"
    asyncssh.read_private_key(server.key_file).write_private_key(encrypted, passphrase="s3cret", rounds=1)
    monkeypatch.setenv("VENDOR_PASSPHRASE", "s3cret")
    said = {"key_file": str(encrypted), "credentials": {"passphrase": "VENDOR_PASSPHRASE"}}
    assert listed(source(server, **said)) == ([NAME], [])
    monkeypatch.setenv("VENDOR_PASSPHRASE", "wr0ng")
    with pytest.raises(SourceError, match="can't be used") as refused:
        source(server, **said).list()
    assert "wr0ng" not in str(refused.value)


@only_sftp
def test_a_key_of_the_agent_is_used(server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    socket = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        subprocess.run(
            ["sh", "-c", f"until [ -S {socket} ]; do :; done; ssh-add -q {server.key_file}"],
            env={**os.environ, "SSH_AUTH_SOCK": str(socket)},
            check=True,
            timeout=PATIENCE_S,
        )
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        assert listed(source(server, key_file=None)) == ([NAME], [])
    finally:
        agent.kill()
        agent.wait()


def test_a_server_that_does_not_answer_is_named_and_asked_again_when_it_is_back(server: Server) -> None:
    place, kind = source(server), server.url.partition(":")[0]
    assert listed(place) == ([NAME], [])
    server.kill()
    try:
        said = rf"{kind}://.*:{server.port}.* doesn't answer: .*; check the host"
        for ask in (place.list, lambda: place.fetch(NAME, None), lambda: place.holds(NAME, "x")):
            with pytest.raises(SourceUnavailable, match=said):
                ask()
    finally:
        server.start()
    assert listed(place) == ([NAME], [])
    with pytest.raises(SourceUnavailable, match=r"doesn't answer: .*(Connect call failed|refused)"):
        objects_at(f"{kind}://127.0.0.1:{free_port()}/feed").list()
    with pytest.raises(SourceError, match="write scheme://user@host:port/folder"):
        objects_at(f"{kind}://127.0.0.1:many/feed")


def test_a_password_comes_from_a_variable_and_is_shown_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sshd looks passwords up as root alone: here asyncssh serves."""
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    (tmp_path / "feed").mkdir()
    (tmp_path / "feed" / "a.csv").write_text("a")

    class Passwords(asyncssh.SSHServer):
        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return (username, password) == ("me", "s3cret")

    from lakehouse.ingest.sftp import _loop, _run

    listener = _run(
        asyncssh.listen("127.0.0.1", 0, server_factory=Passwords, server_host_keys=[host_key], sftp_factory=True), 10
    )
    try:
        port = listener.get_port()
        (tmp_path / "known").write_text(f"[127.0.0.1]:{port} {host_key.export_public_key().decode()}")
        access = Access(known_hosts=str(tmp_path / "known"), credentials={"password": "VENDOR_PASSWORD"})
        url = f"sftp://me@127.0.0.1:{port}{tmp_path}/feed"
        monkeypatch.setenv("VENDOR_PASSWORD", "s3cret")
        place = objects_at(url, access.resolve(settings().secret))
        assert listed(place) == (["a.csv"], [])
        assert "s3cret" not in repr(vars(place))
        monkeypatch.setenv("VENDOR_PASSWORD", "wr0ng")
        with pytest.raises(SourceUnavailable, match="refuses the user me") as refused:
            objects_at(url, access.resolve(settings().secret)).list()
        assert "wr0ng" not in str(refused.value)
        monkeypatch.delenv("VENDOR_PASSWORD")
        with pytest.raises(SourceError, match="VENDOR_PASSWORD, which access"):
            objects_at(url, access.resolve(settings().secret)).list()
    finally:
        _loop().call_soon_threadsafe(listener.close)


def test_bars_are_loaded_once_and_corrected(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = FolderSource.below(tmp_path, monkeypatch)
    server.put(NAME, feed.put(bar_line(0, 10.0), bar_line(1, 11.0)).read_bytes())
    server.put(f"{DAY}/{DAY}_BINS_XETR09.csv", b"")
    (server.files / f"{DAY}/{DAY}_BINS_XETR09.csv").chmod(0)
    monkeypatch.setenv("LAKEHOUSE_XETRA_URL", server.url)
    settings.cache_clear()
    yaml = source_named("xetra").config.model_dump(mode="json", exclude_defaults=True)
    yaml["bars"]["objects"]["access"] = access_to(server)
    config = SourceConfig.model_validate(yaml)
    feed = FolderSource(feed.folder, Lake.open(), config)

    assert feed.take().objects == {"loaded": 1, "empty": 0, "failed": 1}
    assert feed.closes() == [10.0, 11.0]
    assert not discover(feed.lake, feed.described.bars, retry_failed=False).pending
    assert load(feed.lake, feed.described.bars, [DAY]).objects["loaded"] == 0
    server.put(NAME, (feed.put(bar_line(0, 10.0), bar_line(1, 12.5))).read_bytes() + b"\n")
    assert feed.take().objects["loaded"] == 1
    assert feed.closes() == [10.0, 12.5]


@only_ftp
def test_a_wrong_password_is_refused_in_words_that_do_not_show_it(
    server: FtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert server.password not in repr(vars(source(server)))
    monkeypatch.setenv("VENDOR_PASSWORD", "wr0ng")
    with pytest.raises(SourceUnavailable, match=r"refuses the user me: 530 .*name the user in the URL") as refused:
        source(server).list()
    assert "wr0ng" not in str(refused.value)


@pytest.mark.parametrize("server", ["ftp"], indirect=True)
def test_an_ftp_server_without_a_user_is_asked_as_anonymous(server: FtpServer) -> None:
    assert listed(objects_at(f"ftp://localhost:{server.port}/{DAY}")) == ([NAME.partition("/")[2]], [])


@pytest.mark.parametrize("server", ["ftps"], indirect=True)
def test_a_certificate_that_is_not_trusted_is_refused(server: FtpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(SourceUnavailable, match=r"certificate that is not trusted: .*set SSL_CERT_FILE"):
        source(server).list()


def test_an_ftp_server_that_lists_no_times_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with FtpServer(without=("MLSD",)) as server:
        monkeypatch.setenv("VENDOR_PASSWORD", server.password)
        with pytest.raises(SourceUnavailable, match=r"doesn't list times and sizes by MLSD and MLST \(RFC 3659\): 500"):
            source(server).list()
