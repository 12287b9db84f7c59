"""The department editorial: articles, their workflow, and search."""

from typing import Annotated

from msgspec import Meta, Struct

from callboard.actors.department import Branch, Child, Department
from callboard.actors.editorial import workflow
from callboard.actors.editorial.content_import import IMPORT_CONTENT, ContentImporter
from callboard.actors.editorial.content_queries import ContentQueries
from callboard.actors.editorial.errors import ERRORS
from callboard.actors.editorial.events import CONTENT_EVENTS
from callboard.actors.editorial.html_sanitizer import HtmlBounds, HtmlSanitizer
from callboard.actors.editorial.refs import SEARCH, EditorialRefs
from callboard.actors.editorial.search_refill import REFILL_SEARCH, SearchRefill
from callboard.actors.editorial.workflow import ContentWorkflow
from callboard.actors.infrastructure.job_kinds import job_pool
from callboard.actors.infrastructure.quotas import DEFAULT_QUOTAS, Quotas
from callboard.actors.infrastructure.refs import Infrastructure
from callboard.actors.settings import Bytes, Count, Settings
from callboard.runtime import Props, pool

USUAL = HtmlBounds()


class EditorialSettings(Settings, frozen=True, kw_only=True):
    """Settings of editorial."""

    rate_limit_search: Annotated[Count, Meta(description="searches per minute, by address")] = SEARCH.limit
    quota_content_rows: Annotated[Bytes, Meta(description="the maximum of articles of one user")] = (
        DEFAULT_QUOTAS.content_rows
    )
    quota_content_bytes: Annotated[Bytes, Meta(description="bytes of one user's articles, as sent and as shown")] = (
        DEFAULT_QUOTAS.content_bytes
    )
    quota_drafts_per_hour: Annotated[Count, Meta(description="drafts that one user may create in an hour")] = (
        DEFAULT_QUOTAS.drafts_per_hour
    )
    html_max_depth: Annotated[int, Meta(ge=1, le=500, description="the nesting of an article's HTML elements")] = (
        USUAL.max_depth
    )
    html_max_elements: Annotated[int, Meta(ge=1, le=50_000, description="HTML elements in an article")] = (
        USUAL.max_elements
    )
    html_max_attributes: Annotated[int, Meta(ge=1, le=100_000, description="HTML attributes in an article")] = (
        USUAL.max_attributes
    )

    @property
    def quotas(self) -> Quotas:
        """Return the limits on the articles of one user."""
        return Quotas(self.quota_content_rows, self.quota_content_bytes, self.quota_drafts_per_hour)


class EditorialNeeds(Struct, frozen=True):
    """The needs of editorial."""

    infrastructure: Infrastructure


def build(settings: EditorialSettings, needs: EditorialNeeds) -> Branch[EditorialRefs]:
    """Construct the actors."""
    database = needs.infrastructure.database
    bounds = HtmlBounds(settings.html_max_depth, settings.html_max_elements, settings.html_max_attributes)
    new_workflow = Props(ContentWorkflow, database, HtmlSanitizer(bounds), settings.quotas)
    content = pool("content", new_workflow, size=8, key=lambda message: message.content_id)
    queries = pool("content_queries", Props(ContentQueries, database), size=8)
    return Branch(
        refs=EditorialRefs(content, queries),
        children=(Child(content), Child(queries)),
        jobs=(
            job_pool(REFILL_SEARCH, Props(SearchRefill, database.pool("jobs"))),
            job_pool(IMPORT_CONTENT, Props(ContentImporter, content)),
        ),
    )


EDITORIAL = Department(
    name="editorial",
    settings=EditorialSettings,
    needs=EditorialNeeds,
    offers=EditorialRefs,
    build=build,
    events=CONTENT_EVENTS,
    errors=ERRORS,
    limits=(SEARCH,),
    jobs=(REFILL_SEARCH, IMPORT_CONTENT),
    personal_data=workflow.PERSONAL_DATA,
)
