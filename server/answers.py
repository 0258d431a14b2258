"""JSON over HTTP: how values, errors and the names in a path are written and read.

Shared by everything that answers HTTP requests. Every error has one shape, `{"error": {"code", "message"}}`, whoever
raised it; `code` is for programs and never changes its meaning, `message` is one sentence for people.
"""

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

import orjson
from starlette.datastructures import URLPath
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import ASGIApp, Receive, Scope, Send

from crdt.errors import RemoteError, Unavailable

JSON_TYPE: Final = "application/json"

_ROUTING_ERRORS: Final = {
    404: ("not_found", "there is nothing at this address"),
    405: ("method_not_allowed", "this address does not take that method"),
}


class HttpError(Exception):
    """An answer that is not the one asked for. The message is shown to the caller: no internals."""

    def __init__(self, status: int, code: str, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s


def encode_json(value: Any) -> bytes:
    """UTF-8 JSON. orjson stops at 254 levels, and a document may be nested about twice as deep: the rare one is slow."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer that nobody keeps a copy of: what it says changes with every edit."""
    return encoded_response(encode_json(value), JSON_TYPE, status, headers)


def encoded_response(
    body: bytes, media_type: str, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """The same for bytes that are ready."""
    # Documents come from anybody: a browser must not take one for a page of ours.
    fixed = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    return Response(body, status, {**fixed, **(headers or {})}, media_type)


def error_response(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """The one shape of an error."""
    return json_response({"error": {"code": code, "message": message}}, status, headers)


async def answer_http_error(_request: Request, error: Exception) -> Response:
    """Exception handler for `HttpError`."""
    assert isinstance(error, HttpError)
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    return error_response(error.status, error.code, error.message, headers)


async def answer_routing_error(_request: Request, error: Exception) -> Response:
    """Exception handler for what Starlette's router raises: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    code, message = _ROUTING_ERRORS.get(error.status_code, ("http_error", error.detail))
    return error_response(error.status_code, code, message, error.headers)


async def answer_unavailable(_request: Request, error: Exception) -> Response:
    """Exception handler for `Unavailable` and `RemoteError`: this room, or the disk, can't be had right now."""
    if isinstance(error, RemoteError):
        code, message = "room_failed", error.reason
    else:
        code, message = "unavailable", "what is stored can't be read now"  # why is in the log and at /health/ready
    return error_response(503, code, message, {"Retry-After": "5"})


async def answer_fault(_request: Request, _error: Exception) -> Response:
    """Exception handler for the rest. Starlette raises it again afterwards, so that it is logged."""
    return error_response(500, "internal_error", "a fault of the server; its log says more")


EXCEPTION_HANDLERS: Final = {
    HttpError: answer_http_error,
    HTTPException: answer_routing_error,
    RemoteError: answer_unavailable,
    Unavailable: answer_unavailable,
    Exception: answer_fault,
}
"""For every application that answers HTTP: whatever is raised is answered as JSON."""


class RawMount(BaseRoute):
    """Hangs up an application below `prefix` that routes by the path as it was sent, still percent-encoded.

    So `%2F` within a name does not separate; what comes out of a path parameter is to be read with `decode_segment`.
    The application's own routes begin with the prefix.
    """

    def __init__(self, prefix: str, app: ASGIApp) -> None:
        self.prefix = prefix
        self.app = app

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Everything at and below the prefix is the application's, also what it has no answer to."""
        if scope["type"] != "http":
            return Match.NONE, {}
        raw = scope.get("raw_path")
        # ASGI servers may leave it out; then a name with a slash can't be told from two segments.
        path = quote(scope["path"]) if raw is None else raw.decode("latin-1")
        below = path.removeprefix(scope.get("root_path", ""))
        if below != self.prefix and not below.startswith(self.prefix + "/"):
            return Match.NONE, {}
        return Match.FULL, {"path": path, "endpoint": self.app}

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        """Nothing below has a name."""
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the router with what `matches` changed."""
        await self.app(scope, receive, send)


def decode_segment(segment: str, *, bytes_max: int, what: str) -> str:
    """One segment of a raw path, decoded once. Raises `HttpError` 400 if it is not a name of 1 to `bytes_max` bytes."""
    raw = unquote_to_bytes(segment.encode("latin-1"))
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        raise HttpError(400, "bad_name", f"{what} is not valid utf-8") from None
    if not name:
        raise HttpError(400, "bad_name", f"{what} is empty")
    if "\0" in name:
        raise HttpError(400, "bad_name", f"{what} contains a nul character")
    if len(raw) > bytes_max:
        raise HttpError(400, "bad_name", f"{what} is {len(raw)} bytes, limit is {bytes_max}")
    return name
