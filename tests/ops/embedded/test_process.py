"""Child processes: started, watched by signal, and ended for certain."""

import os
import signal
import socket
import sys
from pathlib import Path

import anyio
import pytest

from callboard.ops.embedded import process as process_module
from callboard.ops.embedded.errors import EmbeddedError
from callboard.ops.embedded.leftover_processes import identify, is_alive, write_pid_file
from callboard.ops.embedded.process import NotReady, Process

FOREVER = "import signal; print('up', flush=True); signal.pause()"
SERVER_INTENSITY = "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True); signal.pause()"


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


class ScriptedSmtpServer(Process):
    """A Python program as a server that is ready when it has printed something."""

    def __init__(self, folder: Path, source: str, port: int | None = None) -> None:
        self.log = folder / "log"
        self.pid_file = folder / "pid"
        self.log_start = self.log.stat().st_size if self.log.exists() else 0
        super().__init__("script", [sys.executable, "-c", source], log=self.log, pid_file=self.pid_file, port=port)

    async def has_spoken(self) -> None:
        if not self.log.read_bytes()[self.log_start :].endswith(b"up\n"):
            raise NotReady


async def never() -> None:
    raise NotReady


async def test_a_killed_process_is_noticed_and_can_be_started_again(tmp_path: Path) -> None:
    script = ScriptedSmtpServer(tmp_path, FOREVER)
    for _ in range(2):
        await script.ready(script.has_spoken, 10)
        assert script.pid is not None
        os.kill(script.pid, signal.SIGKILL)
        with anyio.fail_after(5):
            assert await script.exited() == -signal.SIGKILL
        assert script.ending() == "was ended by SIGKILL"
        assert script.pid is None
        assert not script.pid_file.exists()


async def test_it_stops_by_the_signal_it_is_given_and_a_stubborn_one_by_sigkill(tmp_path: Path) -> None:
    for source, ending in ((FOREVER, "SIGTERM"), (SERVER_INTENSITY, "SIGKILL")):
        script = ScriptedSmtpServer(tmp_path, source)
        await script.ready(script.has_spoken, 10)
        await script.stop(signal.SIGTERM, 0.2)
        assert script.ending() == f"was ended by {ending}"
        await script.stop(signal.SIGTERM, 0.2)


async def test_an_exit_while_it_starts_is_told_with_its_last_words(tmp_path: Path) -> None:
    script = ScriptedSmtpServer(tmp_path, "import sys; print('no disk'); sys.exit('no luck')")
    with pytest.raises(EmbeddedError, match=r"^script exited with status 1 while it started: .*no luck"):
        await script.ready(never, 10)


async def test_one_that_is_not_ready_in_time_is_ended(tmp_path: Path) -> None:
    script = ScriptedSmtpServer(tmp_path, FOREVER)
    with pytest.raises(EmbeddedError, match=r"^script was not ready within 0\.3 s"):
        await script.ready(never, 0.3)
    assert script.pid is None


async def test_a_cancelled_start_leaves_nothing_running(tmp_path: Path) -> None:
    script = ScriptedSmtpServer(tmp_path, SERVER_INTENSITY)
    with anyio.CancelScope() as scope:

        async def cancel() -> None:
            await script.has_spoken()
            scope.cancel()
            raise NotReady

        await script.ready(cancel, 10)
    assert script.pid is None
    assert script.ending() == "was ended by SIGKILL"


async def test_a_program_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    missing = Process("server", [tmp_path / "missing"], log=tmp_path / "log", pid_file=tmp_path / "pid")
    with pytest.raises(EmbeddedError, match=r"^cannot start server .*No such file"):
        await missing.start()


async def test_a_port_of_another_program_is_told_before_anything_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        script = ScriptedSmtpServer(tmp_path, FOREVER, port)
        with pytest.raises(
            EmbeddedError, match=rf"^script cannot listen on 127\.0\.0\.1:{port}: another program does$"
        ):
            await script.start()
    assert not script.log.exists()


async def test_a_leftover_of_an_earlier_life_is_ended_before_the_next(tmp_path: Path) -> None:
    first = ScriptedSmtpServer(tmp_path, SERVER_INTENSITY)
    await first.ready(first.has_spoken, 10)
    assert first.pid is not None
    write_pid_file(tmp_path / "pid", first.pid)
    leftover = identify(first.pid)
    assert leftover is not None
    second = ScriptedSmtpServer(tmp_path, FOREVER)
    await second.ready(second.has_spoken, 10)
    assert not is_alive(leftover)
    await second.stop(signal.SIGTERM, 1)
    await first.exited()


async def test_the_servers_are_told_nothing_of_our_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_SECRET_KEY", "secret")
    script = ScriptedSmtpServer(tmp_path, "import os; print(sorted(os.environ))")
    await script.run_to_end(10)
    assert "JWT_SECRET_KEY" not in script.log.read_text()


async def test_a_command_that_fails_or_takes_too_long_is_told(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match=r"^script exited with status 3: bad thing$"):
        await ScriptedSmtpServer(tmp_path, "print('bad thing'); raise SystemExit(3)").run_to_end(10)
    endless = ScriptedSmtpServer(tmp_path, FOREVER)
    with pytest.raises(EmbeddedError, match=r"^script took longer than 0\.3 s"):
        await endless.run_to_end(0.3)
    assert endless.pid is None


async def test_a_log_that_has_grown_large_keeps_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "LOG_LIMIT_BYTES", 1_000)
    monkeypatch.setattr(process_module, "LOG_KEPT_BYTES", 100)
    (tmp_path / "log").write_bytes(b"a" * 2_000 + b"the end\n")
    await ScriptedSmtpServer(tmp_path, "print('more')").run_to_end(10)
    log = (tmp_path / "log").read_bytes()
    assert log == b"a" * 92 + b"the end\nmore\n"
