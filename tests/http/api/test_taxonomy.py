"""Categories, tags, feeds and the sitemap over HTTP: what a client and a crawler see of the running system."""

from typing import Any
from uuid import uuid4

import pytest
from kit.feed_rules import ATOM, checked_feed, checked_sitemap
from kit.people import Person, UserFactory
from kit.running import Answer, Up, request


@pytest.fixture(scope="module")
def editor(up: Up) -> Person:
    return UserFactory(up.facts).person("editor")


def send(up: Up, method: str, path: str, by: Person | None = None, body: Any = None, **headers: str) -> Answer:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return request(method, up.api + path, token=by.token if by else "", body=body, headers=sent)


def site(up: Up) -> str:
    return up.api.removesuffix("/api/v1")


def publish(up: Up, author: Person, title: str, **more: Any) -> str:
    made = send(up, "POST", "/content", author, {"title": title, "body": "<p>Text & more", **more}).data
    up.execute(
        "update content set status = 'published', published_at = now() where content_id = $1", made["content_id"]
    )
    return str(made["content_id"])


def name() -> str:
    return f"Name {uuid4().hex}"


def test_a_category_is_made_read_changed_and_deleted_by_its_version(up: Up, editor: Person) -> None:
    wanted = name()
    made = send(up, "POST", "/categories", editor, {"name": f" {wanted} ", "description": "a\r\nb"})
    slug = wanted.lower().replace(" ", "-")
    assert (made.status, made.data["name"], made.data["slug"]) == (201, wanted, slug)
    assert made.data["description"] == "a\nb"
    assert made.headers["Location"] == f"/api/v1/categories/{slug}"
    tag = made.headers["ETag"]
    assert send(up, "GET", f"/categories/{slug.upper()}", If_None_Match=tag).status == 304
    changed = send(up, "PUT", f"/categories/{slug}", editor, {"name": f"{wanted} 2"}, If_Match=tag)
    assert (changed.status, changed.data["slug"], changed.data["description"]) == (200, slug, "")
    for method, body in (("PUT", {"name": name()}), ("DELETE", None)):
        assert send(up, method, f"/categories/{slug}", editor, body, If_Match=tag).status == 412
    assert send(up, "DELETE", f"/categories/{slug}", editor, If_Match=changed.headers["ETag"]).status == 204
    assert send(up, "GET", f"/categories/{slug}").status == 404
    again = send(up, "POST", "/categories", editor, {"name": wanted, "slug": slug})
    assert again.status == 201
    assert send(up, "PUT", f"/categories/{slug}", editor, {"name": name()}, If_Match=tag).status == 412


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": " "}, "name"),
        ({"name": "\u200b"}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "a", "slug": "a b"}, "slug"),
        ({"name": "a", "slug": ""}, "slug"),
        ({"name": "a", "slug": "caf\u00e9"}, "slug"),
        ({"name": "a", "slug": "3FA85F64-5717-4562-B3FC-2C963F66AFA6"}, "slug"),
        ({"name": "a", "description": "x" * 2001}, "description"),
        ({"name": "a", "parent": "b"}, "parent"),
    ],
)
def test_a_bad_category_is_refused_with_its_field(up: Up, editor: Person, body: Any, field: str) -> None:
    answer = send(up, "POST", "/categories", editor, body)
    assert (answer.status, answer.body["error"]["field"]) == (400, field)


def test_a_name_in_another_case_is_taken_and_a_repeated_request_is_not_refused(up: Up, editor: Person) -> None:
    wanted, key = f"\u00c9tude {uuid4().hex}", uuid4().hex
    first = send(up, "POST", "/categories", editor, {"name": wanted}, Idempotency_Key=key)
    again = send(up, "POST", "/categories", editor, {"name": wanted}, Idempotency_Key=key)
    assert (first.status, again.data) == (201, first.data)
    taken = send(up, "POST", "/categories", editor, {"name": wanted.lower()})
    assert (taken.status, taken.body["error"]["field"]) == (409, "name")


def test_tags_are_kept_in_one_form_and_lists_are_filtered_by_them(up: Up, editor: Person) -> None:
    mark = uuid4().hex
    made = send(up, "POST", "/content", editor, {"title": "t", "body": "b", "tags": [f" {mark}  X", f"{mark} x", "Go"]})
    assert made.data["tags"] == [f"{mark} x", "go"]
    path, tag = f"/content/{made.data['content_id']}", made.headers["ETag"]
    same = send(up, "PUT", path, editor, {"title": "t", "body": "b", "tags": made.data["tags"]}, If_Match=tag)
    assert (same.status, same.headers["ETag"]) == (200, tag)
    (row,) = send(up, "GET", f"/content?tag={mark.upper()}%20X", editor).data
    assert (row["content_id"], row["tags"], row["author_name"]) == (
        made.data["content_id"],
        made.data["tags"],
        "Some One",
    )
    assert (row["comment_count"], row["category"]) == (0, None)
    assert send(up, "GET", f"/content?tag={mark}%20x").data == []
    assert send(up, "PUT", path, editor, {"title": "t", "body": "b"}, If_Match=tag).data["tags"] == []


@pytest.mark.parametrize(
    ("tags", "field"),
    [
        ([str(n) for n in range(11)], "tags"),
        (["a", ""], "tags[1]"),
        (["x" * 51], "tags[0]"),
        (["\u200b"], "tags[0]"),
        (["a\u0007"], "tags[0]"),
        ("a", "tags"),
        ([1], "tags[0]"),
    ],
)
def test_bad_tags_are_refused_with_their_place(up: Up, editor: Person, tags: Any, field: str) -> None:
    answer = send(up, "POST", "/content", editor, {"title": "t", "body": "b", "tags": tags})
    assert answer.status == 400
    assert answer.body["error"]["details"][0]["field"] == field


@pytest.mark.parametrize("query", ["category=a%20b", "category=", "tag=", "tag=%00", "category=a%0A"])
def test_bad_filters_of_a_list_are_refused(up: Up, query: str) -> None:
    answer = send(up, "GET", f"/content?{query}")
    assert (answer.status, answer.body["error"]["field"]) == (400, query.partition("=")[0])


@pytest.mark.parametrize("path", ["/content/search", "/content/search/facets"])
def test_a_search_of_times_that_end_before_they_begin_is_refused(up: Up, path: str) -> None:
    answer = send(up, "GET", f"{path}?q=a&from=2026-01-02T00:00:00Z&to=2026-01-02T00:00:00Z")
    assert (answer.status, answer.body["error"]["field"]) == (400, "from")


def test_a_list_is_filtered_by_the_slug_and_the_id_of_a_category(up: Up, editor: Person) -> None:
    category = send(up, "POST", "/categories", editor, {"name": name()}).data
    content_id = publish(up, editor, "inside", category_id=category["category_id"], tags=["x"])
    for key in (category["slug"], category["slug"].upper(), category["category_id"], category["category_id"].upper()):
        (row,) = send(up, "GET", f"/content?category={key}&tag=x").data
        assert row["content_id"] == content_id
        assert row["category"] == {"slug": category["slug"], "name": category["name"]}
    assert send(up, "GET", f"/content?category={uuid4()}").data == []


def test_pages_of_tags_and_categories_lead_to_each(up: Up, editor: Person) -> None:
    tags = {f"{uuid4().hex} \U0001f3ee" for _ in range(3)}
    publish(up, editor, "t", tags=sorted(tags))
    send(up, "POST", "/categories", editor, {"name": name()})
    for path, key in (("/tags", "tag"), ("/categories", "slug")):
        seen: list[str] = []
        cursor = ""
        while cursor is not None:
            page = send(up, "GET", f"{path}?limit=2{cursor and '&cursor='}{cursor}")
            seen += [each[key] for each in page.data]
            cursor = page.body["page"]["next_cursor"]
        assert len(seen) == len(set(seen)) > 0
        assert tags <= set(seen) or key == "slug"
    first = send(up, "GET", "/tags")
    assert send(up, "GET", "/tags", If_None_Match=first.headers["ETag"]).status == 304


def test_a_feed_is_a_valid_document_that_caches_ask_for_again(up: Up, editor: Person) -> None:
    category = send(up, "POST", "/categories", editor, {"name": name()}).data
    content_id = publish(up, editor, "A & B <i>", category_id=category["category_id"])
    for path in ("/feed.atom", f"/categories/{category['slug']}/feed.atom"):
        answer = request("GET", site(up) + path)
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/atom+xml; charset=utf-8"
        assert answer.headers["Cache-Control"] == "public, no-cache"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        feed = checked_feed(answer.body)
        item = feed.find(f"{ATOM}entry")
        assert item is not None
        assert (item.findtext(f"{ATOM}id"), item.findtext(f"{ATOM}title")) == (f"urn:uuid:{content_id}", "A & B <i>")
        (own,) = (each.get("href") for each in feed.findall(f"{ATOM}link") if each.get("rel") == "self")
        assert own == site(up) + path
        known = request("GET", site(up) + path, headers={"If-None-Match": answer.headers["ETag"]})
        assert (known.status, known.headers["ETag"]) == (304, answer.headers["ETag"])
        assert request("HEAD", site(up) + path).headers["ETag"] == answer.headers["ETag"]
    up.execute("update content set status = 'archived' where content_id = $1", content_id)
    assert content_id.encode() not in request("GET", site(up) + "/feed.atom").body
    assert request("GET", f"{site(up)}/categories/{uuid4()}/feed.atom").status == 404


def test_a_crawler_finds_every_published_article_from_the_advice_on(up: Up, editor: Person) -> None:
    content_id = publish(up, editor, "t")
    draft = send(up, "POST", "/content", editor, {"title": "t", "body": "b"}).data["content_id"]
    advice = request("GET", f"{site(up)}/robots.txt").body.decode()
    index = advice.partition("Sitemap: ")[2].strip()
    assert index == f"{site(up)}/sitemap.xml"
    answer = request("GET", index)
    assert answer.headers["Content-Type"] == "application/xml; charset=utf-8"
    assert request("GET", index, headers={"If-None-Match": answer.headers["ETag"]}).status == 304
    found: list[str] = []
    for page, _ in checked_sitemap(answer.body, site(up)):
        document = request("GET", page)
        assert document.status == 200
        found += [address for address, _ in checked_sitemap(document.body, site(up))]
    assert f"{site(up)}/content/{content_id}" in found
    assert f"{site(up)}/content/{draft}" not in found
    assert request("GET", found[-1]).status == 200
    assert request("GET", f"{site(up)}/sitemap-articles.xml?cursor=x").status == 400
