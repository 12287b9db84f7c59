create function keep_seconds_apart() returns trigger language plpgsql as $$
begin
    if date_trunc('second', new.updated_at) <= date_trunc('second', old.updated_at) then
        new.updated_at := date_trunc('second', old.updated_at) + interval '1 second';
    end if;
    return new;
end $$;

create trigger content_touch_apart before update of status, version, published_at on content
    for each row when (old.published_at is not null) execute function keep_seconds_apart();
