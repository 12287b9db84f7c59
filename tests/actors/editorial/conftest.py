"""An article and the people around it."""

import pytest
from kit.domain import Domain

from callboard.actors.editorial.workflow import Content
from callboard.actors.infrastructure.principals import Principal, Role


@pytest.fixture
async def author(domain: Domain) -> Principal:
    return await domain.person()


@pytest.fixture
async def reader(domain: Domain) -> Principal:
    return await domain.person()


@pytest.fixture
async def editor(domain: Domain) -> Principal:
    return await domain.person(Role.EDITOR)


@pytest.fixture
async def article(domain: Domain, author: Principal, editor: Principal) -> Content:
    """One that is published."""
    return await domain.published(author, editor, "On the engine")
