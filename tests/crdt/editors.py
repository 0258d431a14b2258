"""Honest editors made with pycrdt: random sessions of several people on one document, with every kind of content."""

import random
from collections.abc import Callable
from typing import Any

from pycrdt import Array, Doc, Map, Text, TransactionEvent, XmlElement, XmlFragment, XmlText

WORDS = ("a", "hello ", "éü", "漢字", "😀", "a🎉b", "x" * 20)
VALUES = (1, "s", None, True, 1.5, [1, {"z": b"by"}], 2**40)
NESTED: tuple[Callable[[], Any], ...] = (
    lambda: Map({"k": 1, "in": Map({"deep": Array([1, Text("t")])})}),
    lambda: Array([1, 2, "q"]),
    lambda: Text("inner"),
)


class Editor:
    """One person's document. `take` hands out the updates of their own edits."""

    def __init__(self, client: int, rnd: random.Random, *, keep_deleted: bool = False) -> None:
        self.rnd = rnd
        self.doc: Doc[Any] = Doc(client_id=client, skip_gc=keep_deleted)
        self.text = self.doc.get("text", type=Text)
        self.map = self.doc.get("map", type=Map)
        self.array = self.doc.get("array", type=Array)
        self.xml = self.doc.get("xml", type=XmlFragment)
        self._updates: list[bytes] = []
        self._receiving = False
        self._subscription = self.doc.observe(self._observed)

    def _observed(self, event: TransactionEvent) -> None:
        if not self._receiving and event.update != b"\x00\x00":
            self._updates.append(event.update)

    def take(self) -> list[bytes]:
        updates, self._updates = self._updates, []
        return updates

    def receive(self, update: bytes) -> None:
        self._receiving = True
        try:
            self.doc.apply_update(update)
        finally:
            self._receiving = False

    def edit(self) -> None:
        """One transaction of one to five random edits."""
        with self.doc.transaction():
            for _ in range(self.rnd.choice((1, 1, 1, 2, 5))):
                self._one_edit()

    def _one_edit(self) -> None:
        rnd = self.rnd
        kind = rnd.randrange(15)
        # Indices are UTF-8 bytes, and one inside a character breaks the document: only between characters.
        edges = [0]
        for part, _ in self.text.diff():
            for size in [len(char.encode()) for char in part] if isinstance(part, str) else [1]:
                edges.append(edges[-1] + size)
        last = len(edges) - 1
        start = rnd.randrange(len(edges))
        end = min(last, start + rnd.randrange(1, 6))
        children = self.xml.children
        if kind < 4:
            self.text.insert(edges[start], rnd.choice(WORDS))
        elif kind < 6:
            if start < end:
                del self.text[edges[start] : edges[end]]
        elif kind == 6:
            if start < end:
                self.text.format(edges[start], edges[end], {"bold": rnd.choice((True, None, {"a": 1}))})
        elif kind == 7:
            self.text.insert_embed(edges[start], {"image": f"x{rnd.randrange(9)}"})
        elif kind == 8:
            self.map[rnd.choice("abc")] = rnd.choice(VALUES)
        elif kind == 9:
            self.map["n" + rnd.choice("ab")] = rnd.choice(NESTED)()
        elif kind == 10:
            self.array.insert(rnd.randrange(len(self.array) + 1), rnd.choice((1, "v", None, [1, 2], {"q": 1.25})))
        elif kind == 11:
            self.array.extend([1, 2, 3])
        elif kind == 12:
            if len(self.array):
                del self.array[rnd.randrange(len(self.array))]
        elif kind == 13:
            child = children[rnd.randrange(len(children))] if len(children) and rnd.random() < 0.6 else None
            if isinstance(child, XmlElement):
                child.attributes["id"] = str(rnd.randrange(9))
                child.children.append(XmlText("hi")).insert(1, "yo")
            else:
                children.append(XmlElement("p", {"a": "1"}))
        elif len(children) > 1:
            del children[rnd.randrange(len(children))]


def session(seed: int, *, editors: int = 4, rounds: int = 30, sync: float = 0.3) -> tuple[list[Editor], list[bytes]]:
    """A random session: the editors, and all updates in an order in which each one's dependencies come first."""
    rnd = random.Random(seed)
    ids = rnd.sample(range(1, 2**32) if rnd.random() < 0.5 else range(1, 200), editors)
    people = [Editor(client, rnd, keep_deleted=rnd.random() < 0.2) for client in ids]
    updates = []
    for _ in range(rounds):
        person = rnd.choice(people)
        person.edit()
        updates += person.take()
        if rnd.random() < sync:
            giver, taker = rnd.sample(people, 2)
            taker.receive(giver.doc.get_update(taker.doc.get_state()))
    return people, updates


def content(update: bytes) -> Any:
    """What a document shows, comparable."""
    doc: Doc[Any] = Doc(client_id=1)
    doc.apply_update(update)
    return (
        doc.get("text", type=Text).diff(),
        doc.get("map", type=Map).to_py(),
        doc.get("array", type=Array).to_py(),
        [_shown(child) for child in doc.get("xml", type=XmlFragment).children],
    )


def _shown(node: Any) -> Any:
    if isinstance(node, XmlElement):
        return node.tag, sorted(dict(node.attributes).items()), [_shown(child) for child in node.children]
    return node.diff()
