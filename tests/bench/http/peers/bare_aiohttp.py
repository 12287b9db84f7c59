"""aiohttp with nothing around it: /health and a JSON echo. `bare_aiohttp.py PORT`."""

import json
import sys

import uvloop
from aiohttp import web


async def health(_request: web.Request) -> web.Response:
    """Say that the process lives."""
    return web.json_response({"state": "up"})


async def echo(request: web.Request) -> web.Response:
    """Give the body back."""
    return web.json_response(await request.json(), dumps=json.dumps)


app = web.Application()
app.router.add_get("/health", health)
app.router.add_post("/echo", echo)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None, loop=uvloop.new_event_loop())
