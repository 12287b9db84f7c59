"""Write the locks anew from pyproject.toml and ops/constraints.txt: `make lock`, which runs this with uv.

run.txt is for `make run`, dev.txt adds the packages of `make test`, and bench.txt those of the benchmarks. They are
valid for every platform and every Python that Callboard supports.
"""

import re
import subprocess
import sys
from pathlib import Path

LOCKS = Path(__file__).parent
ROOT = LOCKS.parents[1]
EXTRAS = {
    "run": ("embedded",),
    "dev": ("embedded", "s3", "vault", "otel", "dev"),
    "bench": ("embedded", "s3", "vault", "otel", "dev", "bench"),
}
ENTRY = re.compile(r"^\S.*?(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
FLAGS = (
    "--universal",
    "--generate-hashes",
    "--no-annotate",
    "--no-header",
    "--no-emit-index-url",
    "--quiet",
    "--python-version=3.11",
    "--constraint=ops/constraints.txt",
)


def main() -> None:
    """Write all three. Raises CalledProcessError if uv cannot resolve them."""
    build = re.search(r'requires = \["(setuptools==[^"]+)"\]', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    before: set[str] = set()
    for name, extras in EXTRAS.items():
        flags = [*FLAGS, *(f"--extra={extra}" for extra in extras)]
        resolved = subprocess.run(  # noqa: S603 - ours
            [sys.executable, "-m", "uv", "pip", "compile", *flags, "pyproject.toml", "-"],
            input=build[1] if build else "",
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        entries = ENTRY.findall(resolved)
        (LOCKS / f"{name}.txt").write_text("".join(each for each in entries if each not in before), encoding="utf-8")
        before.update(entries)


if __name__ == "__main__":
    main()
