"""The department editorial: articles, their workflow, search, comments and uploads."""

from typing import Annotated

from msgspec import Meta, Struct

from callboard.actors.department import Branch, Child, Department
from callboard.actors.editorial import attachments, comment_moderation, comments, content_rows, uploads
from callboard.actors.editorial.attachments import Attachments
from callboard.actors.editorial.categories import MAX_CATEGORIES, Categories
from callboard.actors.editorial.category_removal import REMOVE_CATEGORY, CategoryRemoval
from callboard.actors.editorial.comment_moderation import CommentModeration
from callboard.actors.editorial.comment_queries import CommentQueries
from callboard.actors.editorial.comment_rules import CommentBounds
from callboard.actors.editorial.comments import Comments
from callboard.actors.editorial.content_cache import TTL_S, ContentCache
from callboard.actors.editorial.content_import import IMPORT_CONTENT, ContentImporter
from callboard.actors.editorial.content_queries import ContentQueries
from callboard.actors.editorial.content_search import QUERIES as SEARCHES
from callboard.actors.editorial.content_search import ContentSearch
from callboard.actors.editorial.deleted_content import DeletedContent
from callboard.actors.editorial.document_times import DocumentTimes
from callboard.actors.editorial.errors import ERRORS
from callboard.actors.editorial.events import CATEGORY_EVENTS, COMMENT_EVENTS, CONTENT_EVENTS
from callboard.actors.editorial.feeds import Feeds, FeedSettings
from callboard.actors.editorial.html_sanitizer import HtmlBounds, HtmlSanitizer
from callboard.actors.editorial.refs import COMMENTS, SEARCH, UPLOADS, EditorialRefs
from callboard.actors.editorial.revisions import PERSONAL_DATA as REVISION_DATA
from callboard.actors.editorial.revisions import RevisionBounds, Revisions
from callboard.actors.editorial.scheduled_publishing import RUN_SCHEDULE, ScheduledPublisher
from callboard.actors.editorial.search_refill import REFILL_SEARCH, SearchRefill
from callboard.actors.editorial.sitemaps import MAX_URLS, PLAN_HOURLY, PLAN_SITEMAP, SitemapPlanner, Sitemaps
from callboard.actors.editorial.tags import MAX_TAGS, Tags
from callboard.actors.editorial.upload_settings import UploadSettings, build_uploads
from callboard.actors.editorial.workflow import DELETED_DAYS, ContentWorkflow
from callboard.actors.infrastructure.job_kinds import job_pool
from callboard.actors.infrastructure.quotas import DEFAULT_QUOTAS, Quotas
from callboard.actors.infrastructure.refs import Infrastructure
from callboard.actors.infrastructure.retention import Retain, query_rule
from callboard.actors.settings import Bytes, Count, Line
from callboard.runtime import Props, pool

USUAL = HtmlBounds()
USUAL_COMMENTS = CommentBounds()
WORDS_CHECKED_DAYS = 7  # how long a search may know a word that no published article has any more
REVISIONS = RevisionBounds()


class EditorialSettings(UploadSettings, frozen=True, kw_only=True):
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
    quota_transitions_per_hour: Annotated[
        Count, Meta(description="transitions and schedules of articles that one user may make in an hour")
    ] = DEFAULT_QUOTAS.transitions_per_hour
    max_categories: Annotated[Count, Meta(description="the maximum of categories")] = MAX_CATEGORIES
    tags_per_content: Annotated[int, Meta(ge=0, le=MAX_TAGS, description="the maximum of tags of an article")] = (
        MAX_TAGS
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
    content_cache_ttl_s: Annotated[
        int, Meta(ge=300, le=3600, description="seconds that Redis keeps a published article after its last reading")
    ] = TTL_S
    revisions_per_article: Annotated[Count, Meta(description="stored revisions of an article, the newest")] = (
        REVISIONS.per_article
    )
    revision_bytes_per_author: Annotated[
        Bytes, Meta(description="bytes of the stored revisions of one author's articles, the newest")
    ] = REVISIONS.bytes_per_author
    deleted_content_retention_days: Annotated[
        int, Meta(ge=1, le=3650, description="days for which editors can undelete content")
    ] = DELETED_DAYS
    rate_limit_comments: Annotated[Count, Meta(description="comments and reports per minute, by user")] = COMMENTS.limit
    comment_edit_minutes: Annotated[
        int, Meta(ge=0, le=10_000, description="minutes in which its author may edit a comment")
    ] = USUAL_COMMENTS.edit_minutes
    comment_max_depth: Annotated[
        int, Meta(ge=0, le=50, description="the depth of a thread of comments: 0 allows no replies")
    ] = USUAL_COMMENTS.max_depth
    comment_deleted_days: Annotated[
        int, Meta(ge=0, le=36_500, description="days to keep the text of deleted comments")
    ] = 30
    quota_comment_rows: Annotated[Bytes, Meta(description="the maximum of comments of one user")] = USUAL_COMMENTS.rows
    quota_comments_per_hour: Annotated[Count, Meta(description="comments that one user may write in an hour")] = (
        USUAL_COMMENTS.per_hour
    )
    quota_reports_per_hour: Annotated[Count, Meta(description="comments that one user may report in an hour")] = (
        USUAL_COMMENTS.reports_per_hour
    )

    feed_title: Annotated[Line, Meta(min_length=1, max_length=100, description="the title of the Atom feeds")] = (
        "Callboard"
    )
    feed_entries: Annotated[int, Meta(ge=1, le=100, description="entries of an Atom feed")] = 20
    sitemap_page_urls: Annotated[
        int, Meta(ge=10, le=MAX_URLS - 1, description="articles on a page of the sitemap, when the job divides it")
    ] = 10_000

    @property
    def comments(self) -> CommentBounds:
        """Return the bounds on comments."""
        return CommentBounds(
            self.comment_max_depth,
            self.comment_edit_minutes,
            self.quota_comment_rows,
            self.quota_comments_per_hour,
            self.quota_reports_per_hour,
        )

    @property
    def quotas(self) -> Quotas:
        """Return the limits on the articles of one user."""
        return Quotas(
            self.quota_content_rows,
            self.quota_content_bytes,
            self.quota_drafts_per_hour,
            self.quota_transitions_per_hour,
        )


class EditorialNeeds(Struct, frozen=True):
    """The needs of editorial."""

    infrastructure: Infrastructure


def build(settings: EditorialSettings, needs: EditorialNeeds) -> Branch[EditorialRefs]:
    """Construct the actors."""
    database = needs.infrastructure.database
    bounds = HtmlBounds(settings.html_max_depth, settings.html_max_elements, settings.html_max_attributes)
    sanitizer = HtmlSanitizer(bounds)
    jobs, deleted_days = needs.infrastructure.jobs, settings.deleted_content_retention_days
    cache = ContentCache(database, needs.infrastructure.cache, settings.content_cache_ttl_s)
    new_workflow = Props(
        ContentWorkflow,
        database,
        cache,
        jobs,
        sanitizer,
        quotas=settings.quotas,
        revisions=RevisionBounds(settings.revisions_per_article, settings.revision_bytes_per_author),
        deleted_days=deleted_days,
        max_tags=settings.tags_per_content,
    )
    content = pool("content", new_workflow, size=8, key=lambda message: message.content_id)
    queries = pool("content_queries", Props(ContentQueries, database, cache), size=8)
    writes = pool("comments", Props(Comments, database, sanitizer, settings.comments), size=4)
    threads = pool("comment_queries", Props(CommentQueries, database), size=4)
    moderation = pool("comment_moderation", Props(CommentModeration, database, settings.comments), size=2)
    searches = Props(ContentSearch, database.pool("search"), needs.infrastructure.flags)
    search = pool("content_search", searches, size=4)
    tags = pool("tags", Props(Tags, database), size=2)
    revisions = pool("revisions", Props(Revisions, database), size=2)
    deleted = pool("deleted_content", Props(DeletedContent, database, deleted_days), size=2)
    categories = pool("categories", Props(Categories, database, jobs, most=settings.max_categories), size=2)
    site = needs.infrastructure.public_url
    new_feeds = Props(Feeds, database, FeedSettings(site, settings.feed_title, settings.feed_entries))
    feeds = pool("feeds", new_feeds, size=2)
    sitemaps = pool("sitemaps", Props(Sitemaps, database, site), size=2)
    nodes = (
        *(content, queries, writes, threads, moderation, search, tags, revisions, deleted),
        *(categories, feeds, sitemaps),
    )
    files = build_uploads(settings, needs.infrastructure)
    attached = pool("attachments", Props(Attachments, database, settings.files), size=4)
    return Branch(
        refs=EditorialRefs(*nodes, files.refs, attached, DocumentTimes(needs.infrastructure.now), site),
        children=tuple(Child(node) for node in (*nodes, files.actors, attached)),
        figures=cache.figures,
        jobs=(
            job_pool(REFILL_SEARCH, Props(SearchRefill, database.pool("jobs"))),
            job_pool(IMPORT_CONTENT, Props(ContentImporter, content, categories)),
            job_pool(RUN_SCHEDULE, Props(ScheduledPublisher, jobs, cache)),
            job_pool(REMOVE_CATEGORY, Props(CategoryRemoval)),
            job_pool(PLAN_SITEMAP, Props(SitemapPlanner, database.pool("jobs"), settings.sitemap_page_urls)),
        ),
        retention=(
            query_rule("comments", comments.QUERIES.purge_comments, days=settings.comment_deleted_days),
            query_rule("search_words", SEARCHES.purge_search_words, days=WORDS_CHECKED_DAYS),
            *files.retention,
        ),
    )


EDITORIAL = Department(
    name="editorial",
    settings=EditorialSettings,
    needs=EditorialNeeds,
    offers=EditorialRefs,
    build=build,
    events=(*CONTENT_EVENTS, *COMMENT_EVENTS, *CATEGORY_EVENTS),
    errors=ERRORS,
    limits=(SEARCH, COMMENTS, UPLOADS),
    jobs=(REFILL_SEARCH, IMPORT_CONTENT, RUN_SCHEDULE, REMOVE_CATEGORY, PLAN_SITEMAP),
    retention=(Retain("deleted_content", "content", "deleted_at", DELETED_DAYS, "deleted_content_retention_days"),),
    schedules=(PLAN_HOURLY,),
    notifications=(comments.ANSWERED, comments.COMMENTED),
    personal_data=(
        *content_rows.PERSONAL_DATA,
        REVISION_DATA,
        comments.PERSONAL_DATA,
        *comment_moderation.PERSONAL_DATA,
        *attachments.PERSONAL_DATA,
        uploads.PERSONAL_DATA,
    ),
)
