"""`rate_limit_strict` is the limits as the settings say, and off twice as much. It is turned on where it was set."""

from callboard.ops.migrations.sql import execute

revision = "0030"
down_revision = "0021"


def upgrade() -> None:
    """Turn the flag on wherever it was set: before, off was the limits as they are, and on half of them."""
    execute(
        """
        update feature_flag_overrides set is_on = true where name = 'rate_limit_strict';
        update feature_flags set is_on = true, version = version + 1 where name = 'rate_limit_strict';
        """
    )


def downgrade() -> None:
    """Turn it off: that is the limits as they are, for the release before."""
    execute(
        """
        update feature_flag_overrides set is_on = false where name = 'rate_limit_strict';
        update feature_flags set is_on = false, version = version + 1 where name = 'rate_limit_strict';
        """
    )
