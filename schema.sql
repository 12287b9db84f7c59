-- Callboard's whole schema, for PostgreSQL 15 and later, in a form for readers.
--
-- Conventions: the key of a table is named after its rows (user_id, content_id); times are timestamptz and default to
-- now(). Constraint names are part of the interface: actors turn users_email_key into "this e-mail is taken". Secrets
-- are stored as SHA-256 or Argon2id hashes only.

-- All come with PostgreSQL; an owner of the database may create them.
create extension if not exists pg_trgm;
create extension if not exists unaccent;
create extension if not exists btree_gin;

create function touch_updated_at() returns trigger language plpgsql as $$
begin
    new.updated_at := now();
    return new;
end $$;

-- Accounts --------------------------------------------------------------------------------------------------------

create table users (
    user_id       uuid        primary key default gen_random_uuid(),
    email         text        not null check (length(email) <= 254),
    password_hash text        not null,
    full_name     text        not null check (length(full_name) between 1 and 255),
    role          text        not null default 'member' constraint users_role_check check (role in ('member', 'editor', 'admin')),
    is_verified   boolean     not null default false,
    is_active     boolean     not null default true,
    terms_at      timestamptz not null default now(),
    password_changed_at timestamptz not null default now(),   -- by its owner; a replaced hash leaves it
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now(),
    deleted_at    timestamptz,
    password_needed boolean   not null default false,        -- the verification link needs a new password
    unproven_since timestamptz not null default now(),       -- an unverified account is removed a week after this
    registered_from inet,
    erased_at     timestamptz constraint users_erased_at_check check (erased_at is null or deleted_at is not null)
);
-- One account for each address in any case. A deleted account frees its address; an unverified one is replaced when
-- somebody else registers or proves the address.
create unique index users_email_key on users (lower(email)) where deleted_at is null;
create index users_unproven_idx on users (unproven_since) where not is_verified and deleted_at is null;
create index users_created_idx on users (created_at desc, user_id desc) where deleted_at is null;
create index users_role_idx on users (role, created_at desc, user_id desc) where deleted_at is null;
create index users_active_idx on users (created_at desc, user_id desc) where is_active and deleted_at is null;
create index users_inactive_idx on users (created_at desc, user_id desc) where not is_active and deleted_at is null;
create index users_unverified_idx on users (created_at desc, user_id desc) where not is_verified and deleted_at is null;
create index users_search_idx on users using gin ((full_name || ' ' || email) gin_trgm_ops) where deleted_at is null;
create index users_erasure_idx on users (deleted_at) where deleted_at is not null and erased_at is null;
create trigger users_touch before update on users for each row execute function touch_updated_at();

-- The names under which everybody sees accounts. Other departments read names here only.
create view public_names as
    select user_id, case when deleted_at is null then full_name else 'Deleted user' end as name from users;

-- The networks of an account's logins: failed logins from elsewhere do not lock these out.
create table known_networks (
    user_id uuid        not null references users on delete cascade,
    network cidr        not null,
    seen_at timestamptz not null default now(),
    primary key (user_id, network)
);
create index known_networks_seen_idx on known_networks (seen_at);

create table user_profiles (
    user_id     uuid        primary key references users on delete cascade,
    avatar_url  text        check (length(avatar_url) <= 2000),
    bio         text        check (length(bio) <= 2000),
    preferences json        not null default '{}',   -- as text: jsonb expands 1e308 to 309 digits
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    languages   text[]      not null default '{}'    -- of mails, the best first
                            constraint user_profiles_languages_check check (cardinality(languages) <= 5)
);
create trigger user_profiles_touch before update on user_profiles for each row execute function touch_updated_at();

-- Accounts as other departments read them, deleted ones too: no secret is among them.
create view accounts as
    select user_id, email, full_name, role, is_verified, is_active, deleted_at is not null as is_deleted,
           (select languages from user_profiles where user_id = u.user_id) as languages
    from users u;

-- A session is a family of refresh tokens; one of them is valid at a time.
create table sessions (
    session_id   uuid        primary key default gen_random_uuid(),
    user_id      uuid        not null references users on delete cascade,
    device       text        not null default '' check (length(device) <= 400),
    ip           inet,
    created_at   timestamptz not null default now(),
    used_at      timestamptz not null default now(),   -- exact to about a minute
    updated_at   timestamptz not null default now(),
    expires_at   timestamptz not null,                 -- each refresh extends it
    ended_at     timestamptz,
    proved_at    timestamptz not null default now()    -- when this session last confirmed the password
);
create index sessions_user_idx on sessions (user_id, used_at desc) where ended_at is null;
create index sessions_owner_idx on sessions (user_id);
create index sessions_expiry_idx on sessions (expires_at);
create index sessions_used_idx on sessions (used_at) where ended_at is null;
create trigger sessions_touch before update on sessions for each row execute function touch_updated_at();

-- Spent tokens are kept: a spent token that is used again is a stolen copy, or its owner was robbed. The child is
-- derived from its parent and a key that is not in the database (actors/infrastructure/token_signer.py).
create table refresh_tokens (
    refresh_hash bytea       primary key,              -- SHA-256 of the token, as is child_hash
    session_id   uuid        not null references sessions on delete cascade,
    created_at   timestamptz not null default now(),
    spent_at     timestamptz,
    child_hash   bytea,
    constraint refresh_tokens_child_check check ((spent_at is null) = (child_hash is null))
);
create unique index refresh_tokens_session_key on refresh_tokens (session_id) where spent_at is null;
create index refresh_tokens_family_idx on refresh_tokens (session_id);
create index refresh_tokens_spent_idx on refresh_tokens (spent_at) where spent_at is not null;

-- Single-use secrets of mailed links. A token is derived from token_id and a key that is not in the database
-- (actors/infrastructure/token_signer.py), so this table and events that name token_id are useless to a thief.
create table mail_tokens (
    token_id   uuid        primary key default gen_random_uuid(),
    user_id    uuid        not null references users on delete cascade,
    purpose    text        not null constraint mail_tokens_purpose_check check (purpose in (
                           'verify_email', 'reset_password', 'change_email', 'export', 'undo_email', 'address_taken')),
    token_hash bytea       not null constraint mail_tokens_token_hash_key unique,
    email      text        check (length(email) <= 254),   -- the mail's recipient and the address it proves, if not the account's
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    used_at    timestamptz,
    session_id uuid,                                       -- requested it, and survives its use
    constraint mail_tokens_new_email_check check ((email is not null) = (purpose in ('change_email', 'undo_email')))
);
create index mail_tokens_expiry_idx on mail_tokens (expires_at);
create index mail_tokens_export_idx on mail_tokens (expires_at) where purpose = 'export';
create index mail_tokens_exported_idx on mail_tokens (used_at) where purpose = 'export' and used_at is not null;
create index mail_tokens_user_idx on mail_tokens (user_id, purpose);   -- used ones too: they count against the limit of mails

-- The links of mails as delivery reads them, which writes the mails.
create view mail_links as
    select token_id, user_id, purpose, token_hash, email from mail_tokens;

-- Requested exports of users' data. A job makes the archive. Its link's secret is that of the mail token with the same
-- id.
create table exports (
    export_id  uuid        primary key references mail_tokens on delete cascade,
    user_id    uuid        not null references users on delete cascade,
    status     text        not null default 'queued' constraint exports_status_check
                           check (status in ('queued', 'running', 'ready', 'failed')),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    maker      uuid,                                   -- the attempt whose pieces are accepted
    size       bigint      constraint exports_size_check check ((size is not null) = (status = 'ready')),
    pieces     integer     constraint exports_pieces_check check ((pieces is not null) = (status = 'ready'))
);
-- A user has one export, the newest.
create unique index exports_user_key on exports (user_id);
create trigger exports_touch before update on exports for each row execute function touch_updated_at();

-- An archive in pieces of a megabyte: no process holds more of it in memory.
create table export_pieces (
    export_id uuid    not null references exports on delete cascade,
    number    integer not null check (number >= 0),
    piece     bytea   not null check (octet_length(piece) <= 1048576),
    primary key (export_id, number)
);
alter table export_pieces alter column piece set storage external;   -- it is compressed already

-- Content ---------------------------------------------------------------------------------------------------------

-- A deleted category frees its slug and its name at once; a job takes its articles out of it, and then removes it.
create table categories (
    category_id uuid        primary key default gen_random_uuid(),
    slug        text        not null check (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$'),
    name        text        not null check (length(name) between 1 and 100),
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    description text        not null default '' constraint categories_description_check check (length(description) <= 2000),
    version     integer     not null default 1 constraint categories_version_check check (version > 0),
    deleted_at  timestamptz
);
create unique index categories_slug_key on categories (slug) where deleted_at is null;
-- Names that differ only in the case of their letters are one, as straße and STRASSE, or σας and ΣΑΣ.
create function folded_name(name text) returns text language sql immutable parallel safe as $$
    select lower(upper(replace(replace(normalize(name, nfkc), 'ß', 'ss'), 'ẞ', 'ss')))
$$;
create unique index categories_name_key on categories (folded_name(name)) where deleted_at is null;
create trigger categories_touch before update on categories for each row execute function touch_updated_at();

-- A configuration for each language of content; each folds accents before it stems: "cafe" finds "Café".
do $$
declare
    language text;
begin
    foreach language in array array[
        'arabic', 'armenian', 'basque', 'catalan', 'danish', 'dutch', 'english', 'finnish', 'french', 'german', 'greek',
        'hindi', 'hungarian', 'indonesian', 'irish', 'italian', 'lithuanian', 'nepali', 'norwegian', 'portuguese',
        'romanian', 'russian', 'serbian', 'simple', 'spanish', 'swedish', 'tamil', 'turkish', 'yiddish'] loop
        execute format('create text search configuration callboard_%s (copy = pg_catalog.%s)', language, language);
        execute format(
            'alter text search configuration callboard_%s alter mapping for hword, hword_part, word with unaccent, %s',
            language, case language when 'simple' then 'simple' else language || '_stem' end);
    end loop;
end $$;

-- The characters of scripts without spaces between words, and emoji, for a bracket expression.
create function unsplit_scripts() returns text language sql immutable parallel safe as $$
    select '\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf'
        || '\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff\u2600-\u27bf\U0001f000-\U0001faff'
$$;

-- Every character of these scripts, and every two neighbouring ones.
create function search_grams(words text) returns tsvector language sql immutable parallel safe as $$
    with runs as (
        select regexp_replace(words, '[^' || unsplit_scripts() || ']+', ' ', 'g') as runs
    ), shifted as (
        select runs, regexp_replace(runs, '(^| )[^ ]', '\1', 'g') as shifted from runs
    )
    select array_to_tsvector(array_remove(
        string_to_array(regexp_replace(runs, '([^ ]{2})', '\1 ', 'g'), ' ')
        || string_to_array(regexp_replace(shifted, '([^ ]{2})', '\1 ', 'g'), ' ')
        || string_to_array(replace(runs, ' ', ''), null), ''))
    from shifted
$$;

-- Characters between words that are not ASCII: to the parser of a database without a locale they are letters.
create function signs() returns text language sql immutable parallel safe as $$
    select '\u00a1-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u00d7\u00f7\u055a-\u055f\u0589\u060c\u061b\u061f\u066a-\u066d'
        || '\u06d4\u0964\u0965\u200b\u2010-\u205e\u2190-\u25ff\u27c0-\u2bff\u2e00-\u2e7f\u3001-\u3004\u3008-\u3020\u3030\ufe0e\ufe0f'
$$;

-- The searched form of a text: one form of each character, and spaces for the signs from which the parser makes words,
-- addresses, paths and compounds. The parser takes the square or the cube of their length: 'a1@' 2,000 times took 4 s.
create function searchable(words text) returns text language sql immutable parallel safe as $$
    select regexp_replace(normalize(words, nfkc), '[' || signs() || '_~/@.:\x01-\x07-]', ' ', 'g')
$$;

-- The same of a normalised text whose matches are marked: signs, and runs of unsplit scripts, stand between two U+000F.
create function highlightable(words text) returns text language sql immutable parallel safe as $$
    select regexp_replace(
        words, '([' || unsplit_scripts() || ']+|[' || signs() || '_~/@.:-]+)', E'\x0f\\1\x0f', 'g')
$$;

-- The names and attributes of a markup's elements are not searched.
create function without_tags(words text) returns text language sql immutable parallel safe as $$
    select regexp_replace(words, '</?[a-zA-Z][^<>]*>', ' ', 'g')
$$;

-- The title (A), the text (B), the grams, and a word of our own for the category. If a text exceeds a tsvector (1 MB),
-- its beginning is searched.
create function search_vector(language text, title text, body text, category_id uuid) returns tsvector
language plpgsql stable as $$
declare
    config  regconfig := 'callboard_' || language;
    heading text := searchable(title);
    words   text := searchable(without_tags(left(body, 100000)));
    unsplit text := '[' || unsplit_scripts() || ']+';  -- to the parser a run of these is one word, with letters beside it
begin
    loop
        begin
            return setweight(to_tsvector(config, regexp_replace(heading, unsplit, ' ', 'g')), 'A')
                || setweight(to_tsvector(config, regexp_replace(words, unsplit, ' ', 'g')), 'B')
                || search_grams(heading || ' ' || words) || category_word(category_id);
        exception when program_limit_exceeded then
            words := left(words, length(words) / 2);
        end;
    end loop;
end $$;

create function category_word(category_id uuid) returns tsvector language sql immutable parallel safe as $$
    select case when category_id is null then '' else array_to_tsvector(array['category:' || category_id]) end
$$;

-- A query in web search syntax, for articles of one language. In it a word of our own stands for each run of an unsplit
-- script, until it is parsed: then all pairs of neighbouring characters of the run are required.
create function search_query(language text, q text) returns tsquery language plpgsql stable as $$
declare
    config regconfig := 'callboard_' || language;
    asked  text;     -- a hyphen before a word excludes it
    found  tsquery;
    runs   text[];
    grams  tsquery;
begin
    asked := regexp_replace(regexp_replace(normalize(q, nfkc), '([^\s"-])-', '\1 ', 'g'), '-', E'\x0e', 'g');
    asked := replace(searchable(asked), E'\x0e', '-');
    runs := array(
        select run from (
            select distinct matched[1] as run from regexp_matches(asked, '[' || unsplit_scripts() || ']+', 'g') as matched
        ) as distinct_runs order by length(run) desc);
    for place in 1 .. cardinality(runs) loop
        asked := regexp_replace(asked, '(-?)"?' || runs[place] || '"?', ' \1"callboardrun' || place || '" ', 'g');
    end loop;
    found := websearch_to_tsquery(config, asked);
    for place in 1 .. cardinality(runs) loop
        select string_agg(quote_literal(substr(runs[place], start, 2)), ' & ')::tsquery into grams
        from generate_series(1, greatest(length(runs[place]) - 1, 1)) as start;
        found := ts_rewrite(found, plainto_tsquery(config, 'callboardrun' || place), grams);
    end loop;
    return found;
end $$;

-- In a query, each of `words` stands for its lexeme and for `lexemes` too.
create function widen_query(language text, asked tsquery, words text[], lexemes text[]) returns tsquery
language plpgsql stable as $$
declare
    target tsquery;
    wider  record;
begin
    for wider in
        select word, string_agg(quote_literal(lexeme), ' | ')::tsquery as alternatives
        from unnest(words, lexemes) as alternative (word, lexeme) group by word
    loop
        target := plainto_tsquery(('callboard_' || language)::regconfig, searchable(wider.word));
        if numnode(target) > 0 then
            asked := ts_rewrite(asked, target, target || wider.alternatives);
        end if;
    end loop;
    return asked;
end $$;

-- The languages of published articles: a query is asked in these.
create table search_languages (
    language text primary key
);
insert into search_languages values ('english');   -- the default of an article

-- The words of published articles as they are read, without case and accents, with their lexemes: a search completes
-- its last word by them, and finds the words that are spelt alike.
create table search_words (
    word       text        collate "C" not null,
    language   text        not null,
    lexeme     text        not null,
    checked_at timestamptz not null default now(),   -- when an article was seen to have it
    primary key (word, language)
);
create index search_words_similar_idx on search_words using gin (word gin_trgm_ops);
create index search_words_checked_idx on search_words (checked_at);

create function search_word(word text) returns text language sql stable parallel safe as $$
    select unaccent(lower(normalize(word, nfkc)))
$$;

-- Add the words of a title and of the beginning of a text. Two articles that add words wait for each other in one order.
create function learn_words(language text, title text, body text) returns void language plpgsql as $$
declare
    dictionary regdictionary := case language when 'simple' then language else language || '_stem' end;
    words      text := searchable(title || ' ' || without_tags(left(body, 20000)));
begin
    insert into search_languages
    select learn_words.language
    where not exists (select from search_languages as known where known.language = learn_words.language)
    on conflict do nothing;
    insert into search_words (word, language, lexeme)
    select new.word, learn_words.language, (ts_lexize(dictionary, new.word))[1]
    from unnest(tsvector_to_array(to_tsvector(
        'callboard_simple', regexp_replace(words, '[' || unsplit_scripts() || ']+', ' ', 'g')))) as new (word)
    where new.word ~ '^[[:alpha:]][[:alnum:]]{1,39}$' and cardinality(ts_lexize(dictionary, new.word)) > 0
      and not exists (
          select from search_words as known where known.word = new.word and known.language = learn_words.language)
    order by new.word
    on conflict do nothing;
end $$;

-- Words of our own, by which the index answers the filters of a search.
create function filter_words(author_id uuid, category_id uuid, tags text[]) returns tsvector
language sql immutable parallel safe as $$
    select array_to_tsvector(array_remove(
        array['author:' || author_id, 'category:' || category_id] || array(select 'tag:' || tag from unnest(tags) as tag),
        null))
$$;

-- The month of a time, for the index of the search.
create function month_of(moment timestamptz) returns integer language sql immutable parallel safe as $$
    select (extract(year from moment at time zone 'UTC') * 12
            + extract(month from moment at time zone 'UTC'))::integer
$$;

-- The query for all words of a vector, as they are.
create function all_of(words tsvector) returns tsquery language sql immutable parallel safe as $$
    select coalesce(string_agg(
        '''' || replace(replace(word, '\', '\\'), '''', '''''') || '''', ' & '), '')::tsquery
    from unnest(tsvector_to_array(words)) as word
$$;

-- Only published content is searched, so the work is done once, at the publication.
create function fill_search() returns trigger language plpgsql as $$
begin
    if new.status <> 'published' then
        new.search := null;
    elsif tg_op = 'INSERT' or old.search is null or old.search_outdated
            or (old.title, old.body, old.language) is distinct from (new.title, new.body, new.language) then
        new.search := search_vector(new.language, new.title, new.body, new.category_id)
            || filter_words(new.author_id, null, new.tags);
        perform learn_words(new.language, new.title, new.body);
    elsif (old.author_id, old.category_id, old.tags) is distinct from (new.author_id, new.category_id, new.tags) then
        new.search := ts_delete(old.search, tsvector_to_array(filter_words(old.author_id, old.category_id, old.tags)))
            || filter_words(new.author_id, new.category_id, new.tags);
    end if;
    new.search_outdated := false;
    return new;
end $$;

-- Readers ask by Last-Modified, in seconds, whether they have an article: after its first publication no two versions
-- share a second. By its name the trigger fires after the one that sets updated_at.
create function keep_seconds_apart() returns trigger language plpgsql as $$
begin
    if date_trunc('second', new.updated_at) <= date_trunc('second', old.updated_at) then
        new.updated_at := date_trunc('second', old.updated_at) + interval '1 second';
    end if;
    return new;
end $$;

create table content (
    content_id   uuid        primary key default gen_random_uuid(),
    author_id    uuid        not null references users,
    category_id  uuid        constraint content_category_id_fkey references categories on delete set null,
    title        text        not null check (length(title) between 1 and 200),
    body         text        not null check (length(body) <= 200000),
    body_html    text        not null constraint content_body_html_check check (octet_length(body_html) <= 2000000),
    status       text        not null default 'draft' constraint content_status_check
                             check (status in ('draft', 'pending_review', 'approved', 'published', 'archived')),
    version      integer     not null default 1 check (version > 0),   -- the ETag; every change adds one
    published_at timestamptz constraint content_published_at_check check (status <> 'published' or published_at is not null),
    created_at   timestamptz not null default now(),
    updated_at   timestamptz not null default now(),
    search       tsvector,                      -- of published content; filled by a trigger
    last_edited_by uuid      constraint content_last_edited_by_fkey references users on delete set null,   -- null: its author
    language     text        not null default 'english' constraint content_language_check check (language in (
        'arabic', 'armenian', 'basque', 'catalan', 'danish', 'dutch', 'english', 'finnish', 'french', 'german', 'greek',
        'hindi', 'hungarian', 'indonesian', 'irish', 'italian', 'lithuanian', 'nepali', 'norwegian', 'portuguese',
        'romanian', 'russian', 'serbian', 'simple', 'spanish', 'swedish', 'tamil', 'turkish', 'yiddish')),
    publish_at   timestamptz constraint content_publish_at_check      -- a job publishes and archives at these times
                             check (publish_at is null or (status = 'approved' and deleted_at is null)),
    expire_at    timestamptz constraint content_expire_at_check check (
                             expire_at is null or status = 'published'
                             or (publish_at is not null and expire_at > publish_at)),
    deleted_at   timestamptz constraint content_deleted_at_check check (deleted_at is null or status <> 'published'),
    revision     integer     not null default 1,               -- the number of the current text
    edited_at    timestamptz,                                  -- null: the text has not been edited
    tags         text[]      not null default '{}' constraint content_tags_check check (cardinality(tags) <= 10),
    search_outdated boolean  not null default false   -- `search` is an earlier release's: a job rebuilds it
) with (toast_tuple_target = 256);   -- lists and searches read titles and tags, and no texts: these are stored apart
alter table content alter column title set storage main, alter column tags set storage main;
create index content_published_idx on content (published_at desc, content_id desc) where status = 'published';
create index content_author_published_idx on content (author_id, published_at desc, content_id desc) where status = 'published';
create index content_category_published_idx on content (category_id, published_at desc, content_id desc)
    where status = 'published';
create index content_status_idx on content (status, created_at desc, content_id desc) where deleted_at is null;
create index content_author_idx on content (author_id, status, created_at desc, content_id desc);
create index content_category_idx on content (category_id, status, created_at desc, content_id desc);
create index content_editor_idx on content (last_edited_by) where last_edited_by is not null;
create index content_search_idx on content using gin (search, month_of(published_at)) where status = 'published';
create index content_outdated_idx on content (published_at desc) where search_outdated and status = 'published';
create index content_deleted_idx on content (deleted_at, content_id) where deleted_at is not null;
create index content_author_deleted_idx on content (author_id, deleted_at, content_id) where deleted_at is not null;
create trigger content_touch before update of author_id, category_id, title, body, body_html, status, version,
    published_at, created_at, last_edited_by, language on content for each row execute function touch_updated_at();
create trigger content_touch_apart before update of status, version, published_at on content
    for each row when (old.published_at is not null) execute function keep_seconds_apart();
create trigger content_search before insert or update of
    title, body, language, author_id, category_id, tags, status, search_outdated
    on content for each row execute function fill_search();

-- The tags of articles, once more, in the order of lists: a page of the articles with a tag is one range of an index.
-- A trigger keeps them. `listed_at` is the time by which an article is listed.
create table content_tags (
    content_id  uuid        not null references content on delete cascade,
    tag         text        collate "C" not null check (length(tag) between 1 and 100),
    category_id uuid,
    status      text        not null,
    listed_at   timestamptz not null,
    primary key (content_id, tag)
);
create index content_tags_list_idx on content_tags (tag, status, listed_at desc, content_id desc);
create index content_tags_category_idx on content_tags (tag, category_id, status, listed_at desc, content_id desc);

create function list_tags() returns trigger language plpgsql as $$
declare
    tags text[] := case when new.deleted_at is null then new.tags else '{}' end;
begin
    if tg_op = 'UPDATE' then
        delete from content_tags where content_id = new.content_id and tag <> all (tags);
    end if;
    insert into content_tags (content_id, tag, category_id, status, listed_at)
    select new.content_id, tag, new.category_id, new.status,
           case new.status when 'published' then new.published_at else new.created_at end
    from unnest(tags) as tag order by tag
    on conflict (content_id, tag) do update
    set category_id = excluded.category_id, status = excluded.status, listed_at = excluded.listed_at;
    return null;
end $$;
create trigger content_tagged after insert on content
    for each row when (new.tags <> '{}') execute function list_tags();
create trigger content_retagged
    after update of tags, category_id, status, published_at, created_at, deleted_at on content
    for each row when (old.tags <> '{}' or new.tags <> '{}') execute function list_tags();

-- The number of published articles with each tag; a tag without any has no row. A trigger keeps it.
create table tag_counts (
    tag       text    collate "C" primary key,
    published integer not null constraint tag_counts_published_check check (published >= 0)
);
create index tag_counts_list_idx on tag_counts ((- published), tag);

create function count_tag() returns trigger language plpgsql as $$
declare
    was boolean := tg_op <> 'INSERT' and old.status = 'published';
    is_now boolean := tg_op <> 'DELETE' and new.status = 'published';
begin
    if is_now and not was then
        insert into tag_counts values (new.tag, 1)
        on conflict (tag) do update set published = tag_counts.published + 1;
    elsif was and not is_now then
        update tag_counts set published = published - 1 where tag = old.tag;
        delete from tag_counts where tag = old.tag and published = 0;
    end if;
    return null;
end $$;
create trigger content_tags_counted after insert or delete or update of status on content_tags
    for each row execute function count_tag();

-- The rows of lists of articles: without their text, with the names that a page shows.
create view content_summaries as
    select c.content_id, c.author_id, (select name from public_names where user_id = c.author_id) as author_name,
           c.category_id, category.slug as category_slug, category.name as category_name, c.tags, c.title, c.language,
           c.status, c.version, c.published_at, c.created_at, c.updated_at
    from content c left join lateral (
        select slug, name from categories where category_id = c.category_id and deleted_at is null limit 1) as category
    on true
    where c.deleted_at is null;

-- The places in the order of publication at which pages of the sitemap begin, after the first page. A job writes them.
create table sitemap_pages (
    first_at timestamptz not null,
    first_id uuid        not null,
    primary key (first_at, first_id)
);

-- The editorial history: actor, action, time and reason of each transition. Rows are only added.
create table content_transitions (
    transition_id bigint      generated always as identity primary key,
    content_id    uuid        not null references content on delete cascade,
    actor_id      uuid        not null references users,
    action        text        not null check (action in ('submit_for_review', 'approve', 'reject', 'publish', 'archive',
                              'restore', 'edit', 'schedule', 'unschedule', 'delete', 'undelete')),
    from_status   text        not null,
    to_status     text        not null,
    note          text        check (length(note) <= 2000),
    created_at    timestamptz not null default now()
);
create index content_transitions_actor_idx on content_transitions (actor_id);
create index content_transitions_content_idx on content_transitions (content_id, transition_id);

-- The steps of articles as other departments read them.
create view content_steps as
    select t.transition_id, t.content_id, t.action, t.note, t.created_at, c.author_id, c.title
    from content_transitions t join content c using (content_id)
    where c.deleted_at is null;

-- The replaced texts of articles; the current text is in `content`. The oldest are removed beyond the bounds.
create table content_revisions (
    content_id  uuid        not null references content on delete cascade,
    revision    integer     not null,
    author_id   uuid        not null references users,   -- the article's author, whose quota has the bytes
    editor_id   uuid        not null references users,   -- the writer of this text
    category_id uuid,
    title       text        not null,
    body        text        not null,
    language    text        not null,
    tags        text[]      not null default '{}',
    written_at  timestamptz not null,
    replaced_at timestamptz not null default now(),
    primary key (content_id, revision)
);
create index content_revisions_author_idx on content_revisions (author_id, replaced_at, content_id, revision);
create index content_revisions_editor_idx on content_revisions (editor_id, content_id, revision);

-- A thread is a tree. `replies` counts the direct replies that are listed: a comment that is deleted or hidden stays in
-- the list, without its text, as long as it has any. Retention takes the text of deleted comments.
create table comments (
    comment_id uuid        primary key default gen_random_uuid(),
    content_id uuid        not null references content on delete cascade,
    author_id  uuid        not null references users,
    body       text        check (length(body) between 1 and 5000),
    body_html  text        constraint comments_body_html_check check (octet_length(body_html) <= 100000),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz,
    parent_id  uuid        constraint comments_parent_id_fkey references comments on delete cascade,
    depth      smallint    not null default 0,
    replies    integer     not null default 0 constraint comments_replies_check check (replies >= 0),
    version    integer     not null default 1 constraint comments_version_check check (version > 0),   -- the ETag
    edited_at  timestamptz,
    hidden_at  timestamptz,
    reported_at timestamptz,                     -- the first report that no editor has dealt with
    constraint comments_depth_check check (depth >= 0 and (depth = 0) = (parent_id is null)),
    constraint comments_text_check
        check ((body is null) = (body_html is null) and (body is not null or deleted_at is not null))
);
create index comments_author_idx on comments (author_id);
create index comments_content_idx on comments (content_id, created_at, comment_id);
create index comments_listed_idx on comments (content_id, created_at, comment_id)
    where parent_id is null and (replies > 0 or (deleted_at is null and hidden_at is null));
create index comments_replies_idx on comments (parent_id, created_at, comment_id)
    where parent_id is not null and (replies > 0 or (deleted_at is null and hidden_at is null));
create index comments_hidden_idx on comments (content_id, created_at, comment_id)
    where parent_id is null and hidden_at is not null and deleted_at is null and replies = 0;
create index comments_hidden_replies_idx on comments (parent_id, created_at, comment_id)
    where parent_id is not null and hidden_at is not null and deleted_at is null and replies = 0;
create index comments_own_hidden_idx on comments (author_id, content_id, created_at, comment_id)
    where hidden_at is not null and deleted_at is null and replies = 0;
create index comments_parent_idx on comments (parent_id, created_at, comment_id) where parent_id is not null;
create index comments_reported_idx on comments (reported_at, comment_id) where reported_at is not null;
create index comments_deleted_idx on comments (deleted_at) where deleted_at is not null and (replies = 0 or body is not null);
create trigger comments_touch before update of body, body_html, version, deleted_at, hidden_at on comments
    for each row execute function touch_updated_at();

create function is_visible(comment comments) returns boolean language sql immutable as
    'select comment.deleted_at is null and comment.hidden_at is null';

create function is_listed(comment comments) returns boolean language sql immutable as
    'select is_visible(comment) or comment.replies > 0';

-- The number of visible comments of an article; an article without a row has none. Triggers keep it in the transaction
-- of each change, in one order of the articles, so that two changes do not deadlock.
create table comment_counts (
    content_id uuid    primary key references content on delete cascade,
    visible    integer not null default 0 constraint comment_counts_visible_check check (visible >= 0)
);

create function count_replies() returns trigger language plpgsql as $$
declare
    change integer := 0;
begin
    if tg_op <> 'DELETE' then
        change := is_listed(new)::integer;
    end if;
    if tg_op <> 'INSERT' then
        change := change - is_listed(old)::integer;
    end if;
    if change <> 0 then
        update comments set replies = replies + change where comment_id = coalesce(new.parent_id, old.parent_id);
    end if;
    return null;
end $$;
create trigger comments_replies after insert or delete or update of deleted_at, hidden_at, replies on comments
    for each row execute function count_replies();

create table comment_reports (
    report_id   bigint      generated always as identity primary key,
    comment_id  uuid        not null references comments on delete cascade,
    reporter_id uuid        not null references users on delete cascade,
    reason      text        not null constraint comment_reports_reason_check
                            check (reason in ('spam', 'abuse', 'off_topic', 'other')),
    note        text        check (length(note) <= 500),
    created_at  timestamptz not null default now(),
    closed_at   timestamptz,                     -- when an editor hid the comment or kept it
    constraint comment_reports_reporter_key unique (comment_id, reporter_id)
);
create index comment_reports_reporter_idx on comment_reports (reporter_id);
create index comment_reports_open_idx on comment_reports (comment_id, report_id) where closed_at is null;

-- The history of a comment: actor, action, time and reason of each decision of an editor. Rows are only added.
create table comment_moderations (
    moderation_id bigint      generated always as identity primary key,
    comment_id    uuid        not null references comments on delete cascade,
    actor_id      uuid        not null references users,
    action        text        not null constraint comment_moderations_action_check
                              check (action in ('hide', 'show', 'edit', 'delete')),
    reason        text        check (length(reason) <= 500),
    created_at    timestamptz not null default now()
);
create index comment_moderations_comment_idx on comment_moderations (comment_id, moderation_id);
create index comment_moderations_actor_idx on comment_moderations (actor_id);

-- Quotas ----------------------------------------------------------------------------------------------------------

-- A user's amount of data. Triggers keep it in the transaction of each change, so nothing is counted anew; the lock on
-- the row serialises the changes.
create table user_usage (
    user_id       uuid    primary key references users on delete cascade,
    content_rows  bigint  not null default 0,
    content_bytes bigint  not null default 0,
    revision_bytes bigint not null default 0,
    comment_rows  bigint  not null default 0,
    upload_rows   bigint  not null default 0,
    upload_bytes  bigint  not null default 0
);

-- The counts as other departments read them, which show a user the rest.
create view quota_usage as
    select user_id, content_rows, content_bytes, revision_bytes, comment_rows, upload_rows, upload_bytes
    from user_usage;

create function content_size(content) returns bigint language sql immutable as
    'select (octet_length($1.title) + octet_length($1.body) + octet_length($1.body_html))::bigint';

create function count_content() returns trigger language plpgsql as $$
declare
    row_count  bigint := 0;
    byte_count bigint := 0;
begin
    if tg_op <> 'DELETE' then
        row_count := 1;
        byte_count := content_size(new);
    end if;
    if tg_op <> 'INSERT' then
        row_count := row_count - 1;
        byte_count := byte_count - content_size(old);
    end if;
    if row_count <> 0 or byte_count <> 0 then
        insert into user_usage (user_id, content_rows, content_bytes)
        values (coalesce(new.author_id, old.author_id), row_count, byte_count)
        on conflict (user_id) do update
        set content_rows = user_usage.content_rows + excluded.content_rows,
            content_bytes = user_usage.content_bytes + excluded.content_bytes;
    end if;
    return null;
end $$;
create trigger content_usage after insert or delete or update of title, body, body_html on content
    for each row execute function count_content();

create function count_revision() returns trigger language plpgsql as $$
declare
    counted    content_revisions := coalesce(new, old);
    byte_count bigint := octet_length(counted.title) + octet_length(counted.body);
begin
    if tg_op = 'DELETE' then
        byte_count := -byte_count;
    end if;
    insert into user_usage (user_id, revision_bytes) values (counted.author_id, byte_count)
    on conflict (user_id) do update set revision_bytes = user_usage.revision_bytes + excluded.revision_bytes;
    return null;
end $$;
create trigger content_revisions_usage after insert or delete on content_revisions
    for each row execute function count_revision();

create function count_added_comments() returns trigger language plpgsql as $$
begin
    insert into comment_counts as c (content_id, visible)
    select content_id, count(*) from added where is_visible(added) group by content_id order by content_id
    on conflict (content_id) do update set visible = c.visible + excluded.visible;
    insert into user_usage as u (user_id, comment_rows)
    select author_id, count(*) from added group by author_id order by author_id
    on conflict (user_id) do update set comment_rows = u.comment_rows + excluded.comment_rows;
    return null;
end $$;
create trigger comments_added after insert on comments referencing new table as added
    for each statement execute function count_added_comments();

create function count_changed_comments() returns trigger language plpgsql as $$
declare
    change record;
begin
    for change in
        select content_id, sum(is_visible(n)::integer - is_visible(o)::integer) as visible
        from added n join removed o using (comment_id, content_id)
        where is_visible(n) <> is_visible(o) group by content_id order by content_id
    loop
        update comment_counts set visible = visible + change.visible where content_id = change.content_id;
    end loop;
    return null;
end $$;
create trigger comments_changed after update on comments referencing old table as removed new table as added
    for each statement execute function count_changed_comments();

create function count_removed_comments() returns trigger language plpgsql as $$
declare
    change record;
begin
    for change in
        select content_id, count(*) as visible from removed where is_visible(removed)
        group by content_id order by content_id
    loop
        update comment_counts set visible = visible - change.visible where content_id = change.content_id;
    end loop;
    for change in select author_id, count(*) as rows from removed group by author_id order by author_id loop
        update user_usage set comment_rows = comment_rows - change.rows where user_id = change.author_id;
    end loop;
    return null;
end $$;
create trigger comments_removed after delete on comments referencing old table as removed
    for each statement execute function count_removed_comments();

-- The number of a user's limited actions in a period. It only grows: deleting the results takes nothing back.
create table user_rates (
    user_id  uuid        not null references users on delete cascade,
    name     text        not null,
    period   timestamptz not null,             -- its start
    used     integer     not null,
    previous integer     not null default 0,   -- in the period before
    primary key (user_id, name)
);

-- Uploads ---------------------------------------------------------------------------------------------------------

-- An upload is written by the holder of its lease, one at a time. An object is written by one holder after the other; a
-- holder that takes a lease over, because the last has not released it, goes on in a copy.
create table uploads (
    upload_id     uuid        primary key,
    user_id       uuid        not null references users on delete cascade,
    object_id     uuid        not null default gen_random_uuid() constraint uploads_object_key unique,
    kind          text        not null constraint uploads_kind_check check (kind in ('whole', 'partial', 'final')),
    size          bigint      check (size >= 0),           -- null until its client knows it
    reserved      bigint      not null check (reserved >= 0),   -- counts against the quota: the size, or the most that it may be
    received      bigint      not null default 0,          -- bytes that are durable: the offset
    metadata      text        not null default '' check (octet_length(metadata) <= 4096),   -- Upload-Metadata, as sent
    filename      text        check (length(filename) between 1 and 255),                    -- as the client says
    declared_type text        check (length(declared_type) between 1 and 127),               -- as the client says
    media_type    text        check (length(media_type) between 1 and 127),                  -- as the bytes say
    parts         uuid[]      not null default '{}',       -- of a final upload
    fence         bigint      not null default 0,          -- each lease adds one
    leased_until  timestamptz,                             -- null if the last holder has released its lease
    is_wanted     boolean     not null default false,      -- another request waits for the lease
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now(),
    expires_at    timestamptz,
    completed_at  timestamptz,
    constraint uploads_received_check check (received >= 0 and received <= coalesce(size, reserved)),
    constraint uploads_completed_check check (completed_at is null or received = size),
    constraint uploads_expires_check check (expires_at is not null or completed_at is not null)
);
create index uploads_user_idx on uploads (user_id, created_at desc, upload_id desc);
create index uploads_expiry_idx on uploads (expires_at) where expires_at is not null;

-- Objects of the store that no upload names any more. A row goes when the object has been deleted: no crash leaks one.
create table discarded_objects (
    object_id    uuid        primary key,
    discarded_at timestamptz not null default now()
);
create index discarded_objects_idx on discarded_objects (discarded_at);

create function count_uploads() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        insert into user_usage (user_id, upload_rows, upload_bytes) values (new.user_id, 1, new.reserved)
        on conflict (user_id) do update
        set upload_rows = user_usage.upload_rows + 1, upload_bytes = user_usage.upload_bytes + excluded.upload_bytes;
    elsif tg_op = 'DELETE' then  -- perhaps with its user, whose row is then gone
        update user_usage set upload_rows = upload_rows - 1, upload_bytes = upload_bytes - old.reserved
        where user_id = old.user_id;
        insert into discarded_objects (object_id) values (old.object_id) on conflict do nothing;
    else
        if new.reserved <> old.reserved then
            update user_usage set upload_bytes = upload_bytes + new.reserved - old.reserved
            where user_id = new.user_id;
        end if;
        if new.object_id <> old.object_id then
            insert into discarded_objects (object_id) values (old.object_id) on conflict do nothing;
        end if;
    end if;
    return null;
end $$;
create trigger uploads_count after insert or delete or update of reserved, object_id on uploads
    for each row execute function count_uploads();
create trigger uploads_touch before update on uploads for each row execute function touch_updated_at();

create table content_attachments (
    content_id  uuid        not null references content on delete cascade,
    upload_id   uuid        not null references uploads on delete cascade,
    attached_at timestamptz not null default now(),
    primary key (content_id, upload_id)
);
create index content_attachments_upload_idx on content_attachments (upload_id);

create table avatars (
    user_id   uuid        primary key references users on delete cascade,
    upload_id uuid        not null references uploads on delete cascade,
    set_at    timestamptz not null default now()
);
create index avatars_upload_idx on avatars (upload_id);

-- A file goes with the last article that it is attached to, unless it is an avatar.
create function delete_attached_upload() returns trigger language plpgsql as $$
begin
    if not exists (select from content where content_id = old.content_id) then
        delete from uploads u where upload_id = old.upload_id
            and not exists (select from content_attachments a where a.upload_id = u.upload_id)
            and not exists (select from avatars v where v.upload_id = u.upload_id);
    end if;
    return null;
end $$;
create trigger content_attachments_delete after delete on content_attachments
    for each row execute function delete_attached_upload();

-- Subscriptions ---------------------------------------------------------------------------------------------------

create table subscriptions (
    subscription_id uuid        primary key default gen_random_uuid(),
    user_id         uuid        not null references users,
    plan_type       text        not null constraint subscriptions_plan_type_check check (length(plan_type) between 1 and 100),
    status          text        not null constraint subscriptions_status_check
                                check (status in ('active', 'past_due', 'cancelled', 'expired')),
    ends_at         timestamptz not null,          -- of the paid time
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    cancelled_at    timestamptz,
    starts_at       timestamptz not null default now()
);
-- A user has one active subscription.
create unique index subscriptions_user_key on subscriptions (user_id) where status in ('active', 'past_due');
create index subscriptions_owner_idx on subscriptions (user_id);
create index subscriptions_end_idx on subscriptions (ends_at) where status in ('active', 'past_due');
create trigger subscriptions_touch before update on subscriptions for each row execute function touch_updated_at();

-- Users' jobs: the progress and the end of heavy work that a user has asked for. The job queue runs it.
create table user_jobs (
    job_id      uuid        primary key,
    kind        text        not null,
    user_id     uuid        not null references users on delete cascade,
    state       text        not null default 'waiting' constraint user_jobs_state_check
                            check (state in ('waiting', 'running', 'done', 'failed', 'cancelled')),
    done        bigint      not null default 0,
    total       bigint,
    counts      jsonb       not null default '{}',
    faults      jsonb       not null default '[]',
    error       text        not null default '' check (length(error) <= 500),
    queue_id    bigint,                                -- the job of the queue that works on it
    version     bigint      not null default 1,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    finished_at timestamptz
);
create index user_jobs_user_idx on user_jobs (user_id);
create index user_jobs_updated_idx on user_jobs (updated_at);

-- The jobs of users that are not done yet, as other departments read them.
create view open_user_jobs as
    select job_id from user_jobs where state in ('waiting', 'running');
create trigger user_jobs_touch before update on user_jobs for each row execute function touch_updated_at();

create table user_job_inputs (
    job_id  uuid  primary key references user_jobs on delete cascade,
    form    text  not null check (form in ('jsonl', 'csv')),
    content bytea not null
);

-- Statistics ------------------------------------------------------------------------------------------------------

-- Values by metric, subject and hour. The subject '' is the total of all subjects. Events are counted in live_stats; once
-- an hour a job moves what has ended to aggregated_stats. A row of both tables is the sum of the two.
create table aggregated_stats (
    metric     text             not null check (length(metric) between 1 and 100),
    subject_id text             not null check (length(subject_id) <= 200),
    hour       timestamptz      not null check (hour = date_trunc('hour', hour, 'UTC')),
    sum        double precision not null,
    count      bigint           not null check (count > 0),
    updated_at timestamptz      not null default now(),
    min        double precision not null default '-infinity',   -- infinity: an earlier release did not keep it
    max        double precision not null default 'infinity',
    primary key (metric, hour, subject_id)
);
create index aggregated_stats_hour_idx on aggregated_stats (hour desc, metric);
create index aggregated_stats_subject_idx on aggregated_stats (subject_id, hour desc, metric);
create trigger aggregated_stats_touch before update on aggregated_stats for each row execute function touch_updated_at();

create table live_stats (
    metric     text             not null check (length(metric) between 1 and 100),
    subject_id text             not null check (length(subject_id) <= 200),
    hour       timestamptz      not null check (hour = date_trunc('hour', hour, 'UTC')),
    sum        double precision not null,
    count      bigint           not null check (count > 0),
    min        double precision not null,
    max        double precision not null,
    primary key (hour, metric, subject_id)
);
create index live_stats_subject_idx on live_stats (subject_id, hour desc, metric);

-- The metrics that are counted, each with the producer that brought it.
create table stat_metrics (
    metric     text        primary key check (length(metric) between 1 and 100),
    source     text        not null check (length(source) <= 400),
    created_at timestamptz not null default now()
);
create index stat_metrics_created_idx on stat_metrics (created_at);

-- Each change of aggregated_stats adds one: caches of it name the generation that they were read at.
create table stat_generation (
    only_row   boolean primary key default true check (only_row),
    generation bigint  not null default 0
);
insert into stat_generation default values;

-- Feature flags ---------------------------------------------------------------------------------------------------

-- Without a row a flag has its department's default. Every change, also of an override, adds one to the version, which
-- processes poll.
create table feature_flags (
    name       text        primary key constraint feature_flags_name_check check (name ~ '^[a-z][a-z0-9_.]{0,99}$'),
    is_on      boolean     not null default false,
    version    bigint      not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create trigger feature_flags_touch before update on feature_flags for each row execute function touch_updated_at();

create table feature_flag_overrides (
    name       text        not null references feature_flags on delete cascade,
    user_id    uuid        not null references users on delete cascade,
    is_on      boolean     not null,
    created_at timestamptz not null default now(),
    primary key (name, user_id)
);
create index feature_flag_overrides_user_idx on feature_flag_overrides (user_id);

-- Events ----------------------------------------------------------------------------------------------------------

-- An event is added in the transaction of its cause. The relay publishes it; the reconciler publishes it again while a
-- consumer of its topic has not recorded it.
create table outbox (
    outbox_id    bigint      generated always as identity primary key,
    event_id     uuid        not null constraint outbox_event_id_key unique,
    topic        text        not null,          -- without the prefix: 'content.v1'
    key          text        not null,          -- events of one key stay in order
    type         text        not null,          -- ce_type: 'content.published'
    value        bytea       not null,          -- the JSON of the event's Struct
    traceparent  text,
    occurred_at  timestamptz not null default now(),
    published_at timestamptz,
    attempts     integer     not null default 0,
    refusals     integer     not null default 0,   -- attempts that no broker accepted
    error        text,                             -- of the last attempt
    retry_at     timestamptz,                      -- of a refused row: its next attempt
    source       text        not null default 'callboard',   -- ce_source: a producer's, or ours
    ce_id        text,                             -- the producer's id: event_id is derived from it and the source
    ce_time      timestamptz,                      -- the producer's time, if it gave one; occurred_at is ours
    constraint outbox_ce_id_check check ((ce_id is null) = (source = 'callboard'))
);
create index outbox_ready_idx on outbox (topic, outbox_id) where published_at is null and retry_at is null;
create index outbox_refused_idx on outbox (topic, key, outbox_id) where published_at is null and retry_at is not null;
create index outbox_published_idx on outbox (published_at) where published_at is not null;

create function announce_outbox() returns trigger language plpgsql as $$
begin
    notify callboard_outbox;
    return null;
end $$;
create trigger outbox_announce after insert on outbox for each statement execute function announce_outbox();

-- The leader and the expiry of its lease. Every write of a leader names its fence, which grows with each new holder.
create table leases (
    name        text        primary key,
    holder      text        not null,            -- for people: host and process
    backend_pid integer     not null,            -- the connection that took it: without that the lease is free
    fence       bigint      not null,
    expires_at  timestamptz not null
);

-- A consumer adds its row in the transaction of its effect; if the row exists, it does nothing.
create table consumed_events (
    consumer    text        not null,
    source      text        not null,           -- ce_source: ids are unique within it (CloudEvents 1.0)
    event_id    text        not null,
    consumed_at timestamptz not null default now(),
    primary key (consumer, source, event_id)
);
create index consumed_events_age_idx on consumed_events (consumed_at);

create table dead_letters (
    dead_letter_id uuid        primary key default gen_random_uuid(),
    fingerprint    bytea       not null constraint dead_letters_fingerprint_key unique,  -- the same record read twice is one row
    consumer       text        not null,
    topic          text        not null,
    partition      integer     not null,
    "offset"       bigint      not null,
    key            bytea,
    value          bytea,
    headers        jsonb       not null default '{}',
    reason         text        not null,        -- a word: malformed, unknown_type, invalid, too_large, expired, refused, failed
    detail         text        not null,
    created_at     timestamptz not null default now(),
    replayed_at    timestamptz,
    replays        integer     not null default 0
);
create index dead_letters_age_idx on dead_letters (created_at);
create index dead_letters_key_idx on dead_letters using hash (key);   -- of any length
create index dead_letters_created_idx on dead_letters (created_at desc, dead_letter_id desc) where replayed_at is null;

-- The keys of producers, which send events over HTTP: the hash of its secret (SHA-256), the allowed types and sources
-- (one that ends with * stands for all with this beginning), and the use of the quota in this hour and the one before.
create table producer_keys (
    key_id          uuid        primary key,
    name            text        not null check (length(name) between 1 and 100),
    secret_hash     bytea       not null check (octet_length(secret_hash) = 32),
    types           text[]      not null,
    sources         text[]      not null,
    hourly_events   bigint      not null check (hourly_events > 0),
    hourly_bytes    bigint      not null check (hourly_bytes > 0),
    created_at      timestamptz not null default now(),
    used_at         timestamptz,
    revoked_at      timestamptz,
    period          timestamptz,
    used_events     bigint      not null default 0,
    used_bytes      bigint      not null default 0,
    previous_events bigint      not null default 0,
    previous_bytes  bigint      not null default 0
) with (fillfactor = 70);   -- each request updates its key's row
create unique index producer_keys_name_key on producer_keys (lower(name)) where revoked_at is null;
create index producer_keys_created_idx on producer_keys (created_at desc, key_id desc);
create index producer_keys_revoked_idx on producer_keys (revoked_at) where revoked_at is not null;

-- Audit log -------------------------------------------------------------------------------------------------------

-- Security events: actor, affected user, origin and time. There are no foreign keys, so entries survive the accounts,
-- and no entry has an address in full. Rows are only added; only the two functions below remove data, for retention and
-- for the erasure of an account. The owner of the database can still drop the trigger: for stronger proof, ship the log
-- lines of callboard.audit to another machine.
create table audit_log (
    audit_id    bigint      generated always as identity primary key,
    occurred_at timestamptz not null default clock_timestamp(),
    action      text        not null check (action ~ '^[a-z_]+\.[a-z_]+$' and length(action) <= 60),
    actor       text        not null constraint audit_log_actor_check
                            check (actor in ('user', 'anonymous', 'operator', 'system')),
    actor_id    uuid        constraint audit_log_actor_id_check check ((actor_id is not null) = (actor = 'user')),
    user_id     uuid,                                -- the affected user
    ip          inet,
    user_agent  text        check (length(user_agent) <= 400),
    trace_id    text        check (length(trace_id) <= 32),
    detail      jsonb       not null default '{}' check (octet_length(detail::text) <= 4096)
);
create index audit_log_time_idx on audit_log (occurred_at desc, audit_id desc);
create index audit_log_action_idx on audit_log (action, occurred_at desc, audit_id desc);
create index audit_log_user_idx on audit_log (user_id, occurred_at desc, audit_id desc) where user_id is not null;
create index audit_log_actor_idx on audit_log (actor_id, occurred_at desc, audit_id desc) where actor_id is not null;

create function refuse_audit_change() returns trigger language plpgsql as $$
begin
    if current_setting('callboard.audit_maintenance', true) = 'on' then
        return case tg_op when 'DELETE' then old else new end;
    end if;
    raise exception 'audit_log is append-only';
end $$;
create trigger audit_log_append_only before update or delete on audit_log
    for each row execute function refuse_audit_change();
create trigger audit_log_no_truncate before truncate on audit_log
    for each statement execute function refuse_audit_change();

-- Deletes entries past their retention, a limited number; failed logins have their own retention.
create function purge_audit_log(kept interval, failures_kept interval, most integer) returns bigint
    language plpgsql set callboard.audit_maintenance = 'on' as $$
declare
    deleted bigint;
begin
    delete from audit_log where audit_id in (
        select audit_id from audit_log where occurred_at < clock_timestamp() - kept
        union all
        select audit_id from audit_log
        where action in ('login.failed', 'login.locked') and occurred_at < clock_timestamp() - failures_kept
        limit most);
    get diagnostics deleted = row_count;
    return deleted;
end $$;

-- Erases a person's origin and addresses from the entries. The event and its time stay.
create function erase_from_audit_log(person uuid) returns bigint
    language plpgsql set callboard.audit_maintenance = 'on' as $$
declare
    changed bigint;
begin
    update audit_log set ip = null, user_agent = null
    where (actor_id = person or (user_id = person and actor = 'anonymous')) and (ip is not null or user_agent is not null);
    get diagnostics changed = row_count;
    update audit_log set detail = detail - '{email,old_email,new_email}'::text[]
    where user_id = person and detail ?| '{email,old_email,new_email}';
    return changed;
end $$;

-- Idempotency keys ------------------------------------------------------------------------------------------------

-- A key is claimed before its request is processed, and stores the response after it. An unfinished claim expires; the
-- next one works under the same new_id, so that nothing is created twice.
create table idempotency_keys (
    name        bytea       primary key,        -- SHA-256 of caller, method, path and key
    fingerprint bytea       not null,           -- of the body; under a secret, since a body may hold a password
    new_id      uuid        not null,           -- the id of the resource that the request creates
    claim_id    uuid        not null,
    lapses_at   timestamptz not null,
    expires_at  timestamptz not null,
    status      smallint,
    headers     jsonb,
    body        bytea,
    created_at  timestamptz not null default now(),
    constraint idempotency_keys_answer_check check ((status is null) = (body is null) and (status is null) = (headers is null))
);
create index idempotency_keys_expiry_idx on idempotency_keys (expires_at);

-- Mail ------------------------------------------------------------------------------------------------------------

-- Requested mails and their outcomes; a job sends each. The text is made when it is sent, so no secret link is stored
-- here. A copy is counted just before the final dot.
create table mails (
    mail_id       uuid        primary key,      -- the id of the event that requested it
    recipient     text        not null check (length(recipient) <= 254),
    letter        text        not null,
    data          jsonb       not null default '{}',
    status        text        not null default 'queued' constraint mails_status_check
                              check (status in ('queued', 'sending', 'sent', 'dead', 'expired')),
    attempts      integer     not null default 0,
    due_at        timestamptz not null default now(),   -- for senders of the first release; 'infinity' if a job sends
    expires_at    timestamptz not null,
    error         text,
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now(),
    sent_at       timestamptz,
    copies        smallint    not null default 0,       -- sent as a whole and not refused
    copied_at     timestamptz,
    user_id       uuid,                                 -- of our own mail; its address may have changed
    relay         text        check (length(relay) <= 300)   -- the mail server of the last copy
);
create index mails_age_idx on mails (updated_at) where status in ('sent', 'dead', 'expired');
create index mails_recipient_idx on mails (lower(recipient), created_at);
create index mails_user_idx on mails (user_id, mail_id);
create index mails_due_idx on mails (due_at) where status in ('queued', 'sending');
create trigger mails_touch before update on mails for each row execute function touch_updated_at();

-- Our mails to an account, at any address; and mails without an owner that went to its address while the account had it:
-- an address may have belonged to another account before or since.
create function mails_of(person uuid) returns table (mail_id uuid) language sql stable as $$
    select m.mail_id from mails m where m.user_id = person
    union all
    select m.mail_id from mails m join users u on lower(u.email) = lower(m.recipient)
         and m.created_at >= u.created_at and m.created_at <= coalesce(u.deleted_at, 'infinity') + interval '1 hour'
    where u.user_id = person and m.user_id is null
$$;

-- The mails of each producer in the current period.
create table mail_producer_usage (
    source       text        primary key check (length(source) <= 400),
    period_start timestamptz not null,
    used         integer     not null check (used > 0)
);

-- Jobs ------------------------------------------------------------------------------------------------------------

-- Deferred work. A job is waiting, blocked behind its order key, or running under a lease; an ended job is removed.
-- Every write of its holder names the lease.
create sequence job_leases;

create table jobs (
    job_id              bigint      generated always as identity primary key,
    kind                text        not null,
    version             smallint    not null default 1,    -- of the payload: an older process skips a newer one
    priority            smallint    not null constraint jobs_priority_check check (priority between 0 and 2),
    state               text        not null default 'waiting' constraint jobs_state_check
                                    check (state in ('waiting', 'blocked', 'running')),
    run_at              timestamptz not null default clock_timestamp(),
    deadline            timestamptz,
    attempts            smallint    not null default 0,    -- counted by the claim
    lost                smallint    not null default 0,    -- leases lost since an attempt last ended by itself
    postponed           integer     not null default 0,
    max_attempts        smallint    not null,
    lease_id            bigint,
    worker              text,
    lease_until         timestamptz,
    unique_key          text,
    unique_active       boolean     not null default false,
    order_key           text,
    cancel_requested_at timestamptz,
    progress            jsonb,
    last_error          text        constraint jobs_last_error_check check (length(last_error) <= 500),
    payload             jsonb       not null constraint jobs_payload_check check (octet_length(payload::text) <= 16384),
    traceparent         text,
    created_at          timestamptz not null default clock_timestamp(),
    replays             smallint    not null default 0,    -- of dead letters that this job replays, one after another
    constraint jobs_lease_check check ((state = 'running') = (lease_id is not null)),
    constraint jobs_lease_until_check check ((lease_id is null) = (lease_until is null))
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0);
create index jobs_due_idx on jobs (kind, priority, run_at, job_id) where state = 'waiting' and lost = 0;
create index jobs_suspect_idx on jobs (run_at, job_id) where state = 'waiting' and lost > 0;
create index jobs_leased_idx on jobs (lease_until) where state = 'running';
create unique index jobs_unique_key on jobs (kind, unique_key)
    where unique_key is not null and (state <> 'running' or unique_active);
create unique index jobs_order_head_key on jobs (kind, order_key) where order_key is not null and state <> 'blocked';
create index jobs_blocked_idx on jobs (kind, order_key, job_id) where state = 'blocked';

-- The holders of jobs, as other departments read them: only the holder of a job has its effect.
create view held_jobs as
    select job_id, lease_id from jobs;

-- The outcomes of jobs, kept as long as their kinds say.
create table finished_jobs (
    job_id      bigint      primary key,
    kind        text        not null,
    outcome     text        not null constraint finished_jobs_outcome_check
                            check (outcome in ('done', 'dead', 'cancelled', 'expired', 'superseded')),
    attempts    smallint    not null,
    created_at  timestamptz not null,
    finished_at timestamptz not null default clock_timestamp(),
    keep_until  timestamptz not null
);
create index finished_jobs_keep_idx on finished_jobs (keep_until);

-- Jobs that failed for good, until an operator replays or discards them, or for 30 days.
create table dead_jobs (
    job_id       bigint      primary key,
    kind         text        not null,
    version      smallint    not null,
    priority     smallint    not null,
    attempts     smallint    not null,
    postponed    integer     not null,
    max_attempts smallint    not null,
    unique_key   text,
    unique_active boolean    not null,
    order_key    text,
    halts        boolean     not null default false,    -- blocks the rest of its order key
    payload      jsonb       not null,
    progress     jsonb,
    reason       text        not null check (length(reason) <= 100),   -- the class of the error, the same for all jobs
    error        text        not null check (length(error) <= 500),
    traceparent  text,
    deadline     timestamptz,
    created_at   timestamptz not null,
    died_at      timestamptz not null default clock_timestamp(),
    replayed_as  bigint,
    discarded_at timestamptz,
    replays      smallint    not null default 0
);
create index dead_jobs_died_idx on dead_jobs (died_at desc, job_id desc);
create index dead_jobs_kind_idx on dead_jobs (kind, died_at desc, job_id desc);
create index dead_jobs_halting_idx on dead_jobs (kind, order_key)
    where halts and replayed_as is null and discarded_at is null;

-- Operators' settings of kinds; a kind without a row runs as declared.
create table job_kinds (
    kind        text        primary key,
    paused      boolean     not null default false,
    max_running integer     constraint job_kinds_max_running_check check (max_running >= 0),  -- 0: no limit
    version     bigint      not null default 1,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now()
);
create trigger job_kinds_touch before update on job_kinds for each row execute function touch_updated_at();

-- The process that moves last_due by compare-and-set enqueues the due job.
create table schedules (
    name       text        primary key,
    kind       text        not null,
    payload    jsonb       not null default '{}',
    cron       text        not null,
    zone       text        not null default 'UTC',
    enabled    boolean     not null default true,
    missed     text        not null default 'once' constraint schedules_missed_check check (missed in ('once', 'skip')),
    last_due   timestamptz not null default now(),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create trigger schedules_touch before update on schedules for each row execute function touch_updated_at();

-- A user's choices about notifications, and the number of their last notification. Without a row: the defaults, and no notification yet.
create table notification_settings (
    user_id    uuid        primary key references users on delete cascade,
    digest     text        not null default 'off' constraint notification_settings_digest_check
                           check (digest in ('off', 'daily', 'weekly')),
    channels   jsonb       not null default '{}',     -- by kind: those that differ from its default
    last_seq   bigint      not null default 0,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create trigger notification_settings_touch before update on notification_settings
    for each row execute function touch_updated_at();

-- Notifications to users. The lock on the user's row of notification_settings numbers them in the order of their commits.
create table notifications (
    notification_id uuid        primary key,          -- derived from the event that asked for it
    user_id         uuid        not null references users on delete cascade,
    seq             bigint      not null,
    kind            text        not null,
    data            jsonb       not null default '{}',
    created_at      timestamptz not null default now(),
    read_at         timestamptz,
    waits           boolean     not null default false,  -- for the user's digest
    digest_id       uuid                                 -- of the mail that has it
);
create unique index notifications_seq_key on notifications (user_id, seq desc);
create index notifications_unread_idx on notifications (user_id, seq desc) where read_at is null;
create index notifications_waiting_idx on notifications (user_id) where waits;
create index notifications_digest_idx on notifications (digest_id) where digest_id is not null;
create index notifications_created_idx on notifications (created_at);
