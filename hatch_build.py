"""Refuses to build a wheel without the web app's built assets: such a wheel would install and then show nothing."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class RequireAssets(BuildHookInterface):  # type: ignore[type-arg]
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Runs before each wheel; an editable install serves assets from the tree, so it may come first."""
        if version != "editable" and not (Path(self.root) / "server" / "static" / "index.html").is_file():
            raise RuntimeError("server/static/index.html is missing: run `make web` before building the wheel")
