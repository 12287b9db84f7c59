"""The department editorial: articles, their workflow, and search."""

from msgspec import Struct

from callboard.actors.department import Branch, Child, Department
from callboard.actors.editorial import workflow
from callboard.actors.editorial.content_queries import ContentQueries
from callboard.actors.editorial.html_sanitizer import HtmlBounds, HtmlSanitizer
from callboard.actors.editorial.refs import SEARCH, EditorialRefs
from callboard.actors.editorial.search_refill import REFILL_SEARCH, SearchRefill
from callboard.actors.editorial.workflow import ContentWorkflow
from callboard.actors.infrastructure.job_kinds import job_pool
from callboard.actors.infrastructure.quotas import DEFAULT_QUOTAS, Quotas
from callboard.actors.infrastructure.refs import Infrastructure
from callboard.runtime import Props, pool
from callboard.streams.event_types import CONTENT_EVENTS

USUAL = HtmlBounds()


class EditorialSettings(Struct, frozen=True, kw_only=True):
    """Settings of editorial."""

    html_max_depth: int = USUAL.max_depth
    html_max_elements: int = USUAL.max_elements
    html_max_attributes: int = USUAL.max_attributes
    quotas: Quotas = DEFAULT_QUOTAS


class EditorialNeeds(Struct, frozen=True):
    """The needs of editorial."""

    infrastructure: Infrastructure


def build(settings: EditorialSettings, needs: EditorialNeeds) -> Branch[EditorialRefs]:
    """Construct the actors."""
    database = needs.infrastructure.database
    bounds = HtmlBounds(settings.html_max_depth, settings.html_max_elements, settings.html_max_attributes)
    new_workflow = Props(ContentWorkflow, database, HtmlSanitizer(bounds), settings.quotas)
    content = pool("content", new_workflow, size=8, key=lambda message: message.content_id)
    library = pool("library", Props(ContentQueries, database), size=8)
    return Branch(
        refs=EditorialRefs(content, library),
        children=(Child(content), Child(library)),
        jobs=(job_pool(REFILL_SEARCH, Props(SearchRefill, database.pool("jobs"))),),
    )


EDITORIAL = Department(
    name="editorial",
    settings=EditorialSettings,
    needs=EditorialNeeds,
    offers=EditorialRefs,
    build=build,
    events=CONTENT_EVENTS,
    limits=(SEARCH,),
    jobs=(REFILL_SEARCH,),
    personal_data=workflow.PERSONAL_DATA,
)
