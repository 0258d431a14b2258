"""The HTTP API for documents: which rooms there are, what they hold, who is in them. Reading only.

Owns paths, parameters and answers; docs of the same are in `openapi.json` beside this page, and a test compares the two.
Knows the hub and the journal through the protocols below. A room is created by editing it, never by asking for it.
Nothing here holds the loop (R17): a view is made on the spot only while it is tiny, else in the worker process, and a
whole document is hashed in a thread and sent in slices.
"""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl

import anyio.to_thread
import orjson
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from crdt.errors import RemoteError, TooLarge
from crdt.views import VIEW_KINDS, ViewKind, WrongView, read_json
from server.answers import (
    EXCEPTION_HANDLERS,
    JSON_TYPE,
    HttpError,
    RawMount,
    decode_segment,
    encode_json,
    encoded_response,
    json_response,
)
from server.room.key import RoomKey
from server.room.rows import FIRST_GENERATION

OPENAPI_PATH: Final = Path(__file__).with_name("openapi.json")

UPDATE_TYPE: Final = "application/octet-stream"

_VIEW_ERRORS: Final = {409: "wrong_kind", 413: "too_large", 500: "unreadable"}

Offload = Callable[..., Awaitable[Any]]
"""`await offload(function, *arguments)` runs a module-level function in another process. Raises `Unavailable` if that dies."""


class LiveRoom(Protocol):
    """A room that is in memory."""

    @property
    def sessions(self) -> int: ...
    @property
    def document_bytes(self) -> int: ...
    @property
    def saved_seq(self) -> int: ...
    @property
    def last_seq(self) -> int: ...
    @property
    def state(self) -> str: ...
    @property
    def present(self) -> list[dict[str, Any]]:
        """`client` (Yjs id), `session` and `state` (JSON text in UTF-8) of everybody."""


class Hub(Protocol):
    """The rooms in memory."""

    def live(self, key: RoomKey) -> LiveRoom | None:
        """The room, if it is in memory."""

    async def document(self, key: RoomKey) -> bytes | None:
        """The whole document as one Yjs v1 update, None if there is no such room. Never creates one."""


class RoomRecord(Protocol):
    """What the journal knows of a room. Times are seconds since the epoch."""

    @property
    def key(self) -> RoomKey: ...
    @property
    def generation(self) -> int: ...
    @property
    def last_seq(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def created_at(self) -> float: ...
    @property
    def updated_at(self) -> float: ...


class Journal(Protocol):
    """What is stored."""

    async def rooms(self, *, tenant: str, after: str | None, limit: int) -> Sequence[RoomRecord]:
        """Rooms ordered by name, from behind the name `after`."""

    async def room(self, key: RoomKey) -> RoomRecord | None:
        """One room, if anything of it is stored."""


@dataclass(frozen=True, slots=True)
class ApiLimits:
    """Counts and bytes that bound one request."""

    room_name_bytes_max: int = 1024
    root_name_bytes_max: int = 1024
    """Names of roots are constants in somebody's editor: `default`, `prosemirror`, `content`."""
    page_max: int = 1000
    view_bytes_max: int = 32 * 1024 * 1024
    """Largest update that is turned into a view: about 12 s in the worker (0.4 ms a KiB). Larger ones are to be had whole."""
    inline_bytes_max: int = 4096
    """Updates up to here are turned into a view on the loop: 2 ms, and 10 ms if made to be slow (400 clients at one spot)."""
    views_waiting_max: int = 8
    """Views in the worker's queue at once. Compaction shares that worker; one more is refused, to be tried again."""
    slice_bytes: int = 256 * 1024
    """A whole document is hashed in a thread and sent in slices from this size on."""


@dataclass(frozen=True, slots=True)
class View:
    """What the worker makes of an update: the JSON, or why not, since exceptions do not travel well."""

    body: bytes = b""
    status: int = 200
    message: str = ""


def render_view(update: bytes, root: str, kind: ViewKind) -> View:
    """Make one view. Runs in the worker process for all but tiny updates."""
    try:
        return View(encode_json(read_json(update, root, kind)))
    except WrongView as error:
        return View(status=409, message=str(error))
    except TooLarge as error:
        return View(status=413, message=str(error))
    except (RemoteError, RecursionError) as error:
        return View(status=500, message=f"document can't be read: {error}")


def api_routes(
    hub: Callable[[], Hub],
    journal: Journal,
    offload: Offload,
    *,
    limits: ApiLimits,
    cors_origins: Sequence[str] = (),
    tenant: str = "",
) -> list[BaseRoute]:
    """The API below `/api`, an application of its own. `hub` is asked at each request: it lives as long as the loop."""
    # A page of another origin may read the headers named here besides the body.
    cors = Middleware(
        CORSMiddleware,
        allow_origins=cors_origins,
        allow_methods=["GET", "HEAD"],
        expose_headers=["ETag", "Retry-After"],
    )
    app = Starlette(
        routes=Api(hub, journal, offload, limits=limits, tenant=tenant).routes(),
        middleware=[cors] if cors_origins else [],
        exception_handlers=EXCEPTION_HANDLERS,
    )
    app.router.redirect_slashes = False
    return [RawMount("/api", app)]


class Api:
    """The answers."""

    def __init__(
        self, hub: Callable[[], Hub], journal: Journal, offload: Offload, *, limits: ApiLimits, tenant: str
    ) -> None:
        self._hub = hub
        self._journal = journal
        self._offload = offload
        self._limits = limits
        self._tenant = tenant
        self._views_waiting = 0
        self._openapi = OPENAPI_PATH.read_bytes()

    def routes(self) -> list[Route]:
        """Every address there is. GET brings HEAD along."""
        return [
            Route("/api/openapi.json", self.openapi),
            Route("/api/rooms", self.rooms),
            Route("/api/rooms/{room}", self.room),
            Route("/api/rooms/{room}/json", self.json),
            Route("/api/rooms/{room}/update", self.update),
            Route("/api/rooms/{room}/presence", self.presence),
        ]

    async def openapi(self, _request: Request) -> Response:
        """This API, described."""
        return encoded_response(self._openapi, JSON_TYPE)

    async def rooms(self, request: Request) -> Response:
        """One page of the stored rooms, by name. `next` is the `after` of the page behind it, null on the last."""
        query = _query(request, "limit", "after")
        limit = _integer(query, "limit", default=100, most=self._limits.page_max)
        after = query.get("after") or None
        records = await self._journal.rooms(tenant=self._tenant, after=after, limit=limit + 1)
        page = records[:limit]
        rooms = [self._record(record) for record in page]
        return json_response({"rooms": rooms, "next": page[-1].key.name if len(records) > limit else None})

    def _record(self, record: RoomRecord) -> dict[str, Any]:
        live = self._hub().live(record.key)
        return {
            "name": record.key.name,
            "generation": record.generation,
            "bytes": record.bytes,
            "rows": record.rows,
            "last_seq": record.last_seq,
            "created_at": _time(record.created_at),
            "updated_at": _time(record.updated_at),
            "sessions": live.sessions if live else 0,
        }

    async def room(self, request: Request) -> Response:
        """One room: what is stored, and what is in memory if it is."""
        key = self._key(request)
        record = await self._journal.room(key)
        live = self._hub().live(key)
        if record is not None:
            answer = self._record(record)
        elif live is not None:
            # Somebody is in it, and nothing was written yet.
            nothing = {"bytes": 0, "rows": 0, "last_seq": 0, "created_at": None, "updated_at": None}
            answer = {"name": key.name, "generation": FIRST_GENERATION, **nothing, "sessions": live.sessions}
        else:
            raise _no_room(key)
        answer |= {"saved_seq": answer["last_seq"], "state": "stored", "document_bytes": None}
        if live is not None:
            answer |= {"saved_seq": live.saved_seq, "last_seq": live.last_seq, "state": live.state}
            answer |= {"document_bytes": live.document_bytes}
        return json_response(answer)

    async def json(self, request: Request) -> Response:
        """One root of the document, read as the caller says it is."""
        key = self._key(request)
        query = _query(request, "root", "as")
        root = query.get("root", "default")
        if len(root.encode()) > self._limits.root_name_bytes_max:
            raise HttpError(400, "bad_parameter", f"root is longer than {self._limits.root_name_bytes_max} bytes")
        kind = _view_kind(query.get("as", "prosemirror"))
        update = await self._document(key)
        # One tag for all views of a document: tags are compared within one address, and that says root and kind.
        etag = await self._etag(update)
        if _matches(request, etag):
            return Response(status_code=304, headers={"ETag": etag})
        if len(update) > self._limits.view_bytes_max:
            raise HttpError(
                413, "too_large", f"document is {len(update)} bytes, a view is made of {self._limits.view_bytes_max}"
            )
        view = await self._render(update, root, kind)
        if view.status != 200:
            raise HttpError(view.status, _VIEW_ERRORS[view.status], view.message)
        return encoded_response(view.body, JSON_TYPE, headers={"ETag": etag})

    async def _render(self, update: bytes, root: str, kind: ViewKind) -> View:
        if len(update) <= self._limits.inline_bytes_max:
            return render_view(update, root, kind)
        if self._views_waiting >= self._limits.views_waiting_max:
            message = f"{self._views_waiting} views are being made already"
            raise HttpError(503, "busy", message, retry_after_s=1)
        self._views_waiting += 1
        try:
            view = await self._offload(render_view, update, root, kind)
        finally:
            self._views_waiting -= 1
        assert isinstance(view, View)
        return view

    async def update(self, request: Request) -> Response:
        """The whole document as one Yjs v1 update: what a fresh client would be sent."""
        update = await self._document(self._key(request))
        etag = await self._etag(update)
        headers = {"ETag": etag, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
        if _matches(request, etag):
            return Response(status_code=304, headers=headers)
        headers["Content-Length"] = str(len(update))
        if request.method == "HEAD":
            return Response(headers=headers, media_type=UPDATE_TYPE)
        return StreamingResponse(self._slices(update), headers=headers, media_type=UPDATE_TYPE)

    async def _slices(self, update: bytes) -> AsyncIterator[memoryview]:
        # Each is awaited until the socket takes it, so that a large document is neither copied whole nor sent in one go.
        view = memoryview(update)
        for start in range(0, len(view), self._limits.slice_bytes):
            yield view[start : start + self._limits.slice_bytes]

    async def presence(self, request: Request) -> Response:
        """Who is here: nobody in a room that is not in memory."""
        key = self._key(request)
        live = self._hub().live(key)
        if live is None and await self._journal.room(key) is None:
            raise _no_room(key)
        present = [_presence(**entry) for entry in live.present] if live else []
        return json_response({"present": present})

    def _key(self, request: Request) -> RoomKey:
        name = decode_segment(
            request.path_params["room"], bytes_max=self._limits.room_name_bytes_max, what="the room's name"
        )
        return RoomKey(self._tenant, name)

    async def _document(self, key: RoomKey) -> bytes:
        update = await self._hub().document(key)
        if update is None:
            raise _no_room(key)
        return update

    async def _etag(self, update: bytes) -> str:
        if len(update) <= self._limits.slice_bytes:
            return _tag(update)
        return await anyio.to_thread.run_sync(_tag, update)


def _tag(update: bytes) -> str:
    """1 GB/s, and the GIL is free meanwhile."""
    return f'"{hashlib.blake2b(update, digest_size=16).hexdigest()}"'


def _presence(*, client: int, session: int, state: bytes) -> dict[str, Any]:
    # The state was checked to be JSON when it came in; it is not read again.
    return {"client": client, "session": session, "state": orjson.Fragment(state)}


def _no_room(key: RoomKey) -> HttpError:
    return HttpError(404, "no_such_room", f"there is no room {key.name!r}")


def _query(request: Request, *names: str) -> dict[str, str]:
    """The query parameters, which must be among `names` and each given once."""
    raw = request.scope["query_string"].decode("latin-1")
    try:
        pairs = parse_qsl(raw, keep_blank_values=True, errors="strict", max_num_fields=10)
    except ValueError:
        raise HttpError(400, "bad_parameter", "the query is not valid utf-8 or has too many parameters") from None
    query: dict[str, str] = {}
    for name, value in pairs:
        if name not in names:
            raise HttpError(400, "bad_parameter", f"there is no parameter {name!r}, only {' and '.join(names)}")
        if name in query:
            raise HttpError(400, "bad_parameter", f"{name} is given twice")
        query[name] = value
    return query


def _integer(query: dict[str, str], name: str, *, default: int, most: int) -> int:
    text = query.get(name, str(default))
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if not 1 <= value <= most:
        raise HttpError(400, "bad_parameter", f"{name} is {text!r}, it must be a whole number from 1 to {most}")
    return value


def _view_kind(text: str) -> ViewKind:
    for kind in VIEW_KINDS:
        if kind == text:
            return kind
    raise HttpError(400, "bad_parameter", f"as is {text!r}, it must be one of {', '.join(VIEW_KINDS)}")


def _matches(request: Request, etag: str) -> bool:
    """RFC 9110, If-None-Match: any of the tags, weak or not, or `*`."""
    tags = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    return etag in tags or "*" in tags


def _time(seconds: float) -> str:
    """RFC 3339, UTC, milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
