"""A finding of the doctor, and the settings by which it looks."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import NODEFAULT, Struct

from callboard.ops.config.lookup import read_setting
from callboard.ops.config.sources import ConfigError

LEAST_SKEW_S = 5.0  # a larger difference between clocks is a fault


class Finding(Struct, frozen=True):
    """The result of one check: `mend` says what to do about a fault, and is empty if there is none."""

    check: str
    found: str
    mend: str = ""

    @property
    def is_fault(self) -> bool:
        """Whether somebody has to act."""
        return bool(self.mend)


class Surroundings:
    """The settings by their names, each read alone: a fault in one hides no other server."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ

    def read(self, kind: type[Struct], name: str) -> Any:
        """Return a setting or its default; None without either, and for a fault, which the check of settings names."""
        (field,) = (each for each in msgspec.structs.fields(kind) if each.name == name)
        usual = None if field.default is NODEFAULT else field.default
        try:
            given = read_setting(kind, name, self.environ)
        except ConfigError:
            return None
        return usual if given is None else given

    def of(self, kind: type[Struct], names: Sequence[str]) -> dict[str, Any]:
        """Return several settings."""
        return {name: self.read(kind, name) for name in names}


Check = Callable[[Surroundings], AsyncIterator[Finding]]


def skew(check: str, server: str, seconds: float) -> Finding:
    """Judge the difference between a server's clock and ours."""
    if abs(seconds) <= LEAST_SKEW_S:
        return Finding(check, f"the clocks of {server} and of this machine agree ({seconds:+.1f} s)")
    return Finding(
        check,
        f"the clock of {server} is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} this machine's",
        "synchronise both machines by NTP",
    )
