"""Callboard's front door as it is served, everything on, and one more route: the echo. The environment is `serve`'s."""

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Annotated

import uvloop
from msgspec import Meta, field

from callboard.actors.analytics.refs import AnalyticsRefs
from callboard.http.server.request import Body, HttpRequest, Reply
from callboard.http.server.routing import Access, Route, Routes
from callboard.ops import logs
from callboard.ops.application import Application, live
from callboard.ops.config.configuration import load
from callboard.ops.departments import installed_routes


class Note(Body, frozen=True, kw_only=True):
    """What is echoed; fast_api.py says the same as a model."""

    title: Annotated[str, Meta(max_length=200, examples=["A title"])]
    body: str
    tags: list[str] = field(default_factory=list)
    stars: Annotated[int, Meta(ge=0, le=5)] = 0


async def echo(call: HttpRequest[Note, None, AnalyticsRefs]) -> Reply[Note]:
    """Give the body back."""
    return Reply(call.body)


async def announce() -> None:
    """Nobody waits for a word: whoever starts this asks /ready."""


config = load(os.environ)
logs.configure("error")
ECHO = Route("POST", "/echo", echo, summary="Echo", tag="bench", access=Access.PUBLIC)
routes = (*installed_routes(), Routes(AnalyticsRefs, ECHO))
with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(live(Application(config, Path(folder), routes=routes), announce))
