"""What the page says about saving is true: with frames held back, the server killed, the network gone, the tab closed."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, WebSocketRoute, expect

from tests.browser.visitor import Visitors
from tests.serving import Serve

pytestmark = pytest.mark.browser

SAVED_FRAME = 116


class Wire:
    """Stands between a page and the node; can hold saved frames back, or close the socket as a node would."""

    def __init__(self) -> None:
        self.hold_saved = False
        self.close_next: int | None = None
        self._held: list[Callable[[], None]] = []
        self._page_side: WebSocketRoute | None = None

    def attach(self, page: Page) -> None:
        page.route_web_socket(re.compile("/ws/"), self._connected)

    def _connected(self, page_side: WebSocketRoute) -> None:
        if self.close_next is not None:
            page_side.close(code=self.close_next)
            return
        self._page_side = page_side
        node_side = page_side.connect_to_server()

        def from_node(message: str | bytes) -> None:
            if self.hold_saved and isinstance(message, bytes) and message[0] == SAVED_FRAME:
                self._held.append(lambda: page_side.send(message))
            else:
                page_side.send(message)

        node_side.on_message(from_node)

    def release(self) -> None:
        self.hold_saved = False
        for send in self._held:
            send()
        self._held.clear()

    def close(self, code: int) -> None:
        assert self._page_side is not None
        self._page_side.close(code=code)


def test_it_says_saved_only_after_the_node_did(visit: Visitors, room: str) -> None:
    wire = Wire()
    ann = visit("Ann Baker", prepare=wire.attach).open(room)
    wire.hold_saved = True
    ann.text.click()
    ann.type("precious")
    ann.expect_status("saving")
    ben = visit("Ben Cole").open(room)
    ben.expect_text("precious")
    ann.page.wait_for_timeout(1_000)
    assert ann.status == "saving", "another person seeing the text does not make it durable"
    wire.release()
    ann.expect_status("saved")


def test_a_node_that_does_not_count_gets_no_promise(visit: Visitors, room: str) -> None:
    wire = Wire()
    wire.hold_saved = True
    ann = visit("Ann Baker", prepare=wire.attach)
    ann.goto(room)
    ann.expect_status("current")
    ann.text.click()
    ann.type("x")
    ann.page.wait_for_timeout(500)
    assert ann.status == "current"


def test_what_was_called_saved_survives_a_kill_without_its_author(
    visit_own: Visitors, own_node: Serve, room: str
) -> None:
    ann = visit_own("Ann Baker").open(room)
    ann.network_may_fail = True
    ann.text.click()
    ann.type("written down")
    ann.expect_status("saving")
    ann.expect_status("saved")
    own_node.kill()
    # The author's browser must not be what brings the text back.
    ann.context.close()
    own_node.restart()
    visit_own("Ben Cole").open(room).expect_text("written down")


def test_a_killed_node_is_waited_for_and_nothing_is_lost(visit_own: Visitors, own_node: Serve, room: str) -> None:
    ann = visit_own("Ann Baker").open(room)
    ben = visit_own("Ben Cole").open(room)
    ann.network_may_fail = ben.network_may_fail = True
    ann.text.click()
    ann.type("before, ")
    ann.expect_status("saved")
    ben.expect_text("before,")
    own_node.kill()
    ann.expect_status("reconnecting")
    ann.type("meanwhile, ")
    ann.expect_status("offline")
    expect(ann.page.locator("#status")).to_contain_text("changes kept")
    assert "meanwhile" not in ben.text.inner_text()
    own_node.restart()
    ann.expect_status("saved")
    ann.type("after")
    ben.expect_text("before, meanwhile, after")
    ben.expect_status("saved")
    expect(ann.page.get_by_role("button", name="2 people are here")).to_be_visible()


def test_offline_edits_come_home_and_survive_a_reload(visit: Visitors, room: str) -> None:
    ann = visit("Ann Baker").open(room)
    ben = visit("Ben Cole").open(room)
    ann.text.click()
    ann.type("on ")
    ben.expect_text("on")
    ann.go_offline()
    ann.expect_status("offline")
    ann.type("and off")
    ben.text.click()
    ben.press("Control+End")
    ben.type("(Ben was here)")
    ben.expect_status("saved")
    ann.come_online()
    ann.expect_status("saved")
    for visitor in (ann, ben):
        visitor.expect_text("and off")
        visitor.expect_text("(Ben was here)")
    assert ann.paragraphs == ben.paragraphs
    ann.page.reload()
    ann.expect_text("and off")
    ann.expect_status("saved")


def test_offline_edits_survive_the_tab_that_made_them(visit: Visitors, room: str) -> None:
    ann = visit("Ann Baker").open(room)
    ann.text.click()
    ann.type("kept. ")
    ann.expect_status("saved")
    ann.go_offline()
    ann.expect_status("offline")
    ann.type("written offline")
    ann.page.wait_for_timeout(300)  # IndexedDB writes in the background; a person's hand is slower than it
    ann.close_tab()
    ben = visit("Ben Cole").open(room)
    assert "offline" not in ben.text.inner_text()
    ann.come_online()
    ann.reopen_tab()
    ann.open(room)
    ben.expect_text("kept. written offline")


def test_a_deletion_stays_deleted_after_an_offline_edit(visit: Visitors, room: str) -> None:
    ann = visit("Ann Baker").open(room)
    ben = visit("Ben Cole").open(room)
    ann.text.click()
    ann.type("remove me")
    ben.expect_text("remove me")
    ann.go_offline()
    ann.expect_status("offline")
    ann.press("Control+a", "Delete")
    ann.type("done")
    ann.come_online()
    ann.expect_status("saved")
    ben.expect_text(re.compile("^done$"))
    visit("Cleo").open(room).expect_text(re.compile("^done$"))


@pytest.mark.parametrize(
    ("code", "words"),
    [(4400, "could not read"), (4404, "not a name"), (4413, "too large"), (4415, "can’t keep")],
)
def test_a_final_refusal_is_told_and_waits_for_the_person(visit: Visitors, room: str, code: int, words: str) -> None:
    wire = Wire()
    ann = visit("Ann Baker", prepare=wire.attach).open(room)
    ann.text.click()
    ann.type("mine")
    ann.expect_status("saved")
    wire.close(code)
    ann.expect_status("stopped")
    expect(ann.page.get_by_role("alert").filter(has_text=words)).to_be_visible()
    ann.page.wait_for_timeout(1_000)
    assert ann.status == "stopped", "a final refusal is not tried again by itself"
    ann.page.get_by_role("button", name="Try again").click()
    ann.expect_status("saved")
    expect(ann.page.get_by_role("button", name="Try again")).to_be_hidden()
    ann.expect_text("mine")


def test_a_node_that_cannot_save_is_tried_again_and_its_trouble_shown_meanwhile(visit: Visitors, room: str) -> None:
    wire = Wire()
    ann = visit("Ann Baker", prepare=wire.attach).open(room)
    ann.text.click()
    wire.close_next = 4503
    wire.close(4503)
    ann.type("kept here")
    ann.expect_status("unsaved")
    expect(ann.page.get_by_role("alert").filter(has_text="can’t save right now")).to_contain_text(
        "kept in this browser"
    )
    wire.close_next = None
    ann.expect_status("saved")
    expect(ann.page.get_by_text("can’t save right now")).to_be_hidden()
    visit("Ben Cole").open(room).expect_text("kept here")
