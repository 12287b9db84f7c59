"""Two releases on one database: the one before serves while the newest migrations run, and goes on beside the new one.

The release before is the last tag, or else the commit before that of the newest migration. `make faults` plays it.
"""

import io
import shutil
import subprocess
import tarfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
from kit.running import CallboardProcess, Command, one_up
from kit.twins import ProcessGroup, twins

from callboard.ops import schema

ROOT = Path(__file__).parents[2]
REVISION = "select version_num from alembic_version"


def git(*words: str) -> bytes:
    """What git says of this repository; nothing if it knows too little."""
    found = shutil.which("git")
    if found is None:
        return b""
    return subprocess.run([found, *words], cwd=ROOT, capture_output=True, check=False).stdout  # noqa: S603 - git


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the release before, importable as `callboard`."""
    newest = next(schema.VERSIONS.glob(f"{schema.head()}_*.py")).relative_to(ROOT)
    commit = git("describe", "--tags", "--abbrev=0").decode().strip()
    if not commit:
        added = git("log", "--diff-filter=A", "--format=%H", "-1", "--", str(newest)).decode().strip()
        commit = git("rev-parse", "--verify", "--quiet", f"{added}^").decode().strip() if added else ""
    archive = git("archive", commit) if commit else b""
    if not archive:
        pytest.skip("the history of this clone does not reach the release before")
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder / "callboard", filter="data")
    return folder


@pytest.fixture(scope="module")
def servers(before: Path) -> Iterator[ProcessGroup]:
    unlimited = {"QUOTA_DRAFTS_PER_HOUR": "999999", "QUOTA_CONTENT_ROWS": "999999"}
    with one_up() as up, twins(up, 1, PYTHONPATH=str(before), **unlimited) as made:
        yield made


def load(site: CallboardProcess, token: str, stop: Event) -> Counter[str]:
    """Write and read until told to stop; the results."""
    results: Counter[str] = Counter()
    while not stop.is_set():
        made = site.call("POST", "/content", token=token, body={"title": "Both", "body": "x"})
        results[f"POST {made.status}"] += 1
        for path in (f"/content/{made.data['content_id']}", "/content"):
            results[f"GET {site.call('GET', path, token=token).status}"] += 1
    return results


def test_the_release_before_serves_while_migrations_run_and_beside_the_new_one(servers: ProcessGroup) -> None:
    [older] = servers.sites
    was = servers.sql(REVISION)[0]["version_num"]
    assert was in schema.revisions()
    assert was != schema.head(), "there is nothing to migrate"
    stop = Event()
    with ThreadPoolExecutor(4) as threads:
        people = [threads.submit(load, older, servers.admin, stop) for _ in range(3)]
        try:
            url = {"DATABASE_URL": servers.environment["DATABASE_URL"]}
            migration = Command("migrate", "up", environment=url)
            assert migration.wait(120) == 0, migration.errors
            assert servers.sql(REVISION)[0]["version_num"] == schema.head()
            newer = servers.start(PYTHONPATH="")
            people.append(threads.submit(load, newer, servers.admin, stop))
            written = {site: write(site, servers.admin) for site in (older, newer)}
            for site in (older, newer):
                for content_id in written.values():
                    assert site.call("GET", f"/content/{content_id}", token=servers.admin).status == 200
                assert site.call("GET", "/content").status == 200
        finally:
            stop.set()
        results = sum((each.result(60) for each in people), Counter[str]())
    print(f"\nfrom {was} to {schema.head()} beside the release before: {dict(results)}")  # noqa: T201
    assert {each.split()[1] for each in results} == {"200", "201"}
    assert "Traceback" not in older.errors


def write(site: CallboardProcess, token: str) -> str:
    answer = site.call("POST", "/content", token=token, body={"title": "One", "body": "x"})
    assert answer.status == 201
    return str(answer.data["content_id"])
