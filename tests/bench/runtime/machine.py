"""What was measured on, and with which versions: a figure without them says nothing."""

import os
import platform
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import NamedTuple

from roster import PEERS


class Machine(NamedTuple):
    """Strings as the report prints them; `load` is the load average, the benchmark itself in it."""

    date: str
    rounds: int
    quick: bool
    processor: str
    system: str
    python: str
    versions: str
    load: str


def here(*, date: str, rounds: int, quick: bool) -> Machine:
    """This one, now."""
    peers = sorted({peer.version for peer in PEERS} - {""})
    return Machine(
        date=date,
        rounds=rounds,
        quick=quick,
        processor=f"{os.cpu_count()} cores of {_processor()}",
        system=f"{platform.system()} {platform.release().partition('-')[0]}, {platform.machine()}",
        python=f"{platform.python_implementation()} {platform.python_version()} ({_build()})",
        versions=", ".join([*peers, *_loop(), *_erlang()]),
        load=f"{os.getloadavg()[0]:.1f} when it began",
    )


def ended(machine: Machine) -> Machine:
    """The same, when all has been measured."""
    return machine._replace(load=f"{machine.load} and {os.getloadavg()[0]:.1f} when it ended")


def _build() -> str:
    """How the interpreter was built: ratios differ by a tenth and more."""
    options = sysconfig.get_config_var("CONFIG_ARGS") or ""
    optimised = "with" if "--enable-optimizations" in options else "without"
    return f"{platform.python_compiler()}, {optimised} profile-guided optimisation"


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def _loop() -> list[str]:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        return [f"uvloop {version('uvloop')}"]
    except PackageNotFoundError:
        return []


def _erlang() -> list[str]:
    erl = shutil.which("erl")
    if erl is None:
        return []
    ask = 'io:format("~s", [erlang:system_info(otp_release)]), halt().'
    said = subprocess.run([erl, "-noshell", "-eval", ask], capture_output=True, text=True, check=False)  # noqa: S603
    return [f"Erlang/OTP {said.stdout}"]
