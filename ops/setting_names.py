"""Names of settings in the environment that probably mean one of ours."""

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches

from callboard.ops.config import Config

# Names that others have given meaning to, however near to ours they are.
OTHERS = frozenset({"CALLBOARD_DATA_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"})
_NEAR = 0.86  # how alike two names are of which one is taken for a slip of the other


def warnings(environ: Mapping[str, str]) -> list[str]:
    """What the environment probably means otherwise: names that are nearly ours, and names of the release before."""
    known: dict[str, str] = {}
    said = []
    for each in fields(Config):
        name, former = each.name.upper(), each.metadata["formerly"]
        known[name] = name
        if each.metadata["secret"] or each.metadata["private"]:
            known[f"{name}_FILE"] = f"{name}_FILE"
        if former:
            known[former] = name
            if environ.get(former):
                ignored = " and is ignored" if environ.get(name) else ""
                said.append(f"{former} is deprecated{ignored}: say {name}")
    strange = sorted(environ.keys() - known.keys() - OTHERS)
    near = [(name, get_close_matches(name.upper(), known, n=1, cutoff=_NEAR)) for name in strange]
    said += [
        f"{name} is not a setting and is ignored: did you mean {known[found[0]]}?" for name, found in near if found
    ]
    return said
