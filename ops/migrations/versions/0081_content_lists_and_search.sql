-- What takes long comes first: content is locked only for what follows. 0101 changes the articles, makes
-- the indexes and validates.
update content_transitions
set from_status = case from_status when 'pending' then 'pending_review' else from_status end,
    to_status = case to_status when 'pending' then 'pending_review' else to_status end
where 'pending' in (from_status, to_status);
-- Answers that are kept for an Idempotency-Key must not say the old word either.
update idempotency_keys
set body = convert_to(replace(convert_from(body, 'UTF8'), '"status":"pending"', '"status":"pending_review"'), 'UTF8')
where position('"status":"pending"'::bytea in body) > 0;
alter table content drop constraint content_status_check;
alter table content add constraint content_status_check
    check (status in ('draft', 'pending', 'pending_review', 'approved', 'published', 'archived')) not valid;
alter table content
    add column last_edited_by uuid,
    add constraint content_last_edited_by_fkey foreign key (last_edited_by) references users on delete set null not valid,
    add column language text not null default 'english',
    add constraint content_language_check check (language in (
    'arabic', 'armenian', 'basque', 'catalan', 'danish', 'dutch', 'english', 'finnish', 'french', 'german', 'greek',
    'hindi', 'hungarian', 'indonesian', 'irish', 'italian', 'lithuanian', 'nepali', 'norwegian', 'portuguese',
    'romanian', 'russian', 'serbian', 'simple', 'spanish', 'swedish', 'tamil', 'turkish', 'yiddish')) not valid;
alter table categories add column description text not null default ''
    constraint categories_description_check check (length(description) <= 2000);

alter table subscriptions disable trigger subscriptions_touch;
-- PostgreSQL 18 names what must not be null by its column: so it is said anew.
alter table subscriptions alter column plan drop not null, alter column renews_at drop not null;
alter table subscriptions rename column plan to plan_type;
alter table subscriptions rename constraint subscriptions_plan_check to subscriptions_plan_type_check;
alter table subscriptions rename column renews_at to ends_at;
alter table subscriptions alter column plan_type set not null, alter column ends_at set not null;
alter table subscriptions add column starts_at timestamptz not null default now();
update subscriptions set starts_at = created_at;
alter index subscriptions_renewal_idx rename to subscriptions_end_idx;
alter table subscriptions enable trigger subscriptions_touch;

    create extension if not exists unaccent;
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

-- Characters of the scripts that write words without spaces between, for a bracket expression.
create function unsplit_scripts() returns text language sql immutable parallel safe as $$
    select '\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf'
        || '\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff'
$$;

-- Every character of these scripts, and every two that stand side by side.
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

-- A text as it is searched: one form of each character, and control characters for the punctuation of which the parser makes
-- addresses, paths and compounds. It takes the square or the cube of their length: 'a1@' 2,000 times took 4 s.
create function searchable(words text) returns text language sql immutable parallel safe as $$
    select translate(normalize(words, nfkc), '_~/@.-:' || E'\x01\x02\x03\x04\x05\x06\x07', E'\x01\x02\x03\x04\x05\x06\x07')
$$;

create function unsearchable(words text) returns text language sql immutable parallel safe as $$
    select translate(words, E'\x01\x02\x03\x04\x05\x06\x07', '_~/@.-:')
$$;

-- The title (A), the text (B), the grams, and a word of our own for the category. Of a text that is too much for a
-- tsvector (1 MB) the beginning is searched.
create function search_vector(language text, title text, body text, category_id uuid) returns tsvector
language plpgsql stable as $$
declare
    config  regconfig := 'callboard_' || language;
    heading text := searchable(title);
    words   text := searchable(left(body, 100000));
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

-- What is asked in web search syntax, for articles of one language. Of the unsplit scripts all runs are wanted.
create function search_query(language text, q text) returns tsquery language sql stable as $$
    with asked as (  -- a hyphen before a word excludes it
        select searchable(regexp_replace(regexp_replace(normalize(q, nfkc), '([^\s"-])-', '\1 ', 'g'), '-', E'\x0e', 'g')) as q
    ), signed as (
        select replace(q, E'\x0e', '-') as q from asked
    ), run as (
        select found[1] as sign, found[2] as run
        from signed, regexp_matches(q, '(-?)"?([' || unsplit_scripts() || ']+)', 'g') as found
    ), gram as (
        select sign, string_agg(quote_literal(substr(run, place, 2)), ' & ') as grams
        from run, generate_series(1, greatest(length(run) - 1, 1)) as place
        group by sign, run
    )
    select websearch_to_tsquery(
            ('callboard_' || language)::regconfig, regexp_replace(q, '[' || unsplit_scripts() || ']+', ' ', 'g'))
        && coalesce(
            (select string_agg(case sign when '-' then '!' else '' end || '(' || grams || ')', ' & ') from gram), ''
           )::tsquery
    from signed
$$;

-- Only published content is searched, so the work is done once, when it is published.
create function fill_search() returns trigger language plpgsql as $$
begin
    if new.status <> 'published' then
        new.search := null;
    elsif tg_op = 'INSERT' or old.search is null
            or (old.title, old.body, old.language) is distinct from (new.title, new.body, new.language) then
        new.search := search_vector(new.language, new.title, new.body, new.category_id);
    elsif old.category_id is distinct from new.category_id then
        new.search := ts_delete(old.search, tsvector_to_array(category_word(old.category_id)))
            || category_word(new.category_id);
    end if;
    return new;
end $$;
    -- What the first release made is searched as it was, until a job has made it anew.
    alter table content alter column search drop expression, add column search_outdated boolean not null default true;
    alter table content alter column search_outdated set default false;

    drop trigger content_touch on content;
    create trigger content_touch before update on content for each row execute function touch_updated_at();
    create trigger content_search before insert or update of title, body, language, category_id, status on content
        for each row execute function fill_search();
