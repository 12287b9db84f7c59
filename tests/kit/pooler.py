"""A real PgBouncer in transaction mode."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from callboard.ops.embedded.data_directory import free_ports, port_taken
from kit.running import until

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
MISSING = "pgbouncer is not installed: apt-get install pgbouncer"

CONFIG = """\
[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
auth_type = plain
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = 3
min_pool_size = 3
logfile = {folder}/log
pidfile = {folder}/pid
unix_socket_dir =
"""


@contextlib.contextmanager
def pgbouncer(url: str, folder: Path) -> Iterator[str]:
    """The address of a pooler before a server, which ends with the block."""
    parts, port = urlsplit(url), free_ports(1)[0]
    (folder / "users").write_text(f'"{parts.username}" "{parts.password}"\n')
    (folder / "ini").write_text(CONFIG.format(server=parts.port, port=port, folder=folder))
    command = [str(PGBOUNCER), str(folder / "ini")]
    if os.geteuid() == 0:  # it refuses root, as PostgreSQL does
        for each in (*folder.parents[:3], folder, *folder.iterdir()):
            each.chmod(0o755)
        shutil.chown(folder, "nobody")
        command = [command[0], "-u", "nobody", command[1]]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 - found above
    try:
        until("the pooler", lambda: port_taken("127.0.0.1", port))
        yield f"postgresql://{parts.username}:{parts.password}@127.0.0.1:{port}{parts.path}?sslmode=disable"
    finally:
        process.terminate()
        process.wait()
