"""A person at a browser, as tests see one: types, presses keys, reads what the page shows.

Each visitor has a browser profile of their own (storage, IndexedDB, network switch) and watches what no page may do:
log an error, throw, or ask another origin for anything. `Visitors` opens them and settles that account at the end.
"""

import json
import re
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote, urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, expect

WAIT_MS: Final = 15_000
"""A condition that takes this long has failed; met ones return at once."""

_CONNECTION_FAILED: Final = re.compile(r"WebSocket connection to .* failed|net::ERR_|Failed to load resource")


class Visitor:
    """One browser profile with one page open at a time."""

    def __init__(self, context: BrowserContext, base: str) -> None:
        self.context = context
        self.base = base
        self.faults: list[str] = []
        self.network_may_fail = False
        """Set by a test that takes the network or the server away: the browser itself then logs failed connections."""
        self.page = self._new_page()

    def _new_page(self) -> Page:
        page = self.context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.faults.append(f"uncaught: {error}"))
        page.on("request", lambda request: self._asked(request.url))
        page.on("websocket", lambda socket: self._asked(socket.url))
        return page

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        if not (self.network_may_fail and _CONNECTION_FAILED.search(message.text)):
            self.faults.append(f"{message.type}: {message.text}")

    def _asked(self, url: str) -> None:
        if urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).netloc != urlsplit(self.base).netloc:
            self.faults.append(f"asked another origin: {url}")

    def open(self, room: str) -> Self:
        """Opens the room and waits until its text is there and nothing is under way."""
        self.goto(room)
        self.text.wait_for()
        self.expect_status("saved")
        return self

    def goto(self, room: str) -> None:
        self.page.goto(f"{self.base}/r/{quote(room, safe='')}")

    def close_tab(self) -> None:
        """Closes the page and leaves the profile; the next `open` is a new tab of the same person."""
        self.page.close()

    def reopen_tab(self) -> None:
        self.page = self._new_page()

    @property
    def text(self) -> Locator:
        return self.page.locator(".ProseMirror")

    @property
    def paragraphs(self) -> list[str]:
        return self.text.locator("p").all_text_contents()

    @property
    def status(self) -> str | None:
        return self.page.locator("#status").get_attribute("data-status")

    def type(self, text: str) -> None:
        self.page.keyboard.type(text)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def expect_text(self, text: str | re.Pattern[str]) -> None:
        expect(self.text).to_contain_text(text, timeout=WAIT_MS)

    def expect_status(self, *kinds: str) -> None:
        wanted = re.compile("|".join(f"^{kind}$" for kind in kinds))
        expect(self.page.locator("#status")).to_have_attribute("data-status", wanted, timeout=WAIT_MS)

    def go_offline(self) -> None:
        self.network_may_fail = True
        self.context.set_offline(True)

    def come_online(self) -> None:
        self.context.set_offline(False)


class Visitors:
    """Opens visitors to one node; as a context manager it fails the test for whatever any of their pages did wrong."""

    def __init__(self, browser: Browser, base: str) -> None:
        self._browser = browser
        self._base = base
        self._all: list[Visitor] = []

    def __call__(
        self,
        name: str = "Ann Baker",
        color: str = "#c2255c",
        *,
        prepare: Callable[[Page], None] | None = None,
        **options: Any,
    ) -> Visitor:
        """`options` are Playwright's for a context; `prepare` sees the page before anything is loaded."""
        context = self._browser.new_context(**options)
        person = json.dumps({"name": name, "color": color})
        context.add_init_script(
            f"localStorage.getItem('tutti:person') ?? localStorage.setItem('tutti:person', {person!r})"
        )
        visitor = Visitor(context, self._base)
        self._all.append(visitor)
        if prepare is not None:
            prepare(visitor.page)
        return visitor

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        faults = [fault for visitor in self._all for fault in visitor.faults]
        for visitor in self._all:
            visitor.context.close()
        if error is None:
            assert faults == []
        elif faults:
            error.add_note("what the pages said:\n" + "\n".join(faults))
