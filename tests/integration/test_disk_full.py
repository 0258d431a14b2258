"""The disk is full: writers are sent away, readers stay, what was saved is there, and with space again all goes on.

On a real full file system where the tests may mount one (ENOSPC), and everywhere with a limit on the size of files
(EFBIG), which SQLite reports as a failing disk.
"""

import asyncio
import http.client
import json
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, Final, Protocol

import pytest

from tests.peer import SYNC, Peer
from tests.serving import Serve
from tests.tokens import Ledger, tokens

pytestmark = pytest.mark.integration

FLAGS: Final = ("--close-delay-s", "0.1", "--journal-retry-s", "0.3")
NOT_ACCEPTED: Final = 4503
TMPFS_BYTES: Final = 4 * 1024 * 1024
SPACE_LEFT_BYTES: Final = 48 * 1024
"""What is left for edits when the disk is nearly full."""


class SmallDisk(Protocol):
    """Where the node keeps its data."""

    folder: Path

    def fill(self, node: Serve) -> None:
        """Leaves space for a few edits."""

    def free(self) -> None:
        """Gives the space back."""


class FullFileSystem:
    """A file system of its own, filled up with ballast."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, node: Serve) -> None:
        free = os.statvfs(self.folder)
        self._ballast.write_bytes(bytes(free.f_bavail * free.f_frsize - SPACE_LEFT_BYTES))

    def free(self) -> None:
        self._ballast.unlink()


class LimitedFiles:
    """A limit on the size of the files the node writes, set from outside while it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pid = 0

    def fill(self, node: Serve) -> None:
        self._pid = node.pid
        largest = max(file.stat().st_size for file in node.data_dir.iterdir())
        self._limit(largest + SPACE_LEFT_BYTES)

    def free(self) -> None:
        self._limit(resource.RLIM_INFINITY)

    def _limit(self, file_bytes: int) -> None:
        with suppress(ProcessLookupError):  # it has ended, and the limit with it
            resource.prlimit(self._pid, resource.RLIMIT_FSIZE, (file_bytes, resource.RLIM_INFINITY))


@pytest.fixture(params=["a full file system", "a limit on files"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallDisk]:
    if request.param == "a limit on files":
        yield LimitedFiles(tmp_path)
        return
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "tmpfs", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mount.returncode != 0:
        pytest.skip(f"no file system can be mounted here, the limit on files has to do: {mount.stderr.strip()}")
    try:
        yield FullFileSystem(tmp_path)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def readiness(node: Serve) -> tuple[int, dict[str, Any]]:
    """Status of `/health/ready`, and what it says of the journal."""
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=10)
    try:
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        (journal,) = json.loads(answer.read())["dependencies"]
        return answer.status, journal
    finally:
        connection.close()


async def wait_ready(node: Serve) -> None:
    async with asyncio.timeout(10):
        while (await asyncio.to_thread(readiness, node))[0] != 200:  # noqa: ASYNC110  what answers is another process
            await asyncio.sleep(0.05)


async def write_until_closed(peer: Peer, ledger: Ledger, name: str) -> None:
    author = ledger.author(peer, name, Random(name))
    async with asyncio.timeout(30):
        while peer.closed is None:
            await author.write(padding="." * 1000)
            await asyncio.sleep(0.01)


async def check_read(node: Serve, ledger: Ledger) -> None:
    """A fresh reader is given at once what was saved."""
    async with await Peer.join(node.ws_url, "room") as reader:
        assert ledger.faults(str(reader.text)) == []


async def write_saved(node: Serve, ledger: Ledger, name: str) -> str:
    async with await Peer.join(node.ws_url, "room") as peer:
        token = await ledger.author(peer, name, Random(name)).write()
        await peer.wait_saved()
    ledger.settle()
    return token


async def write_until_full(node: Serve, disk: SmallDisk, ledger: Ledger) -> None:
    """Afterwards the disk is full, and one writer was sent away."""
    async with await Peer.join(node.ws_url, "room") as ann:
        disk.fill(node)
        await write_until_closed(ann, ledger, "ann")
        assert ann.closed is not None
        assert ann.closed.code == NOT_ACCEPTED
    ledger.settle()


async def test_C2_a_full_disk_sends_writers_away_and_loses_nothing(disk: SmallDisk) -> None:
    ledger = Ledger()
    with Serve(disk.folder / "data", *FLAGS) as node:
        async with await Peer.join(node.ws_url, "elsewhere") as elsewhere:
            await write_saved(node, ledger, "before")
            await write_until_full(node, disk, ledger)
            assert len(ledger.kept) > 3, "no edit was saved before the disk was full"
            status, journal = await asyncio.to_thread(readiness, node)
            assert status == 503
            assert "can't be written" in journal["reason"]

            async with await Peer.join(node.ws_url, "room") as reader, await Peer.join(node.ws_url, "room") as late:
                assert ledger.faults(str(reader.text)) == []
                await ledger.author(late, "late", Random(2)).write()
                assert (await late.wait_closed()).code == NOT_ACCEPTED
                assert late.saved < late.sent
                ledger.settle()

                disk.free()
                await wait_ready(node)
                after = await write_saved(node, ledger, "after")
                await reader.wait("the reader sees what is written now", lambda: after in str(reader.text))
            assert elsewhere.closed is None
        assert node.stop() == 0
        node.start()
        await check_read(node, ledger)


async def test_C2_who_only_reads_stays_though_an_edit_seen_was_not_kept(disk: SmallDisk) -> None:
    """The room is rebuilt without the edit and asks everybody for their state: a reader's answer is no attempt to edit."""
    ledger = Ledger()
    with Serve(disk.folder / "data", *FLAGS) as node:
        await write_saved(node, ledger, "before")
        async with await Peer.join(node.ws_url, "room") as reader:
            await write_until_full(node, disk, ledger)
            assert ledger.faults(str(reader.text)) == []
            seen = set(tokens(str(reader.text)))
            with pytest.raises(AssertionError, match="never so: closed"):
                await reader.wait_closed(within_s=1)
            disk.free()
            await wait_ready(node)
            # It brings home what the node could not keep.
            async with await Peer.join(node.ws_url, "room") as other:
                await other.wait("all the reader had is there", lambda: seen <= set(tokens(str(other.text))))
        assert node.stop() == 0


async def test_R16_stopping_while_the_disk_is_full_is_told_by_the_exit_code(disk: SmallDisk) -> None:
    ledger = Ledger()
    with Serve(disk.folder / "data", *FLAGS) as node:
        await write_until_full(node, disk, ledger)
        assert node.stop() == 1
        disk.free()
        node.start()
        await check_read(node, ledger)


async def test_R13_a_short_failure_is_got_over(tmp_path: Path) -> None:
    """One commit fails and the next attempt works: the room takes edits again while somebody stays in it."""
    ledger = Ledger()
    disk = LimitedFiles(tmp_path)
    with Serve(tmp_path / "data", "--close-delay-s", "0.1", "--journal-retry-s", "0.01") as node:
        await write_saved(node, ledger, "before")
        disk.fill(node)
        async with await Peer.join(node.ws_url, "room") as ann:
            author = ledger.author(ann, "ann", Random(1))
            await author.write(padding="." * 2 * SPACE_LEFT_BYTES)
            await ann.wait("the room is rebuilt and asks again", lambda: ann.received[SYNC] > 2)
            disk.free()
        await wait_ready(node)
        async with await Peer.join(node.ws_url, "room"):
            await write_saved(node, ledger, "after")
        await check_read(node, ledger)
        assert node.stop() == 0
