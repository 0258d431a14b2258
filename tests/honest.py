"""Two honest people in a room, for tests about somebody who is not: what one types the other must see.

async with Pair.in_room(node, "room") as pair:
    await pair.converse()
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Final, Self

from tests.peer import Peer
from tests.serving import Serve

SEEN_WITHIN_S: Final = 20.0
"""Generous: that an edit arrives is asserted with it; how soon is measured apart."""


class Pair:
    """Ann and Bob, both synced."""

    def __init__(self, ann: Peer, bob: Peer) -> None:
        self.ann = ann
        self.bob = bob
        self.slowest_s = 0.0
        """The longest that an edit took to be seen."""
        self._numbers = count(1)

    @classmethod
    @asynccontextmanager
    async def in_room(cls, node: Serve, room: str) -> AsyncIterator[Self]:
        async with (
            await Peer.join(node.ws_url, room, saved=False) as ann,
            await Peer.join(node.ws_url, room, saved=False) as bob,
        ):
            yield cls(ann, bob)

    async def converse(self) -> None:
        """An edit each way, both seen; nobody's connection was closed."""
        for writer, reader in ((self.ann, self.bob), (self.bob, self.ann)):
            await self._say(writer, reader)
        assert self.ann.closed is None
        assert self.bob.closed is None

    async def _say(self, writer: Peer, reader: Peer) -> None:
        token = f"<{next(self._numbers)}>"
        asked = time.perf_counter()
        await writer.edit(lambda text: text.insert(0, token))
        await reader.wait(f"{token} is seen", lambda: token in head(reader), within_s=SEEN_WITHIN_S)
        self.slowest_s = max(self.slowest_s, time.perf_counter() - asked)

    @asynccontextmanager
    async def conversing(self, pause_s: float = 0.005) -> AsyncIterator[None]:
        """They go on while the block runs, and once more after it."""

        over = False

        async def go_on() -> None:
            while not over:
                await self.converse()
                await asyncio.sleep(pause_s)

        task = asyncio.create_task(go_on())
        try:
            yield
        finally:
            over = True
            await task
        await self.converse()


def head(peer: Peer) -> str:
    """Where the two write: rendering all of a large document for each look would be most of what is measured."""
    return str(peer.text[:200])
