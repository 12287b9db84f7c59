-- The search of published content.

-- name: plan_search()!
-- Called in the transaction of a search: its rows come by an index, even if the statistics suggest otherwise.
select set_config('enable_seqscan', 'off', true), set_config('work_mem', '16MB', true);

-- name: search_content(q, languages, category_id, recent, enough, matches, candidates, rank, before_id, limit)
-- Best match first, at a cost that does not grow with the number of matches. `asked` is the part of the query that an
-- index can answer, in any language: without exclusions, and with phrases as words. The newest `recent` articles are
-- read one by one. If `enough` of them match, the words are common and no others are searched; if not, the index is
-- asked, for `matches` rows at most. The newest `candidates` of both are matched against the whole query, in their own
-- language, and ranked. Snippets are made for the rows of the page only, from the beginning of the text. The caller
-- makes them safe, and replaces U+E000 by <mark> and U+E001 by </mark>.
with in_language as materialized (
    select language, ('callboard_' || language)::regconfig as config, search_query(language, :q) as query
    from unnest(:languages::text[]) as language
    union all  -- articles of an earlier release keep its search until they are refilled
    select 'outdated', 'pg_catalog.english'::regconfig, websearch_to_tsquery('pg_catalog.english', :q)
    where exists (select from content where search_outdated)
), words as (
    select distinct regexp_replace(querytree(query), '<(-|[0-9]+)>', '&', 'g') as words from in_language
), asked as materialized (
    select (string_agg('(' || words || ')', ' | '))::tsquery && case
        when :category_id::uuid is null or exists (select from in_language where language = 'outdated') then ''::tsquery
        else quote_literal('category:' || :category_id::uuid)::tsquery end as query
    from words where words not in ('', 'T')
), newest as materialized (
    select content_id, published_at from (
        select content_id, published_at, category_id, search from content
        where status = 'published' and (select query from asked) is not null
        order by published_at desc, content_id desc limit :recent) as recent
    where search @@ (select query from asked) and (:category_id::uuid is null or category_id = :category_id)
), others as materialized (
    select content_id, published_at from content
    where status = 'published' and search @@ (select query from asked) and (select count(*) from newest) < :enough
      and (:category_id::uuid is null or category_id = :category_id)
    limit :matches
), candidates as materialized (
    select content_id from (select * from newest union select * from others) as either
    order by published_at desc, content_id desc limit :candidates
), texts as materialized (
    select text.* from candidates cross join lateral (  -- the limit keeps the planner from joining with all content
        select content_id, author_id, category_id, title, body, language, published_at, search,
               case when search_outdated then 'outdated' else language end as searched_as
        from content where content.content_id = candidates.content_id limit 1) as text
), page as (
    select content_id, author_id, category_id, title, body, texts.language, published_at, config, query, rank
    from texts join in_language on in_language.language = searched_as
        cross join lateral (select ts_rank(search, query)::float8 as rank) as ranked
    where search @@ query and (:rank::float8 is null or (rank, content_id) < (:rank, :before_id::uuid))
    order by rank desc, content_id desc
    limit :limit
), run as (
    select (regexp_match(normalize(:q, nfkc), '[' || unsplit_scripts() || ']+'))[1] as run
), beginning as (
    select page.*, run, searchable(translate(left(body, 5000), E'\ue000\ue001', '')) as words from page, run
), bare as (
    select *, regexp_replace(unsearchable(words), '<[^>]*>', '', 'g') as bare from beginning
)
select content_id, author_id, category_id, title, language, published_at, rank,
       case when strpos(bare, run) > 0  -- the parser finds no words in scripts without spaces
           then replace(substr(bare, greatest(strpos(bare, run) - 60, 1), 200), run, E'\ue000' || run || E'\ue001')
           else unsearchable(left(ts_headline(config, words, query,
                E'StartSel=\ue000, StopSel=\ue001, MaxFragments=2, MaxWords=25, MinWords=8'), 2000))
       end as snippet
from bare
order by rank desc, content_id desc;
