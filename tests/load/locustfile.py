"""The users of `make load`: each logs in once, then reads its profile three times for each time that it writes it.

Locust imports this file in a process of its own: its gevent stays out of ours.
"""

import itertools
import os
import random
import time

from locust import FastHttpUser, between, task

BASE = "/api/v1"
NUMBERS = itertools.count()


class Reader(FastHttpUser):
    """One person; between two requests it thinks for 1 to 3 s."""

    wait_time = between(1, 3)
    connection_timeout = network_timeout = 10.0
    concurrency = 1

    def on_start(self) -> None:
        """Log in, once."""
        self.number = next(NUMBERS)
        self.writes = 0
        body = {"email": f"load-{self.number}@example.org", "password": os.environ["LOAD_PASSWORD"]}
        while (answer := self.client.post(f"{BASE}/auth/login", json=body, name="log in")).status_code != 200:
            wait_s = float(answer.headers.get("Retry-After", 1))
            time.sleep(random.uniform(wait_s, 5 * wait_s))  # noqa: S311 - gevent's sleep, in locust's process
        self.headers = {"Authorization": f"Bearer {answer.json()['data']['access_token']}"}

    @task(3)
    def read(self) -> None:
        """Read the profile."""
        self.client.get(f"{BASE}/users/me/profile", headers=self.headers, name="read profile")

    @task(1)
    def write(self) -> None:
        """Write the profile."""
        self.writes += 1
        body = {"bio": f"The {self.writes}th of user {self.number}", "preferences": {"theme": "dark"}}
        self.client.put(f"{BASE}/users/me/profile", headers=self.headers, json=body, name="write profile")
