"""The composition: every part is made here and put in its place. The function `tree` is the whole system on one screen."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from callboard.actors.access import Identity
from callboard.actors.cache import Cache, CacheGuard
from callboard.actors.content import ContentWorkflow
from callboard.actors.database import Database, DatabaseGuard
from callboard.actors.errors import Problem, SERVER_UNAVAILABLE
from callboard.actors.janitor import Janitor
from callboard.actors.library import Library
from callboard.actors.limits import CheckLimit, Limits, Policy, Verdict
from callboard.actors.mail import MailSender, Postbox, SmtpSettings
from callboard.actors.notifier import Notifier
from callboard.actors.passwords import Passwords
from callboard.actors.sessions import Authenticate, LogIn, Logins, OpenSession, Sessions
from callboard.actors.stats import Aggregator
from callboard.actors.tokens import Signer
from callboard.actors.users import Users
from callboard.http.server import HttpServer
from callboard.http.services import Services
from callboard.ops import schema
from callboard.ops.config import Config
from callboard.ops.embedded.servers import EmbeddedServer, Servers
from callboard.ops.metrics import Metrics
from callboard.runtime import Backoff, Intensity, Mailbox, Node, Overflow, Strategy, Supervisor, pool, supervisor, worker
from callboard.streams.app import Streams
from callboard.streams.broker import Broker
from callboard.streams.relay import Relay
