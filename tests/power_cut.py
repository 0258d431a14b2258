"""What a power cut would leave of a folder, at any moment of a process that was watched by strace.

Owns the command that watches, the reading of its trace, and a `Disk` that keeps apart what is written and what is
synced. A kill doesn't test fsync: the kernel keeps what it was given. Here only what an fsync covered is sure to be
there; of the rest any part may be, sector by sector, and so may the name of a file whose folder was not synced.
Knows what SQLite and the node use of the system; any other call that changes a file in the folder raises `ValueError`.

Theory: the fault model of "All File Systems Are Not Created Equal" (Pillai et al., OSDI 2014), without reordering of names.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

_CHANGING: Final = (
    "openat,pwrite64,ftruncate,fsync,fdatasync,unlink,sendto,sendmsg,write,"  # what is understood
    "writev,pwritev,pwritev2,truncate,fallocate,unlinkat,rename,renameat,renameat2,link,linkat,copy_file_range"
)
SECTOR_BYTES: Final = 512
"""What a disk writes whole or not at all."""

_LINE: Final = re.compile(
    r"(?P<pid>\d+) +(?:<\.\.\. (?P<resumed>\w+) resumed>|(?P<name>\w+)\()(?P<arguments>.*?)"
    r"(?:(?P<unfinished> <unfinished \.\.\.>)|\) += (?P<result>-?\d+|\?)(?:<(?P<opened>[^>]*)>)?.*)"
)
_FILE: Final = re.compile(r"(?:\d+|AT_FDCWD)<([^>]*)>(\(deleted\))?")
_BYTES: Final = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


def watched(trace: Path) -> tuple[str, ...]:
    """What to put before a command line so that its system calls are written to `trace`.

    The process is then the command's own (-D), with its exit code and its signals; strings are whole and in hex.
    """
    size = str(1 << 20)
    return (
        "strace",
        "-D",
        "-f",
        "-y",
        "-xx",
        "-s",
        size,
        "-e",
        "signal=none",
        "-e",
        f"trace={_CHANGING}",
        "-o",
        str(trace),
    )


@dataclass
class _File:
    """What is synced, and the changes since, in order: (offset, bytes), or (length, None) for a truncation."""

    synced: bytearray = field(default_factory=bytearray)
    changes: list[tuple[int, bytes | None]] = field(default_factory=list)

    def sync(self, count: int) -> None:
        """The first `count` changes reached the disk."""
        for offset, data in self.changes[:count]:
            _apply(self.synced, offset, data)
        del self.changes[:count]

    def after_cut(self, random: Random | None) -> bytes:
        content = bytearray(self.synced)
        for offset, data in self.changes if random is not None else ():
            assert random is not None
            if data is None:
                if random.random() < 0.5:
                    _apply(content, offset, None)
                continue
            for start in range(0, len(data), SECTOR_BYTES):
                if random.random() < 0.5:
                    _apply(content, offset + start, data[start : start + SECTOR_BYTES])
        return bytes(content)


_Sync = dict[str, _File] | tuple[_File, int]
"""What a sync covers: the names in the folder, or so many changes of a file."""


class Disk:
    """One folder; `replay` keeps it at the moment it has come to."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder.resolve())
        self._files: dict[str, _File] = {}
        self._synced_files: dict[str, _File] = {}
        self._syncs: dict[int, _Sync] = {}

    def after_cut(self, random: Random | None = None) -> dict[str, bytes]:
        """The files if the power went now: of what is not synced nothing, or what `random` decides."""
        files = dict(self._synced_files)
        if random is not None:
            for name in self._files.keys() ^ self._synced_files.keys():
                if random.random() < 0.5:
                    files.pop(name, None)
                    if name in self._files:
                        files[name] = self._files[name]
        return {name: file.after_cut(random) for name, file in files.items()}

    def begun(self, pid: int, call: "Call") -> None:
        """A sync covers what was done when it began, not what came while it ran."""
        if call.name in {"fsync", "fdatasync"}:
            if call.path == self.folder:
                self._syncs[pid] = dict(self._files)
            elif (name := self._name(call)) is not None:
                file = self._files[name]
                self._syncs[pid] = file, len(file.changes)

    def ended(self, pid: int, call: "Call", result: int, opened: str) -> None:
        """Takes in what the call did."""
        if call.name in {"fsync", "fdatasync"}:
            sync = self._syncs.pop(pid, None)
            if sync is not None and result == 0:
                if isinstance(sync, dict):
                    self._synced_files = sync
                else:
                    sync[0].sync(sync[1])
            return
        if call.name == "openat" and "O_CREAT" in call.arguments and result >= 0:
            if opened.startswith(self.folder + "/"):
                self._files.setdefault(opened.removeprefix(self.folder + "/"), _File())
            return
        name_or_none = self._name(call)
        if name_or_none is None or call.name == "openat" or result < 0:
            return
        name = name_or_none
        match call.name:
            case "pwrite64":
                self._files[name].changes.append((call.numbers[-1], call.data[:result]))
            case "ftruncate":
                self._files[name].changes.append((call.numbers[-1], None))
            case "unlink":
                del self._files[name]
            case _:
                raise ValueError(f"{call.name} of {name} is not understood")

    def _name(self, call: "Call") -> str | None:
        if call.path.startswith(self.folder + "/") and not call.deleted:
            return call.path.removeprefix(self.folder + "/")
        return None


@dataclass(frozen=True)
class Call:
    """A system call as the trace has it: `path` is that of the file it is about, or `socket:[…]`."""

    name: str
    arguments: str

    @property
    def path(self) -> str:
        file = _FILE.match(self.arguments)
        return _text(file[1]) if file else self.data.decode()

    @property
    def sends(self) -> bool:
        """It hands bytes to a socket: `write` does too, where its file is one.

        What is too long for the trace is for the compaction's process, which hangs on a pair of sockets.
        """
        writes = self.name == "write" and self.path.startswith("socket:") and '"...' not in self.arguments
        return writes or self.name.startswith("send")

    @property
    def deleted(self) -> bool:
        file = _FILE.match(self.arguments)
        return file is not None and file[2] is not None

    @property
    def data(self) -> bytes:
        """All strings in it."""
        parts = _BYTES.findall(self.arguments)
        if any(cut for _, cut in parts):
            raise ValueError(f"strace cut the data of a {self.name} short")
        return b"".join(bytes.fromhex(hexadecimal.replace("\\x", "")) for hexadecimal, _ in parts)

    @property
    def numbers(self) -> list[int]:
        """Those behind the data."""
        return [int(number) for number in re.findall(r", (\d+)", self.arguments)]


def replay(trace: Path, disk: Disk) -> Iterator[tuple[str, bytes]]:
    """Goes through the trace and yields (socket, bytes) when a send begins, with `disk` as it was at that moment.

    A send that the kernel took only a part of raises `ValueError`: nothing here reads so slowly.
    """
    under_way: dict[int, Call] = {}
    with trace.open() as lines:
        for line in lines:
            found = _LINE.match(line)
            if found is None:
                continue  # a process began or ended
            pid = int(found["pid"])
            if found["name"] is not None:
                call = under_way[pid] = Call(found["name"], found["arguments"])
                disk.begun(pid, call)
                if call.sends:
                    yield call.path, call.data
            if found["unfinished"] is None:
                call = under_way.pop(pid)
                result = -1 if found["result"] == "?" else int(found["result"])
                if call.sends and 0 <= result < len(call.data):
                    raise ValueError(f"{result} of {len(call.data)} bytes were sent")
                disk.ended(pid, call, result, _text(found["opened"] or ""))


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
    content.extend(bytes(max(0, offset - len(content))))
    if data is not None:
        content[offset : offset + len(data)] = data


def _text(hexadecimal: str) -> str:
    return bytes.fromhex(hexadecimal.replace("\\x", "")).decode() if "\\x" in hexadecimal else hexadecimal
