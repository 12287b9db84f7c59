"""The users of `make load`: each logs in, then reads its profile three times for each time that it writes it.

Users log in as fast as the product checks passwords and no faster: so many at once, and the others wait for their turn.
When the last has logged in all begin, and SETTLE_S later the figures. A user's session ends at random, after SESSION_S
on average, and it logs in again: that is the pace at which so many people log in.

Locust imports this file in a process of its own: its gevent stays out of ours.
"""

import itertools
import json
import os
import random
import time
from pathlib import Path

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore
from locust import FastHttpUser, between, task

BASE = "/api/v1"
SESSION_S = 3600.0
SETTLE_S, TURN_S = 10.0, 0.01
USERS, AT_ONCE, SECONDS = (int(os.environ[f"LOAD_{name}"]) for name in ("USERS", "LOGINS_AT_ONCE", "SECONDS"))
PASSWORD, TIMES = os.environ["LOAD_PASSWORD"], Path(os.environ["LOAD_TIMES"])
STARTED = time.time()
NUMBERS, LOGGED_IN, TURNS, ALL_IN = itertools.count(), itertools.count(1), BoundedSemaphore(AT_ONCE), Event()


class Reader(FastHttpUser):
    """One person; between two requests it thinks for 1 to 3 s."""

    wait_time = between(1, 3)
    connection_timeout = network_timeout = 10.0
    concurrency = 1

    def on_start(self) -> None:
        """Log in, and wait until all have."""
        self.number = next(NUMBERS)
        self.writes = 0
        with TURNS:
            while not self.log_in():
                time.sleep(1)  # gevent's
        if next(LOGGED_IN) == USERS:
            gevent.spawn(self.measure)
            ALL_IN.set()
        ALL_IN.wait()
        self.wait()  # or all would begin at once

    def measure(self) -> None:
        """Begin the figures, note how late locust's own turns come in each second, and end the run after its time."""
        logged_in_at, failures = time.time(), self.environment.stats.total.num_failures
        gevent.sleep(SETTLE_S)
        self.environment.stats.reset_all()
        began_at, late = time.time(), dict[int, float]()
        while (before := time.time()) < began_at + SECONDS:
            gevent.sleep(TURN_S)
            now = time.time()
            late[int(now)] = max(late.get(int(now), 0.0), now - before - TURN_S)
        found = {
            "started": STARTED,
            "logged_in_at": logged_in_at,
            "began_at": began_at,
            "failures": failures,
            "late": late,
        }
        TIMES.write_text(json.dumps(found), encoding="utf-8")
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
