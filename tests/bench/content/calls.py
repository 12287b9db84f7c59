"""The calls that are measured, and the walk through the pages of a list."""

import time
from collections.abc import Iterator
from itertools import cycle, islice
from random import Random
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import aiohttp
import data

LIMIT = 20
DEEP = 1_000  # the last page of a walk
WORDS = data.vocabulary()
COMMON = WORDS[:20]  # each is in most articles
FREQUENT = WORDS[150:250]  # each is in thousands of articles
RARE = WORDS[-2_000:]  # each is in some tens of articles


def mistyped(word: str) -> str:
    """Swap two letters."""
    return word[:2] + word[3] + word[2] + word[4:]


def searches() -> dict[str, list[dict[str, Any]]]:
    """Return the searches by their kind; each kind has queries enough that no round asks the same again soon."""
    some_author, some_category = str(UUID(int=8)), str(UUID(int=3))
    month = {"from": "2025-11-01T00:00:00Z", "to": "2025-12-01T00:00:00Z"}
    return {
        "a rare word": [{"q": word} for word in RARE],
        "a common word": [{"q": word} for word in COMMON],
        "a frequent word": [{"q": word} for word in FREQUENT],
        "two frequent words": [{"q": f"{a} {b}"} for a, b in zip(FREQUENT, FREQUENT[7:], strict=False)],
        "common or rare": [{"q": f"{a} or {b}"} for a, b in zip(cycle(COMMON), RARE[:500], strict=False)],
        "a phrase of common words": [{"q": f'"{a} {b}"'} for a in COMMON[:10] for b in COMMON],
        "a common word, excluded a rare one": [
            {"q": f"{a} -{b}"} for a, b in zip(cycle(COMMON), RARE[:500], strict=False)
        ],
        "a word begun": [{"q": word[:4]} for word in RARE[:500] if len(word) > 6],
        "two letters": [{"q": word[:2]} for word in WORDS[:500]],
        "a typing error": [{"q": mistyped(word)} for word in RARE if len(word) > 6],
        "two characters of Japanese": [{"q": q} for q in ("東京", "歴史", "記事", "タワー")],
        "nothing to find": [{"q": f"zzq{n}"} for n in range(500)],
        "a common word of an author": [{"q": word, "author": some_author} for word in COMMON],
        "a frequent word in a category": [{"q": word, "category": some_category} for word in FREQUENT],
        "a frequent word with a tag": [{"q": word, "tag": "tag-3"} for word in FREQUENT],
        "a frequent word in a month": [{"q": word, **month} for word in FREQUENT],
    }


MIX = {  # searches of each kind among a hundred
    "a rare word": 20,
    "a frequent word": 20,
    "two frequent words": 20,
    "a word begun": 10,
    "a typing error": 10,
    "a frequent word in a category": 4,
    "a common word": 3,
    "a phrase of common words": 2,
    "two letters": 2,
    "nothing to find": 2,
    "two characters of Japanese": 2,
    "a frequent word with a tag": 2,
    "a frequent word in a month": 1,
    "common or rare": 1,
    "a common word, excluded a rare one": 1,
}


def mixed(kinds: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return searches as a site may have them, in one order each time."""
    asked = [query for kind, share in MIX.items() for query in islice(cycle(kinds[kind]), 4 * share)]
    Random(3).shuffle(asked)  # noqa: S311 - the same order each time
    return asked


def paths() -> Iterator[tuple[str, list[str]]]:
    """Yield each kind of call with its paths."""
    yield "list of an author", [f"/content?{urlencode({'author': UUID(int=n + 1)})}" for n in range(200)]
    yield "list of a category", [f"/content?{urlencode({'category': UUID(int=n + 1)})}" for n in range(40)]
    yield "list of a tag", [f"/content?tag=tag-{n}" for n in range(200)]
    kinds = searches()
    mix = mixed(kinds)
    for name, queries in ({"a mix, first after the start": mix} | kinds | {"a mix": mix}).items():
        yield f"search: {name}", [f"/content/search?{urlencode(query)}" for query in queries]
    facets = [{"q": word} for word in FREQUENT]
    yield "facets of a frequent word", [f"/content/search/facets?{urlencode(query)}" for query in facets]


class Client:
    """Calls the API and takes the times."""

    def __init__(self, session: aiohttp.ClientSession, api: str) -> None:
        self.session = session
        self.api = api

    async def get(self, path: str) -> tuple[float, Any]:
        """Return the milliseconds of a call, and what it answers. Raises RuntimeError unless that is 200."""
        began = time.perf_counter()
        async with self.session.get(self.api + path) as answer:
            body = await answer.read()
        elapsed = (time.perf_counter() - began) * 1000
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {body[:300]!r}")
        return elapsed, body

    async def post(self, path: str, body: Any, token: str) -> None:
        """Raises RuntimeError unless it is answered with 200."""
        headers = {"Authorization": f"Bearer {token}"}
        async with self.session.post(self.api + path, json=body, headers=headers) as answer:
            if answer.status != 200:
                raise RuntimeError(f"{path}: {answer.status} {await answer.text()}")

    async def times(self, every: list[str], count: int) -> list[float]:
        """Return the times of so many calls, in turn."""
        return [(await self.get(path))[0] for path in islice(cycle(every), count)]
