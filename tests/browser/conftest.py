"""A real Chromium and a real node. One of each serves all tests of a run; rooms keep them apart."""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.visitor import Visitors
from tests.serving import ROOT, Serve

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next((path for name in names if (path := shutil.which(name))), None)
    assert executable is not None, f"none of {', '.join(names)} is installed; BROWSER=none leaves these tests out"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_FLAGS, headless=True)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def built_app() -> None:
    assert (ROOT / "server" / "static" / "index.html").is_file(), "the web app is not built: run `make web`"


@pytest.fixture(scope="session")
def node(built_app: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Shared by the tests that leave the node alone."""
    with Serve(tmp_path_factory.mktemp("node")) as serve:
        yield serve


@pytest.fixture
def own_node(built_app: None, tmp_path: Path) -> Iterator[Serve]:
    """A node to kill, or one that must be empty."""
    with Serve(tmp_path / "data") as serve:
        yield serve


@pytest.fixture
def visit(browser: Browser, node: Serve) -> Iterator[Visitors]:
    with Visitors(browser, node.url) as visitors:
        yield visitors


@pytest.fixture
def visit_own(browser: Browser, own_node: Serve) -> Iterator[Visitors]:
    with Visitors(browser, own_node.url) as visitors:
        yield visitors


@pytest.fixture
def room() -> str:
    return f"room-{uuid.uuid4().hex[:10]}"
