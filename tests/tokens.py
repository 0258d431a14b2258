"""Edits that can be told apart: each writes or deletes one token, such as `[ann.7]`, and what became of it can be read.

Owns the books on one room, a `Ledger`, and its `Author`s, who write through peers. A token is written at once and
between others, so no order of edits can split or double one: a text that isn't made of whole tokens, each once and each
really written, is a fault of whoever merged it.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Final

from pycrdt import Text

from tests.peer import Peer

_TOKEN: Final = re.compile(r"\[[^\[\]]+\]")


def tokens(content: str) -> list[str]:
    """Those in a text, in order."""
    return _TOKEN.findall(content)


class Author:
    """Writes and deletes tokens through one connection; made by `Ledger.author`."""

    def __init__(self, peer: Peer, ledger: "Ledger", name: str, random: Random) -> None:
        self.peer = peer
        self.written: list[tuple[str, int]] = []
        """(token, number of the frame that holds it), in the order sent; so for `deleted`."""
        self.deleted: list[tuple[str, int]] = []
        self._ledger = ledger
        self._name = name
        self._random = random

    @property
    def edits(self) -> int:
        return len(self.written) + len(self.deleted)

    @property
    def saved_edits(self) -> int:
        return sum(frame <= self.peer.saved for _, frame in [*self.written, *self.deleted])

    async def write(self, *, padding: str = "") -> str:
        """A new token somewhere in the text."""
        token = f"[{self._name}.{len(self.written)}{padding}]"
        self._ledger.written.add(token)

        def insert(text: Text) -> None:
            content = str(text)
            text.insert(content.find("]", self._random.randrange(len(content) + 1)) + 1, token)

        self.written.append((token, await self.peer.edit(insert)))
        return token

    async def delete(self) -> str | None:
        """One token of anybody's; None if there is none to delete."""
        content = str(self.peer.text)
        if not content:
            return None
        start = content.rfind("[", 0, self._random.randrange(len(content)) + 1)
        token = content[start : content.index("]", start) + 1]
        self._ledger.deleting.add(token)

        def remove(text: Text) -> None:
            del text[start : start + len(token)]

        self.deleted.append((token, await self.peer.edit(remove)))
        return token


@dataclass
class Ledger:
    """What was done to one room, what must be in it and what must not."""

    written: set[str] = field(default_factory=set)
    deleting: set[str] = field(default_factory=set)
    """Tokens somebody tried to delete: unless that was saved, both outcomes are right."""
    kept: set[str] = field(default_factory=set)
    """Tokens that are durable: reported saved, or found after a crash."""
    gone: set[str] = field(default_factory=set)
    """Tokens whose deletion is durable."""
    authors: list[Author] = field(default_factory=list)

    def author(self, peer: Peer, name: str, random: Random) -> Author:
        """Somebody who edits; the name must be new to this room."""
        author = Author(peer, self, name, random)
        self.authors.append(author)
        return author

    def settle(self) -> None:
        """Takes the counts that the authors' connections were sent into the books, and forgets the authors."""
        for author in self.authors:
            saved = author.peer.saved
            self.kept |= {token for token, frame in author.written if frame <= saved}
            self.gone |= {token for token, frame in author.deleted if frame <= saved}
        self.authors.clear()

    def faults(self, content: str) -> list[str]:
        """What is wrong with `content`, one sentence each. Of an empty list the content is right."""
        whole = tokens(content)
        present = set(whole)
        found = [f"saved, and lost: {token}" for token in sorted(self.kept - self.deleting - present)]
        found += [f"its deletion was saved, and it is back: {token}" for token in sorted(self.gone & present)]
        found += [f"{count} times: {token}" for token, count in Counter(whole).items() if count > 1]
        found += [f"nobody wrote it: {token}" for token in sorted(present - self.written)]
        if "".join(whole) != content:
            found.append(f"not whole tokens: {_TOKEN.sub('', content)!r}")
        return found

    def reloaded(self, content: str) -> None:
        """`content` is what the journal gave after a crash that nobody else survived: it is all there is from now on."""
        present = set(tokens(content))
        self.kept, self.gone = present, self.written - present
        self.deleting -= present
