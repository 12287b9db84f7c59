"""A process in a poor environment: without stderr, without a home, with a signal before it has begun."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from kit.running import STOP_WITHIN_S, WAIT_S, request, until

from callboard.ops import cli
from callboard.ops.embedded.data_directory import free_ports

pytestmark = pytest.mark.long

COMMAND = (sys.executable, "-m", "callboard.ops", "serve")
NOWHERE = {
    "DATABASE_URL": "postgresql://a:s3cret-word@127.0.0.1:1/c",
    "REDIS_URL": "redis://:s3cret-word@127.0.0.1:1",
    "KAFKA_BROKERS": "[::1]:1",
    "SMTP_HOST": "127.0.0.1",
    "JWT_SECRET_KEY": "x" * 32,
}


@contextmanager
def serving(
    environment: Mapping[str, str], *, stderr: int | None = subprocess.DEVNULL, before: Callable[[], None] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """`callboard serve` with this environment and nothing else."""
    process = subprocess.Popen(  # noqa: S603 - our own command
        COMMAND,
        env={"PATH": os.environ["PATH"], **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        preexec_fn=before,  # noqa: PLW1509 - what is closed there cannot be closed otherwise
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def lives(port: int) -> bool:
    try:
        return request("GET", f"http://127.0.0.1:{port}/health", timeout_s=2).status == 200
    except OSError:
        return False


def ports() -> dict[str, str]:
    return dict(zip(("HTTP_PORT", "OPS_PORT"), map(str, free_ports(2)), strict=True))


def signalled(
    command: str, number: str, before: str, environment: Mapping[str, str], folder: Path
) -> subprocess.CompletedProcess[bytes]:
    """The end of a command that gets a signal while it is imported."""
    program = (
        f"import os, signal, sys; sys.argv = ['callboard', {command!r}, 'list']\n"
        "class Early:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == 'uvloop': os.kill(os.getpid(), signal.{number})\n"
        f"signal.signal(signal.{number}, signal.{before})\n"
        "sys.meta_path.insert(0, Early())\n"
        "from callboard.ops.start import main; main()\n"
    )
    return subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program],
        capture_output=True, cwd=folder, env=dict(environment), timeout=WAIT_S, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("command", "number", "status"),
    [("serve", "SIGTERM", 0), ("up", "SIGINT", 0), ("users", "SIGTERM", 143), ("jobs", "SIGINT", 130)],
)
def test_a_signal_that_comes_while_it_is_imported_ends_it_at_once_without_a_word(
    command: str, number: str, status: int, tmp_path: Path
) -> None:
    """As process 1 it would have no default for the signal: what is not handled is lost."""
    done = signalled(command, number, "SIG_IGN", NOWHERE, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (status, b"", b"")


@pytest.mark.parametrize(
    ("before", "settings", "status"),
    [("SIG_DFL", {}, 0), ("SIG_DFL", {"CALLBOARD_CONFIG": "/none"}, 2), ("SIG_IGN", {}, 2)],
    ids=["a terminal", "a reload", "nohup"],
)
def test_a_hang_up_ends_it_in_order_unless_it_asks_for_a_reload_or_is_ignored(
    before: str, settings: dict[str, str], status: int, tmp_path: Path
) -> None:
    done = signalled("serve", "SIGHUP", before, NOWHERE | settings, tmp_path)
    assert done.returncode == status  # 2: it went on, and refused its arguments
    environment = NOWHERE | ports()

    def as_before() -> None:
        signal.signal(signal.SIGHUP, getattr(signal, before))

    if not settings:
        with serving(environment, before=as_before) as process:
            until("its life", lambda: lives(int(environment["HTTP_PORT"])))
            process.send_signal(signal.SIGHUP)
            if status:
                process.send_signal(signal.SIGTERM)
            assert process.wait(STOP_WITHIN_S) == 0


def close_all() -> None:
    for number in (0, 1, 2):
        os.close(number)


@pytest.mark.parametrize("how", ["full", "closed"])
def test_a_log_that_cannot_be_written_ends_nothing(how: str) -> None:
    """And where stderr is closed, its number goes to no socket."""
    environment = NOWHERE | ports()
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with serving(environment, stderr=full, before=close_all if how == "closed" else None) as process:
            until("its life", lambda: lives(int(environment["HTTP_PORT"])))
            names = [str(Path(f"/proc/{process.pid}/fd/{number}").readlink()) for number in (0, 1, 2)]
            assert not any("socket" in name for name in names)
            process.send_signal(signal.SIGTERM)
            assert process.wait(STOP_WITHIN_S) == 0
    finally:
        os.close(full)


def test_silence_is_broken_within_seconds_with_the_setting_the_address_and_no_secret(tmp_path: Path) -> None:
    environment, log = NOWHERE | ports(), tmp_path / "log"
    with log.open("wb") as file, serving(environment, stderr=file.fileno()) as process:
        until("its life", lambda: lives(int(environment["HTTP_PORT"])))
        began = time.monotonic()
        until("the word on PostgreSQL", lambda: "DATABASE_URL (127.0.0.1:1/c): the server does" in log.read_text())
        until("the word on Redis", lambda: "Redis is unavailable" in log.read_text())
        assert time.monotonic() - began < WAIT_S
        for port, status in ((environment["HTTP_PORT"], 503), (environment["OPS_PORT"], 503)):
            answer = request("GET", f"http://127.0.0.1:{port}/ready")
            said = {each["field"]: each["message"] for each in answer.body["error"]["details"]}
            assert answer.status == status
            assert said["database"] == "unhealthy: the server does not answer"
            assert said["redis"].startswith("unhealthy: ")
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_WITHIN_S) == 0
    assert "s3cret-word" not in log.read_text()
    assert log.read_text().count("DATABASE_URL") == 1


def test_without_a_place_for_temporary_files_it_serves_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_options: str) -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(cli.tempfile, "mkdtemp", fail)
    with cli._scratch() as folder:
        assert not folder.exists()


@pytest.mark.parametrize("arguments", [["openapi"], ["config", "check"]], ids=" ".join)
def test_an_answer_that_cannot_be_written_is_one_line_and_a_status(arguments: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(  # noqa: S603 - our own command
            [*COMMAND[:-1], *arguments], env=os.environ | NOWHERE, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (1, b"callboard: No space left on device\n")
