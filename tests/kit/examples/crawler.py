"""A crawler: pages of many hosts, a few at once, and a second between two of one host.

Each host is an entity, which spaces its own requests; a pool bounds how many run at once; the frontier knows what has
been seen, and when nothing is left.
"""

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from callboard.runtime import (
    Actor,
    Backoff,
    DeferredReply,
    Intensity,
    KeyedProps,
    Message,
    Props,
    Ref,
    Refusal,
    Request,
    System,
    entities,
    on,
    pool,
    supervisor,
    worker,
)

Fetch = Callable[[str], Awaitable[list[str]]]  # the links of a page; LookupError if there is none

PAUSE_S = 1.0
CONCURRENCY = 3
TRIES = 3


class Get(Request[list[str]], frozen=True):
    """The links of a page."""

    url: str


class Visit(Message, frozen=True):
    """Fetch a page when its host may be asked again."""

    url: str


class Visited(Message, frozen=True):
    """A page has been fetched; None if that has failed."""

    url: str
    links: list[str] | None


class Crawl(Request[dict[str, bool]], frozen=True):
    """All pages from here, and whether each could be had."""

    url: str


class Fetcher(Actor[Get]):
    """One of those that fetch. A page that is not there is an answer, any other error a crash."""

    def __init__(self, fetch: Fetch) -> None:
        self.fetch = fetch

    @on(Get)
    async def get(self, message: Get) -> list[str]:
        try:
            return await self.fetch(message.url)
        except LookupError as error:
            raise Refusal(f"{message.url} is not there") from error


class Host(Actor[Visit]):
    """One host: its pages one after the other, with a pause between them."""

    def __init__(self, _host: str, fetchers: Ref[Get], frontier: Ref[Visited]) -> None:
        self.fetchers = fetchers
        self.frontier = frontier
        self.free_at = 0.0

    @on(Visit)
    async def visit(self, message: Visit) -> None:
        links: list[str] | None = None
        for _ in range(TRIES):
            try:
                links = await self.get(message.url)
            except Refusal:
                break
            except (ConnectionError, TimeoutError):
                continue
            break
        await self.frontier.tell(Visited(message.url, links))

    async def get(self, url: str) -> list[str]:
        time = asyncio.get_running_loop().time
        await asyncio.sleep(self.free_at - time())
        try:
            return await self.fetchers.ask(Get(url))
        finally:
            self.free_at = time() + PAUSE_S  # from the end on: a request may have waited for a fetcher


class Frontier(Actor[Crawl | Visited]):
    """Knows what has been seen."""

    def __init__(self, fetch: Fetch) -> None:
        self.fetch = fetch
        self.found: dict[str, bool] = {}
        self.open: set[str] = set()
        self.reply = DeferredReply[dict[str, bool]]()

    async def on_start(self) -> None:
        fetchers = await self.spawn(
            pool(
                "fetchers",
                Props(Fetcher, self.fetch),
                size=CONCURRENCY,
                backoff=Backoff(initial_s=0.1),
                intensity=Intensity(100, 60),
            )
        )
        self.hosts = await self.spawn(
            entities(
                "hosts",
                KeyedProps(Host, fetchers, self.ref),
                key=lambda visit: urlsplit(visit.url).netloc,
                idle_s=60,
                limit=1000,
            )
        )

    @on(Crawl)
    def crawl(self, message: Crawl) -> DeferredReply[dict[str, bool]]:
        self.open.add(message.url)
        self.hosts.tell_nowait(Visit(message.url))
        return self.reply

    async def follow(self, links: list[str]) -> None:
        for url in dict.fromkeys(links):
            if url not in self.found and url not in self.open:
                self.open.add(url)
                await self.hosts.tell(Visit(url))

    @on(Visited)
    async def visited(self, message: Visited) -> None:
        self.open.discard(message.url)
        self.found[message.url] = message.links is not None
        await self.follow(message.links or [])
        if not self.open:
            self.reply.set(self.found)


async def crawl(url: str, fetch: Fetch, timeout_s: float = 3600) -> dict[str, bool]:
    """All pages that can be reached, and whether each could be had."""
    frontier = worker("frontier", Props(Frontier, fetch))
    async with System(supervisor("root", frontier)):
        return await frontier.ask(Crawl(url), timeout_s=timeout_s)


async def main() -> None:
    """Crawl a small web."""
    web = {
        "http://a/": ["http://a/1", "http://b/"],
        "http://a/1": ["http://a/gone", "http://c/"],
        "http://b/": ["http://a/"],
        "http://c/": [],
    }

    async def fetch(url: str) -> list[str]:
        await asyncio.sleep(0.1)
        return web[url]

    for url, had in (await crawl("http://a/", fetch)).items():
        print("ok  " if had else "gone", url)  # noqa: T201 - what it is for


if __name__ == "__main__":
    asyncio.run(main())
