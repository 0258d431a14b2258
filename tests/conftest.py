"""What all tests share: the asyncio backend, and leaving the browser out when asked to."""

import os

import pytest
from hypothesis import settings

# A change is judged by the same examples each time; everybody's own runs go on looking for new ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # Last: once Playwright has started, its event loop counts as running in this thread until the end.
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)
    if os.environ.get("BROWSER") != "none":
        return
    left_out = [item for item in items if item.get_closest_marker("browser")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("browser")]
        config.stash[BROWSER_LEFT_OUT] = len(left_out)


BROWSER_LEFT_OUT = pytest.StashKey[int]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    count = config.stash.get(BROWSER_LEFT_OUT, 0)
    if count:
        terminalreporter.write_line(f"BROWSER=none: {count} browser tests left out", yellow=True)
