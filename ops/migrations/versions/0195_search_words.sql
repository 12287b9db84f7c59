-- Every article is outdated: the default of a new column is that of all rows, and no row is written.
drop trigger content_search on content;
alter table content drop column search_outdated;
alter table content add column search_outdated boolean not null default true;
alter table content alter column search_outdated set default false;

create or replace function unsplit_scripts() returns text language sql immutable parallel safe as $$
    select '\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf'
        || '\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff\u2600-\u27bf\U0001f000-\U0001faff'
$$;

create function signs() returns text language sql immutable parallel safe as $$
    select '\u00a1-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u00d7\u00f7\u055a-\u055f\u0589\u060c\u061b\u061f\u066a-\u066d'
        || '\u06d4\u0964\u0965\u200b\u2010-\u205e\u2190-\u25ff\u27c0-\u2bff\u2e00-\u2e7f\u3001-\u3004\u3008-\u3020\u3030\ufe0e\ufe0f'
$$;

create or replace function searchable(words text) returns text language sql immutable parallel safe as $$
    select regexp_replace(normalize(words, nfkc), '[' || signs() || '_~/@.:\x01-\x07-]', ' ', 'g')
$$;

create function highlightable(words text) returns text language sql immutable parallel safe as $$
    select regexp_replace(
        words, '([' || unsplit_scripts() || ']+|[' || signs() || '_~/@.:-]+)', E'\x0f\\1\x0f', 'g')
$$;

drop function unsearchable;

create function without_tags(words text) returns text language sql immutable parallel safe as $$
    select regexp_replace(words, '</?[a-zA-Z][^<>]*>', ' ', 'g')
$$;

create or replace function search_vector(language text, title text, body text, category_id uuid) returns tsvector
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

create or replace function search_query(language text, q text) returns tsquery language plpgsql stable as $$
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

create table search_languages (
    language text primary key
);
insert into search_languages values ('english');   -- the default of an article

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

create function filter_words(author_id uuid, category_id uuid, tags text[]) returns tsvector
language sql immutable parallel safe as $$
    select array_to_tsvector(array_remove(
        array['author:' || author_id, 'category:' || category_id] || array(select 'tag:' || tag from unnest(tags) as tag),
        null))
$$;

create function all_of(words tsvector) returns tsquery language sql immutable parallel safe as $$
    select coalesce(string_agg(
        '''' || replace(replace(word, '\', '\\'), '''', '''''') || '''', ' & '), '')::tsquery
    from unnest(tsvector_to_array(words)) as word
$$;

create or replace function fill_search() returns trigger language plpgsql as $$
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

create trigger content_search before insert or update of
    title, body, language, author_id, category_id, tags, status, search_outdated
    on content for each row execute function fill_search();

insert into search_languages select distinct language from content where status = 'published' on conflict do nothing;
insert into jobs (kind, priority, max_attempts, payload)
select 'search_refill', 2, 20, '{}'
where exists (select from content where status = 'published') and not exists (select from jobs where kind = 'search_refill');
