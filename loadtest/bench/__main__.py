"""`python -m loadtest.bench`: the command line, the order of the runs, and what is printed."""

import argparse
import contextlib
import json
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

from loadtest.bench.profiles import PROFILES
from loadtest.bench.report import CLIENT_SHARE_MAX, Failure, Sample, as_json, table
from loadtest.bench.runs import Options, run
from loadtest.bench.servers import ROOT, SERVERS, unavailable
from loadtest.bench.websocket import ServerError

_EPILOG: Final = """\
what is measured
  CPU us/delivery   CPU time of the server's whole process tree over the measured window, divided by deliveries. One
                    delivery is one edit reaching one client other than its author. The figure to compare: it says how
                    many people a core carries, and hardly depends on how fast the machine's network is.
  p50 ... max ms    from just before the author's send to just after the receiver's recv, over all deliveries of the
                    window. tutti merges what comes in between two ticks (60 a second at most) into one frame, so under
                    load its latency holds up to one tick that buys the lower CPU.
  frames/s          messages the clients received. y-websocket sends one per edit and client, its author included.
  others CPU %      what other programs used of the two cores. Not a quiet machine, not a figure to keep.
  KiB/connection    resident memory with 1,000 idle connections less that with ten, per connection.

how
  The servers take turns (A B A B ...), each run with a fresh process on core 0; the clients are one process on core 1.
  Every edit ever sent must reach every other client of its room, or the exit code is 1. A run in which the client
  used more than 70 % of its core is void: it may have measured the client. Figures are medians of the rounds.
  tutti commits every edit to disk (fsync); y-websocket's server, as it comes, stores nothing.
  Clients behave like y-websocket's provider but for one thing: with --awareness they don't send back the presence they
  receive.

examples
  python -m loadtest.bench
  python -m loadtest.bench --rounds 1 --steady-s 5 --profiles busy-room
  python -m loadtest.bench --servers tutti --tutti-args='--tick-interval-ms 50' --json bench.json
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what the arguments ask for; 0 if every run gave figures and missed nothing."""
    arguments = _parse(argv)
    # As Ctrl-C does: so the `with` blocks end the servers also when a CI job is cancelled.
    signal.signal(signal.SIGTERM, _interrupt)
    server_cpus, client_cpus = _cores()
    options = Options(
        warm_up_s=arguments.warm_up_s,
        steady_s=arguments.steady_s,
        settle_s=arguments.settle_s,
        edit_chars=arguments.edit_chars,
        awareness=arguments.awareness,
        seed=arguments.seed,
        server_cpus=frozenset(server_cpus),
        client_cpus=frozenset(client_cpus),
        scratch=arguments.scratch,
        tutti_args=shlex.split(arguments.tutti_args),
    )
    os.sched_setaffinity(0, client_cpus)
    machine = _machine(server_cpus, client_cpus)
    print(_heading(machine), flush=True)
    results: list[Sample | Failure] = []
    with contextlib.suppress(KeyboardInterrupt):
        for result in _runs(arguments, options):
            results.append(result)
            print(_progress(result), file=sys.stderr, flush=True)
    for name in arguments.profiles:
        samples = [result for result in results if not isinstance(result, Failure) and result.profile == name]
        print("\n" + table(f"{name}: {PROFILES[name]}", samples, arguments.servers, idle=PROFILES[name].idle))
    if arguments.json is not None:
        record = {"machine": machine, "options": _shown(arguments), "runs": [as_json(result) for result in results]}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    return _verdict(results, expected=arguments.rounds * len(arguments.profiles) * len(arguments.servers))


def _runs(arguments: argparse.Namespace, options: Options) -> Iterable[Sample | Failure]:
    """A B A B ...: what drifts on the machine meets both servers alike."""
    for profile in arguments.profiles:
        for number in range(1, arguments.rounds + 1):
            for server in arguments.servers:
                try:
                    yield run(SERVERS[server], PROFILES[profile], number, options)
                except (ServerError, RuntimeError, OSError) as error:
                    reason = "\n".join([str(error), *getattr(error, "__notes__", [])])
                    yield Failure(profile, server, number, reason)


def _verdict(results: Sequence[Sample | Failure], *, expected: int) -> int:
    failures = [result for result in results if isinstance(result, Failure)]
    missed = [result for result in results if not isinstance(result, Failure) and result.missed]
    for failure in failures:
        print(f"\nFAILED {failure.profile}, {failure.server}, round {failure.round}: {failure.reason}", file=sys.stderr)
    for sample in missed:
        print(
            f"\nMISSED {sample.profile}, {sample.server}, round {sample.round}: {sample.missed} deliveries never came",
            file=sys.stderr,
        )
    if any(not isinstance(result, Failure) and result.void for result in results):
        print(f"\nvoid: the client used more than {CLIENT_SHARE_MAX:.0%} of its core", file=sys.stderr)
    if any(not isinstance(result, Failure) and result.disturbed for result in results):
        print(
            "\ndisturbed: other programs used the benchmark's cores; latencies are theirs, and CPU per delivery falls as waiting servers batch more",
            file=sys.stderr,
        )
    if len(results) < expected:
        print(f"\ninterrupted after {len(results)} of {expected} runs", file=sys.stderr)
        return 130
    return 1 if failures or missed else 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.bench",
        description="Measures what tutti and y-websocket's own server use for the same load, side by side on loopback.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--servers",
        type=_names(SERVERS),
        default=list(SERVERS),
        metavar="A,B",
        help=f"which, in turn: {', '.join(SERVERS)} (default: all)",
    )
    add(
        "--profiles",
        type=_names(PROFILES),
        default=list(PROFILES),
        metavar="A,B",
        help=f"which: {', '.join(PROFILES)} (default: all)",
    )
    add("--rounds", type=_at_least(1, int), default=3, metavar="N", help="runs of each server and profile (default: 3)")
    add("--warm-up-s", type=_at_least(0, float), default=3.0, metavar="S", help="load before measuring (default: 3)")
    add("--steady-s", type=_at_least(0.5, float), default=10.0, metavar="S", help="the measured window (default: 10)")
    add(
        "--settle-s",
        type=_at_least(0.1, float),
        default=4.0,
        metavar="S",
        help="rest before memory is read (default: 4)",
    )
    add("--edit-chars", type=_at_least(1, int), default=4, metavar="N", help="letters each edit appends (default: 4)")
    add(
        "--awareness",
        action="store_true",
        help="writers send their cursor with each edit (default: no presence at all)",
    )
    add("--seed", type=int, default=1, help="of client ids, texts and timetable (default: 1)")
    add("--json", type=Path, metavar="FILE", help="write every run and the machine to FILE as well")
    add("--tutti-args", default="", metavar="ARGS", help="further arguments of `tutti serve`, in one string")
    add(
        "--scratch",
        type=Path,
        default=ROOT / ".run",
        metavar="DIR",
        help="data folders are made and removed here; use a real disk (default: .run)",
    )
    arguments = parser.parse_args(argv)
    for name in arguments.servers:
        if (reason := unavailable(SERVERS[name])) is not None:
            parser.error(reason)
    return arguments


def _names(known: Iterable[str]) -> Any:
    def parse(text: str) -> list[str]:
        names = list(dict.fromkeys(text.split(",")))
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(known)}")
        return names

    return parse


def _at_least(least: float, kind: type[int] | type[float]) -> Any:
    def parse(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not least <= value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is below {least:g}")
        return value

    return parse


def _cores() -> tuple[set[int], set[int]]:
    """(the server's, the client's); the same one when there is no second."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1:
        print(
            "only one core: server and client share it, so latencies and even CPU figures say little", file=sys.stderr
        )
    return {cores[0]}, {cores[-1] if len(cores) == 1 else cores[1]}


def _machine(server_cpus: set[int], client_cpus: set[int]) -> dict[str, str]:
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": f"{models[0] if models else platform.machine()} x {os.cpu_count()}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "node": _node_version(),
        "tutti": version("tutti"),
        "y-websocket": "@y/websocket-server 0.1.1",
        "cores": f"server {_listed(server_cpus)}, client {_listed(client_cpus)}",
    }


def _node_version() -> str:
    if (node := shutil.which("node")) is None:
        return "none"
    return subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603  the path is `which`'s


def _listed(cpus: set[int]) -> str:
    return ",".join(map(str, sorted(cpus)))


def _heading(machine: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in machine.items())


def _shown(arguments: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(arguments).items() if name not in {"json", "scratch"}}


def _progress(result: Sample | Failure) -> str:
    head = f"  {result.profile}, round {result.round}, {result.server}:"
    if isinstance(result, Failure):
        return f"{head} failed: {result.reason.splitlines()[0]}"
    name, value = next(iter(as_json(result)["shown"].items()))
    return f"{head} {value:.1f} {name}{' (void)' if result.void else ''}"


def _interrupt(_signum: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
