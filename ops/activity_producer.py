"""An external producer, which the demo runs in a process of its own: plain aiokafka, and nothing of Callboard's.

    python -m callboard.ops.activity_producer BROKERS TOPIC SUBJECT COUNT

It reports COUNT page views of SUBJECT in CloudEvents' binary mode; the last but one of them is not JSON.
"""

import asyncio
import json
import sys
import uuid
from datetime import UTC, datetime

from aiokafka import AIOKafkaProducer


async def report(brokers: str, topic: str, subject: str, count: int) -> None:
    """Send all events, and return when the broker has acknowledged them."""
    producer = AIOKafkaProducer(bootstrap_servers=brokers, acks="all", linger_ms=5)
    await producer.start()
    try:
        now = datetime.now(UTC).isoformat()
        view = {"metric": "page_view", "value": 1, "subject_id": subject, "occurred_at": now}
        sent = []
        for n in range(count):
            value = b"{this is not JSON" if n == count - 2 else json.dumps(view).encode()
            headers = [
                ("ce_specversion", b"1.0"),
                ("ce_id", str(uuid.uuid4()).encode()),
                ("ce_source", b"/demo/web-server"),
                ("ce_type", b"activity.recorded"),
                ("ce_time", now.encode()),
                ("content-type", b"application/json"),
            ]
            sent.append(await producer.send(topic, value=value, key=subject.encode(), headers=headers))
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


if __name__ == "__main__":
    asyncio.run(report(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
