"""Tell a service manager, such as systemd with `Type=notify`, that the process is ready or stops."""

import os
import socket


def notify(state: str) -> None:
    """Send a state, such as READY=1, to the socket that NOTIFY_SOCKET names; without one, or if nobody reads it, do
    nothing.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setblocking(False)
        try:
            sender.sendto(state.encode(), address.replace("@", "\0", 1) if address.startswith("@") else address)
        except OSError:
            return
