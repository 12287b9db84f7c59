"""The actors that notice changed settings: in a file, in Vault (a rotated secret), in another process of a fleet."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct

from callboard.actors.errors import DegradedError
from callboard.actors.figures import Figure, by_label
from callboard.ops.config.configuration import vault_of
from callboard.ops.config.file import version_of
from callboard.ops.config.reload import Reloader
from callboard.ops.config.sources import Secret
from callboard.ops.config.vault import Vault, VaultError
from callboard.runtime import Actor, Message, Node, Props, on, worker

FILE_INTERVAL_S = 2.0

log = logging.getLogger(__name__)


class LookAtFile(Message, frozen=True):
    """Compare the file with the one that was read last."""


class ConfigWatcher(Actor[LookAtFile]):
    """Reloads when the file of the settings has changed: two system calls each two seconds."""

    def __init__(self, reloader: Reloader) -> None:
        self.reloader = reloader

    async def on_start(self) -> None:
        """Start the rounds."""
        self.every(FILE_INTERVAL_S, LookAtFile())

    @on(LookAtFile)
    async def look(self, _message: LookAtFile) -> None:
        """Each version is read once, a faulty one too; a file that is being replaced is read when it is there."""
        version = version_of(self.reloader.configuration.file)
        if version is not None and version != self.reloader.read_version:
            await self.reloader.reload_or_log("a changed file")


class ReadVault(Message, frozen=True):
    """Read the secrets again."""


class VaultState:
    """Whether Vault answers, for the metrics and /ready."""

    def __init__(self) -> None:
        self.why = ""
        self.reads: Counter[str] = Counter({"ok": 0, "failed": 0})

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Return the metrics."""
        return (
            Figure("callboard_vault_reads", "Readings of the secrets in Vault", by_label(self.reads), ("result",)),
            Figure(
                "callboard_vault_available",
                "Whether the last reading of Vault succeeded",
                lambda: {(): float(not self.why)},
                is_counter=False,
            ),
        )

    async def check(self) -> None:
        """Raise DegradedError while Vault is unavailable: its last values are in force."""
        if self.why:
            raise DegradedError(f"Vault: {self.why}; the last values are in force")


class VaultKeeper(Actor[ReadVault]):
    """Renews the token and reads the secrets, in a thread; a rotated one is adopted where that is possible.

    If Vault is unavailable the last values stay.
    """

    def __init__(self, reloader: Reloader, vault: Vault, state: VaultState) -> None:
        self.reloader = reloader
        self.vault = vault
        self.state = state
        self.tried: Mapping[str, Secret] = reloader.configuration.secrets
        self._thread = ThreadPoolExecutor(1, "vault")

    async def on_start(self) -> None:
        """Start the rounds."""
        self.every(self.vault.settings.refresh_s, ReadVault())

    @on(ReadVault)
    async def read(self, _message: ReadVault) -> None:
        """Each new reason of a failure is one line, and the return is one."""
        state = self.state
        try:
            secrets = await asyncio.get_running_loop().run_in_executor(self._thread, self.vault.read)
        except VaultError as error:
            state.reads["failed"] += 1
            if str(error) != state.why:
                log.warning("VAULT_URL (%s): %s; the last values stay in force", self.vault.settings.url, error)
            state.why = str(error)
            return
        state.reads["ok"] += 1
        if state.why:
            log.info("Vault is available again")
        state.why = ""
        if secrets != self.tried:
            self.tried = secrets
            await self.reloader.reload_or_log("vault", secrets)

    async def on_stop(self) -> None:
        """Let go of the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)


class FleetListener(Actor[None]):
    """Adopts the changes that the other processes of a fleet tell."""

    def __init__(self, reloader: Reloader) -> None:
        self.reloader = reloader

    async def run(self) -> None:
        """Adopt one after another. The parent's end is a signal for us, and no matter of this actor."""
        async for change in self.reloader.fleet.changes():
            await self.reloader.adopt(change)
        await asyncio.Event().wait()


class Keeping(Struct, frozen=True):
    """The actors that keep the settings of a process current, with their checks and figures."""

    reloader: Reloader
    nodes: Sequence[Node]
    checks: Mapping[str, Callable[[], Awaitable[None]]] = {}
    figures: Sequence[Figure] = ()


def keeping_of(reloader: Reloader) -> Keeping:
    """Return the actors that a process needs for its settings: none without a fleet, a file and Vault."""
    configuration = reloader.configuration
    nodes: list[Node] = []
    if not reloader.fleet.is_alone:
        nodes.append(worker("fleet", Props(FleetListener, reloader)))
    if configuration.file:
        nodes.append(worker("config", Props(ConfigWatcher, reloader)))
    vault = vault_of(configuration)
    if vault is None:
        return Keeping(reloader, nodes)
    state = VaultState()
    nodes.append(worker("vault", Props(VaultKeeper, reloader, vault, state)))
    return Keeping(reloader, nodes, {"vault": state.check}, state.figures)
