"""An actor that is told more than it can take, for as long as you like: its memory stays within its capacity."""

import asyncio
import gc
import sys
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from kit.property_examples import examples
from kit.recorder import Note, Recorder, Wait

from callboard.runtime import Cell, Mailbox, MailboxFullError, Overflow, System, snapshot, supervisor, worker

CAPACITY = 1000
TIMES = examples(20)  # ten million tells for `make test-thorough`
# In a mailbox, a message of ours costs its Struct, its text, and its place in the deque; beside them one block of 64
# places that is begun, and the counts.
MESSAGE_BYTES = sys.getsizeof(Note("")) + sys.getsizeof("12345678") + 16 + 8
BOUND_BYTES = CAPACITY * MESSAGE_BYTES + 4096
BOUND_BLOCKS = CAPACITY * 2 + CAPACITY // 64 + 100


@asynccontextmanager
async def stuck(overflow: Overflow) -> AsyncIterator[Cell[object]]:
    """An actor whose handler does not end while the block runs."""
    recorder = worker("r", Recorder, mailbox=Mailbox(CAPACITY, overflow))
    async with System(supervisor("root", recorder)):
        recorder.ask(Wait(60), timeout_s=120).add_done_callback(lambda reply: reply.exception())
        await asyncio.sleep(1)
        gc.collect()
        yield recorder  # type: ignore[misc]
        recorder.kill()


@pytest.mark.long
@pytest.mark.parametrize("overflow", [Overflow.DROP_NEWEST, Overflow.DROP_OLDEST, Overflow.REJECT])
async def test_tells_against_a_stuck_actor_never_take_more_bytes_than_its_capacity(overflow: Overflow) -> None:
    async with stuck(overflow) as recorder:
        tracemalloc.start()
        for n in range(20 * CAPACITY):
            with suppress(MailboxFullError):
                recorder.tell_nowait(Note(str(n)))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert snapshot(recorder).depth == CAPACITY
        assert peak < BOUND_BYTES


@pytest.mark.long
async def test_millions_of_tells_against_a_stuck_actor_stay_under_a_memory_bound_computed_from_capacity() -> None:
    async with stuck(Overflow.DROP_NEWEST) as recorder:
        before = sys.getallocatedblocks()
        tell = recorder.tell_nowait
        for _ in range(TIMES):
            for _ in range(100_000):
                tell(Note("one more"))
            assert sys.getallocatedblocks() - before < BOUND_BLOCKS
        assert recorder.tally().accepted == TIMES * 100_000 + 1


async def test_senders_that_would_wait_are_bounded_by_their_own_number() -> None:
    """With WAIT each sender has one message under way: more senders are more memory, more messages are not."""
    async with stuck(Overflow.WAIT) as recorder:
        for n in range(CAPACITY):
            await recorder.tell(Note(str(n)))

        async def insist() -> None:
            for _ in range(1000):
                await recorder.tell(Note("wait"))

        senders = [asyncio.create_task(insist()) for _ in range(50)]
        await asyncio.sleep(1)
        assert len(recorder.record.waiters) == len(senders)  # type: ignore[attr-defined]
        for sender in senders:
            sender.cancel()
