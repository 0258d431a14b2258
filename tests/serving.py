"""Starts the real server as its own process for tests that need real sockets, signals and files.

Owns that process over all its lives, whatever the test does: leaving the `with` block ends its whole process group,
and the kernel ends it when the test run itself dies. Knows nothing of rooms or frames:

    from tests.serving import Serve

    def test_something(tmp_path: Path) -> None:
        with Serve(tmp_path / "data", "--some-flag", env={"TUTTI_SOMETHING": "1"}) as node:
            connect(node.ws_url + "/my-room")   # ws://127.0.0.1:PORT/ws/my-room
            node.kill()                         # SIGKILL; node.stop() is SIGTERM and returns the exit code
            node.restart()                      # same port, same data
            assert "something" in node.log      # everything it printed, over all its lives
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from loadtest.processes import OwnedProcess, free_port, printed

ROOT: Final = Path(__file__).resolve().parent.parent
SERVE: Final = (sys.executable, "-m", "server.cli", "serve")
_LOG_TAIL_CHARS: Final = 6_000


class Serve:
    """One server on loopback; a context manager.

    `flags` go behind `serve --host --port --data-dir`; `env` is laid over this process's environment; `command` is what
    stands before them (a wrapper such as strace can be put in front of `SERVE`). Entering raises `RuntimeError` with
    the server's output when it exits early or is not ready after `ready_within_s` seconds.
    """

    def __init__(
        self,
        data_dir: str | Path,
        *flags: str,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = SERVE,
        port: int | None = None,
        ready_within_s: float = 30.0,
        stop_within_s: float = 20.0,
    ) -> None:
        self.data_dir = Path(data_dir)
        self.port = free_port() if port is None else port
        self.url = f"http://127.0.0.1:{self.port}"
        self.ws_url = f"ws://127.0.0.1:{self.port}/ws"
        self._argv = (
            *command,
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--data-dir",
            str(self.data_dir),
            *flags,
        )
        self._env = env
        self._ready_within_s = ready_within_s
        self._stop_within_s = stop_within_s
        self._process: OwnedProcess | None = None
        # The lives of a restarted server follow each other in it. It has no name: nothing is left behind.
        self._output = tempfile.TemporaryFile("a+b")  # noqa: SIM115  closed in __exit__

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.running:
                self.stop()
        finally:
            if error is not None:
                error.add_note(f"--- the server's output ---\n{self.log[-_LOG_TAIL_CHARS:]}")
            self._release()

    @property
    def pid(self) -> int:
        """The server's process id; after its end the one it had."""
        return self._life.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.exit_code is None

    @property
    def exit_code(self) -> int | None:
        """Of the last life; negative is the signal that ended it, None while it runs."""
        return self._life.exit_code

    @property
    def log(self) -> str:
        """Everything printed so far, stdout and stderr, over all lives; readable until the block is left."""
        return printed(self._output)

    def start(self) -> None:
        """Starts it and waits until `/health/ready` answers 200."""
        assert not self.running, "the server is already running"
        self._process = OwnedProcess(self._argv, output=self._output, cwd=ROOT, env=self._env)
        self._process.wait_ready(self.port, "/health/ready", within_s=self._ready_within_s)

    def stop(self) -> int:
        """SIGTERM, waits, returns the exit code; `RuntimeError` with the output if it has to be killed after all."""
        return self._life.stop(within_s=self._stop_within_s)

    def kill(self) -> None:
        """SIGKILL to the server and any worker process of its, at once; returns when they are reaped."""
        assert self.running, "the server is not running"
        self._life.end()

    def restart(self) -> None:
        """Starts it again on the same port and data; stops it with SIGTERM first if it still runs."""
        if self.running:
            self.stop()
        if self._process is not None:
            self._process.end()  # it may have gone by itself: then its children are left
        self.start()

    @property
    def _life(self) -> OwnedProcess:
        assert self._process is not None, "the server was never started"
        return self._process

    def _release(self) -> None:
        if self._process is not None:
            self._process.end()
        self._output.close()
