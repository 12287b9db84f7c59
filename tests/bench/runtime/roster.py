"""Who takes part, what must be installed for it, and what is asked of Callboard beside each."""

import importlib.metadata
import importlib.util
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from jobs import JOBS

sys.path.append(str(Path(__file__).parents[2]))
from kit.interpreters import environment

LOOPS = ("asyncio", "uvloop")
NO_LOOP = "none"


class Peer(NamedTuple):
    """`target` is its module in peers/ and the class there; `scale` is the share of a job's size that it is given."""

    key: str
    title: str
    target: str
    needs: str  # the package, or the command, without which it cannot run
    scale: float = 1.0
    loops: tuple[str, ...] = LOOPS
    without: tuple[str, ...] = ()  # jobs that are the same as those of its plain form
    python: str = ""  # the version that it runs on, if that is not the one that runs this

    @property
    def ours(self) -> bool:
        """Whether it is the runtime itself."""
        return self.key.startswith("callboard")

    @property
    def missing(self) -> str | None:
        """What to install so that it takes part, or None."""
        if self.python and not environment(self.python).exists():
            return f"Python {self.python}"
        if self.key == "erlang":
            return None if shutil.which("erl") and shutil.which("erlc") else "erl and erlc"
        return None if importlib.util.find_spec(self.needs) else self.needs

    @property
    def version(self) -> str:
        """Of the package that does the work; nothing for what came with Python."""
        if self.missing or self.needs in ("asyncio", "erl"):
            return ""
        return f"{self.needs} {importlib.metadata.version(self.needs)}"


class Row(NamedTuple):
    """A peer on an event loop: a line of the tables."""

    peer: Peer
    loop: str

    @property
    def title(self) -> str:
        """As it stands in the tables."""
        return self.peer.title if self.loop == NO_LOOP else f"{self.peer.title}, {self.loop}"


RAW = Peer("raw", "raw deque + future (the limit)", "raw:Raw", "asyncio")
CALLBOARD = Peer("callboard", "Callboard", "callboard_actor:Plain", "callboard")
PRODUCT = Peer(  # the product's own way: what counts for it stands first
    "callboard_product", "Callboard, async, trace", "callboard_actor:Product", "callboard", without=("spawn",)
)
NEWER = "3.13"
SUSPENDING = Peer(
    "callboard_suspending", "Callboard, suspends", "callboard_actor:Suspending", "callboard", 0.5, without=("spawn",)
)
PEERS = (
    RAW,
    PRODUCT,
    SUSPENDING,
    Peer(
        "callboard_newer",
        f"Callboard, async, trace, Python {NEWER}",
        PRODUCT.target,
        "callboard",
        without=("spawn",),
        python=NEWER,
    ),
    CALLBOARD,
    Peer("callboard_traced", "Callboard, trace set", "callboard_actor:Traced", "callboard", without=("spawn",)),
    Peer(
        "callboard_async", "Callboard, async handlers", "callboard_actor:Asynchronous", "callboard", without=("spawn",)
    ),
    Peer("queue", "asyncio.Queue", "asyncio_queue:AsyncioQueue", "asyncio"),
    Peer(
        "queue_newer",
        f"asyncio.Queue, Python {NEWER}",
        "asyncio_queue:AsyncioQueue",
        "asyncio",
        without=("spawn",),
        python=NEWER,
    ),
    Peer("queue_suspending", "asyncio.Queue, suspends", "asyncio_queue:Suspending", "asyncio", 0.5, without=("spawn",)),
    Peer("anyio", "anyio stream", "anyio_stream:AnyioStream", "anyio", 0.1),
    Peer("pykka", "Pykka", "pykka_actor:Pykka", "pykka", 0.05, (NO_LOOP,)),
    Peer("xoscar", "xoscar", "xoscar_actor:Xoscar", "xoscar", 0.05),
    Peer("erlang", "Erlang/OTP, one scheduler", "", "erl", 1.0, (NO_LOOP,)),
)
BY_KEY = {peer.key: peer for peer in PEERS}
ROWS = tuple(Row(peer, loop) for peer in PEERS for loop in peer.loops)
KEYS = tuple(job.key for job in JOBS)


class Goal(NamedTuple):
    """Callboard, in the way `ours`, is to be `times` as fast as `peer` in a job; or, with no peer, to have a figure."""

    job: str
    times: float
    peer: str | None
    loops: tuple[str, ...] = LOOPS
    ours: str = "callboard"

    @property
    def words(self) -> str:
        """As the table says it."""
        if self.peer is None:
            return f"at most {self.times:,.0f} bytes" if self.job == "bytes" else f"{self.times:,.0f} a second"
        caller = "the raw limit" if self.peer == "raw" else BY_KEY[self.peer].title.partition(",")[0]
        said = f"level with {caller}" if self.times == 1.0 else f"{self.times:g} times {caller}"
        way = BY_KEY[self.ours].title.partition(", ")[2]
        return f"{way}: {said}" if way else said


GOALS = (
    Goal("tell", 1.4, "queue", ours="callboard_product"),
    Goal("ask", 1.0, "queue", ("asyncio",), "callboard_product"),
    Goal("ask", 0.93, "queue", ("uvloop",), "callboard_product"),
    Goal("in_flight", 1.0, "queue", ours="callboard_product"),
    Goal("fan_out", 1.2, "queue", ours="callboard_product"),
    Goal("tell", 1.2, "queue_newer", ours="callboard_newer"),
    Goal("tell", 1.6, "queue_suspending", ours="callboard_suspending"),
    Goal("ask", 0.8, "queue_suspending", ours="callboard_suspending"),
    Goal("tell", 0.47, "raw"),
    Goal("tell", 2.5, "queue"),
    Goal("tell", 8.0, "pykka"),
    Goal("tell", 100.0, "xoscar"),
    Goal("tell", 0.55, "erlang"),
    Goal("ask", 0.75, "raw", ("uvloop",)),
    Goal("ask", 1.2, "queue", ("uvloop",)),
    Goal("ask", 4.0, "pykka", ("uvloop",)),
    Goal("fan_out", 0.7, "raw"),
    Goal("fan_out", 1.0, "erlang"),
    Goal("spawn", 250_000.0, None),
    Goal("bytes", 400.0, None),
)
