"""Archives of exports are kept in pieces, and no text of an earlier release holds a character that is refused now."""

from callboard.ops.migrations.sql import execute

revision = "0090"
down_revision = "0082"

# As callboard.streams.visible_text had them at this revision; line breaks and tabs are taken in texts of several lines.
CONTROLS = r"\u0001-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb"
LINES = f"[{CONTROLS}]"
LINE = f"[{CONTROLS}\\u0009\\u000a\\u000d\\u2028\\u2029]+"
CLEAN = """
        update users set full_name = coalesce(nullif(btrim(regexp_replace(full_name, ':line', ' ', 'g')), ''), '--')
        where full_name ~ ':line';
        update user_profiles set bio = regexp_replace(bio, ':lines', '', 'g') where bio ~ ':lines';
        update content_transitions set note = regexp_replace(note, ':lines', '', 'g') where note ~ ':lines';
        update content
        set title = coalesce(nullif(btrim(regexp_replace(title, ':line', ' ', 'g')), ''), '--'),
            body = regexp_replace(body, ':lines', '', 'g'), version = version + 1
        where title ~ ':line' or body ~ ':lines';
"""


def upgrade() -> None:
    """Cut the archives that there are, and clean the texts. Each table of texts is read once."""
    execute("""
        alter table exports add column maker uuid, add column size bigint, add column pieces integer;
        create table export_pieces (
            export_id uuid    not null references exports on delete cascade,
            number    integer not null check (number >= 0),
            piece     bytea   not null check (octet_length(piece) <= 1048576),
            primary key (export_id, number)
        );
        alter table export_pieces alter column piece set storage external;
        insert into export_pieces (export_id, number, piece)
        select export_id, number, substr(archive, number * 1048576 + 1, 1048576)
        from exports, generate_series(0, (octet_length(archive) - 1) / 1048576) as number
        where status = 'ready';
        update exports set size = octet_length(archive), pieces = (octet_length(archive) + 1048575) / 1048576
        where status = 'ready';
        alter table exports drop column archive,
            add constraint exports_size_check check ((size is not null) = (status = 'ready')),
            add constraint exports_pieces_check check ((pieces is not null) = (status = 'ready'));
    """)
    execute(CLEAN.replace(":lines", LINES).replace(":line", LINE))


def downgrade() -> None:
    """Put the archives together again. What was taken out of texts is gone."""
    execute("""
        alter table exports drop constraint exports_size_check, drop constraint exports_pieces_check,
            add column archive bytea;
        update exports e set archive =
            (select string_agg(piece, ''::bytea order by number) from export_pieces p where p.export_id = e.export_id)
        where status = 'ready';
        alter table exports drop column maker, drop column size, drop column pieces,
            add constraint exports_archive_check check ((archive is not null) = (status = 'ready'));
        drop table export_pieces;
    """)
