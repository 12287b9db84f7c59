-- name: list_categories(after, limit)
select category_id, slug, name, description, version, created_at, updated_at
from categories where deleted_at is null and slug > :after
order by slug
limit :limit;

-- name: category_by_slug(slug)^
select category_id, slug, name, description, version, created_at, updated_at
from categories where deleted_at is null and slug = :slug;

-- name: category_by_id(category_id)^
select category_id, slug, name, description, version, created_at, updated_at
from categories where deleted_at is null and category_id = :category_id;

-- name: unaccented(name)$
select unaccent(normalize(:name::text, nfkc));

-- name: lock_categories()!
-- Who adds one waits for another who does: neither would count the other's.
lock table categories in share row exclusive mode;

-- name: is_full(most)$
select count(*) >= :most from (select from categories where deleted_at is null limit :most) as counted;

-- name: add_category(category_id, slug, name, description)^
-- No row if the slug is taken; a taken name is an error.
insert into categories (category_id, slug, name, description) values (:category_id, :slug, :name, :description)
on conflict (slug) where deleted_at is null do nothing
returning category_id, slug, name, description, version, created_at, updated_at;

-- name: replace_category(slug, name, description, category_id, version)^
update categories set slug = :slug, name = :name, description = :description, version = version + 1
where category_id = :category_id and version = :version and deleted_at is null
returning category_id, slug, name, description, version, created_at, updated_at;

-- name: delete_category(category_id, version)^
update categories set deleted_at = now(), version = version + 1
where category_id = :category_id and version = :version and deleted_at is null
returning category_id, slug, name, description, version, created_at, updated_at;
