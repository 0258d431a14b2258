"""A node that is asked to stop: sockets closed with 1012, everything it had received on disk, exit code 0."""

import asyncio
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from random import Random
from typing import Final

import pytest

from loadtest.processes import free_port
from tests.peer import Peer
from tests.serving import ROOT, SERVE, Serve
from tests.tokens import Ledger

pytestmark = pytest.mark.integration

ROOMS: Final = 5
WRITERS_PER_ROOM: Final = 10
SERVICE_RESTART: Final = 1012


async def write_until_closed(peer: Peer, ledger: Ledger, name: str) -> None:
    random = Random(name)
    author = ledger.author(peer, name, random)
    while peer.closed is None:
        await (author.delete() if random.random() < 0.3 else author.write())
        await asyncio.sleep(random.uniform(0, 0.05))


async def wait_exited(node: Serve, *, within_s: float) -> int:
    """Reaps it without holding up the peers, who have closing handshakes to answer."""
    async with asyncio.timeout(within_s):
        while node.running:  # noqa: ASYNC110  nothing tells this loop of another process's end
            await asyncio.sleep(0.01)
    assert node.exit_code is not None
    return node.exit_code


async def test_R16_stopping_under_load_keeps_everything_received(tmp_path: Path) -> None:
    ledgers = {f"room {number}": Ledger() for number in range(ROOMS)}
    # Commits are rare, so that there is something left to write at the end.
    with Serve(tmp_path / "data", "--commit-interval-ms", "300", "--commit-interval-busy-ms", "300") as node:
        readers = {room: await Peer.join(node.ws_url, room) for room in ledgers}
        writers = [await Peer.join(node.ws_url, room) for room in ledgers for _ in range(WRITERS_PER_ROOM)]
        async with asyncio.TaskGroup() as writing:
            for number, writer in enumerate(writers):
                room = f"room {number // WRITERS_PER_ROOM}"
                writing.create_task(write_until_closed(writer, ledgers[room], str(number)))
            await asyncio.sleep(1.0)
            os.kill(node.pid, signal.SIGTERM)
            assert await wait_exited(node, within_s=10) == 0
        for peer in [*readers.values(), *writers]:
            assert (await peer.wait_closed()).code == SERVICE_RESTART
            await peer.leave()
        assert sum(author.edits - author.saved_edits for ledger in ledgers.values() for author in ledger.authors) > 0

        node.start()
        for room, ledger in ledgers.items():
            ledger.settle()
            async with await Peer.join(node.ws_url, room) as fresh:
                content, clocks = str(fresh.text), fresh.doc.get_state()
                assert ledger.faults(content) == []
                # What another client was shown had been received: it adds nothing, no edit and no deletion.
                fresh.doc.apply_update(readers[room].doc.get_update())
                assert (str(fresh.text), fresh.doc.get_state()) == (content, clocks)


async def test_a_client_that_does_not_answer_the_close_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with Serve(tmp_path / "data", "--shutdown-timeout-s", "1") as node:
        async with await Peer.join(node.ws_url, "room") as ann:
            with socket.create_connection(("127.0.0.1", node.port), timeout=10) as silent:
                silent.sendall(
                    b"GET /ws/room HTTP/1.1\r\nHost: tests\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
                )
                assert b" 101 " in await asyncio.to_thread(silent.recv, 1000)
                frame = await ann.edit(lambda text: text.insert(0, "[kept]"))
                await ann.wait_saved(frame)
                began = time.monotonic()
                os.kill(node.pid, signal.SIGTERM)
                assert await wait_exited(node, within_s=10) == 0
                assert time.monotonic() - began < 5
        node.start()
        async with await Peer.join(node.ws_url, "room") as fresh:
            assert str(fresh.text) == "[kept]"


def test_R16_a_second_node_on_the_same_folder_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with Serve(tmp_path / "data") as node:
        second = subprocess.run(
            [*SERVE, "--port", str(free_port()), "--data-dir", str(node.data_dir)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert second.returncode == 2
        assert second.stdout + second.stderr == (
            f"tutti: data_dir {node.data_dir}: data folder {node.data_dir} is in use by another node"
            f" (process {node.pid})\n"
        )
        assert node.stop() == 0
