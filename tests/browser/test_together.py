"""Several people in one document: text, carets, names, undo, and the tools."""

import re
from typing import Final

import pytest
from playwright.sync_api import expect

from tests.browser.visitor import WAIT_MS, Visitors

pytestmark = pytest.mark.browser


def test_two_people_see_each_other_write(visit: Visitors, room: str) -> None:
    ann = visit("Ann Baker").open(room)
    ben = visit("Ben Cole", "#1c66c4").open(room)
    ann.text.click()
    ann.type("Hello from Ann. ")
    ben.expect_text("Hello from Ann.")
    ben.text.click()
    ben.press("Control+End")
    ben.type("And from Ben.")
    ann.expect_text("Hello from Ann. And from Ben.")

    expect(ann.page.locator(".caret")).to_have_attribute("data-name", "Ben Cole")
    expect(ben.page.locator(".caret")).to_have_attribute("data-name", "Ann Baker")
    expect(ann.page.locator(".caret")).to_have_css("border-left-color", "rgb(28, 102, 196)")
    expect(ann.page.get_by_role("button", name="2 people are here: you, Ben Cole")).to_be_visible()
    ann.expect_status("saved")
    ben.expect_status("saved")


def test_someone_who_leaves_is_gone_at_once(visit: Visitors, room: str) -> None:
    ann = visit("Ann Baker").open(room)
    ben = visit("Ben Cole").open(room)
    ben.text.click()
    ben.type("x")
    expect(ann.page.locator(".caret")).to_have_count(1)
    ben.close_tab()
    expect(ann.page.locator(".caret")).to_have_count(0, timeout=WAIT_MS)
    expect(ann.page.get_by_role("button", name="Only you are here")).to_be_visible()


def test_a_selection_is_shown_in_its_owners_colour(visit: Visitors, room: str) -> None:
    ann = visit("Ann Baker").open(room)
    ann.text.click()
    ann.type("choose me")
    ben = visit("Ben Cole").open(room)
    ann.press("Shift+Home")
    expect(ben.page.locator(".peer-selection")).to_have_text("choose me")
    color = ben.page.locator(".peer-selection").evaluate("element => element.style.getPropertyValue('--peer')")
    assert color.strip() == "#c2255c"


def test_own_name_and_colour_change_everywhere_and_stay(visit: Visitors, room: str) -> None:
    ann = visit("Ann Baker").open(room)
    ben = visit("Ben Cole").open(room)
    ann.text.click()
    ann.type("hi")
    expect(ben.page.locator(".caret")).to_have_attribute("data-name", "Ann Baker")
    ann.page.locator("#people").click()
    ann.page.get_by_label("Your name").fill("Dr. Anna Baker")
    ann.page.get_by_role("radio", name="Fern").check()
    expect(ben.page.locator("#people")).to_have_attribute("aria-label", re.compile("Dr. Anna Baker"))
    ann.press("Escape")
    ann.text.click()
    expect(ben.page.locator(".caret")).to_have_attribute("data-name", "Dr. Anna Baker")
    expect(ben.page.locator(".caret")).to_have_css("border-left-color", "rgb(42, 122, 59)")
    ann.page.reload()
    ann.expect_status("saved")
    ann.page.locator("#people").click()
    expect(ann.page.get_by_label("Your name")).to_have_value("Dr. Anna Baker")
    expect(ann.page.get_by_role("radio", name="Fern")).to_be_checked()


def test_undo_takes_back_ones_own_changes_only(visit: Visitors, room: str) -> None:
    ann = visit("Ann Baker").open(room)
    ben = visit("Ben Cole").open(room)
    ann.text.click()
    ann.type("Ann wrote this. ")
    ben.expect_text("Ann wrote this.")
    ben.text.click()
    ben.press("Control+End")
    ben.type("Ben wrote that.")
    ann.expect_text("Ben wrote that.")
    ann.press("Control+z")
    ben.expect_text(re.compile(r"^Ben wrote that\.$"))
    ann.press("Control+Shift+z")
    ben.expect_text("Ann wrote this. Ben wrote that.")


def test_the_toolbar_works_by_keyboard_alone(visit: Visitors, room: str) -> None:
    ann = visit("Ann Baker").open(room)
    ann.text.click()
    ann.type("loud")
    ann.press("Control+a", "Alt+F10")
    toolbar = ann.page.get_by_role("toolbar", name="Formatting")
    focused = toolbar.locator(":focus")
    expect(focused).to_have_attribute("aria-label", "Undo")
    ann.press("ArrowLeft")
    expect(focused).to_have_attribute("aria-label", "Link")
    ann.press("Home", *["ArrowRight"] * 5)
    expect(focused).to_have_attribute("aria-label", "Bold")
    expect(focused).to_have_attribute("aria-pressed", "false")
    ann.press("Enter")
    expect(ann.text).to_be_focused()
    expect(ann.text.locator("strong")).to_have_text("loud")
    expect(toolbar.get_by_role("button", name="Bold")).to_have_attribute("aria-pressed", "true")
    # The bar remembers where one was, and lets one go back without doing anything.
    ann.press("Alt+F10")
    expect(focused).to_have_attribute("aria-label", "Bold")
    ann.press("Escape")
    expect(ann.text).to_be_focused()


TOOLS: Final = {
    "Heading 1": "h1",
    "Heading 2": "h2",
    "Heading 3": "h3",
    "Bold": "p strong",
    "Italic": "p em",
    "Strikethrough": "p s",
    "Inline code": "p code",
    "Bulleted list": "ul > li p",
    "Numbered list": "ol > li p",
    "Task list": "ul[data-type=taskList] > li p",
    "Quote": "blockquote p",
    "Code block": "pre code",
}


def test_each_tool_reaches_the_others_and_switches_off_again(visit: Visitors, room: str) -> None:
    ann = visit("Ann Baker").open(room)
    ben = visit("Ben Cole").open(room)
    ann.text.click()
    ann.type("word")
    ann.press("Control+a")
    for tool, selector in TOOLS.items():
        button = ann.page.get_by_role("button", name=tool, exact=True)
        button.click()
        expect(ben.text.locator(selector), tool).to_have_text("word", timeout=WAIT_MS)
        expect(button).to_have_attribute("aria-pressed", "true")
        button.click()
        expect(ben.text.locator(selector), tool).to_have_count(0, timeout=WAIT_MS)
        expect(ben.text.locator("p")).to_have_text("word")
        expect(button).to_have_attribute("aria-pressed", "false")


def test_a_task_is_ticked_for_everybody(visit: Visitors, room: str) -> None:
    ann = visit("Ann Baker").open(room)
    ben = visit("Ben Cole").open(room)
    ann.text.click()
    ann.type("[ ] buy strings")
    ben.page.get_by_role("checkbox", name="To do: buy strings").check()
    expect(ann.page.get_by_role("checkbox", name="Done: buy strings")).to_be_checked()


def test_links_are_made_changed_and_taken_away(visit: Visitors, room: str) -> None:
    ann = visit("Ann Baker").open(room)
    ann.text.click()
    ann.type("our site")
    ann.press("Control+a", "Control+k")
    address = ann.page.get_by_label("Link to")
    expect(address).to_be_focused()
    address.fill("javascript:alert(1)")
    ann.press("Enter")
    expect(ann.page.get_by_text("This is not an address a link can have.")).to_be_visible()
    address.fill("example.org/music")
    ann.press("Enter")
    link = ann.text.locator("a")
    expect(link).to_have_attribute("href", "https://example.org/music")
    expect(link).to_have_attribute("rel", re.compile("noopener"))
    expect(ann.text).to_be_focused()
    ann.press("Control+k")
    expect(address).to_have_value("https://example.org/music")
    ann.page.get_by_role("button", name="Remove").click()
    expect(link).to_have_count(0)
    expect(ann.text).to_have_text("our site")


@pytest.mark.parametrize("name", ["a b", "team/notes", "50% off? #1", "ünï 😀", "a%2Fb"])
def test_any_name_is_one_document(visit: Visitors, room: str, name: str) -> None:
    room = f"{room} {name}"
    ann = visit("Ann Baker").open(room)
    ann.text.click()
    ann.type("here")
    visit("Ben Cole").open(room).expect_text("here")
    assert ann.page.get_by_role("heading", level=1).first.get_attribute("title") == room
