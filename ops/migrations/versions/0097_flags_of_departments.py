"""The database takes the flags of every department: which there are, the departments of a process say."""

from callboard.ops.migrations.sql import execute

revision = "0097"
down_revision = "0095"


def upgrade() -> None:
    """Check the form of a name alone."""
    execute("""
        alter table feature_flags drop constraint feature_flags_name_check;
        alter table feature_flags add constraint feature_flags_name_check check (name ~ '^[a-z][a-z0-9_.]{0,99}$');
    """)


def downgrade() -> None:
    """Take only our flags, and forget the others."""
    execute("""
        delete from feature_flags where name not in (
            'enable_new_ui', 'enable_advanced_search', 'enable_video_upload', 'maintenance_mode', 'rate_limit_strict');
        alter table feature_flags drop constraint feature_flags_name_check;
        alter table feature_flags add constraint feature_flags_name_check check (name in (
            'enable_new_ui', 'enable_advanced_search', 'enable_video_upload', 'maintenance_mode',
            'rate_limit_strict'));
    """)
