"""A producer that sends under a lease only, and to one broker: what is in its buffers is not sent once another process
may lead, nor to a broker that stands in the place of a lost one.
"""

import asyncio
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, NodeNotReadyError
from aiokafka.protocol.produce import ProduceRequest

from callboard.streams.lease import Lease, LeaseLostError


class FencedError(LeaseLostError, KafkaError):  # type: ignore[misc]
    """The lease ended before the record was sent: to aiokafka an error that is not retried."""

    retriable = False


class FencedProducer(AIOKafkaProducer):  # type: ignore[misc]
    """aiokafka's producer with a check of the lease before each request that carries records."""

    def __init__(self, lease: Lease, **options: Any) -> None:
        super().__init__(**options)
        self._lease = lease
        self.is_fenced = False
        self._send_unfenced = self.client.send
        self.client.send = self._send_fenced

    def fence(self) -> None:
        """Send no more records: the broker was lost, and events that it took with it must come before these."""
        self.is_fenced = True

    def fence_unless_cancelled(self, watch: "asyncio.Future[None]") -> None:
        """Send no more records if the watch of the broker has ended by itself."""
        if not watch.cancelled():
            self.fence()

    async def _send_fenced(self, node_id: int, request: Any, **options: Any) -> Any:
        if isinstance(request, ProduceRequest):
            if self.is_fenced:
                raise NodeNotReadyError("the broker was lost")  # an error that is retried: nothing blames the topic
            try:
                self._lease.check()
            except LeaseLostError as lost:
                raise FencedError(str(lost)) from lost
        return await self._send_unfenced(node_id, request, **options)
