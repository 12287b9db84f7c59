-- name: add_petition(letter, email, traceparent, most)$
-- The same work for every address, and no lock that the work on another one could hold. Nothing comes back when too
-- many wait.
insert into petitions (letter, email, traceparent)
select :letter, :email, :traceparent
where :most::bigint > (select count(*) from (select from petitions limit :most) as waiting)
returning true;

-- name: claim_petition(lease_s, ttl_s)^
-- Of any number of clerks exactly one gets a row; the claim lapses when it is not taken in time.
update petitions set due_at = now() + make_interval(secs => :lease_s)
where petition_id = (
    select petition_id from petitions
    where due_at <= now() and created_at > now() - make_interval(secs => :ttl_s)
    order by due_at limit 1 for update skip locked)
returning petition_id, traceparent;

-- name: take_petition(petition_id)^
-- For the transaction that answers it; nothing comes back for one whose claim had lapsed, and was answered meanwhile.
delete from petitions where petition_id = :petition_id returning letter, email;
