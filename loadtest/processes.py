"""A server process on loopback that cannot outlive whoever started it.

Owns free ports, the process from `exec` to reaping, and what it printed. Knows nothing of what the server speaks.
Benchmarks and tests start their servers with it; standard library only, Linux (`setpriv`, CPU affinity).
"""

import atexit
import contextlib
import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

_OUTPUT_TAIL_CHARS: Final = 6_000


def free_port() -> int:
    """A port of 127.0.0.1 nobody listens on, below the range the kernel gives to outgoing connections.

    A port from that range would do until the server is down for a moment: a client that keeps retrying may then be
    given the very port it connects to, talks to itself, and the server can't bind it again.
    """
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe:
            # As servers bind: a port with connections of a former life in TIME_WAIT counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("none of 100 ports between 20000 and 31999 is free on 127.0.0.1")


class OwnedProcess:
    """One life of a process in a session of its own; started by the constructor, ended by `end()` at the latest.

    `output` (a file open for appending) gets stdout and stderr: a pipe nobody reads would block the process once it is
    full. `cpus` pins the process and all its future threads and children.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        output: IO[bytes],
        cwd: Path,
        env: Mapping[str, str] | None = None,
        cpus: set[int] | None = None,
    ) -> None:
        # setpriv (util-linux) asks the kernel to kill the process when this one goes, which no Python code can do once
        # it is itself killed. It then becomes the process: the pid is the server's own. The signal follows the *thread*
        # that started it, so a thread that starts one must outlive it.
        guard = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
        own_cpus = os.sched_getaffinity(0)
        try:
            if cpus is not None:
                os.sched_setaffinity(0, cpus)  # inherited over fork: no thread of the child ever runs elsewhere
            self._process = subprocess.Popen(  # noqa: S603  the caller names the program; nothing here comes from a peer
                [*guard, *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )
        finally:
            if cpus is not None:
                os.sched_setaffinity(0, own_cpus)
        self._argv = tuple(argv)
        self._output = output
        self._group_ended = False
        atexit.register(self.end)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative is the signal that ended it."""
        return self._process.poll()

    def wait_ready(self, port: int, path: str, *, within_s: float) -> None:
        """Waits until GET `path` on that port answers 200; `RuntimeError` with the output if it never does."""
        deadline = time.monotonic() + within_s
        reason = "nothing listens yet"
        while time.monotonic() < deadline:
            if self.exit_code is not None:
                raise RuntimeError(self.failure(f"exited with code {self.exit_code} before it was ready"))
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            try:
                connection.request("GET", path)
                response = connection.getresponse()
                if response.status == http.HTTPStatus.OK:
                    return
                reason = f"{path} says {response.status}: {response.read(500)!r}"
            except (OSError, http.client.HTTPException) as error:
                reason = repr(error)
            finally:
                connection.close()
            time.sleep(0.03)
        self.end()
        raise RuntimeError(self.failure(f"not ready on port {port} after {within_s:g} s ({reason})"))

    def stop(self, *, within_s: float) -> int:
        """SIGTERM, waits, returns the exit code; `RuntimeError` with the output if it has to be killed after all."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            code = self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.end()
            raise RuntimeError(self.failure(f"still running {within_s:g} s after SIGTERM")) from None
        self.end()
        return code

    def end(self) -> None:
        """SIGKILL to whatever is left of the process and its children, and reaps it; once, then harmless."""
        if self._group_ended:
            return
        with contextlib.suppress(ProcessLookupError):  # all of it is gone already
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._group_ended = True  # the number may now belong to somebody else's processes
        atexit.unregister(self.end)

    def failure(self, what: str) -> str:
        """`what`, the command line and the end of its output, as one message."""
        return f"{what}\n{' '.join(self._argv)}\n--- its output ---\n{printed(self._output)[-_OUTPUT_TAIL_CHARS:]}"


def printed(output: IO[bytes]) -> str:
    """All that was written to an output file so far; leaves its position alone, the process goes on appending."""
    fd = output.fileno()
    return os.pread(fd, os.fstat(fd).st_size, 0).decode(errors="replace")
