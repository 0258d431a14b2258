"""One helper process for work that would hold the loop (R17): compaction, views of large documents.

pycrdt never releases the interpreter's lock, so a thread would not do. One call runs at a time, in the order asked for.
The process is spawned at the first call, replaced if it dies, and ends with its owner: at `close`, or by itself when the
owner's process is gone, however that ended.
"""

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Final, TypeVar

from crdt.errors import Unavailable

Result = TypeVar("Result")

NICENESS: Final = 5
"""The loop comes first where both want the same core."""


class Worker:
    """See the module. `run` and `close` are called on the loop; a worker may not be used again after `close`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._closed = False
        # One thread waits for the process's answer: a second call queues behind it, also when the first caller gave up.
        # The queue holds one job per awaiting caller.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    @property
    def process_id(self) -> int | None:
        """Of the running process, None before the first call."""
        return self._process.pid if self._process is not None else None

    async def run(self, function: Callable[..., Result], *args: object) -> Result:
        """`function(*args)` in the process; both must be picklable. Raises what it raises.

        `Unavailable` when the process dies on it: out of memory, killed, or a crash of native code.
        """
        if self._closed:
            raise Unavailable(f"{self._name} is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._call, function, args)

    async def close(self) -> None:
        """End the process at once, whatever it is doing; waiting calls raise `Unavailable`."""
        self._closed = True
        process = self._process
        if process is not None:
            process.kill()
        await asyncio.to_thread(self._thread.shutdown)
        self._discard()

    def _call(self, function: Callable[..., Result], args: tuple[object, ...]) -> Result:
        if self._closed:
            raise Unavailable(f"{self._name} is closed")
        try:
            if self._pipe is None:
                self._spawn()
            assert self._pipe is not None
            self._pipe.send((function, args))
            worked, result = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._discard()
            raise Unavailable(f"{self._name} died during {function.__name__}") from error
        if worked:
            return result  # type: ignore[no-any-return]  # what `function` returned, through a pipe that has no types
        raise result

    def _spawn(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs,), name=self._name, daemon=True)
        process.start()
        theirs.close()
        self._process, self._pipe = process, ours
        if self._closed:
            # `close` ran while the process was being made and had nothing to kill.
            process.kill()

    def _discard(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self._process = self._pipe = None


def serve(pipe: Connection) -> None:
    """The process: answer one call after another until the other side is gone."""
    # Ctrl-C in a terminal reaches the whole group; the owner decides when this ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()
    while True:
        try:
            function, args = pipe.recv()
        except EOFError:
            return
        try:
            answer = (True, function(*args))
        except Exception as error:  # noqa: BLE001 - carried to the caller, which decides
            answer = (False, error)
        pipe.send(answer)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
