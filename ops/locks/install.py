"""Install locked packages, each held against its hashes, and then Callboard itself, editable; show how far it is.

.venv/bin/python ops/locks/install.py run dev
"""

import re
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

LOCKS = Path(__file__).parent
ROOT = LOCKS.parents[1]
PIN = re.compile(r"^[A-Za-z0-9_.-]+==", re.MULTILINE)
KEPT_LINES = 30  # of pip's output, shown when it fails
PIP = (sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-deps", "--no-input")


def main(names: Sequence[str]) -> int:
    """Install the locks of these names; return pip's exit status."""
    locks = [LOCKS / f"{name}.txt" for name in names]
    total = sum(len(PIN.findall(lock.read_text(encoding="utf-8"))) for lock in locks)
    files = [word for lock in locks for word in ("--requirement", str(lock))]
    status = run([*PIP, "--progress-bar=off", "--require-hashes", *files], Progress(total))
    if status:
        return status
    # Its build needs setuptools alone, which is locked too: nothing is fetched without a hash.
    return run([*PIP, "--quiet", "--no-build-isolation", "--editable", str(ROOT)], Progress(0))


class Progress:
    """The number of packages so far: on one updated line, or on a line at intervals without a terminal."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._seen = 0
        self._moves = sys.stderr.isatty()

    def note(self, line: str) -> None:
        """Read a line of pip's output."""
        if re.match(r"(Collecting|Requirement already satisfied: ) ?\S+==", line):
            self._seen += 1
            if self._moves or self._seen % 25 == 0 or self._seen == self._total:
                self._show(f"  {self._seen} of {self._total} packages")
        elif line.startswith("Installing collected packages") and self._total:
            self._show(f"  {self._seen} of {self._total} packages are here, installing them")

    def end(self) -> None:
        """End the updated line."""
        if self._moves and self._total:
            sys.stderr.write("\n")

    def _show(self, text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text}" if self._moves else f"{text}\n")
        sys.stderr.flush()


def run(command: Iterable[str], progress: Progress) -> int:
    """Run pip, show its progress, and its last output if it fails."""
    last: deque[str] = deque(maxlen=KEPT_LINES)
    with subprocess.Popen([*command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:  # noqa: S603
        for line in pip.stdout or ():
            last.append(line)
            progress.note(line)
    progress.end()
    if pip.returncode:
        sys.stderr.writelines(last)
    return pip.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
