"""The page of metrics of a running process: its names as Prometheus wants them, and its labels within bounds."""

import re
import secrets

from kit.promtool import needs_promtool, promtool
from kit.running import PASSWORD, Up, request
from prometheus_client.parser import text_string_to_metric_families

MOST_SERIES = 200  # of one family; buckets are no series of their own here


def page_of(up: Up) -> str:
    answer = request("GET", f"{up.operators}/metrics", token=up.facts["OPS_TOKEN"])
    return answer.body if isinstance(answer.body, str) else answer.body.decode()


def labels_of(page: str) -> dict[str, set[tuple[tuple[str, str], ...]]]:
    """The sets of labels of each family, without those of buckets."""
    found: dict[str, set[tuple[tuple[str, str], ...]]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "le"))
            found.setdefault(family.name, set()).add(labels)
    return found


def visit(up: Up, word: str) -> None:
    """Be a stranger who puts a word wherever a request has room for one."""
    calls = [
        ("GET", f"/{word}"),
        ("GET", f"/content/{word}"),
        ("GET", f"/content?cursor={word}"),
        ("DELETE", f"/{word}"),
    ]
    calls += [("GET", f"/users/{word}"), ("GET", f"/content/search?q={word}"), ("GET", f"/feed.atom?{word}")]
    for method, path in calls:
        up.call(method, path)
    up.call("POST", "/auth/login", body={"email": f"{word}@example.org", "password": PASSWORD})
    up.call("POST", "/auth/register", body={word: word})
    url = f"{up.api}/content"
    request("GET", url, headers={"User-Agent": word, "X-Request-ID": word, "Authorization": f"Bearer {word}"})
    request("GET", url, headers={"Origin": f"https://{word}.example", "Host": f"{word}.example"})
    request("PROPFIND", url)


def test_what_strangers_send_makes_no_series(up: Up) -> None:
    visit(up, "x" + secrets.token_hex(8))
    before = labels_of(page_of(up))
    words = ["x" + secrets.token_hex(8) for _ in range(5)]
    for word in words:
        visit(up, word)
    page = page_of(up)
    assert not any(word in page for word in words)
    more = {name: labels - before.get(name, set()) for name, labels in labels_of(page).items()}
    by_requests = {name: labels for name, labels in more.items() if labels and name.startswith(("api_", "db_"))}
    assert by_requests == {}
    crowded = {name: len(labels) for name, labels in labels_of(page).items() if len(labels) > MOST_SERIES}
    assert set(crowded) <= {"callboard_http_request_seconds", "api_requests", "callboard_actor_messages"}
    assert all(count < 10 * MOST_SERIES for count in crowded.values())


def test_names_have_their_units_and_each_family_says_what_it_means(up: Up) -> None:
    families = list(text_string_to_metric_families(page_of(up)))
    assert len(families) > 50
    for family in families:
        assert family.documentation.strip(), family.name
        assert re.fullmatch(r"[a-z][a-z0-9_]*", family.name), family.name
        if family.type == "counter":
            assert all(sample.name.endswith(("_total", "_created")) for sample in family.samples), family.name
        else:
            assert not family.name.endswith(("_total", "_count", "_sum", "_bucket")), family.name
        if family.type == "histogram":
            assert family.name.endswith("_seconds"), family.name


@needs_promtool
def test_promtool_finds_nothing_to_say_of_the_page(up: Up) -> None:
    assert promtool("check", "metrics", given=page_of(up)) == (0, "")
