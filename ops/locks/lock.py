"""Write the locks anew from pyproject.toml and ops/constraints.txt: `make lock`, which runs this with uv.

run.txt is for `make run`; dev.txt adds the packages of `make test`, bench.txt those of the benchmarks, deploy.txt the
linters of ops/deploy. image.txt is for ops/deploy/Dockerfile, by itself: no embedded server. They are valid for every
platform and every Python that Callboard supports.
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
    "deploy": ("embedded", "s3", "vault", "otel", "dev", "bench", "deploy"),
    "image": ("s3", "vault", "otel"),
}
WHOLE = ("image",)  # has every package that it needs, and not only those that the others lack
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
    """Write all. Raises CalledProcessError if uv cannot resolve them."""
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
        lacking = [each for each in entries if name in WHOLE or each not in before]
        (LOCKS / f"{name}.txt").write_text("".join(lacking), encoding="utf-8")
        before.update(entries)


if __name__ == "__main__":
    main()
