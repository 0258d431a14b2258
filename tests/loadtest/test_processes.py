"""loadtest/processes.py, and tests/serving.py on top of it: whatever happens, no server outlives its test."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from loadtest.processes import free_port
from tests.serving import ROOT, Serve

pytestmark = pytest.mark.integration

STAND_IN = """
import http.server, os, signal, subprocess, sys, time

print("a life begins", flush=True)
if "--die" in sys.argv:
    sys.exit("dying of bad luck")
if "--child" in sys.argv:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print("child", child.pid, flush=True)

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if "--never-ready" in sys.argv else 200)
        self.end_headers()
        self.wfile.write(b"because of reasons")

signal.signal(signal.SIGTERM, signal.SIG_IGN if "--deaf" in sys.argv else lambda *_: sys.exit(3))
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Answer).serve_forever()
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> Sequence[str]:
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    return (sys.executable, str(script))


def gone(pid: int) -> bool:
    """Whether the process has ended; one that nobody has reaped yet counts."""
    for _ in range(100):
        state = subprocess.run(
            ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
        ).stdout
        if not state.strip() or state.startswith("Z"):
            return True
        time.sleep(0.05)
    return False


def test_a_server_has_many_lives_on_one_port(tmp_path: Path, stand_in: Sequence[str]) -> None:
    with Serve(tmp_path / "data", command=stand_in) as node:
        first = node.pid
        node.kill()
        assert node.exit_code == -signal.SIGKILL
        node.restart()
        assert node.pid != first
        assert node.stop() == 3
        assert not node.running
        node.restart()
        node.restart()
        assert node.log.count("a life begins") == 4
        last = node.pid
    assert gone(last)


def test_a_server_that_dies_says_why(tmp_path: Path, stand_in: Sequence[str]) -> None:
    with (
        pytest.raises(RuntimeError, match=r"exited with code 1[\s\S]*dying of bad luck"),
        Serve(tmp_path, "--die", command=stand_in),
    ):
        pass


def test_a_server_that_is_never_ready_is_ended_and_says_what_it_answered(
    tmp_path: Path, stand_in: Sequence[str]
) -> None:
    node = Serve(tmp_path, "--never-ready", command=stand_in, ready_within_s=0.5)
    with pytest.raises(RuntimeError, match=r"503.*because of reasons"), node:
        pass
    assert gone(node.pid)


def test_a_server_deaf_to_sigterm_is_killed_and_that_is_an_error(tmp_path: Path, stand_in: Sequence[str]) -> None:
    with (
        pytest.raises(RuntimeError, match="still running"),
        Serve(tmp_path, "--deaf", command=stand_in, stop_within_s=0.3) as node,
    ):
        pass
    assert gone(node.pid)


def test_a_failing_test_shows_the_servers_output(tmp_path: Path, stand_in: Sequence[str]) -> None:
    with pytest.raises(ValueError, match="the test's own") as caught, Serve(tmp_path, command=stand_in) as node:
        raise ValueError("the test's own")
    assert "a life begins" in caught.value.__notes__[0]
    assert gone(node.pid)


def test_the_servers_children_go_with_it(tmp_path: Path, stand_in: Sequence[str]) -> None:
    with Serve(tmp_path, "--child", command=stand_in) as node:
        child = int(node.log.split("child ")[1].split()[0])
        assert Path(f"/proc/{child}/stat").read_text().split()[2] != "Z"
        node.kill()
        assert gone(child)


def test_a_server_goes_with_a_test_run_that_is_killed(tmp_path: Path, stand_in: Sequence[str]) -> None:
    code = f"""
import time
from tests.serving import Serve
with Serve({str(tmp_path)!r}, command={tuple(stand_in)!r}) as node:
    print(node.pid, flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT) as run:
        assert run.stdout is not None
        server = int(run.stdout.readline())
        run.kill()
    assert gone(server)


def test_free_port_can_be_bound_and_is_never_given_to_a_client() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        pass
    first_of_clients = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert port < first_of_clients, "a retrying client could connect to itself while the server is down"


def test_a_pinned_process_does_not_pin_its_parent(tmp_path: Path) -> None:
    from loadtest.processes import OwnedProcess

    own = os.sched_getaffinity(0)
    cpu = min(own)
    with (tmp_path / "out").open("a+b") as output:
        pinned = OwnedProcess(
            [sys.executable, "-c", "import time; time.sleep(60)"], output=output, cwd=tmp_path, cpus={cpu}
        )
        try:
            assert os.sched_getaffinity(pinned.pid) == {cpu}
            assert os.sched_getaffinity(0) == own
        finally:
            pinned.end()
    assert pinned.exit_code == -signal.SIGKILL
