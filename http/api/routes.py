"""All our routes of the front door: documents, authorisation and tests are made from them."""

from importlib import import_module
from pathlib import Path
from typing import Any

from callboard.http.server.routing import Route, Routes


def _declared() -> tuple[Routes[Any], ...]:
    """Return the ROUTES of every module of this folder, in the order of their names."""
    names = sorted(file.stem for file in Path(__file__).parent.glob("*.py"))
    modules = [import_module(f"{__package__}.{name}") for name in names if f"{__package__}.{name}" != __name__]
    return tuple(module.ROUTES for module in modules if hasattr(module, "ROUTES"))


OUR_ROUTES = _declared()
ROUTES: tuple[Route[Any], ...] = tuple(route for routes in OUR_ROUTES for route in routes)
