"""Nothing is called saved before it is on the disk: at each *saved* that is sent, the power is cut.

A kill can't show this, the kernel keeps what it was given. So a real server is watched by strace; from the trace the
folder is rebuilt as a power cut would leave it at the moment each saved frame is sent, once without anything that was
not synced, once with some of it, and SQLite opens that. The same with a journal that syncs less must find losses:
that proves that the test can.
"""

import asyncio
import os
import re
import shutil
import signal
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Final

import pytest
from pycrdt import Decoder, Doc, Text

from crdt.errors import TuttiError
from server.room.key import RoomKey
from server.store.readers import read_room
from server.store.schema import JOURNAL_FILE, open_writer
from tests.peer import SAVED, Peer
from tests.power_cut import Disk, replay, watched
from tests.serving import SERVE, Serve
from tests.tokens import Author, Ledger

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOM: Final = "room"
EDITS: Final = 400
"""More pages than SQLite lets gather before it moves them from the write-ahead log into the file (1,000)."""
EDITS_LESS_SAFE: Final = 20
DELETIONS: Final = 0.2
PADDINGS: Final = (0, 0, 100, 20_000, 40_000)
"""The long ones go over several pages of the file."""

LESS_SAFE: Final = "import sys, server.store.schema as schema; schema.SYNCHRONOUS = '{}'; from server.cli import main; sys.exit(main())"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    assert shutil.which("strace"), "strace watches the order of write, fdatasync and send: install the package strace"
    (tmp_path / "data").mkdir()
    return tmp_path / "trace"


async def write_watched(trace: Path, command: tuple[str, ...], edits: int) -> tuple[Ledger, Author]:
    """One author on a watched server, who often does not wait; returns once the trace is whole."""
    ledger, random = Ledger(), Random(1)
    data_dir = trace.parent / "data"
    with Serve(data_dir, "--compact-rows-min", "100", command=(*watched(trace), *command)) as node:
        async with await Peer.join(node.ws_url, ROOM) as peer:
            author = ledger.author(peer, "ann", random)
            for _ in range(edits):
                if random.random() < DELETIONS:
                    await author.delete()
                else:
                    await author.write(padding="." * random.choice(PADDINGS))
                if random.random() < 0.5:
                    await peer.wait_saved()
            await peer.wait_saved()
        os.kill(node.pid, signal.SIGTERM)
        async with asyncio.timeout(20):
            # `stop` would end strace as well, before it has written everything.
            while not ends_with_exit(trace, node.pid):  # noqa: ASYNC110  a file tells nobody that it grew
                await asyncio.sleep(0.05)
    return ledger, author


def ends_with_exit(trace: Path, pid: int) -> bool:
    with trace.open("rb") as lines:
        lines.seek(max(0, trace.stat().st_size - 1_000_000))  # a child may say much after it
        return re.search(rb"^%d +\+\+\+ exited with 0" % pid, lines.read(), re.MULTILINE) is not None


def saved_counts(sent: bytes) -> list[int]:
    """The counts of the saved frames among these bytes of a socket, which are whole WebSocket frames."""
    counts = []
    position = 0
    while sent[position : position + 1] == b"\x82":  # else HTTP, or a closing handshake
        length = sent[position + 1]
        assert length < 127, "a frame of 64 KiB to somebody who only writes"
        position += 2
        if length == 126:
            length = int.from_bytes(sent[position : position + 2])
            position += 2
        payload = sent[position : position + length]
        assert len(payload) == length, "a frame sent in two calls"
        if payload.startswith(SAVED):
            counts.append(Decoder(payload[2:]).read_var_uint())
        position += length
    return counts


def text_of(files: Mapping[str, bytes], folder: Path) -> str:
    """What a node that starts on these files finds in the room. Raises when they can't be read."""
    folder.mkdir()
    try:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        with closing(open_writer(folder / JOURNAL_FILE)) as connection:
            connection.execute("PRAGMA synchronous=OFF")  # closing folds the log: no need to wait for the disk
            stored = read_room(connection, RoomKey("", ROOM)).stored()
    finally:
        shutil.rmtree(folder)
    doc: Doc[Text] = Doc()
    for update in stored.snapshot.slices if stored.snapshot else ():
        doc.apply_update(update)
    for row in stored.rows:
        for entry in row.entries:
            doc.apply_update(entry.update)
    return str(doc.get("text", type=Text))


def losses(trace: Path, ledger: Ledger, author: Author, journal_sizes: list[int]) -> Iterator[str]:
    """What would be missing or back after a power cut at the moment a saved frame is sent.

    Adds to `journal_sizes` how long the synced journal, without its write-ahead log, is at each.
    """
    disk = Disk(trace.parent / "data")
    random = Random(2)
    for _, sent in replay(trace, disk):
        for count in saved_counts(sent):
            books = Ledger(
                written=ledger.written,
                deleting=ledger.deleting,
                kept={token for token, frame in author.written if frame <= count},
                gone={token for token, frame in author.deleted if frame <= count},
            )
            journal_sizes.append(len(disk.after_cut().get(JOURNAL_FILE, b"")))
            for kind, files in (("synced", disk.after_cut()), ("some more", disk.after_cut(random))):
                try:
                    faults = books.faults(text_of(files, trace.parent / "after"))
                except (sqlite3.Error, TuttiError) as error:
                    faults = [f"the journal can't be read: {error}"]
                if faults:
                    yield f"saved {count}, left is what was {kind}: {faults[0][:200]} ({len(faults)} faults)"


async def test_R4_saved_is_sent_after_the_fsync_of_what_it_covers(trace: Path) -> None:
    ledger, author = await write_watched(trace, SERVE, EDITS)
    journal_sizes: list[int] = []
    assert list(losses(trace, ledger, author, journal_sizes)) == []
    assert len(journal_sizes) > EDITS / 4, "too few saved frames to tell anything"
    assert journal_sizes[-1] > journal_sizes[0], "nothing was moved from the write-ahead log into the file"
    with closing(sqlite3.connect(trace.parent / "data" / JOURNAL_FILE)) as journal:
        assert journal.execute("SELECT count(*) FROM snapshots").fetchone() == (1,), "the room was never compacted"


@pytest.mark.parametrize("synchronous", ["NORMAL", "OFF"])
async def test_a_journal_that_syncs_less_is_found_out(trace: Path, synchronous: str) -> None:
    command = (sys.executable, "-c", LESS_SAFE.format(synchronous), "serve")
    ledger, author = await write_watched(trace, command, EDITS_LESS_SAFE)
    found = list(losses(trace, ledger, author, []))
    assert any("saved, and lost" in loss for loss in found), found
