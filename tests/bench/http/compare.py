"""Callboard's front door beside its peers: `make bench-http`, or with options `make bench-http ARGS="--rounds 3"`.

Each round starts every server in turn and loads it over 64 kept connections from another core, one job after the
other, so that a ratio is between two runs of the same minute. It writes results.md and results.svg.
"""

import argparse
import datetime as dt
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2]))

import page
from kit.running import Up, one_up, request, until

from callboard.actors.identity.password_hasher import HASHER
from callboard.ops.embedded.data_directory import free_ports

HERE = Path(__file__).parent
FASTIFY = Path(sys.prefix) / "fastify"  # a copy of its peer, with the packages that `make bench-http` installs
CONNECTIONS = 64
LOGIN_CONNECTIONS = 8
ACCOUNTS = 48
NOTE = {"title": "Quiet wings", "body": "Owls hunt by ear. " * 8, "tags": ["owls", "night"], "stars": 4}
PASSWORD = "Quiet-Wings-7"
WITHIN_S = 20.0


class Peer(NamedTuple):
    """A server: its name in the tables, its program, the module or interpreter it needs, and the paths of its jobs."""

    title: str
    program: str
    needs: str
    paths: dict[str, str]

    @property
    def command(self) -> list[str]:
        """Run its program."""
        if self.needs == "node":
            return ["node", str(FASTIFY / self.program)]
        return [sys.executable, str(HERE / "peers" / self.program)]

    def is_installed(self) -> bool:
        """Whether the program can run here."""
        if self.needs == "node":
            return shutil.which("node") is not None and (FASTIFY / "node_modules").is_dir()
        return importlib.util.find_spec(self.needs) is not None


OURS = Peer(
    "Callboard",
    "callboard_front.py",
    "callboard",
    {"health": "/health", "echo": "/api/v1/echo", "me": "/api/v1/users/me", "login": "/api/v1/auth/login"},
)
GENEROUS = {f"RATE_LIMIT_{name}": "1000000" for name in ("PER_MINUTE", "REGISTER", "LOGIN", "ACCOUNT")}
PEERS = (
    OURS,
    Peer("bare aiohttp", "bare_aiohttp.py", "aiohttp", {"health": "/health", "echo": "/echo"}),
    Peer("FastAPI", "fast_api.py", "fastapi", {"health": "/health", "echo": "/echo", "me": "/users/me"}),
    Peer("fastify", "server.js", "node", {"health": "/health", "echo": "/echo", "me": "/users/me"}),
)


class Stage:
    """The servers behind all peers, and accounts with their tokens."""

    def __init__(self, up: Up) -> None:
        facts = up.facts
        self.accounts = [up.join() for _ in range(ACCOUNTS)]
        self.body = json.dumps(NOTE).encode()
        named = ("DATABASE_URL", "REDIS_URL", "KAFKA_BROKERS", "SMTP_HOST", "SMTP_PORT", "SMTP_TLS", "JWT_SECRET_KEY")
        given = {name: str(facts[name]) for name in named}
        self.environment = {**os.environ, **GENEROUS, **given, "ROLES": "front", "LOG_LEVEL": "error"}

    def requests_of(self, peer: Peer, job: str) -> bytes:
        """The bytes of each account's request, as load.py takes them."""
        return b"\0".join(self.request_of(peer, job, account) for account in self.accounts)

    def request_of(self, peer: Peer, job: str, account: dict[str, str]) -> bytes:
        """The bytes of one request."""
        login = json.dumps({"email": account["email"], "password": PASSWORD}).encode()
        body = {"echo": self.body, "login": login}.get(job, b"")
        method = "POST" if body else "GET"
        lines = [f"{method} {peer.paths[job]} HTTP/1.1", "Host: 127.0.0.1", "Accept: */*"]
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        if job == "me":
            lines.append(f"Authorization: Bearer {account['token']}")
        return "\r\n".join([*lines, "", ""]).encode() + body


def pinned(core: int | None, command: list[str]) -> list[str]:
    """A command that stays on one core, where that can be arranged."""
    taskset = shutil.which("taskset")
    return (
        command
        if taskset is None or core is None or (os.cpu_count() or 1) < 2
        else [taskset, "-c", str(core), *command]
    )


@contextmanager
def serving(stage: Stage, peer: Peer, *, core: int | None) -> Iterator[int]:
    """A peer's server, until the block ends. Its output is shown only when it ends too early."""
    port, operators = free_ports(2)
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(  # noqa: S603 - our own programs
            pinned(core, [*peer.command, str(port)]),
            env=stage.environment | {"HTTP_PORT": str(port), "OPS_PORT": str(operators)},
            stdout=output,
            stderr=output,
        )

        def answers() -> bool:
            if process.poll() is not None:
                output.seek(0)
                raise RuntimeError(f"{peer.title} has ended with status {process.returncode}: {output.read()[-2000:]}")
            try:
                ready = "/ready" if peer.title == OURS.title else "/health"
                return request("GET", f"http://127.0.0.1:{port}{ready}").status == 200
            except OSError:
                return False

        try:
            until(f"an answer of {peer.title}", answers, WITHIN_S)
            yield port
        finally:
            process.terminate()
            process.wait(10)


def loaded(stage: Stage, peer: Peer, job: str, port: int, seconds: float) -> dict[str, Any]:
    """What the load has seen. Raises RuntimeError when it has not been answered by 200 only."""
    connections = LOGIN_CONNECTIONS if job == "login" else CONNECTIONS
    command = [sys.executable, str(HERE / "load.py"), str(port), str(seconds), str(connections)]
    ran = subprocess.run(  # noqa: S603 - our own program
        pinned(None if job == "login" else 1, command),
        input=stage.requests_of(peer, job),
        stdout=subprocess.PIPE,
        check=True,
    )
    seen: dict[str, Any] = json.loads(ran.stdout)
    if seen["others"] and job != "login":
        raise RuntimeError(f"{peer.title}, {job}: {seen['others']}")
    return seen


def argon2_bound(seconds: float) -> float:
    """Passwords verified a second by as many threads as there are cores, and nothing else."""
    password_hash, ends_at, counts = HASHER.hash(PASSWORD), time.perf_counter() + seconds, []

    def verify() -> None:
        count = 0
        while time.perf_counter() < ends_at:
            HASHER.verify(password_hash, PASSWORD)
            count += 1
        counts.append(count)

    threads = [threading.Thread(target=verify) for _ in range(os.cpu_count() or 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def measure(stage: Stage, rounds: int, seconds: float) -> page.Samples:
    """All rounds: answers a second by peer and job."""
    samples: page.Samples = {}
    peers = [peer for peer in PEERS if peer.is_installed()]
    for number in range(rounds):
        began = time.monotonic()
        turn = number % len(peers)
        for peer in [*peers[turn:], *peers[:turn]]:
            with serving(stage, peer, core=0) as port:
                for job in page.JOBS:
                    if job in peer.paths and job != "login":
                        seen = loaded(stage, peer, job, port, seconds)
                        samples.setdefault(peer.title, {}).setdefault(job, []).append(seen["rate"])
        with serving(stage, OURS, core=None) as port:
            bound = argon2_bound(seconds)
            seen = loaded(stage, OURS, "login", port, seconds)
            bound = statistics.mean((bound, argon2_bound(seconds)))
            good = seen["rate"] * (1 - sum(seen["others"].values()) / max(1, seen["rate"] * seconds))
            samples.setdefault(OURS.title, {}).setdefault("login", []).append(good)
            samples.setdefault("argon2 alone", {}).setdefault("login", []).append(bound)
        sys.stdout.write(f"round {number + 1} of {rounds}: {time.monotonic() - began:.0f} s\n")
        sys.stdout.flush()
    return samples


def main() -> None:
    """Measure and write."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=3.0, help="of load, for each job")
    options.add_argument("--date", default=dt.datetime.now(dt.UTC).date().isoformat())
    options.add_argument("--out", type=Path, default=HERE / "results")
    chosen = options.parse_args()
    load = os.getloadavg()[0]
    with one_up() as up:
        samples = measure(Stage(up), chosen.rounds, chosen.seconds)
    missing = [peer.title for peer in PEERS if not peer.is_installed()]
    chosen.out.mkdir(parents=True, exist_ok=True)
    facts = page.Facts(chosen.date, chosen.rounds, chosen.seconds, load, missing)
    (chosen.out / "results.md").write_text(page.table(samples, facts))
    (chosen.out / "results.svg").write_text(page.picture(samples, facts))
    sys.stdout.write(page.goals(samples) + f"\n{chosen.out / 'results.md'}\n")


if __name__ == "__main__":
    main()
