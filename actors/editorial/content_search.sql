-- The search of published content.

-- name: plan_search()!
-- It opens the transaction of a search: its rows come by an index, even if the statistics suggest otherwise, and its
-- statements are planned once.
select set_config('enable_seqscan', 'off', true), set_config('work_mem', '16MB', true),
       set_config('plan_cache_mode', 'force_generic_plan', true), set_config('client_min_messages', 'warning', true),
       set_config('pg_trgm.similarity_threshold', '0.2', true);

-- name: plan_within_times()!
-- Times are conditions of the index, which are planned with their values.
select set_config('plan_cache_mode', 'force_custom_plan', true);

-- name: completions(word, read, most)
-- The lexemes of the shortest words that begin with a word.
select distinct lexeme from (
    select word, lexeme from (
        select word, lexeme from search_words
        where word >= search_word(:word) collate "C" and word < (search_word(:word) || chr(1114109)) collate "C"
        order by word limit :read) as beginning
    order by length(word), word limit :most) as shortest;

-- name: similar_words(words, most)
-- The words whose trigrams are most like those of each word; the caller judges their spelling.
select asked, search_word(asked) as word, known.word as similar, known.lexeme
from unnest(:words::text[]) as asked cross join lateral (
    select word, lexeme from search_words
    where word % search_word(asked) and length(word) between length(asked) - 2 and length(asked) + 2
    order by similarity(word, search_word(asked)) desc, word limit :most) as known;

-- name: matching_content(q, words, lexemes, runs, author_id, category_id, tag, since, until, months, recent, enough, latest, max_months, examined, candidates)^
-- The ids of matches with their ranks from 0 to 1, at a cost that does not grow with the number of matches. `asked` is
-- the part of the query that an index can answer, in any language: without exclusions, and with phrases as words. The
-- newest `recent` articles are read one by one. If `enough` of them match, the words are common and no others are
-- searched. If so many match that the newest `latest` articles should have all `candidates`, the index is asked for the
-- months of as many as should have half as many again. If they have too few, or few match, it is asked for all articles,
-- or for those of `months` if the times are narrow. At most `examined` matches are read each time. The newest
-- `candidates` of all are matched against the whole query, in their own language, and ranked. The text search ranks no
-- word of an unsplit script: its place in the title does.
with in_language as materialized (
    select language, widen_query(language, search_query(language, :q), :words::text[], :lexemes::text[]) as query
    from search_languages
    union all  -- articles of an earlier release keep its search until they are refilled
    select 'outdated', websearch_to_tsquery('pg_catalog.english', :q)
    where exists (select from content where search_outdated and status = 'published')
), words as (
    select distinct regexp_replace(querytree(query), '<(-|[0-9]+)>', '&', 'g') as words from in_language
), filters as (
    select case when exists (select from in_language where language = 'outdated') then ''::tsquery
        else all_of(filter_words(:author_id, :category_id, array_remove(array[:tag::text], null))) end as query
), asked as materialized (
    select (string_agg('(' || words || ')', ' | '))::tsquery && (select query from filters) as query
    from words where words not in ('', 'T')
), newest as materialized (
    select content_id, published_at, language, title, search, search_outdated from (
        select content_id, published_at, language, title, search, search_outdated, author_id, category_id, tags
        from content
        where status = 'published' and (select query from asked) is not null
          and (:since::timestamptz is null or published_at >= :since)
          and (:until::timestamptz is null or published_at < :until)
        order by published_at desc, content_id desc limit :recent) as recent
    where search @@ (select query from asked)
      and (:author_id::uuid is null or author_id = :author_id)
      and (:category_id::uuid is null or category_id = :category_id)
      and (:tag::text is null or :tag = any (tags))
), matched as materialized (
    select count(*) as count, max(published_at) as until from newest
), near as materialized (
    select oldest.published_at as since,
           array(select generate_series(month_of(oldest.published_at), month_of(matched.until))) as months
    from matched cross join (
        select published_at from content
        where status = 'published' and (:since::timestamptz is null or published_at >= :since)
          and (:until::timestamptz is null or published_at < :until)
        order by published_at desc, content_id desc
        offset (select least(:latest, 3 * :candidates * :recent::bigint / greatest(2 * count, 1)) from matched)
        limit (select case when count < :enough and count * :latest >= :candidates * :recent::bigint then 1 else 0 end
               from matched)) as oldest
), newer as materialized (
    select content_id, published_at, language, title, search, search_outdated from (
        select content_id, published_at, language, title, search, search_outdated from content
        where status = 'published' and search @@ (select query from asked)
          and (select cardinality(months) <= :max_months from near)
          and month_of(published_at) = any ((select months from near)::integer[])
          and (:author_id::uuid is null or author_id = :author_id)
          and (:category_id::uuid is null or category_id = :category_id)
          and (:tag::text is null or :tag = any (tags))
        limit :examined) as examined
    where published_at >= (select since from near) and (:until::timestamptz is null or published_at < :until)
      and content_id not in (select content_id from newest)
), others as materialized (
    select content_id, published_at, language, title, search, search_outdated from (
        select content_id, published_at, language, title, search, search_outdated from content
        where status = 'published' and search @@ (select query from asked)
          and (select count < :enough and count + (select count(*) from newer) < :candidates from matched)
          and (:months::integer[] is null or month_of(published_at) = any (:months))
          and (:author_id::uuid is null or author_id = :author_id)
          and (:category_id::uuid is null or category_id = :category_id)
          and (:tag::text is null or :tag = any (tags))
        limit :examined) as examined
    where (:since::timestamptz is null or published_at >= :since)
      and (:until::timestamptz is null or published_at < :until)
      and content_id not in (select content_id from newest union all select content_id from newer)
), candidates as materialized (
    select content_id, language, title, (array[search])[1] as search, search_outdated  -- a copy is read only once
    from (
        select * from newest union all select * from newer union all select * from others
        order by published_at desc, content_id desc limit :candidates
    ) as chosen
), ranked as (
    select content_id, max(points / (points + 1)) as rank
    from candidates join in_language on in_language.language = candidates.language
            or (search_outdated and in_language.language = 'outdated')
        cross join lateral (
            select ts_rank(search, query)::float8 + (
                select 0.5 * count(*) from unnest(:runs::text[]) as run where strpos(normalize(title, nfkc), run) > 0
            ) as points
            where search @@ query offset 0) as pointed  -- after the languages are compared, which costs less
    group by content_id
)
select array_agg(content_id) as content_ids, array_agg(rank) as ranks from ranked;

-- name: content_of_page(content_ids, beginning)
-- The rows of a page, with the beginnings of their texts.
select s.*, coalesce((select visible from comment_counts n where n.content_id = s.content_id), 0) as comment_count,
       (select left(body, :beginning) from content where content_id = s.content_id) as body
from content_summaries s
where content_id = any(:content_ids::uuid[]) and status = 'published';

-- name: highlighted(q, words, lexemes, languages, titles, texts)
-- U+E000 and U+E001 enclose the matches; the caller removes each U+000F.
with in_language as materialized (
    select language, ('callboard_' || language)::regconfig as config,
           widen_query(language, search_query(language, :q), :words::text[], :lexemes::text[]) as query
    from (select distinct unnest(:languages::text[]) as language) as languages
)
select ts_headline(config, highlightable(title), query, options) as title,
       ts_headline(config, highlightable(text), query, options) as text
from unnest(:languages::text[], :titles::text[], :texts::text[]) with ordinality as page (language, title, text, place)
join in_language using (language)
cross join (select E'StartSel=\ue000, StopSel=\ue001, HighlightAll=true') as options (options)
order by place;

-- name: facets(content_ids)
-- For each category, author, tag and language the number of these articles.
with counted as materialized (
    select * from content_summaries where content_id = any(:content_ids::uuid[]) and status = 'published'
)
select 'categories' as facet, category_slug as value, min(category_name) as name, count(*)
from counted where category_slug is not null group by category_slug
union all
select 'authors', author_id::text, min(author_name), count(*) from counted group by author_id
union all
select 'tags', tag, tag, count(*) from counted, unnest(tags) as tag group by tag
union all
select 'languages', language, language, count(*) from counted group by language
order by facet, count desc, name, value;

-- name: purge_search_words(limit, days)$
-- Words that no published article has any more are deleted; each is checked again after `days`.
with due as materialized (
    select word, language, lexeme from search_words where checked_at < now() - make_interval(days => :days)
    order by checked_at limit :limit for update skip locked
), used as materialized (
    select word, language from due
    where exists (select from content where status = 'published' and search @@ quote_literal(lexeme)::tsquery)
), kept as (
    update search_words set checked_at = now() from used
    where search_words.word = used.word and search_words.language = used.language
), gone as (
    delete from search_words using due
    where search_words.word = due.word and search_words.language = due.language
      and not exists (select from used where used.word = due.word and used.language = due.language)
)
select count(*) from due;
