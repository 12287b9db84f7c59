"""Settings that change by SIGHUP are security events; those of a file that is not taken are not."""

from pathlib import Path

from kit.audited import entries
from kit.domain import Domain

from callboard.ops.application import dry_run
from callboard.ops.config import reload


async def test_a_reload_leaves_an_entry_of_what_it_has_changed(domain: Domain, tmp_path: Path) -> None:
    parts, file = dry_run(), tmp_path / "tuning.toml"
    file.write_text("[limits.login]\nlimit = 7\n")
    await reload.reload(parts, str(file), domain.database)
    await reload.reload(parts, str(file), domain.database)  # nothing has changed
    file.write_text("[limits.login]\nlimit = 0\n")
    await reload.reload(parts, str(file), domain.database)
    (entry,) = await entries(domain)
    assert (entry.action, entry.actor) == ("settings.changed", "operator")
    assert entry.detail == {"changes": ["limits.login.limit was 10, is 7"], "count": 1}


async def test_settings_are_in_force_though_their_entry_cannot_be_written(domain: Domain, tmp_path: Path) -> None:
    parts, file = dry_run(), tmp_path / "tuning.toml"
    file.write_text("[limits.login]\nlimit = 7\n")
    domain.database.unavailable.set()
    try:
        await reload.reload(parts, str(file), domain.database)
    finally:
        domain.database.unavailable.clear()
    assert parts.policies["login"].limit == 7
