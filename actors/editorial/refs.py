"""The offers of editorial to other departments and to its routes."""

from msgspec import Struct

from callboard.actors.editorial.attachments import FileRequest
from callboard.actors.editorial.categories import (
    CreateCategory,
    DeleteCategory,
    GetCategory,
    ListCategories,
    ReplaceCategory,
)
from callboard.actors.editorial.comment_moderation import (
    ListDecisions,
    ListReported,
    ListReports,
    ModerateComment,
    ReportComment,
)
from callboard.actors.editorial.comment_queries import ListComments, ListReplies, ReadComment
from callboard.actors.editorial.comments import CreateComment, DeleteComment, EditComment
from callboard.actors.editorial.content_queries import ListContent, ListTransitions, ReadContent
from callboard.actors.editorial.content_search import CountFacets, SearchContent
from callboard.actors.editorial.deleted_content import ListDeleted
from callboard.actors.editorial.document_times import DocumentTimes
from callboard.actors.editorial.feeds import ReadFeed
from callboard.actors.editorial.revisions import DiffRevisions, ListRevisions, ReadRevision
from callboard.actors.editorial.sitemaps import ListSitemapPages, ReadSitemapPage
from callboard.actors.editorial.tags import ListTags
from callboard.actors.editorial.upload_records import UploadBounds, Uploading
from callboard.actors.editorial.upload_writer import UploadWriter
from callboard.actors.editorial.workflow import Change
from callboard.actors.infrastructure.feature_flags import FlagSnapshot
from callboard.actors.infrastructure.rate_limiter import RateLimit
from callboard.runtime import Ref

SEARCH = RateLimit("search", 60, 60, "rate_limit_search")  # keyed by address
COMMENTS = RateLimit("comments", 10, 60, "rate_limit_comments")  # keyed by user
UPLOADS = RateLimit("uploads", 60, 60, "rate_limit_uploads")  # creations, keyed by address


class UploadRefs(Struct, frozen=True):
    """References to uploads, what writes them, their limits, and the flags of their types."""

    records: Ref[Uploading]
    writer: UploadWriter
    bounds: UploadBounds
    flags: FlagSnapshot


class EditorialRefs(Struct, frozen=True):
    """References to the workflow of articles, to their comments, to their tags, and to all queries."""

    content: Ref[Change]
    content_queries: Ref[ReadContent | ListContent | ListTransitions]
    comments: Ref[CreateComment | EditComment | DeleteComment]
    comment_queries: Ref[ReadComment | ListComments | ListReplies]
    comment_moderation: Ref[ModerateComment | ReportComment | ListReported | ListReports | ListDecisions]
    content_search: Ref[SearchContent | CountFacets]
    tags: Ref[ListTags]
    revisions: Ref[ListRevisions | ReadRevision | DiffRevisions]
    deleted_content: Ref[ListDeleted]
    categories: Ref[ListCategories | GetCategory | CreateCategory | ReplaceCategory | DeleteCategory]
    feeds: Ref[ReadFeed]
    sitemaps: Ref[ListSitemapPages | ReadSitemapPage]
    uploads: UploadRefs
    attachments: Ref[FileRequest]
    document_times: DocumentTimes
    site: str  # its address, without a final slash
