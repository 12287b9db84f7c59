"""The pages that people read: their links lead somewhere, the files and tests that they name exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WRITTEN_BY_MACHINES = {"results.md"}
PACKAGES = ("runtime", "actors", "streams", "http", "ops", "tests", "")
PAGES = [
    page
    for package in PACKAGES
    for page in (ROOT / package).glob("**/*.md" if package else "*.md")
    if page.name not in WRITTEN_BY_MACHINES
]
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
NAMED_FILE = re.compile(r"`((?:\.?[\w-]+/)+[\w.-]+\.(?:py|sql|md|txt|json|toml|yml|yaml))`")
CODE = re.compile(r"(?s:^```.*?^```)|^ {4}.*$", re.MULTILINE)


def prose(page: Path) -> str:
    """The page without its code."""
    return CODE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def dead_link(page: Path, text: str, target: str) -> str | None:
    """Explain why a relative link is dead; return None for a good one."""
    path, _, anchor = target.partition("#")
    found = (page.parent / path).resolve() if path else page
    if not found.exists():
        return f"{target} does not exist"
    if anchor and anchor not in anchors(found):
        return f"{target} has no such heading"
    if found.suffix == ".py" and " " in text:
        test = "test_" + text.replace(" ", "_")
        if not re.search(rf"(?:def |^){test}(?:\(| =)", found.read_text(encoding="utf-8"), re.MULTILINE):
            return f"{target} has no {test}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_a_heading_or_the_test_that_it_names(page: Path) -> None:
    links = [(text, target) for text, target in LINK.findall(prose(page)) if "://" not in target]
    assert [dead for text, target in links if (dead := dead_link(page, text, target))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        return  # tells of files as they were
    named = NAMED_FILE.findall(prose(page))
    assert [name for name in named if not (ROOT / name).exists() and not (page.parent / name).exists()] == []


def test_the_readme_has_ten_promises_each_with_its_test() -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Ten promises\n")[2].partition("\n## ")[0]
    promises = re.findall(r"^(\d+)\. (.*?)(?=^\d+\. |\Z)", section, re.MULTILINE | re.DOTALL)
    assert [int(number) for number, _ in promises] == list(range(1, 11))
    targets = [LINK.findall(text) for _, text in promises]
    assert all(len(links) == 1 and links[0][1].startswith("tests/") and " " in links[0][0] for links in targets)
