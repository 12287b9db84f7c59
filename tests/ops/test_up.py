"""`callboard up` from outside: how it starts, refuses, stops, survives the death of its servers, and keeps data."""

import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from kit.running import Answer, Up, data_folder, gone, request, until, working_in

from callboard.ops.embedded.data_directory import free_ports, open_data_directory


@pytest.fixture
def data() -> Iterator[Path]:
    with data_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def fragile() -> Iterator[Up]:
    """An `up` whose servers are killed, and which the last test stops. Its folder stands in one that is closed to all
    but its owner, and the usual port is taken.
    """
    with data_folder() as folder:
        folder.parent.chmod(0o700)
        with listening(8000):
            running = Up(folder, environment={"HTTP_PORT": ""})
            try:
                yield running.ready()
            finally:
                running.end()
        with open_data_directory(
            folder, reset=True
        ):  # takes away what stands in a public folder, for the closed one's sake
            pass


@contextmanager
def listening(port: int) -> Iterator[None]:
    """A port that is taken: by us, or by whoever has it already."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", port))
            taken.listen()
        except OSError:
            assert port == 8000  # the usual one may have another owner
        yield


def stopped(running: Up, how: signal.Signals) -> int:
    """Stop it; the status. It takes 5 s at most, and no process of it is left."""
    family = running.family()
    running.signal(how)
    status = running.wait()
    assert gone(family) == []
    assert working_in(running.data) == []
    return status


def test_a_second_up_on_the_same_folder_says_so_and_leaves_the_first_alone(up: Up) -> None:
    facts = up.facts
    second = Up(up.data)
    assert second.wait() == 2
    assert second.errors == f"callboard: {up.data} is in use by another callboard up (process {up.pid})\n"
    assert up.facts == facts
    assert up.call("GET", "/content").status == 200


@pytest.mark.servers
def test_a_taken_port_is_one_clear_line_and_nothing_is_left(data: Path) -> None:
    (port,) = free_ports(1)
    with listening(port):
        running = Up(data, environment={"HTTP_PORT": str(port)})
        assert running.wait() == 2
    assert running.errors == f"callboard: HTTP_PORT {port} is in use: set another port, or none for a free one\n"
    assert not (data / "running.json").exists()
    assert working_in(data) == []


@pytest.mark.servers
def test_a_folder_that_is_not_callboards_is_refused_and_left_as_it_is(data: Path) -> None:
    data.mkdir()
    (data / "thesis.txt").write_text("years of work")
    running = Up(data, "--reset")
    assert running.wait() == 2
    assert running.errors.count("\n") == 1
    assert "not a Callboard data folder" in running.errors
    assert [each.name for each in data.iterdir()] == ["thesis.txt"]


def test_it_prints_where_it_is_and_what_to_try(up: Up) -> None:
    facts = up.facts
    for word in (facts["HTTP_URL"] + "/docs", facts["OPS_URL"] + "/ops/v1/tree", facts["KAFKA_BROKERS"], "make demo"):
        assert word in up.output
    for server in ("postgres", "valkey", "broker", "mail", "everything"):
        assert f"  {server:<12} ready after " in up.output
    assert "callboard users create-admin" in up.output
    assert "EDITOR_PASSWORD" not in facts
    assert up.errors == ""
    assert up.people()


def test_a_first_start_writes_no_errors_into_its_log(up: Up) -> None:
    first = [line for line in up.log() if line["logger"] == "callboard.ops.schema"]
    assert len(first) == 1
    crashes = [line["message"] for line in up.log() if line["level"] == "ERROR"]
    assert crashes == []


@pytest.mark.parametrize("server", ["postgres", "valkey", "broker"])
def test_a_killed_server_comes_back_and_everything_works_again(fragile: Up, server: str) -> None:
    pid = fragile.server_pids()[server]
    account = fragile.join()
    signal_sent = time.monotonic()
    until_pid_ends(fragile, pid)
    statuses = set()

    def works() -> bool:
        assert fragile.process.poll() is None
        answers = [
            fragile.call("GET", "/content", timeout_s=4),
            fragile.call("GET", "/users/me", token=account["token"], timeout_s=4),
            fragile.call("POST", "/auth/resend-verification", body={"email": account["email"]}, timeout_s=4),
        ]
        statuses.update(answer.status for answer in answers)
        assert statuses <= {200, 202, 503}
        return all(answer.status in (200, 202) for answer in answers)

    until("an answer to everything", works)
    until("its new process", lambda: fragile.server_pids().get(server, pid) != pid)
    fragile.mail_token(fragile.register()["email"])
    # An actor or two crash on the way: their servers, and nobody gives up.
    assert all(node["state"] == "running" for node in fragile.nodes().values())
    assert fragile.nodes()[f"servers/{server}"]["restarts"] >= 1
    took_s = time.monotonic() - signal_sent
    print(f"{server}: everything works {took_s:.1f} s after its SIGKILL")  # noqa: T201 - the measurement


def until_pid_ends(running: Up, pid: int) -> None:
    (process,) = [each for each in running.family() if each.pid == pid]
    process.kill()
    assert gone([process]) == []


def test_ready_names_the_server_that_is_away(fragile: Up) -> None:
    until("readiness", lambda: ready(fragile).status == 200)
    # Stopped and not killed: a killed one would be back too soon to be seen.
    (process,) = [each for each in fragile.family() if each.pid == fragile.server_pids()["valkey"]]
    process.suspend()
    try:
        answer = until("the check that fails", lambda: (seen := ready(fragile)).status == 503 and seen)
        wrong = [detail["field"] for detail in answer.body["error"]["details"] if detail["message"] != "healthy"]
        assert wrong == ["redis"]
        assert request("GET", f"{fragile.facts['HTTP_URL']}/ready").data["status"] == "degraded"
        assert fragile.call("GET", "/content", timeout_s=4).status == 200
    finally:
        process.resume()
    until("readiness", lambda: ready(fragile).status == 200)


def ready(running: Up) -> Answer:
    return request("GET", f"{running.operators}/ready")


def test_a_closed_folder_and_a_taken_usual_port_are_no_obstacle(fragile: Up) -> None:
    assert fragile.data.parent.stat().st_mode & 0o777 == 0o700
    assert ":8000/" not in fragile.api
    assert fragile.look("/ops/v1/config")["PUBLIC_URL"] == fragile.facts["HTTP_URL"]


def test_it_stops_at_any_moment_of_its_life_and_data_lives_until_a_reset(fragile: Up) -> None:
    account, data = fragile.join(), fragile.data
    assert stopped(fragile, signal.SIGINT) == 0
    assert not (data / "running.json").exists()

    seed = random.SystemRandom().randrange(1 << 32)
    rng = random.Random(seed)  # noqa: S311 - moments, no secrets
    print(f"seed {seed}")  # noqa: T201 - to play it again
    for number, moment_s in enumerate((0.0, rng.uniform(0.1, 1.3), rng.uniform(1.3, 3.0))):
        running = Up(data)
        stop_at(running, moment_s, signal.SIGTERM if number % 2 else signal.SIGINT)

    again = Up(data).ready()
    assert again.log_in(account["email"])
    assert [mail["subject"] for mail in again.mails_to(account["email"])] == ["Confirm your email address"]
    assert stopped(again, signal.SIGTERM) == 0

    secrets = {path.name: path.read_text() for path in (data / "secrets").iterdir()}
    empty = Up(data, "--reset")
    until("PostgreSQL", lambda: "  postgres     ready" in empty.output)
    assert stopped(empty, signal.SIGTERM) == 0
    assert list((data / "mail").glob("*.eml")) == []
    assert all(path.read_text() != secrets[path.name] for path in (data / "secrets").iterdir())
    assert [line["message"] for line in empty.log() if line["level"] == "ERROR"] == []


def stop_at(running: Up, moment_s: float, how: signal.Signals) -> None:
    """Stop it in the middle of its start."""
    with suppress(subprocess.TimeoutExpired):  # a moment is what is wanted, and no state
        running.process.wait(max(0.0, running.began + moment_s - time.monotonic()))
    started = "ready after" in running.output
    status = stopped(running, how)
    # Before it can listen for signals, it ends as any program does.
    expected = {0} if started else {0, 130, -signal.SIGINT, -signal.SIGTERM}
    in_its_imports = not started and status == 1 and running.errors.rstrip().endswith("KeyboardInterrupt")
    assert status in expected or in_its_imports, (moment_s, running.output, running.errors)
    assert not (running.data / "running.json").exists()
