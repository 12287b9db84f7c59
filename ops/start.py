"""The first moments of a process: its signals and descriptors, set before the imports, which take a second.

As process 1 of a container it has no default for signals: without a handler a SIGTERM is lost, and the container is
killed after its grace. And in a process that was started without stderr no socket may get that number.
"""

import gc
import os
import signal
import sys

# New objects that start a collection, and collections that start an older one. By default a tenth of the time of the
# imports goes to them; and reference counts free the objects of a request.
GC_AFTER = (20_000, 20, 20)
STAYS = ("serve", "up")  # commands that run until they are told to stop, and then succeed
SIGNALLED = 128  # plus the number of the signal: the status of other commands that are stopped


def main() -> None:
    """Run the command line."""
    gc.set_threshold(*GC_AFTER)
    _open_standard_streams()
    stays = sys.argv[1:2] != [] and sys.argv[1] in STAYS

    def leave(number: int, _frame: object) -> None:
        """End at once: nothing has been started yet. An exception could be lost during imports."""
        os._exit(0 if stays else SIGNALLED + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    if stays and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it
        names = ("CALLBOARD_CONFIG", "CALLBOARD_CONFIG_FILE", "VAULT_URL", "VAULT_URL_FILE")
        has_file = any(name in os.environ for name in names) or os.path.isfile("callboard.toml")  # noqa: PTH113 - pathlib is imported later
        signal.signal(signal.SIGHUP, signal.SIG_IGN if has_file else leave)  # the file is yet to be read
    from callboard.ops import cli  # noqa: PLC0415 - the handlers come first

    try:
        if not stays:  # a started command cleans up
            signal.signal(signal.SIGINT, signal.default_int_handler)
        cli.main()
    except KeyboardInterrupt:
        sys.exit(SIGNALLED + signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # at its end the interpreter cannot handle an exception
        _let_go_of_streams()


def _open_standard_streams() -> None:
    """Open descriptors that the parent has closed, so that no file or socket gets their numbers."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r+", encoding="utf-8"))  # noqa: SIM115, PTH123 - for the whole life


def _let_go_of_streams() -> None:
    """Flush, or drop unwritable output: the interpreter's own last attempt would change the exit status to 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1 if stream is sys.stdout else 2)


def complain(line: str) -> None:
    """Print to stderr, if possible: a full disk or a closed pipe there ends nothing."""
    try:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        return
