"""SQL statements as the metrics and the traces name them: by operation and table, and without values."""

import re
from functools import lru_cache
from typing import Any

from callboard.runtime import Span, SpanKind, begin_span

MAX_SQL = 1_000  # characters
CHANGES = ("insert", "update", "delete")
CONTROL = frozenset({"begin", "commit", "rollback", "savepoint", "release", "set"})
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_VALUE = re.compile(r"'(?:[^']|'')*'|\$\$.*?\$\$|(?<![\w$.])\d[\w.]*", re.DOTALL)
_LOCK = re.compile(r"\bfor\s+(?:no\s+key\s+)?update\b")
_NO_TABLE = re.compile(r"\b(?:extract|trim|substring|overlay|position)\s*\([^()]*|\bdistinct\s+from\s+\S+")
_TABLE = {
    "insert": re.compile(r"\binsert\s+into\s+\"?([a-z_][\w.]*)"),
    "update": re.compile(r"(?<!do )\bupdate\s+(?:only\s+)?\"?([a-z_][\w.]*)"),
    "delete": re.compile(r"\bdelete\s+from\s+(?:only\s+)?\"?([a-z_][\w.]*)"),
    "select": re.compile(r"\bfrom\s+(?:only\s+)?\"?([a-z_][\w.]*)\b(?!\s*\()"),
}


@lru_cache(1024)
def query_type(sql: str) -> str:
    """Return the verb of a statement: of one that changes rows within a `with`, that; of anything unusual, `other`."""
    words = re.findall(r"[a-z]+", _LOCK.sub("", _VALUE.sub("", _COMMENT.sub("", sql)).lower()))
    first = words[0] if words else ""
    if first == "with":
        return next((word for word in words if word in CHANGES), "select")
    return first if first in (*CHANGES, "select") else "other"


@lru_cache(1024)
def describe_statement(sql: str) -> tuple[str, str, str]:
    """Return a statement's operation, its table (empty if it has none), and its text without values."""
    text = " ".join(_VALUE.sub("?", _COMMENT.sub(" ", sql)).split())
    folded = _NO_TABLE.sub(" ", _LOCK.sub(" ", text.lower()))
    first = folded.split(" ", 1)[0].rstrip(";")
    operation = first if first in CONTROL else query_type(sql)
    found = _TABLE[operation].search(folded) if operation in _TABLE else None
    return operation.upper(), found[1] if found else "", text[:MAX_SQL]


def begin_statement(sql: str) -> Span | None:
    """Begin the span of a statement, below what is being handled; None if it is not recorded."""
    span = begin_span("DB", SpanKind.CLIENT)
    if span is not None:
        operation, table, text = describe_statement(sql)
        span.name = f"DB {operation} {table}".rstrip()
        span.attributes = {"db.system": "postgresql", "db.operation": operation, "db.statement": text}
        if table:
            span.attributes["db.sql.table"] = table
    return span


def record_statement(query: Any) -> None:
    """Record the span of a statement that asyncpg reports at its end: its `query`, `elapsed` seconds, `exception`."""
    if (span := begin_statement(query.query)) is not None:
        span.started_ns -= round(query.elapsed * 1e9)
        span.end(query.exception)
