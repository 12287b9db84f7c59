"""The clients of the servers, and the configuration of departments. Nothing is connected yet."""

import os
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from callboard.actors.department import AnyDepartment
from callboard.actors.infrastructure.database import Database, PoolSettings
from callboard.actors.infrastructure.database_server import DatabaseServer, Pooler
from callboard.actors.infrastructure.redis import KeySpace, RedisClient
from callboard.ops.config.departments import Configured, read_departments
from callboard.ops.config.reload import department_tables
from callboard.ops.config.settings import Config, ConfigError

QUEUE_POOL_SIZE = 4  # for a claim, a renewal and an outcome at once
QUEUE_TIMEOUT_S = 1.0  # a claim that takes longer asks for fewer jobs the next time


def database_of(config: Config, observe: Callable[[str, str], None]) -> Database:
    """Return the pool for requests; it makes those for search, the queue, its jobs, and operators."""
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
    """Return Redis, with names of keys that no other installation uses."""
    return RedisClient(config.redis_url, KeySpace(config.environment, config.service_name))


def configured_of(
    config: Config, departments: Sequence[AnyDepartment], ours: Sequence[AnyDepartment]
) -> dict[str, Configured]:
    """Return the departments as configured: ours by Config, whose fields have the names of their settings; those of
    packages by their own tables and variables. Raises ConfigError.
    """
    packages = [each for each in departments if each not in ours]
    tables = department_tables(config.callboard_config) if config.callboard_config else {}
    known = {name: table for name, table in tables.items() if name in {each.name for each in packages}}
    faults: list[str] = []
    configured = read_departments(packages, known, os.environ, faults)  # `reload.check` reports unknown tables
    if faults:
        raise ConfigError(faults)
    return {
        each.name: configured[each.name] if each in packages else _configured_ours(config, each) for each in departments
    }


def _configured_ours(config: Config, department: AnyDepartment) -> Configured:
    settings = department.settings(
        **{field: getattr(config, field) for field in department.settings.__struct_fields__ if hasattr(config, field)}
    )
    limits = [
        replace(each, limit=getattr(config, each.setting)) if each.setting else each for each in department.limits
    ]
    return Configured(settings, limits, department.flags, department.retention)
