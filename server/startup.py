"""What must hold before a node can serve: a folder it can write to, and an address nobody else listens on.

Checked at the start, so that what is wrong is one sentence to the operator and not a traceback from the depth.
"""

import errno
import os
import socket
import tempfile
from pathlib import Path
from typing import Final

from server.settings import Settings, SettingsError

_BACKLOG: Final = 2048
"""Connections the kernel accepts ahead of us: after a restart every client of a node is back within a second or two."""

_NO_SUCH_ADDRESS: Final = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
"""`localhost` is ::1 too, also on a machine that has IPv6 switched off."""


def prepare_folder(path: Path, setting: str) -> None:
    """Makes the folder, parents included, and proves that a file can be written in it. Raises SettingsError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        # Permission bits don't tell (root, a read-only mount, a full disk), only writing does.
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(b"\0")
            probe.flush()
    except OSError as error:
        raise SettingsError(f"{setting} {path} can't be written to: {_reason(error)}") from None


def listen(settings: Settings) -> list[socket.socket]:
    """Listening sockets on every address `host` has, for the HTTP server to take over. Raises SettingsError.

    Port 0 takes a free one, the same for all addresses: `getsockname()` says which.
    """
    port = settings.port
    listeners: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(settings.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise SettingsError(f"host {settings.host} can't be resolved: {_reason(error)}") from None
    missing: OSError | None = None
    for family, kind, protocol, _, address in dict.fromkeys(found):
        try:
            listener = _listener(family, kind, protocol, (address[0], port, *address[2:]))
        except OSError as error:
            if error.errno in _NO_SUCH_ADDRESS:
                missing = error
                continue
            for opened in listeners:
                opened.close()
            hint = " (another program has it: choose another port)" if error.errno == errno.EADDRINUSE else ""
            raise SettingsError(f"can't listen on {settings.host} port {port}: {_reason(error)}{hint}") from None
        listeners.append(listener)
        port = listener.getsockname()[1]
    if missing is not None and not listeners:
        raise SettingsError(f"can't listen on {settings.host} port {port}: {_reason(missing)}")
    return listeners


def _listener(family: int, kind: int, protocol: int, address: tuple[object, ...]) -> socket.socket:
    listener = socket.socket(family, kind, protocol)
    try:
        # A restart must not wait until the kernel has forgotten the connections of the node before it.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)  # noqa: FBT003 (the name and order are socket's)
    return listener


def _reason(error: OSError) -> str:
    return (error.strerror or os.strerror(error.errno or 0)).lower()
