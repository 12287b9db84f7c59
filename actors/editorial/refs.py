"""The offers of editorial to other departments and to its routes."""

from msgspec import Struct

from callboard.actors.editorial.content_queries import ListContent, ListTransitions, ReadContent
from callboard.actors.editorial.content_search import SearchContent
from callboard.actors.editorial.workflow import CreateContent, DeleteContent, EditContent, TransitionContent
from callboard.actors.infrastructure.rate_limiter import RateLimit
from callboard.runtime import Ref

SEARCH = RateLimit("search", 60, 60, "rate_limit_search")  # keyed by address


class EditorialRefs(Struct, frozen=True):
    """References to the workflow of articles and to their queries."""

    content: Ref[CreateContent | EditContent | DeleteContent | TransitionContent]
    content_queries: Ref[ReadContent | ListContent | SearchContent | ListTransitions]
