"""The clients of the servers. Nothing is connected yet."""

from collections.abc import Callable

from callboard.actors.infrastructure.database import Database, PoolSettings
from callboard.actors.infrastructure.database_server import DatabaseServer
from callboard.actors.infrastructure.redis import KeySpace, RedisClient
from callboard.ops.config.settings import Config
from callboard.ops.config.urls import with_password

QUEUE_POOL_SIZE = 4  # for a claim, a renewal and an outcome at once
QUEUE_TIMEOUT_S = 1.0  # a claim that takes longer asks for fewer jobs the next time


def database_of(config: Config, observe: Callable[[str, str], None]) -> Database:
    """Return the pool for requests; it makes those for search, the queue, its jobs, and operators."""
    server = DatabaseServer(
        with_password(config.database_url, config.database_password),
        direct_url=with_password(config.database_direct_url, config.database_password),
        pooler=config.database_pooler,
        observe=observe,
    )
    return Database(
        server,
        size=config.database_pool_size,
        statement_timeout_s=config.database_timeout_ms / 1000,
        pools={
            "search": PoolSettings(config.database_search_pool_size, config.database_search_timeout_ms / 1000),
            "queue": PoolSettings(QUEUE_POOL_SIZE, QUEUE_TIMEOUT_S),
            "jobs": PoolSettings(config.database_jobs_pool_size, config.database_jobs_timeout_ms / 1000),
            "operators": PoolSettings(config.database_operators_pool_size, config.database_operators_timeout_ms / 1000),
        },
    )


def cache_of(config: Config) -> RedisClient:
    """Return Redis, with names of keys that no other installation uses."""
    return RedisClient(config.redis_url, KeySpace(config.environment, config.service_name))
