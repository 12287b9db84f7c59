"""The page: goals, rates, and ratios as Markdown tables. Every cell has a number or a word."""

from collections.abc import Sequence

from jobs import FIGURES, Job
from machine import Machine
from results import Results, Spread, beside
from roster import CALLBOARD, LOOPS, PEERS, RAW, ROWS, Goal, Row

HEAD = """# The runtime beside its peers

Made by `make bench-runtime`; do not edit. {processor}; {system}; {python}; {versions}.
{date}; {rounds}; the load average was {load}. On a busy machine only ratios mean anything: each is
taken within one round, and what stands here is the median of the rounds with the least and the greatest.

![The ratio of every peer to the raw limit](results.svg)
"""

NOTES = """## What is compared

Every job runs in a process of its own; the peers take turns within each round. Python peers exchange the same frozen
msgspec Structs, through mailboxes of 1,024 where these can be bounded. Fan-out is one sender to 1,000 actors in turn,
the ring one message through 1,000 actors; `jobs.py` says the rest.

- **raw deque + future** is the limit on an event loop, not an actor: one task, no bound, no types, no errors.
- **Callboard** has everything on: supervision, bounded mailboxes, counted fates, a deadline on every ask. *Async,
  trace* is the product's way: coroutines for handlers, every message under a trace context; *suspends* gives way once
  in each handler, and so does the reader of its queue. Without these words handlers are plain and there is no trace.
- Rows with a version of Python beside their names ran on that one, built likewise, and stand beside each other alone.
- **Pykka** has a thread an actor and no event loop. **Erlang** has one scheduler; its actors are not supervised here.
- **xoscar** runs in one process; its messages still take the way of remote ones.
- A spawned Callboard actor is started one at a time under a running supervisor. Bytes are the growth of the process's
  resident memory, divided by the number of idle actors.
"""


def report(results: Results, words: dict[str, str], machine: Machine) -> str:
    """The whole page. `words` has by a row's title why figures are missing."""
    rounds = f"{machine.rounds} round{'s' * (machine.rounds != 1)}"
    if machine.quick:
        rounds = f"{rounds} of tiny size, which only show that everything runs: **these figures mean nothing**"
    fields = machine._asdict() | {"rounds": rounds}
    parts = [
        HEAD.format(**fields),
        "## Goals\n",
        _goals(results),
        "## Thousand a second\n",
        _table(
            ["", *(job.title for job in FIGURES)],
            [[row.title, *(_rate(results, words, row, job) for job in FIGURES)] for row in ROWS],
        ),
        "## To the raw limit\n",
        "Times as fast as the raw deque and future on the same loop, or as small (Pykka and Erlang: on uvloop).\n",
        _table(
            ["", *(job.title for job in FIGURES)],
            [
                [row.title, *(_ratio(results.to_limit(row, job.key), words, row) for job in FIGURES)]
                for row in ROWS
                if row.peer is not RAW and not row.peer.python
            ],
        ),
        *(part for loop in LOOPS for part in _beside(results, words, loop)),
        NOTES,
        *_missing(words),
    ]
    return "\n".join(parts)


def _beside(results: Results, words: dict[str, str], loop: str) -> list[str]:
    """Callboard in ratio to each peer."""
    ours = Row(CALLBOARD, loop)
    others = [beside(peer.key, loop) for peer in PEERS if peer is not CALLBOARD and not peer.python]
    rows = [
        [row.title, *(_ratio(results.times_as_good(ours, row, job.key), words, row) for job in FIGURES)]
        for row in others
    ]
    title = f"## Callboard on {loop} beside each\n"
    text = "How many times as fast as the peer of the row, or as small, Callboard is.\n"
    return [title, text, _table(["", *(job.title for job in FIGURES)], rows)]


def _goals(results: Results) -> str:
    cells: dict[Goal, dict[str, str]] = {}
    for verdict in results.verdicts():
        reached = verdict.reached
        if reached is None:
            said = verdict.word
        elif verdict.goal.peer is None:
            said = f"{verdict.word}: {_span(reached, ',.0f')}"
        else:
            said = f"{verdict.word}: {_span(reached, '.3g')}"
        cells.setdefault(verdict.goal, {})[verdict.loop] = said
    titles = {job.key: job.title for job in FIGURES}
    rows = [
        [titles[goal.job], goal.words, *(said.get(loop, "no goal") for loop in LOOPS)] for goal, said in cells.items()
    ]
    return _table(["job", "goal", *LOOPS], rows)


def _rate(results: Results, words: dict[str, str], row: Row, job: Job) -> str:
    spread = results.spread(row, job.key)
    if spread is None:
        return _absent(words, row)
    if job.key == "bytes":
        return _span(spread, ",.0f")
    thousands = Spread(*(value / 1000 for value in spread))
    return _span(thousands, ",.0f" if thousands.median >= 100 else ".3g")


def _ratio(ratio: Spread | None, words: dict[str, str], row: Row) -> str:
    return _absent(words, row) if ratio is None else _span(ratio, ".3g" if ratio.median < 1000 else ",.0f")


def _absent(words: dict[str, str], row: Row) -> str:
    if row.title in words:
        return words[row.title].partition(":")[0]
    return "as Callboard" if row.peer.without else "not measured"


def _span(spread: Spread, form: str) -> str:
    """Median, and the range where there is one."""
    middle, least, most = (format(value, form) for value in spread)
    return middle if least == most else f"{middle} ({least}-{most})"


def _missing(words: dict[str, str]) -> list[str]:
    if not words:
        return []
    return ["## Missing or failed\n", *(f"- {title}: {word}" for title, word in sorted(words.items())), ""]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
