"""The web app's files: what is served, under which headers, and that nothing else is."""

import gzip
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from server.answers import EXCEPTION_HANDLERS
from server.static import web_routes

SCRIPT = b"console.log('hello');\n" * 100
INDEX = b"<!doctype html><title>Tutti</title>"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret.txt").write_text("above the folder")
    built = tmp_path / "static"
    (built / "assets").mkdir(parents=True)
    (built / "index.html").write_bytes(INDEX)
    (built / "robots.txt").write_bytes(b"User-agent: *\n")
    (built / "assets" / "app-1a2b.js").write_bytes(SCRIPT)
    (built / "assets" / "app-1a2b.js.gz").write_bytes(gzip.compress(SCRIPT))
    (built / "assets" / "app-1a2b.js.br").write_bytes(b"as if brotli")
    (built / "assets" / "only.css").write_bytes(b"a{}")
    (built / "assets" / "only.css.gz").write_bytes(gzip.compress(b"a{}"))
    for name in ("logo.svg", "font.woff2", "mod.wasm", "x.unknown", "archive.gz"):
        (built / "assets" / name).write_bytes(name.encode())
    return built


def client(folder: Path) -> httpx.AsyncClient:
    app = Starlette(routes=list(web_routes(folder)), exception_handlers=EXCEPTION_HANDLERS)
    app.router.redirect_slashes = False
    headers = {"Accept-Encoding": "identity"}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://node", headers=headers)


@pytest.mark.parametrize("path", ["/", "/r/plan", "/r/a/b/c", "/r/%E2%82%AC%2Fx", "/r/", "/r/plan?saved=1"])
async def test_every_page_of_the_app_is_the_one_page(folder: Path, path: str) -> None:
    response = await client(folder).get(path)
    assert (response.status_code, response.content) == (200, INDEX)
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    known = await client(folder).get(path, headers={"If-None-Match": response.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")


async def test_hashed_files_are_kept_for_a_year(folder: Path) -> None:
    response = await client(folder).get("/assets/app-1a2b.js")
    assert (response.status_code, response.content) == (200, SCRIPT)
    assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert (await client(folder).get("/robots.txt")).headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("app-1a2b.js", "text/javascript; charset=utf-8"),
        ("only.css", "text/css; charset=utf-8"),
        ("logo.svg", "image/svg+xml"),
        ("font.woff2", "font/woff2"),
        ("mod.wasm", "application/wasm"),
        ("x.unknown", "application/octet-stream"),
        ("archive.gz", "application/octet-stream"),
    ],
)
async def test_types_do_not_depend_on_the_machine(folder: Path, name: str, media_type: str) -> None:
    assert (await client(folder).get(f"/assets/{name}")).headers["content-type"] == media_type


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip, deflate, br", "br"),
        ("gzip", "gzip"),
        ("GZIP;q=0.5", "gzip"),
        ("br;q=0, gzip", "gzip"),
        ("br;q=0.000, *;q=0.1", "gzip"),
        ("*", "br"),
        ("identity", None),
        ("deflate", None),
        ("", None),
        ("gzip;q=0", None),
    ],
)
async def test_the_best_coding_the_client_takes(folder: Path, accepted: str, coding: str | None) -> None:
    async with client(folder).stream("GET", "/assets/app-1a2b.js", headers={"Accept-Encoding": accepted}) as response:
        raw = b"".join([chunk async for chunk in response.aiter_raw()])
    assert response.headers.get("content-encoding") == coding
    assert response.headers["vary"] == "Accept-Encoding"
    assert int(response.headers["content-length"]) == len(raw)
    assert raw == {"br": b"as if brotli", "gzip": gzip.compress(SCRIPT), None: SCRIPT}[coding]


async def test_each_coding_has_its_own_tag(folder: Path) -> None:
    tags = set()
    for accepted in ("br", "gzip", "identity"):
        response = await client(folder).head("/assets/app-1a2b.js", headers={"Accept-Encoding": accepted})
        tags.add(response.headers["etag"])
    assert len(tags) == 3


@pytest.mark.parametrize("path", ["/", "/assets/app-1a2b.js"])
async def test_head_is_get_without_the_body(folder: Path, path: str) -> None:
    got, head = await client(folder).get(path), await client(folder).head(path)
    assert head.status_code == 200
    for header in ("content-length", "content-type", "etag", "cache-control"):
        assert head.headers[header] == got.headers[header]


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/assets/../../secret.txt",
        "/assets/%2e%2e%2f%2e%2e%2fsecret.txt",
        "/assets/..\\..\\secret.txt",
        "//etc/passwd",
        "/assets//app-1a2b.js",
        "/assets/",
        "/assets",
        "/assets/app-1a2b.js.gz",
        "/assets/app-1a2b.js%00",
        "/assets/nothing.js",
        "/index.html",
        "/nothing",
    ],
)
async def test_nothing_else_is_served(folder: Path, path: str) -> None:
    # Sent as it stands: httpx would resolve the dots.
    sent = httpx.URL("http://node").copy_with(raw_path=path.encode())
    response = await client(folder).get(sent)
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"
    assert "above" not in response.text


@pytest.mark.parametrize("path", ["/", "/r/plan", "/assets/app-1a2b.js", "/nothing"])
async def test_everything_goes_out_under_a_strict_policy(folder: Path, path: str) -> None:
    headers = (await client(folder).get(path)).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'self'"
    assert "script-src" not in policy  # that is: as default-src, nothing inline
    assert policy["connect-src"] == "'self' ws: wss:"
    assert policy["style-src"] == "'self'"
    assert policy["img-src"] == "'self'"
    assert policy["frame-ancestors"] == "'self'"
    assert policy["object-src"] == policy["base-uri"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/", "/r/plan"])
@pytest.mark.parametrize("exists", [True, False])
async def test_an_app_that_was_not_built_says_how(tmp_path: Path, path: str, *, exists: bool) -> None:
    response = await client(tmp_path if exists else tmp_path / "missing").get(path)
    assert response.status_code == 503
    assert "make web" in response.text
    assert response.headers["cache-control"] == "no-store"
    assert "content-security-policy" in response.headers


@pytest.mark.parametrize("path", ["/", "/r/plan", "/assets/app-1a2b.js"])
async def test_pages_are_only_read(folder: Path, path: str) -> None:
    response = await client(folder).post(path)
    assert (response.status_code, response.json()["error"]["code"]) == (405, "method_not_allowed")
