"""A producer that sends under a lease only: records in its buffers are not sent once another process may lead."""

from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
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
        self._send_unfenced = self.client.send
        self.client.send = self._send_fenced

    async def _send_fenced(self, node_id: int, request: Any, **options: Any) -> Any:
        if isinstance(request, ProduceRequest):
            try:
                self._lease.check()
            except LeaseLostError as lost:
                raise FencedError(str(lost)) from lost
        return await self._send_unfenced(node_id, request, **options)
