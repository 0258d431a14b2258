"""The error tree and the close codes: whose fault it was, and what the peer is told.

The lowest module, so that everything can raise from it. Three branches and nothing else crosses a module's edge:
`RemoteError` (the peer broke a rule or a limit; ends or answers that session only), `LocalError` (we misused our own
code: a bug), `Unavailable` (disk or another dependency is away; tried again with a bound).

Close codes follow one rule, because `WebsocketProvider` 3.1 stops for good on 4400-4499 and reconnects on anything
else: 44xx says "the same bytes will be refused again", 45xx and the 10xx of RFC 6455 say "come back".
docs/PROTOCOL.md has the table.
"""

from enum import IntEnum
from typing import Final


class CloseCode(IntEnum):
    """Why a socket was closed by the server. 44xx is final, everything else may retry."""

    INTERNAL_ERROR = 1011
    """A fault of ours ended this session; reconnect."""
    SERVICE_RESTART = 1012
    """The node is stopping; reconnect, another one may answer."""
    MALFORMED = 4400
    """A frame, update, state vector or awareness message broke the wire format."""
    BAD_ROOM = 4404
    """The room's name is empty, too long or not valid UTF-8."""
    TOO_LARGE = 4413
    """A message or document is over a limit that will not change by retrying."""
    UNSUPPORTED = 4415
    """Well-formed, but holds content no pycrdt document can keep (Y.XmlHook, an unknown type)."""
    ROOM_FAILED = 4500
    """The room could not be rebuilt from its journal; it is kept on disk and tried again later."""
    NOT_ACCEPTED = 4503
    """Edits can't be stored now (disk full, I/O error): nothing was acknowledged, reconnect later."""
    TOO_SLOW = 4508
    """The peer did not read for too long although it was only owed one diff; reconnect."""
    BUSY = 4529
    """A limit on sessions, rooms or held updates was reached; reconnect later."""


FINAL_CODES: Final = frozenset(code for code in CloseCode if 4400 <= code < 4500)
"""Codes on which WebsocketProvider 3.1 gives up (y-websocket 3.1.0, `onclose`)."""


class TuttiError(Exception):
    """Anything this project raises on purpose."""


class RemoteError(TuttiError):
    """The peer's doing. `code` closes its session, `reason` (at most 123 UTF-8 bytes) is all it is told."""

    code: CloseCode = CloseCode.MALFORMED

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Malformed(RemoteError):
    """Bytes that break the wire format, or an update no honest editor can make."""

    code = CloseCode.MALFORMED


class TooLarge(RemoteError):
    """A limit on size, count or depth was passed."""

    code = CloseCode.TOO_LARGE


class Unsupported(RemoteError):
    """Well-formed content that pycrdt cannot hold."""

    code = CloseCode.UNSUPPORTED


class HoldOverflow(RemoteError):
    """Too much would have to be held back for missing dependencies: not accepted, ask the sender to sync anew."""

    code = CloseCode.BUSY


class NotAccepted(RemoteError):
    """Nobody's fault at the other end: the edit can't be stored now and was not."""

    code = CloseCode.NOT_ACCEPTED


class RoomFailed(RemoteError):
    """The room is quarantined after repeated failures: read-only."""

    code = CloseCode.ROOM_FAILED


class LocalError(TuttiError):
    """Our own misuse. A bug: it ends the room's run and shows in the log."""


class DocumentBroken(LocalError):
    """pycrdt refused or panicked on bytes the gate let through: the document must be rebuilt from the journal."""

    def __init__(self, reason: str, index: int | None = None) -> None:
        super().__init__(reason)
        self.index = index
        """Which update of the batch broke it (0 for the first), where one did."""


class Unavailable(TuttiError):
    """A dependency is away (disk full, I/O error, locked file). What was not acknowledged is not kept."""
