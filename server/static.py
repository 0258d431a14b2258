"""Serves the built web app: one page for `/` and `/r/…`, and the hashed files below `/assets/`.

Owns what is read from disk and under which headers it goes out. Every file is found once, at the start: a request is a
look-up in a dictionary, so no path in it can lead anywhere else. The build leaves `.br` and `.gz` beside what compresses
well; nothing is compressed here. When the app was not built, a page says how to build it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.answers import error_response

STATIC_DIR: Final = Path(__file__).parent / "static"

_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".gif": "image/gif",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}
"""Fixed here: `mimetypes` asks the machine, and some answer text/plain for a script, which browsers then refuse."""

_ENCODINGS: Final = {"br": ".br", "gzip": ".gz"}
"""Content codings the build may have made, best first."""

_POLICY: Final = {
    "default-src": "'self'",
    "base-uri": "'none'",
    "connect-src": "'self' ws: wss:",  # not every browser takes 'self' for a WebSocket of the same host
    "form-action": "'self'",
    "frame-ancestors": "'self'",
    "img-src": "'self'",
    "object-src": "'none'",
    "style-src": "'self'",
}
CONTENT_SECURITY_POLICY: Final = "; ".join(f"{directive} {sources}" for directive, sources in _POLICY.items())

_SECURE: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

NOT_BUILT: Final = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Tutti</title>
<h1>The server runs, its web app is not built</h1>
<p>Run <code>make web</code> (it needs Node 20 or later), then start the server again.</p>
<p>Editors of your own can connect all the same: WebSocket at <code>/ws/{room}</code>, HTTP at <code>/api/rooms</code>.</p>
</html>
"""


@dataclass(frozen=True, slots=True)
class _File:
    """One file in memory, in every coding there is (`""` for none)."""

    media_type: str
    cache_control: str
    bodies: Mapping[str, bytes]
    etag: str


def web_routes(folder: Path = STATIC_DIR) -> list[Route]:
    """Every path that no earlier route took. Reads the folder now; a later build needs a restart."""
    files = _read_folder(folder)
    index = files.pop("/index.html", None)

    async def page(request: Request) -> Response:
        if index is not None:
            return _answer(request, index)
        return Response(NOT_BUILT, 503, _SECURE | {"Cache-Control": "no-store"}, _TYPES[".html"])

    async def file(request: Request) -> Response:
        found = files.get("/" + request.path_params["path"])
        if found is None:
            return error_response(404, "not_found", "there is nothing at this address", _SECURE)
        return _answer(request, found)

    return [Route("/", page), Route("/r/{room:path}", page), Route("/{path:path}", file)]


def _read_folder(folder: Path) -> dict[str, _File]:
    """Every file below `folder` by its path in a URL. Links out of the folder are as good as what they lead to."""
    paths = {path for path in folder.rglob("*") if path.is_file()} if folder.is_dir() else set()
    files: dict[str, _File] = {}
    for path in sorted(paths):
        if path.suffix in _ENCODINGS.values() and path.with_suffix("") in paths:
            continue
        body = path.read_bytes()
        bodies = {"": body}
        for coding, suffix in _ENCODINGS.items():
            compressed = path.with_name(path.name + suffix)
            if compressed in paths:
                bodies[coding] = compressed.read_bytes()
        url = "/" + path.relative_to(folder).as_posix()
        files[url] = _File(
            media_type=_TYPES.get(path.suffix.lower(), "application/octet-stream"),
            # Below /assets/ a name holds the hash of what it names; everything else may change with the next build.
            cache_control="public, max-age=31536000, immutable" if url.startswith("/assets/") else "no-cache",
            bodies=bodies,
            etag=hashlib.blake2b(body, digest_size=16).hexdigest(),
        )
    return files


def _answer(request: Request, file: _File) -> Response:
    coding = _best_coding(request.headers.get("accept-encoding", ""), file)
    etag = f'"{file.etag}{"-" + coding if coding else ""}"'
    headers = {**_SECURE, "Cache-Control": file.cache_control, "ETag": etag}
    if len(file.bodies) > 1:
        headers["Vary"] = "Accept-Encoding"
    if coding:
        headers["Content-Encoding"] = coding
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(file.bodies[coding], 200, headers, file.media_type)


def _best_coding(accepted: str, file: _File) -> str:
    """The first of our codings the client takes (RFC 9110, Accept-Encoding), `""` if there is none."""
    takes: dict[str, bool] = {}
    for part in accepted.lower().split(","):
        name, _, parameter = part.partition(";")
        weight = parameter.strip().removeprefix("q=").strip() if parameter.strip().startswith("q=") else "1"
        takes[name.strip()] = weight.strip("0.") != ""
    for coding in _ENCODINGS:
        if coding in file.bodies and takes.get(coding, takes.get("*", False)):
            return coding
    return ""
