"""The clients of the servers, and what departments are configured to. Nothing is connected yet."""

from collections.abc import Callable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from callboard.actors.department import AnyDepartment
from callboard.actors.infrastructure.database import Database, PoolSettings
from callboard.actors.infrastructure.database_server import DatabaseServer, Pooler
from callboard.actors.infrastructure.rate_limiter import Policy
from callboard.actors.infrastructure.redis import KeySpace, RedisClient
from callboard.ops.config.settings import Config

QUEUE_POOL_SIZE = 4  # a claim, a renewal, and what ends, at once
QUEUE_TIMEOUT_S = 1.0  # a claim that takes longer asks for less the next time


def database_of(config: Config, observe: Callable[[str, str], None]) -> Database:
    """The pool for requests, and with it those for search, the queue, its jobs, and operators."""
    server = DatabaseServer(
        config.database_url,
        direct_url=config.database_direct_url,
        pooler=Pooler(config.database_pooler),
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
    """Redis, with names of keys that no other installation has."""
    return RedisClient(config.redis_url, KeySpace(config.environment, config.service_name))


def policies_of(config: Config, departments: Sequence[AnyDepartment]) -> dict[str, Policy]:
    """The rate limits by name, as configured."""
    return {
        limit.name: replace(limit.policy, limit=getattr(config, limit.setting)) if limit.setting else limit.policy
        for each in departments
        for limit in each.limits
    }


def settings_of(config: Config, departments: Sequence[AnyDepartment]) -> dict[str, Struct]:
    """The settings of departments by their names: each field is the setting of the same name."""
    return {
        each.name: each.settings(**{field: getattr(config, field) for field in each.settings.__struct_fields__})
        for each in departments
    }
