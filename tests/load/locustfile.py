"""The users of `make load`: each logs in, then reads its profile three times for each time that it writes it.

Users log in as fast as the product checks passwords and no faster: so many at once, and the others wait for their turn.
The figures begin when the last has logged in. From then on a user's session ends at random, after SESSION_S on average,
and it logs in again: that is the pace at which so many people log in.

Locust imports this file in a process of its own: its gevent stays out of ours.
"""

import itertools
import json
import os
import random
import time
from pathlib import Path

import gevent
from gevent.lock import BoundedSemaphore
from locust import FastHttpUser, between, task

BASE = "/api/v1"
SESSION_S = 3600.0
TURN_S = 0.01
USERS, AT_ONCE, SECONDS = (int(os.environ[f"LOAD_{name}"]) for name in ("USERS", "LOGINS_AT_ONCE", "SECONDS"))
PASSWORD, RAMP, LATE = os.environ["LOAD_PASSWORD"], Path(os.environ["LOAD_RAMP"]), Path(os.environ["LOAD_LATE"])
STARTED = time.time()
NUMBERS, LOGGED_IN, TURNS = itertools.count(), itertools.count(1), BoundedSemaphore(AT_ONCE)


class Reader(FastHttpUser):
    """One person; between two requests it thinks for 1 to 3 s."""

    wait_time = between(1, 3)
    connection_timeout = network_timeout = 10.0
    concurrency = 1

    def on_start(self) -> None:
        """Log in; the last one begins the figures, and ends the run after its time."""
        self.number = next(NUMBERS)
        self.writes = 0
        with TURNS:
            while not self.log_in():
                time.sleep(1)  # gevent's
        if next(LOGGED_IN) == USERS:
            ramp = {"started": STARTED, "full_at": time.time(), "failures": self.environment.stats.total.num_failures}
            RAMP.write_text(json.dumps(ramp), encoding="utf-8")
            self.environment.stats.reset_all()
            gevent.spawn(self.finish)
        self.wait()  # or everybody writes and reads at the pace of the logins

    def finish(self) -> None:
        """Measure how late locust's own turns come, by the second, until the run ends."""
        late: dict[int, float] = {}
        ends_at = time.time() + SECONDS
        while (before := time.time()) < ends_at:
            gevent.sleep(TURN_S)
            now = time.time()
            late[int(now)] = max(late.get(int(now), 0.0), now - before - TURN_S)
        LATE.write_text(json.dumps(late), encoding="utf-8")
        self.environment.runner.quit()

    def log_in(self) -> bool:
        """Begin a session; return whether it was granted."""
        body = {"email": f"load-{self.number}@example.org", "password": PASSWORD}
        answer = self.client.post(f"{BASE}/auth/login", json=body, name="log in")
        if answer.status_code != 200:
            return False
        self.headers = {"Authorization": f"Bearer {answer.json()['data']['access_token']}"}
        self.ends_at = time.time() + random.expovariate(1 / SESSION_S)
        return True

    @task(3)
    def read(self) -> None:
        """Read the profile."""
        self.keep_session()
        self.client.get(f"{BASE}/users/me/profile", headers=self.headers, name="read profile")

    @task(1)
    def write(self) -> None:
        """Write the profile."""
        self.keep_session()
        self.writes += 1
        body = {"bio": f"The {self.writes}th of user {self.number}", "preferences": {"theme": "dark"}}
        self.client.put(f"{BASE}/users/me/profile", headers=self.headers, json=body, name="write profile")

    def keep_session(self) -> None:
        """Log in again once the session has ended; a refusal counts as an error, and the old session goes on."""
        if time.time() >= self.ends_at:
            self.log_in()
