"""`callboard doctor --indexes`: bloated and unused indexes of a real database."""

import asyncpg
import pytest
from kit.running import Up

from callboard.ops.cli import main
from callboard.ops.commands import doctor


async def test_the_doctor_names_an_index_that_nothing_uses_and_one_that_is_bloated(
    up: Up, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await asyncpg.connect(up.facts["DATABASE_URL"])
    try:
        await connection.execute("""
            create table swollen as select n, repeat('x', 20) || n as text from generate_series(1, 40000) as n;
            create index swollen_text_idx on swollen (text);
            create index swollen_n_idx on swollen (n);
            delete from swollen where n % 50 <> 0;
        """)
        await connection.execute("vacuum analyze swollen")
        monkeypatch.setattr(doctor, "WORTH_BYTES", 100_000)
        assert await doctor.report_indexes(up.facts["DATABASE_URL"]) == 0
        told = capsys.readouterr().out
        assert "reindex index concurrently swollen_text_idx" in told
        assert "Not used since" in told
        assert told.count("swollen_n_idx") >= 2
        await connection.execute("reindex table swollen")
        await doctor.report_indexes(up.facts["DATABASE_URL"])
        assert "concurrently swollen" not in capsys.readouterr().out
    finally:
        await connection.execute("drop table if exists swollen")
        await connection.close()


def test_the_command_finds_the_running_database(up: Up, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(("doctor", "--indexes", "--data-dir", str(up.data)))
    assert ended.value.code == 0
    assert "index" in capsys.readouterr().out.lower()
