"""Imports of content: an editor's articles, as drafts of that editor, from JSON lines or CSV."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from callboard.actors.editorial.categories import GetCategory
from callboard.actors.editorial.category_rules import CategoryKey, id_in
from callboard.actors.editorial.content_rows import Draft
from callboard.actors.editorial.errors import CATEGORY_NOT_FOUND, CONTENT_CATEGORY_UNKNOWN
from callboard.actors.editorial.tags import MAX_TAGS, Tag
from callboard.actors.editorial.workflow import CreateContent
from callboard.actors.editorial.workflow_rules import Language
from callboard.actors.errors import REQUEST_INVALID, Problem
from callboard.actors.infrastructure.errors import QUOTA_CONTENT, QUOTA_RATE
from callboard.actors.infrastructure.job_kinds import Job, Later, Outcome, Permanent, on_job
from callboard.actors.infrastructure.line_import import Applied, Line, LineImport, Owner, import_lines
from callboard.actors.infrastructure.principals import Principal, Role
from callboard.actors.infrastructure.user_jobs import LineFault, UserJobPayload, user_job_kind
from callboard.runtime import Actor, Ref
from callboard.streams.event_types import derive_id
from callboard.streams.visible_text import visible

FULL_DELAY_S = 60.0


class ImportContent(UserJobPayload, frozen=True):
    """The job of an import."""


IMPORT_CONTENT = user_job_kind("import_content", ImportContent)


class ImportedContent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One article. `category` is the id or the slug of its category, in place of `category_id`."""

    title: Annotated[str, visible(1, 200)]
    body: Annotated[str, visible(0, 200_000, lines=True, as_sent=True)] = ""
    category_id: UUID | None = None
    language: Language = Language.ENGLISH
    category: CategoryKey | None = None
    tags: Annotated[tuple[Tag, ...], Meta(max_length=MAX_TAGS)] = ()


class ContentImporter(Actor[Job[ImportContent]]):
    """Creates a draft for each line. Its id is derived from the job and the number: a repeated line makes nothing."""

    def __init__(self, content: Ref[CreateContent], categories: Ref[GetCategory]) -> None:
        self.content = content
        self.categories = categories

    @on_job
    async def work(self, job: Job[ImportContent]) -> Outcome:
        """Import; quotas hold as for every draft."""

        async def before(owner: Owner, lines: Sequence[Line[ImportedContent]]) -> Applied:
            return await self._create(job.payload.job_id, owner, lines)

        try:
            return await import_lines(job, LineImport(ImportedContent, Role.EDITOR, before=before))
        except Problem as problem:
            if problem.code is QUOTA_RATE:
                return Later(problem.retry_after_s or FULL_DELAY_S, "the owner's quota of drafts an hour is used up")
            if problem.code is QUOTA_CONTENT:
                return Permanent("the owner's quota of content is used up")
            raise

    async def _create(self, job_id: UUID, owner: Owner, lines: Sequence[Line[ImportedContent]]) -> Applied:
        applied = Applied()
        author = Principal(owner.user_id, job_id, owner.email, owner.role)
        for line in lines:
            if line.value is None:
                continue
            try:
                draft = await self._draft(line.value)
                await self.content.ask(CreateContent(derive_id(str(job_id), str(line.number)), draft, author))
            except Problem as problem:
                if problem.code not in (CONTENT_CATEGORY_UNKNOWN, CATEGORY_NOT_FOUND, REQUEST_INVALID):
                    raise
                field = problem.details[0] if problem.details else None
                applied.refuse(LineFault(line.number, field.field if field else "category", problem.message))
            else:
                applied.counts["made"] += 1
        return applied

    async def _draft(self, value: ImportedContent) -> Draft:
        """Return the draft of a line. Raises Problem(CATEGORY_NOT_FOUND)."""
        category_id, key = value.category_id, value.category
        if key is not None:
            category_id = id_in(key) or (await self.categories.ask(GetCategory(key))).category_id
        return Draft(value.title, value.body, category_id, value.language, tuple(dict.fromkeys(value.tags)))
