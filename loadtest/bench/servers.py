"""The servers under test: how each is started on loopback, and what it has used so far.

Owns a server's process, its scratch data folder and the reading of /proc. CPU and memory are those of the whole process
tree, children and journal threads included, and every server is pinned to the same core.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from loadtest.processes import OwnedProcess, free_port, printed

ROOT: Final = Path(__file__).resolve().parent.parent.parent
_PEER_SCRIPT: Final = ROOT / "tests" / "node" / "node_modules" / "@y" / "websocket-server" / "src" / "server.js"
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_READY_WITHIN_S: Final = 30.0
_STOP_WITHIN_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class ServerKind:
    """A server one can ask for by name; `path` stands before `/<room>` in its WebSocket address."""

    name: str
    path: str
    ready_path: str


SERVERS: Final = {
    kind.name: kind
    for kind in (
        ServerKind("tutti", path="/ws", ready_path="/health/ready"),
        ServerKind("y-websocket", path="", ready_path="/"),
    )
}


def unavailable(kind: ServerKind) -> str | None:
    """Why it cannot be started here, with what to do about it; None if it can."""
    if kind.name == "y-websocket":
        if shutil.which("node") is None:
            return "y-websocket's server needs node on the PATH"
        if not _PEER_SCRIPT.is_file():
            return "y-websocket's server is not installed: run `npm ci` in tests/node"
    return None


class RunningServer:
    """One fresh server with an empty data folder; a context manager that leaves neither process nor folder behind."""

    def __init__(self, kind: ServerKind, *, cpus: set[int], scratch: Path, tutti_args: Iterable[str] = ()) -> None:
        self.kind = kind
        self.port = free_port()
        self._cpus = cpus
        self._scratch = scratch
        self._tutti_args = tuple(tutti_args)

    def __enter__(self) -> Self:
        self._scratch.mkdir(parents=True, exist_ok=True)
        self._data_dir = Path(tempfile.mkdtemp(prefix=f"bench-{self.kind.name}-", dir=self._scratch))
        self._output = tempfile.TemporaryFile("a+b")
        try:
            argv, env = self._command()
            self._process = OwnedProcess(argv, output=self._output, cwd=ROOT, env=env, cpus=self._cpus)
            try:
                self._process.wait_ready(self.port, self.kind.ready_path, within_s=_READY_WITHIN_S)
            except BaseException:
                self._process.end()
                raise
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._process.stop(within_s=_STOP_WITHIN_S)
        finally:
            self._process.end()
            self._release()

    @property
    def output(self) -> str:
        """All it printed so far."""
        return printed(self._output)

    def cpu_s(self) -> float:
        """CPU seconds the process tree has used since its start, user and system."""
        return cpu_ticks(process_tree(self._process.pid, read_stats())) / _TICKS_PER_S

    def memory_bytes(self) -> int:
        """Resident memory of the process tree; pages shared between its processes count in each."""
        return sum(stat.resident_pages for stat in process_tree(self._process.pid, read_stats())) * _PAGE_BYTES

    def _command(self) -> tuple[list[str], Mapping[str, str]]:
        if self.kind.name == "y-websocket":
            node = shutil.which("node")
            assert node is not None, "unavailable() was not asked"
            return [node, str(_PEER_SCRIPT)], {"HOST": "127.0.0.1", "PORT": str(self.port), "NODE_ENV": "production"}
        address = ["--host", "127.0.0.1", "--port", str(self.port), "--data-dir", str(self._data_dir)]
        return [sys.executable, "-m", "server.cli", "serve", *address, *self._tutti_args], {}

    def _release(self) -> None:
        self._output.close()
        shutil.rmtree(self._data_dir)


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """What the benchmark reads of one line of /proc/<pid>/stat."""

    pid: int
    parent: int
    ticks: int
    """Used by all its threads and by the children it has reaped."""
    resident_pages: int


def parse_stat(line: str) -> ProcessStat:
    """One /proc/<pid>/stat (proc(5)); the command in it may hold spaces and parentheses."""
    pid, _, rest = line.partition(" (")
    fields = rest[rest.rindex(")") + 2 :].split()
    # Fields are counted from 3 (state) in proc(5): 4 is the parent, 14-17 the ticks, 24 the resident pages.
    return ProcessStat(int(pid), int(fields[1]), sum(map(int, fields[11:15])), int(fields[21]))


def read_stats() -> list[ProcessStat]:
    """Of every process there is; those that end while being read are left out."""
    stats = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stats.append(parse_stat((entry / "stat").read_text()))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return stats


def process_tree(root: int, stats: Iterable[ProcessStat]) -> list[ProcessStat]:
    """The process `root` and all that descend from it."""
    children: dict[int, list[ProcessStat]] = {}
    tree: list[ProcessStat] = []
    for stat in stats:
        children.setdefault(stat.parent, []).append(stat)
        if stat.pid == root:
            tree.append(stat)
    for stat in tree:  # grows while it is walked
        tree += children.get(stat.pid, [])
    return tree


def cpu_ticks(tree: Iterable[ProcessStat]) -> int:
    return sum(stat.ticks for stat in tree)


def busy_s(cpus: Iterable[int]) -> float:
    """Seconds these cores have been busy since the machine started, whoever used them."""
    return parse_busy(Path("/proc/stat").read_text(), cpus) / _TICKS_PER_S


def parse_busy(text: str, cpus: Iterable[int]) -> int:
    """Ticks these cores were busy, from /proc/stat (proc(5)); time the host took away (steal) counts as used."""
    wanted = {f"cpu{cpu}" for cpu in cpus}
    lines = (line.split() for line in text.splitlines())
    # user, nice, system, idle, iowait, irq, softirq, steal; what follows is contained in user and nice.
    return sum(sum(map(int, (*fields[1:4], *fields[6:9]))) for fields in lines if fields and fields[0] in wanted)
