"""The page itself: start page, accessibility, sizes, other apps' content, a crowd, hostile presence."""

import contextlib
import json
import re
from typing import Any, Final

import pycrdt
import pytest
from playwright.sync_api import Page, Route, expect
from websockets.sync.client import ClientConnection, connect

from tests.browser.visitor import WAIT_MS, Visitor, Visitors
from tests.serving import Serve

pytestmark = pytest.mark.browser

SYNC_UPDATE: Final = b"\x00\x02"
AWARENESS: Final = b"\x01"


def varuint(number: int) -> bytes:
    """lib0's variable length integer (protocol reference, section 1)."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def send_update(socket: ClientConnection, doc: pycrdt.Doc[Any]) -> None:
    update = doc.get_update()
    socket.send(SYNC_UPDATE + varuint(len(update)) + update)


def send_presence(socket: ClientConnection, clock: int, states: dict[int, str]) -> None:
    body = varuint(len(states))
    for client, state in states.items():
        text = state.encode()
        body += varuint(client) + varuint(clock) + varuint(len(text)) + text
    socket.send(AWARENESS + varuint(len(body)) + body)


def peer(node: Serve, room: str) -> ClientConnection:
    """A client that only sends. What it is sent piles up unread, or it could not close before reading it all."""
    return connect(f"{node.ws_url}/{room}", ping_interval=None, max_queue=None)


# The start page


def test_a_new_document_can_be_written_at_once(visit: Visitors) -> None:
    ann = visit("Ann Baker")
    ann.page.goto(ann.base)
    ann.page.get_by_role("button", name="New document").click()
    ann.page.wait_for_url(re.compile(r"/r/[a-z]+-[a-z]+-[a-z2-9]{4}$"))
    ann.text.wait_for()
    expect(ann.text).to_be_focused()
    ann.type("at once")
    ann.expect_status("saved")


def test_documents_are_found_again(visit: Visitors, room: str) -> None:
    ann = visit("Ann Baker").open(room)
    ann.text.click()
    ann.type("x")
    ann.expect_status("saved")
    ben = visit("Ben Cole")
    ben.page.goto(ben.base)
    row = ben.page.get_by_role("listitem").filter(has=ben.page.locator(f'a[href="/r/{room}"]'))
    more = ben.page.get_by_role("button", name="Show more")
    expect(row.or_(more).first).to_be_visible(timeout=WAIT_MS)
    while row.count() == 0:
        before = ben.page.get_by_role("listitem").count()
        more.click()
        expect(ben.page.get_by_role("listitem")).not_to_have_count(before)
    expect(row).to_contain_text("1 here")

    ben.page.get_by_label("Name or link of a document").fill(f"{ben.base}/r/{room}")
    ben.page.get_by_role("button", name="Open", exact=True).click()
    ben.expect_text("x")
    ben.page.get_by_role("link", name="Tutti, all documents").click()
    recent = ben.page.get_by_role("region", name="Opened here")
    expect(recent.get_by_role("link")).to_have_count(1)
    recent.get_by_role("button", name=re.compile("Forget")).click()
    expect(recent).to_have_count(0)


def test_an_empty_node_says_so_and_a_name_must_be_one(visit_own: Visitors) -> None:
    ann = visit_own("Ann Baker")
    ann.page.goto(ann.base)
    expect(ann.page.get_by_text("No documents yet. The first one is yours.")).to_be_visible()
    ann.page.get_by_role("button", name="Open", exact=True).click()
    expect(ann.page.get_by_text("Give a name or paste a link.")).to_be_visible()
    ann.page.get_by_label("Name or link of a document").fill("..")
    ann.press("Enter")
    expect(ann.page.get_by_text("This is not a document of this site.")).to_be_visible()


def test_a_list_that_fails_can_be_asked_for_again(visit: Visitors) -> None:
    ann = visit("Ann Baker")
    ann.network_may_fail = True
    answers: list[str] = []

    def fail_first(route: Route) -> None:
        answers.append("failed" if not answers else "passed")
        route.abort() if answers[-1] == "failed" else route.continue_()

    ann.page.route("**/api/rooms**", fail_first)
    ann.page.goto(ann.base)
    expect(ann.page.get_by_text("The list could not be loaded.")).to_be_visible()
    ann.page.get_by_role("button", name="Try again").click()
    expect(ann.page.get_by_text("The list could not be loaded.")).to_be_hidden()
    expect(ann.page.get_by_text("Loading…")).to_be_hidden()
    assert answers == ["failed", "passed"]


def test_an_address_of_nothing_leads_to_the_start_page(visit: Visitors) -> None:
    ann = visit("Ann Baker")
    ann.page.goto(f"{ann.base}/r/%00")
    expect(ann.page.get_by_role("alert")).to_contain_text("belongs to no document")


# Accessibility, by hand: what a checker would ask first

UNNAMED: Final = """() => [...document.querySelectorAll('a, button, input, [role=textbox], [role=toolbar], [role=dialog]')]
  .filter((element) => {
    const label = element.id && document.querySelector(`label[for="${element.id}"]`)?.textContent;
    const name = element.getAttribute('aria-label') || element.textContent.trim() || label;
    return !name;
  })
  .map((element) => element.outerHTML.slice(0, 120))"""

REPEATED_IDS: Final = """() => [...document.querySelectorAll('[id]')].map((element) => element.id)
  .filter((id, at, all) => all.indexOf(id) !== at)"""

BROKEN_REFERENCES: Final = """() => ['aria-labelledby', 'aria-describedby', 'aria-controls', 'popovertarget', 'for']
  .flatMap((name) => [...document.querySelectorAll(`[${name}]`)].map((element) => element.getAttribute(name)))
  .filter((id) => !document.getElementById(id))"""

# Each visible text against the first opaque background behind it; disabled tools are exempt (WCAG 1.4.3).
LOW_CONTRAST: Final = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  const rgba = (css) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = css;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (color) => color.slice(0, 3)
    .map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, at) => sum + value * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = rgba(getComputedStyle(at).backgroundColor);
      if (color[3] === 255) return color;
    }
    return rgba('Canvas');
  };
  const low = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const element = text.parentElement;
    if (!text.data.trim() || !element.checkVisibility() || element.closest('[aria-disabled=true], .visually-hidden')) continue;
    const [a, b] = [luminance(rgba(getComputedStyle(element).color)), luminance(behind(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) low.push(`${ratio.toFixed(2)} ${element.className} ${text.data.trim().slice(0, 30)}`);
  }
  return low;
}"""


def audit(page: Page) -> None:
    assert page.evaluate(UNNAMED) == []
    assert page.evaluate(REPEATED_IDS) == []
    assert page.evaluate(BROKEN_REFERENCES) == []
    assert page.evaluate(LOW_CONTRAST) == []
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.evaluate("document.title") != ""
    expect(page.get_by_role("main")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_names_ids_and_contrast_hold_in_both_themes(visit: Visitors, room: str, scheme: str) -> None:
    ann = visit("Ann Baker", color_scheme=scheme).open(room)
    ann.text.click()
    ann.type("# Title\nText and `code` and [site](https://example.org) \n> quote\n\n\n[ ] task")
    visit("Ben Cole", "#996000").open(room).text.click()
    expect(ann.page.locator(".avatar")).to_have_count(4)  # two in the bar, two in the list
    audit(ann.page)
    ann.page.locator("#people").click()
    audit(ann.page)
    ann.press("Escape")
    ann.page.goto(ann.base)
    expect(ann.page.get_by_role("region", name="On this server").get_by_role("link").first).to_be_visible()
    audit(ann.page)


def test_the_toolbar_is_one_tab_stop_and_focus_is_seen(visit: Visitors, room: str) -> None:
    ann = visit("Ann Baker").open(room)
    assert ann.page.locator('.tool[tabindex="0"]').count() == 1
    ann.page.locator("#people").focus()
    stops: list[str] = []
    for _ in range(3):
        ann.press("Tab")
        stops.append(
            ann.page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.tagName")
        )
        outline = ann.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none" or stops[-1] == "Document text"
    assert stops == ["Copy link", "Undo", "Document text"]


def test_the_connection_is_spoken_but_not_each_save(visit: Visitors, room: str) -> None:
    ann = visit("Ann Baker").open(room)
    spoken = ann.page.locator("#status-spoken")
    expect(spoken).to_have_attribute("aria-live", "polite")
    expect(spoken).to_have_text("Saved")
    ann.page.evaluate(
        """() => { window.heard = 0;
        new MutationObserver(() => window.heard++).observe(document.querySelector('#status-spoken'),
          { childList: true, characterData: true, subtree: true }); }"""
    )
    ann.text.click()
    ann.type("some words")
    ann.expect_status("saved")
    assert ann.page.evaluate("window.heard") == 0
    ann.go_offline()
    expect(spoken).to_have_text("Offline, changes kept")


def test_nothing_moves_for_who_asked_for_less_motion(visit: Visitors, room: str) -> None:
    ann = visit("Ann Baker", reduced_motion="reduce").open(room)
    ann.text.click()
    ann.type("still")
    visit("Ben Cole").open(room).text.click()
    expect(ann.page.locator(".caret")).to_have_count(1)
    assert (
        ann.page.evaluate("document.getAnimations().filter((at) => at.effect.getComputedTiming().duration > 1).length")
        == 0
    )


WIDTHS: Final = (360, 390, 768, 1440, 1920)


def test_it_fits_every_width(visit: Visitors, room: str) -> None:
    ann = visit("Ann Baker").open(f"{room} with quite a long name, as people give")
    ann.text.click()
    ann.type("word " * 60)
    link = ann.page.locator('.tool[data-tool="link"]')
    for width in WIDTHS:
        ann.page.set_viewport_size({"width": width, "height": 800})
        expect(ann.page.get_by_role("toolbar")).to_be_in_viewport()
        for part in (ann.page.locator("#status"), ann.page.locator("#people"), ann.page.locator(".share")):
            expect(part).to_be_in_viewport(ratio=1)
        assert no_sideways_scroll(ann), f"the document at {width} px"
        link.scroll_into_view_if_needed()
        expect(link).to_be_in_viewport(ratio=1)
    ann.page.goto(ann.base)
    ann.page.get_by_role("heading", name="Write together").wait_for()
    for width in WIDTHS:
        ann.page.set_viewport_size({"width": width, "height": 800})
        assert no_sideways_scroll(ann), f"the start page at {width} px"


def no_sideways_scroll(visitor: Visitor) -> bool:
    return bool(visitor.page.evaluate("document.scrollingElement.scrollWidth <= innerWidth"))


# What others may send


def test_content_of_another_app_is_neither_opened_nor_destroyed(visit: Visitors, node: Serve, room: str) -> None:
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    root = doc.get("default", type=pycrdt.XmlFragment)
    with peer(node, room) as other:
        root.children.append(pycrdt.XmlElement("table"))
        send_update(other, doc)
        ann = visit("Ann Baker")
        ann.goto(room)
        expect(ann.page.get_by_role("alert")).to_contain_text("not opened here")
        expect(ann.page.get_by_role("alert")).to_contain_text("table")
        ann.expect_status("saved")
    assert "<table></table>" in stored_xml(node, room)


def test_an_open_editor_steps_aside_when_such_content_arrives(visit: Visitors, node: Serve, room: str) -> None:
    ann = visit("Ann Baker").open(room)
    ann.text.click()
    ann.type("mine")
    ann.expect_status("saved")
    with peer(node, room) as other:
        doc: pycrdt.Doc[Any] = pycrdt.Doc()
        doc.get("default", type=pycrdt.XmlFragment).children.append(pycrdt.XmlElement("video"))
        send_update(other, doc)
        expect(ann.page.get_by_role("alert")).to_contain_text("video")
        expect(ann.text).to_have_count(0)
        ann.expect_status("saved")
    stored = stored_xml(node, room)
    assert "<video></video>" in stored
    assert "mine" in stored


def stored_xml(node: Serve, room: str) -> str:
    """What a fresh client is given for the room."""
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    root = doc.get("default", type=pycrdt.XmlFragment)
    with peer(node, room) as reader:
        reader.send(b"\x00\x00\x01\x00")  # step 1 of an empty document
        while True:
            frame = reader.recv(timeout=10)
            assert isinstance(frame, bytes)
            if frame[:2] != b"\x00\x01":
                continue
            at = 2
            while frame[at] & 0x80:  # the length; the update is the rest
                at += 1
            doc.apply_update(frame[at + 1 :])
            return str(root)


# Anything that is no JSON object is the node's to refuse (tests/presence); an object may hold anything.
HOSTILE_STATES: Final = [
    '{"user":5,"cursor":5}',
    '{"user":[],"cursor":[]}',
    '{"user":{"name":5,"color":"url(https://evil.example/x)"},"cursor":{"anchor":{},"head":{}}}',
    '{"user":{"name":"<img src=x onerror=alert(1)>","color":"#123456"},"cursor":{"anchor":{"tname":"other"},"head":1}}',
    '{"user":{"name":"\\u202eevil","color":"#000000"},"cursor":{"anchor":{"item":{"client":-1,"clock":1e9}},"head":null}}',
]


def test_hostile_presence_spoils_nothing(visit: Visitors, node: Serve, room: str) -> None:
    ann = visit("Ann Baker").open(room)
    ann.text.click()
    for number, state in enumerate(HOSTILE_STATES):
        with peer(node, room) as other:
            send_presence(other, 1, {9_000 + number: state})
            send_presence(other, 2, {9_000 + number: '{"user":{"name":"Last","color":"#123456"}}'})
            expect(ann.page.locator(".people-list")).to_contain_text("Last", timeout=WAIT_MS)
        expect(ann.page.locator(".people-list")).not_to_contain_text("Last", timeout=WAIT_MS)
    ann.type("still fine")
    ann.expect_status("saved")
    ben = visit("Ben Cole").open(room)
    ben.text.click()
    expect(ann.page.locator(".caret")).to_have_attribute("data-name", "Ben Cole")


COUNT_FRAMES: Final = """() => {
  window.framesDrawn = 0;
  const count = () => { window.framesDrawn++; requestAnimationFrame(count); };
  requestAnimationFrame(count);
}"""


def member(number: int, moved: int) -> str:
    place = {"type": None, "tname": "default", "item": None, "assoc": 0}
    user = {"name": f"Person {number}", "color": "#0b7580"}
    return json.dumps({"user": user, "cursor": {"anchor": place, "head": place}, "moved": moved})


def test_fifty_people_moving_leave_the_page_responsive(visit: Visitors, node: Serve, room: str) -> None:
    ann = visit("Ann Baker").open(room)
    ann.text.click()
    ann.type("A line of text that fifty people have their carets in.")
    ann.expect_status("saved")
    with contextlib.ExitStack() as crowd:
        sockets = [crowd.enter_context(peer(node, room)) for _ in range(10)]
        ann.page.evaluate(COUNT_FRAMES)
        for clock in range(1, 31):
            for number, socket in enumerate(sockets):
                people = range(number * 5, number * 5 + 5)
                send_presence(socket, clock, {7_000 + at: member(at, clock) for at in people})
            ann.page.wait_for_timeout(25)
        expect(ann.page.locator("#people")).to_have_attribute("aria-label", re.compile("^51 people are here"))
        expect(ann.page.locator(".caret")).to_have_count(50)
        expect(ann.page.locator(".avatars .avatar.more.wide")).to_have_text("+47")
        frames = ann.page.evaluate("window.framesDrawn")
        assert frames >= 20, f"{frames} frames in more than a second"
        ann.type(" Typed meanwhile.")
        ann.expect_text("Typed meanwhile.")
    expect(ann.page.get_by_role("button", name="Only you are here")).to_be_visible(timeout=WAIT_MS)
