"""The pages that links in mails open: static, without third parties, and with a policy that allows our script only.

Opening a page spends no secret: its button sends the link's secret to the API. Only the page's script reads the secret:
no page contains it, and no browser sends it on as a referrer.
"""

from pathlib import Path
from typing import Annotated

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from msgspec import Meta, Struct

from callboard.http.server.request import HttpRequest, RawReply
from callboard.http.server.routing import Access, Route

FOLDER = Path(__file__).parent
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
TEMPLATES = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined)
HTML, CSS, JS = "text/html; charset=utf-8", "text/css; charset=utf-8", "text/javascript; charset=utf-8"
CACHED = {"Cache-Control": "public, max-age=3600"}

# The paths, without a base of their own, that links in mails name.
TITLES = {
    "/verify-email": "Confirm your email address",
    "/confirm-email": "Confirm your new email address",
    "/undo-email-change": "Take your account back",
    "/reset-password": "Choose a new password",
    "/forgot-password": "Forgotten password",
    "/export": "Your data",
    "/content/{article_id}": "Article",
}


class LinkQuery(Struct, frozen=True):
    """The query of a link: its secret, which the page's script reads. Parameters that mail programs add are ignored."""

    token: Annotated[str, Meta(max_length=200)] = ""


def render_page(name: str, title: str, base: str) -> bytes:
    """Return the page of a template, for an API at `base`."""
    return TEMPLATES.get_template(f"{name}.html").render(api=base, title=title).encode()


def mail_page_routes(base: str) -> tuple[Route[object], ...]:
    """Return the pages, for an API at `base`, and the two files that they share."""

    def page(path: str, title: str) -> Route[object]:
        body = render_page(path.split("/")[1], title, base)

        async def show(request: HttpRequest[None, LinkQuery, object]) -> RawReply:  # noqa: ARG001 - a handler's face
            return RawReply(body, HTML, policy=POLICY)

        return Route("GET", path, show, f"Show {path}", "pages", Access.PUBLIC, absolute=True, open_in_maintenance=True)

    def file(name: str, content_type: str) -> Route[object]:
        body = (FOLDER / name).read_bytes()

        async def serve(request: HttpRequest[None, None, object]) -> RawReply:  # noqa: ARG001 - a handler's face
            return RawReply(body, content_type, headers=CACHED)

        path = f"/pages/{name}"
        return Route(
            "GET", path, serve, f"Serve {path}", "pages", Access.PUBLIC, absolute=True, open_in_maintenance=True
        )

    return (*(page(*each) for each in TITLES.items()), file("pages.css", CSS), file("pages.js", JS))
