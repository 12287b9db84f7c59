alter table users drop constraint users_full_name_check,
                  add constraint users_full_name_check check (length(full_name) between 1 and 255);

-- RFC 3492, 6.3. An address of the first release has its domain in Unicode, valid by IDNA 2008, in lower case and NFC.
create function pg_temp.punycode(label text) returns text language plpgsql immutable as $$
declare
    points int[] := array(select ascii(each) from regexp_split_to_table(label, '') as each);
    basic text := regexp_replace(label, '[^\x01-\x7f]', '', 'g');
    digits constant text := 'abcdefghijklmnopqrstuvwxyz0123456789';
    handled int := length(basic);
    first_delta boolean := true;
    result text; n int := 128; delta int := 0; bias int := 72; next_n int; point int; q int; k int; t int; d int;
begin
    if handled = length(label) then
        return label;
    end if;
    result := 'xn--' || case when handled > 0 then basic || '-' else '' end;
    while handled < array_length(points, 1) loop
        select min(each) into next_n from unnest(points) as each where each >= n;
        delta := delta + (next_n - n) * (handled + 1);
        n := next_n;
        foreach point in array points loop
            if point < n then
                delta := delta + 1;
            elsif point = n then
                q := delta;
                k := 36;
                loop
                    t := least(greatest(k - bias, 1), 26);
                    exit when q < t;
                    result := result || substr(digits, t + (q - t) % (36 - t) + 1, 1);
                    q := (q - t) / (36 - t);
                    k := k + 36;
                end loop;
                result := result || substr(digits, q + 1, 1);
                d := case when first_delta then delta / 700 else delta / 2 end;
                d := d + d / (handled + 1);
                k := 0;
                while d > 455 loop
                    d := d / 35;
                    k := k + 36;
                end loop;
                bias := k + 36 * d / (d + 38);
                first_delta := false;
                delta := 0;
                handled := handled + 1;
            end if;
        end loop;
        delta := delta + 1;
        n := n + 1;
    end loop;
    return result;
end $$;

create function pg_temp.canonical_email(email text) returns text language sql immutable as $$
    select split_part(trimmed, '@', 1) || '@' || (
        select string_agg(pg_temp.punycode(label), '.' order by place)
        from regexp_split_to_table(lower(normalize(split_part(trimmed, '@', 2), nfc)), '\.')
             with ordinality as labels (label, place))
    from (select btrim(email) as trimmed) as given
$$;

-- An address whose canonical form somebody has, or is too long, stays as it is: an admin can change it. Those that are
-- proved go first, then the older ones.
do $$
declare
    account record;
begin
    for account in
        select user_id, pg_temp.canonical_email(email) as canonical from users
        where email ~ '[^\x01-\x7f]|@.*[A-Z]|^\s|\s$' and email ~ '^[^@]+@[^@]+$'
        order by is_verified desc, created_at, user_id
    loop
        begin
            update users set email = account.canonical
            where user_id = account.user_id and email <> account.canonical and length(account.canonical) <= 254;
        exception when unique_violation then
            null;
        end;
    end loop;
end $$;

update mail_tokens set email = pg_temp.canonical_email(email)
where email ~ '^[^@]+@[^@]*[^\x01-\x7f][^@]*$' and length(pg_temp.canonical_email(email)) <= 254;

-- A letter is sent only to the address that its account has.
update mails m set recipient = u.email from users u
where m.status in ('queued', 'sending') and m.recipient ~ '[^\x01-\x7f]' and m.recipient ~ '^[^@]+@[^@]+$'
  and u.deleted_at is null and u.email = pg_temp.canonical_email(m.recipient);
