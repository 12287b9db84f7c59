"""Users' jobs over HTTP: an import is asked for once, followed by its tag, and is its user's alone."""

from typing import Any
from uuid import uuid4

import pytest
from kit.people import UserFactory
from kit.running import Answer, Up, request, until


def post(up: Up, path: str, token: str, body: bytes, **headers: str) -> Answer:
    return request("POST", up.api + path, token=token, raw=body, headers=headers)


def test_an_import_is_made_once_for_a_key_and_followed_to_its_end(up: Up) -> None:
    people = UserFactory(up.facts)
    editor, other = people.person("editor"), people.person("editor")
    body = b'{"title":"One"}\n{"title":""}\n{"title":"Two"}\n'
    key = {"Idempotency-Key": str(uuid4())}
    answers = [post(up, "/content/import", editor.token, body, **key) for _ in range(2)]
    assert [answer.status for answer in answers] == [201, 201]
    assert answers[0].data["job_id"] == answers[1].data["job_id"]
    assert post(up, "/content/import?format=csv", editor.token, body, **key).code == "REQUEST_KEY_REUSED_009"
    path = answers[0].headers["Location"].removeprefix("/api/v1")
    assert answers[0].headers["Retry-After"] == "2"
    seen: list[Answer] = []

    def is_over() -> bool:
        seen.append(up.call("GET", path, token=editor.token))
        return bool(seen[-1].data["state"] == "done")

    until("the end of the import", is_over)
    job = seen[-1].data
    assert (job["done"], job["total"], job["counts"]) == (3, 3, {"made": 2, "refused": 1})
    assert [(fault["line"], fault["field"]) for fault in job["faults"]] == [(2, "title")]
    assert "Retry-After" not in seen[-1].headers
    tag = seen[-1].headers["ETag"]
    assert request("GET", up.api + path, token=editor.token, headers={"If-None-Match": tag}).status == 304
    mine = up.call("GET", f"/content?author={editor.user_id}", token=editor.token)
    assert sorted(each["title"] for each in mine.data) == ["One", "Two"]
    assert up.call("GET", path, token=other.token).status == 404
    refused = request("POST", f"{up.api}{path}/cancel", token=editor.token, headers={"If-Match": '"0"'})
    assert refused.status == 412
    assert up.call("POST", f"{path}/cancel", token=editor.token).code == "JOBS_OVER_006"
    assert up.call("POST", f"{path}/retry", token=editor.token).code == "JOBS_NOT_RETRIED_007"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/content/import", b"", 400),
        ("/content/import", b" \n ", 400),
        ("/content/import?format=xml", b"x", 400),
        ("/users/import?format=", b"x", 400),
        ("/content/import", b"x" * ((1 << 20) + 1), 413),
    ],
)
def test_an_input_that_is_none_is_refused_at_once(up: Up, path: str, body: bytes, status: int) -> None:
    admin: Any = UserFactory(up.facts).person("admin")
    assert post(up, path, admin.token, body).status == status


def test_an_admin_imports_accounts(up: Up) -> None:
    admin = UserFactory(up.facts).person("admin")
    email = f"{uuid4().hex}@import.example"
    body = f"email,full_name,is_verified\n{email},Ada L,true\nno address,Bo,\n".encode()
    made = post(up, "/users/import?format=csv", admin.token, body)
    path = f"/jobs/{made.data['job_id']}"
    until("the end", lambda: up.call("GET", path, token=admin.token).data["state"] == "done")
    job = up.call("GET", path, token=admin.token).data
    assert job["counts"] == {"made": 1, "refused": 1}
    assert [(fault["line"], fault["field"]) for fault in job["faults"]] == [(3, "email")]
    found = up.call("GET", f"/users?email={email}", token=admin.token).data
    assert [each["full_name"] for each in found] == ["Ada L"]
