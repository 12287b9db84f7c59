"""The settings of uploads, and the construction of what serves them."""

from typing import Annotated

from msgspec import Meta, Struct

from callboard.actors.editorial.attachments import FileBounds
from callboard.actors.editorial.media_types import media_type_of, parse_types
from callboard.actors.editorial.refs import UPLOADS, UploadRefs
from callboard.actors.editorial.upload_records import UploadBounds, Uploading
from callboard.actors.editorial.upload_removal import EXPIRED, discarded_rule
from callboard.actors.editorial.upload_writer import UploadWriter
from callboard.actors.editorial.uploads import Uploads
from callboard.actors.infrastructure.feature_flags import FlagName
from callboard.actors.infrastructure.refs import Infrastructure
from callboard.actors.infrastructure.retention import RetentionRule
from callboard.actors.settings import Bytes, Count, Hours, Parsed, Settings
from callboard.runtime import Pool, Props, pool

USUAL = UploadBounds()
USUAL_FILES = FileBounds()


class UploadSettings(Settings, frozen=True, kw_only=True):
    """Settings of uploads."""

    rate_limit_uploads: Annotated[Count, Meta(description="created uploads per minute, by address")] = UPLOADS.limit
    max_upload_size_mb: Annotated[
        int, Meta(ge=1, le=1 << 20, description="the maximum size of an upload, in megabytes of 2^20 bytes")
    ] = USUAL.max_bytes >> 20
    quota_upload_rows: Annotated[Count, Meta(description="the maximum of uploads of one user")] = USUAL.user_rows
    quota_upload_bytes: Annotated[
        Bytes, Meta(description="bytes of one user's uploads; an incomplete one counts whole")
    ] = USUAL.user_bytes
    quota_uploads_per_hour: Annotated[Count, Meta(description="uploads that one user may create in an hour")] = (
        USUAL.per_hour
    )
    upload_expiration_hours: Annotated[Hours, Meta(description="hours until an incomplete upload is removed")] = (
        USUAL.life_s / 3600
    )
    attachments_per_content: Annotated[
        int, Meta(ge=1, le=100, description="the maximum of files that are attached to an article")
    ] = USUAL_FILES.attachments
    avatar_max_kb: Annotated[
        int, Meta(ge=1, le=102_400, description="the maximum size of an avatar, in kilobytes of 2^10 bytes")
    ] = USUAL_FILES.avatar_bytes >> 10
    upload_types: Annotated[
        tuple[str, ...],
        Parsed(parse_types),
        Meta(description="accepted types of files, by their bytes, with commas between: image/png, image/*, */*"),
    ] = ("*/*",)
    uploads_at_once: Annotated[Count, Meta(description="requests that write uploads at once, in one process")] = 64

    @property
    def files(self) -> FileBounds:
        """Return the limits on files of content and users."""
        return FileBounds(self.attachments_per_content, self.avatar_max_kb << 10)

    @property
    def upload_bounds(self) -> UploadBounds:
        """Return the limits on uploads."""
        return UploadBounds(
            max_bytes=self.max_upload_size_mb << 20,
            user_rows=self.quota_upload_rows,
            user_bytes=self.quota_upload_bytes,
            per_hour=self.quota_uploads_per_hour,
            life_s=self.upload_expiration_hours * 3600,
        )


class UploadParts(Struct, frozen=True):
    """The parts of the department that serve uploads."""

    refs: UploadRefs
    actors: Pool[Uploading]
    retention: tuple[RetentionRule, ...]


def build_uploads(settings: UploadSettings, infrastructure: Infrastructure) -> UploadParts:
    """Construct the actors and the writer."""
    bounds, flags, store = settings.upload_bounds, infrastructure.flags, infrastructure.objects
    actors = pool("uploads", Props(Uploads, infrastructure.database, infrastructure.cache, bounds), size=8)
    writer = UploadWriter(
        actors,
        store,
        type_of=media_type_of,
        types=settings.upload_types,
        allows_video=lambda user_id: flags.is_enabled(FlagName.VIDEO_UPLOAD, user_id),
        most_at_once=settings.uploads_at_once,
    )
    return UploadParts(UploadRefs(actors, writer, bounds, flags), actors, (EXPIRED, discarded_rule(store)))
