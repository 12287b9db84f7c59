"""`callboard topics`: the partitions of our topics, and how far the consumer group has read each."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from callboard.ops.cli import FAILED, OK, CommandError
from callboard.ops.config.lookup import read_setting
from callboard.ops.config.settings import Config
from callboard.ops.departments import installed
from callboard.ops.embedded.data_directory import data_folder, read_running
from callboard.ops.logs import silence
from callboard.ops.streams import kafka_breaker, kafka_security
from callboard.ops.terminal import json_line, visible
from callboard.streams.cluster import KafkaCluster
from callboard.streams.group_offsets import UNREACHABLE, GroupOffsets, PartitionOffsets
from callboard.streams.topics import DEFAULT_PREFIX, TOPICS, full_name


async def run_topics(options: argparse.Namespace) -> int:
    """Print every partition, as a table or a JSON object a line. Return 1 if one of them is not known."""
    silence("aiokafka", "callboard")
    installed()  # each department declares its topics when it is loaded
    cluster = _cluster(data_folder(options.data_dir))
    offsets = GroupOffsets(cluster, [full_name(cluster.prefix, name) for name in TOPICS])
    try:
        found = await offsets.read()
    except UNREACHABLE as error:
        raise CommandError(f"KAFKA_BROKERS ({','.join(cluster.addresses)}): {error or type(error).__name__}") from error
    finally:
        await offsets.close()
    if options.json:
        print("\n".join(json_line({**_fields(each), "lag": each.lag}) for each in found))
    else:
        _print_table(found)
    return FAILED if any(each.error for each in found) else OK


def _cluster(data: Path | None) -> KafkaCluster:
    """Return the cluster of the environment, or of the running `callboard up`. Raises CommandError, ConfigError."""

    def read(name: str) -> Any:
        return read_setting(Config, name, os.environ)

    addresses = read("kafka_brokers") or (read_running(data) or {}).get("KAFKA_BROKERS")
    if not addresses:
        raise CommandError("no broker: set KAFKA_BROKERS, or run `callboard up` on this data folder")
    prefix, breaker = read("topic_prefix") or DEFAULT_PREFIX, kafka_breaker()
    return KafkaCluster(str(addresses), prefix, breaker=breaker, security=kafka_security(read))


def _fields(offsets: PartitionOffsets) -> dict[str, Any]:
    return {name: getattr(offsets, name) for name in offsets.__struct_fields__}


def _print_table(found: list[PartitionOffsets]) -> None:
    table = Table("topic", "partition", "first", "end", "committed", "lag", "fault")
    for each in found:
        numbers = ("", "", "", "") if each.error else (each.begin, each.end, each.committed, each.lag)
        cells = ("-" if number is None else str(number) for number in numbers)
        table.add_row(each.topic, str(each.partition), *cells, visible(each.error))
    Console(width=None if sys.stdout.isatty() else 120).print(table)
