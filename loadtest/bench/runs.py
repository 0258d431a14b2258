"""One run: a fresh server, a swarm of clients, a warm-up, a measured window, a drain. Every step is bounded in time."""

import gc
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loadtest.bench.profiles import Profile
from loadtest.bench.report import IdleSample, LoadSample, Sample, percentile
from loadtest.bench.servers import RunningServer, ServerKind, busy_s
from loadtest.bench.swarm import Swarm
from loadtest.bench.websocket import ServerError

_CONNECT_WITHIN_S: Final = 60.0
_DRAIN_WITHIN_S: Final = 10.0
_BASELINE_CONNECTIONS: Final = 10
"""Opened before memory is first read: the code and caches every first connection loads are no cost of the thousandth."""


@dataclass(frozen=True, slots=True)
class Options:
    """What all runs of one benchmark have in common."""

    warm_up_s: float
    steady_s: float
    settle_s: float
    edit_chars: int
    awareness: bool
    seed: int
    server_cpus: frozenset[int]
    client_cpus: frozenset[int]
    scratch: Path
    tutti_args: Sequence[str]


def run(kind: ServerKind, profile: Profile, number: int, options: Options) -> Sample:
    """Measures one server under one profile; `ServerError` or `RuntimeError` if it gave no figures."""
    with RunningServer(
        kind, cpus=set(options.server_cpus), scratch=options.scratch, tutti_args=options.tutti_args
    ) as server:
        try:
            if profile.idle:
                return _idle(server, profile, number, options)
            return _load(server, profile, number, options)
        except ServerError as error:
            error.add_note(f"--- the server's output ---\n{server.output[-1500:]}")
            raise


def _swarm(server: RunningServer, profile: Profile, options: Options) -> Swarm:
    return Swarm(
        profile,
        port=server.port,
        path=server.kind.path,
        edit_chars=options.edit_chars,
        awareness=options.awareness,
        seed=options.seed,
    )


def _load(server: RunningServer, profile: Profile, number: int, options: Options) -> LoadSample:
    swarm = _swarm(server, profile, options)
    try:
        swarm.connect(within_s=_CONNECT_WITHIN_S)
        swarm.run(options.warm_up_s)
        swarm.latencies = array("d")
        before = (swarm.edits, swarm.deliveries, swarm.frames)
        gc.collect()
        gc.disable()  # a pause of the client's would show as the server's latency
        cores = options.server_cpus | options.client_cpus
        busy, server_cpu, own_cpu, wall = busy_s(cores), server.cpu_s(), time.process_time(), time.perf_counter()
        try:
            swarm.run(options.steady_s)
        finally:
            gc.enable()
        wall, own_cpu = time.perf_counter() - wall, time.process_time() - own_cpu
        server_cpu, busy = server.cpu_s() - server_cpu, busy_s(cores) - busy
        edits, deliveries, frames = (
            now - then for now, then in zip((swarm.edits, swarm.deliveries, swarm.frames), before, strict=True)
        )
        ordered = sorted(swarm.latencies)
        missed = swarm.drain(within_s=_DRAIN_WITHIN_S)
    finally:
        swarm.close()
    if not ordered:
        raise ServerError(f"not one of {edits} edits reached another client in {wall:.1f} s")
    p50, p90, p99 = (percentile(ordered, share) * 1e3 for share in (0.50, 0.90, 0.99))
    return LoadSample(
        profile.name,
        server.kind.name,
        number,
        wall_s=wall,
        server_cpu_s=server_cpu,
        client_cpu_s=own_cpu,
        others_cpu_s=max(0.0, busy - server_cpu - own_cpu),
        edits=edits,
        deliveries=deliveries,
        frames=frames,
        duplicates=swarm.duplicates,
        missed=missed,
        latency_p50_ms=p50,
        latency_p90_ms=p90,
        latency_p99_ms=p99,
        latency_max_ms=ordered[-1] * 1e3,
    )


def _idle(server: RunningServer, profile: Profile, number: int, options: Options) -> IdleSample:
    first = Profile("baseline", 1, _BASELINE_CONNECTIONS, 0, 0.0)
    warm, swarm = _swarm(server, first, options), _swarm(server, profile, options)
    try:
        warm.connect(within_s=_CONNECT_WITHIN_S)
        warm.run(options.settle_s)
        before_bytes = server.memory_bytes()
        swarm.connect(within_s=_CONNECT_WITHIN_S)
        swarm.run(options.settle_s)
        server_cpu, own_cpu, wall = server.cpu_s(), time.process_time(), time.perf_counter()
        swarm.run(options.settle_s)
        return IdleSample(
            profile.name,
            server.kind.name,
            number,
            wall_s=time.perf_counter() - wall,
            server_cpu_s=server.cpu_s() - server_cpu,
            client_cpu_s=time.process_time() - own_cpu,
            connections=profile.clients,
            before_bytes=before_bytes,
            after_bytes=server.memory_bytes(),
        )
    finally:
        swarm.close()
        warm.close()
