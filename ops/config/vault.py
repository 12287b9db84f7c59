"""Secrets from Vault, or OpenBao: KV version 2, read by hvac. Every call here waits for the network.

The secret of a setting is at VAULT_PATH/NAME, in its field `value`. A setting that the environment or the file gives is
not read from Vault. After a rotation of `jwt_secret` its version before still verifies, and it signs until every
process has read the new one.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, Struct

from callboard.ops.config.settings import Config
from callboard.ops.config.sources import Declaration, Reader, Secret, declarations

if TYPE_CHECKING:
    import hvac

TIMEOUT_S = 2.0
PAUSES_S = (0.5, 1.0, 2.0, 4.0)  # between the attempts of a start
SIGNING, VERIFYING = "JWT_SECRET_KEY", "JWT_PREVIOUS_KEYS"
SETTLED = 2.0  # times VAULT_REFRESH_S until every process knows a new version
RENEW_AT = 0.5  # of a token's life


class VaultError(Exception):
    """Vault cannot be asked now, or refuses; the message is one line without a secret."""

    def __init__(self, said: str, *, lasting: bool = False) -> None:
        super().__init__(said)
        self.lasting = lasting


class VaultSettings(Struct, frozen=True):
    """Where Vault is, and what is ours there. No repr shows the token."""

    url: str
    token: str
    path: str
    ca_file: str
    refresh_s: int

    def __repr__(self) -> str:
        """Without the token."""
        return f"VaultSettings({self.url}, {self.path})"


class Version(Struct, frozen=True):
    """One version of a secret; `before` is the version before it, if that can still be read."""

    value: str
    number: int
    created_at: float
    before: str | None = None

    def __repr__(self) -> str:
        """Without the value."""
        return f"Version({self.number})"


def settings_of(reader: Reader) -> VaultSettings | None:
    """Return the settings of Vault; None without VAULT_URL. Faults are added to the reader's."""
    names = (
        "vault_url",
        "vault_token",
        "vault_path",
        "vault_ca_file",
        "vault_refresh_s",
        "environment",
        "service_name",
    )
    found = {each.field.name: reader.value(each) for each in declarations(Config) if each.field.name in names}
    given = {name: value for name, value in found.items() if value is not UNSET}
    if not given.get("vault_url"):
        return None
    if not given.get("vault_token"):
        reader.faults.append("VAULT_TOKEN is missing: VAULT_URL needs it")
        return None
    if find_spec("hvac") is None:
        reader.faults.append("VAULT_URL needs a package that is not installed: pip install 'callboard[vault]'")
        return None
    usual = f"secret/{given.get('environment', 'production')}/{given.get('service_name', 'callboard')}"
    return VaultSettings(
        given["vault_url"],
        given["vault_token"],
        given.get("vault_path") or usual,
        given.get("vault_ca_file") or "",
        given.get("vault_refresh_s") or 60,
    )


def secrets_of(reader: Reader, declared: Iterable[tuple[str, Declaration]]) -> dict[str, Secret]:
    """Return the secrets that Vault has for settings that nothing else gives, by their names in the environment.

    Adds a fault to the reader's if Vault cannot be asked, after a few attempts.
    """
    settings = settings_of(reader)
    if settings is None:
        return {}
    vault = Vault(settings, wanted(reader, declared))
    for pause_s in (*PAUSES_S, None):
        try:
            return vault.read()
        except VaultError as error:
            if error.lasting or pause_s is None:
                attempts = "" if error.lasting else f", {len(PAUSES_S) + 1} times"
                reader.faults.append(f"VAULT_URL ({settings.url}): {error}{attempts}")
                return {}
        time.sleep(pause_s)
    return {}


def wanted(reader: Reader, declared: Iterable[tuple[str, Declaration]]) -> dict[str, Sequence[str]]:
    """Return the names of secrets in Vault, by the names of the settings that nothing else gives."""
    return {
        f"{prefix}{each.field.name.upper()}": each.in_vault(prefix)
        for prefix, each in declared
        if each.secret and each.field.name != "vault_token" and not reader.is_given(each, prefix)
    }


class Vault:
    """One client, for the secrets of these names; it is used by one thread at a time."""

    def __init__(self, settings: VaultSettings, names: Mapping[str, Sequence[str]]) -> None:
        self.settings = settings
        self._names = names
        self._mount, _, self._path = settings.path.strip("/").partition("/")
        self._client: hvac.Client | None = None

    def read(self) -> dict[str, Secret]:
        """Return the secrets that there are, by the names of their settings; renew the token. Raises VaultError."""
        client = self._connected()
        self._renew(client)
        found: dict[str, tuple[str, Version]] = {}
        for setting, names in self._names.items():
            for name in names:
                version = self._version(client, name, with_before=setting == SIGNING)
                if version is not None:
                    found[setting] = name, version
                    break
        return self._staged(found)

    def _staged(self, found: Mapping[str, tuple[str, Version]]) -> dict[str, Secret]:
        """Return the secrets as they are used now: a new signing key only verifies until every process has it."""
        secrets = {
            setting: Secret(version.value, f"vault {self.settings.path}/{name}, version {version.number}")
            for setting, (name, version) in found.items()
        }
        if SIGNING in found and (before := found[SIGNING][1].before) is not None and VERIFYING in self._names:
            (name, new), origin = found[SIGNING], secrets[SIGNING].origin
            older = secrets.pop(VERIFYING, None)
            signs, verifies = new.value, before
            if time.time() - new.created_at < SETTLED * self.settings.refresh_s:
                signs, verifies = verifies, signs
            keys = "\n".join(filter(None, (verifies, older.text if older else "")))
            secrets |= {SIGNING: Secret(signs, origin), VERIFYING: Secret(keys, f"vault {self.settings.path}/{name}")}
        return secrets

    def _connected(self) -> "hvac.Client":
        import hvac  # noqa: PLC0415 - it takes a quarter of a second

        if self._client is None:
            self._client = hvac.Client(
                url=self.settings.url,
                token=self.settings.token,
                timeout=TIMEOUT_S,
                verify=self.settings.ca_file or True,
            )
        return self._client

    def _renew(self, client: "hvac.Client") -> None:
        """Renew the token once half of its life is over. Raises VaultError if it is refused."""
        token = self._ask("the token", client.auth.token.lookup_self)["data"]
        life_s, left_s = token.get("creation_ttl") or 0, token.get("ttl") or 0
        if token.get("renewable") and life_s and left_s < RENEW_AT * life_s:
            self._ask("the renewal of the token", client.auth.token.renew_self)

    def _version(self, client: "hvac.Client", name: str, *, with_before: bool) -> Version | None:
        """Return the newest version of a secret; None if there is none, or we may not read it. Raises VaultError."""
        found = self._read(client, name, None)
        if found is None:
            return None
        metadata, value = found["metadata"], self._value(name, found["data"])
        number = int(metadata["version"])
        earlier = self._read(client, name, number - 1) if with_before and number > 1 else None
        before = None if earlier is None else self._value(name, earlier["data"])
        return Version(value, number, _moment(metadata["created_time"]), before)

    def _read(self, client: "hvac.Client", name: str, version: int | None) -> dict[str, Any] | None:
        from hvac import exceptions  # noqa: PLC0415 - see above

        path = f"{self._path}/{name}"
        try:
            answer: dict[str, Any] = self._ask(
                name,
                lambda: client.secrets.kv.v2.read_secret_version(
                    path=path, version=version, mount_point=self._mount, raise_on_deleted_version=True
                ),
                passes=(exceptions.InvalidPath, exceptions.Forbidden),
            )
        except (exceptions.InvalidPath, exceptions.Forbidden):
            return None
        return answer["data"]  # type: ignore[no-any-return]

    def _value(self, name: str, data: Mapping[str, Any]) -> str:
        value = data.get("value", next(iter(data.values())) if len(data) == 1 else None)
        if not isinstance(value, str):
            raise VaultError(f"{self.settings.path}/{name} must have its text in the field value", lasting=True)
        return value

    def _ask(self, what: str, call: Any, *, passes: tuple[type[Exception], ...] = ()) -> Any:
        """Call Vault. Raises VaultError, whose words quote no secret."""
        from hvac import exceptions  # noqa: PLC0415 - see above
        from requests import RequestException  # noqa: PLC0415 - it comes with hvac

        try:
            return call()
        except passes:
            raise
        except (exceptions.Forbidden, exceptions.Unauthorized) as error:
            raise VaultError("it refuses VAULT_TOKEN", lasting=True) from error
        except exceptions.VaultDown as error:
            raise VaultError("it is sealed, or starts") from error
        except exceptions.VaultError as error:
            raise VaultError(f"{what}: {type(error).__name__}") from error
        except RequestException as error:
            raise VaultError(f"it does not answer ({type(error).__name__})") from error


def _moment(text: str) -> float:
    return datetime.fromisoformat(text.partition(".")[0].rstrip("Z")).replace(tzinfo=UTC).timestamp()
