"""Names of settings in the environment that probably mean one of ours."""

from collections.abc import Mapping
from difflib import get_close_matches

from msgspec import Struct

from callboard.ops.config.settings import Config
from callboard.ops.config.sources import declarations
from callboard.ops.departments import OURS

# Names that others have given meaning to, however near to ours they are.
OTHERS = frozenset({"CALLBOARD_DATA_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"})
_NEAR = 0.86  # how alike two names are of which one is taken for a slip of the other


def warnings(environ: Mapping[str, str]) -> list[str]:
    """Warn of names in the environment that are probably mistakes: names close to a setting's, and names of the release
    before.
    """
    known: dict[str, str] = {}
    said = []
    structs: list[type[Struct]] = [Config, *(each.settings for each in OURS)]
    for each in (declared for kind in structs for declared in declarations(kind)):
        name, former = each.field.name.upper(), each.formerly
        known |= {name: name, f"{name}_FILE": f"{name}_FILE"}
        if former:
            known[former] = name
            if environ.get(former):
                ignored = " and is ignored" if environ.get(name) else ""
                said.append(f"{former} is deprecated{ignored}: say {name}")
    near = [(name, _nearest(name.upper(), known)) for name in sorted(environ.keys() - known.keys() - OTHERS)]
    said += [f"{name} is not a setting and is ignored: did you mean {known[found]}?" for name, found in near if found]
    return said


def _nearest(name: str, known: Mapping[str, str]) -> str | None:
    """The setting that a name is a slip of: a letter or two, our name before it, or its last words left out."""
    for each in (name, name.removeprefix("CALLBOARD_")):
        if each in known:
            return each
        if found := get_close_matches(each, known, n=1, cutoff=_NEAR):
            return found[0]
    return min((each for each in known if "_" in name and each.startswith(name)), key=len, default=None)
