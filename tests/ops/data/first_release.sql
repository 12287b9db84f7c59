-- Rows as the first release made them, in every table. Migrations are run over them.
insert into users (user_id, email, password_hash, full_name, role, is_verified, is_active, deleted_at) values
    ('00000000-0000-0000-0000-000000000001', 'Ada@Example.org', '$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA', 'Ada Lovelace', 'member', true, true, null),
    ('00000000-0000-0000-0000-000000000002', 'grace@example.org', '$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA', 'Grace Hopper', 'editor', true, true, null),
    ('00000000-0000-0000-0000-000000000003', 'new@example.org', '$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA', 'N', 'member', false, true, null),
    ('00000000-0000-0000-0000-000000000004', 'gone@example.org', 'x', 'Gone', 'member', true, true, now() - interval '90 days'),
    ('00000000-0000-0000-0000-000000000005', 'boss@example.org', '$2b$12$abcdefghijklmnopqrstuuJ3u4WmjLBd0lvHN0iTDZ3uTMzEmdr2W', 'Boss', 'admin', true, true, null);
insert into user_profiles (user_id, avatar_url, bio, preferences) values
    ('00000000-0000-0000-0000-000000000001', 'https://example.org/a.png', 'Writes.', '{"theme": "dark"}'),
    ('00000000-0000-0000-0000-000000000002', null, null, '{}');
insert into sessions (session_id, user_id, device, ip, expires_at) values
    ('10000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000001', 'Firefox', '192.0.2.1', now() + interval '30 days');
insert into refresh_tokens (refresh_hash, session_id, spent_at, child_hash) values
    ('\x01', '10000000-0000-0000-0000-000000000001', now(), '\x02'),
    ('\x02', '10000000-0000-0000-0000-000000000001', null, null);
insert into mail_tokens (token_id, user_id, purpose, token_hash, email, expires_at) values
    ('20000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000003', 'verify_email', '\x11', null, now() + interval '1 day'),
    ('20000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000001', 'change_email', '\x12', 'ada@example.com', now() + interval '1 day'),
    ('20000000-0000-0000-0000-000000000003', '00000000-0000-0000-0000-000000000001', 'export', '\x13', null, now() + interval '1 day'),
    ('20000000-0000-0000-0000-000000000004', '00000000-0000-0000-0000-000000000002', 'export', '\x14', null, now() + interval '1 day');
insert into petitions (letter, email, traceparent) values ('reset_password', 'grace@example.org', null);
insert into exports (export_id, user_id, status, attempts, archive) values
    ('20000000-0000-0000-0000-000000000003', '00000000-0000-0000-0000-000000000001', 'queued', 1, null),
    ('20000000-0000-0000-0000-000000000004', '00000000-0000-0000-0000-000000000002', 'ready', 1, '\x504b');
insert into categories (category_id, slug, name) values
    ('30000000-0000-0000-0000-000000000001', 'news', 'News'),
    ('30000000-0000-0000-0000-000000000002', 'street', 'Straße'),
    ('30000000-0000-0000-0000-000000000003', 'same-street', 'STRASSE');
insert into content (content_id, author_id, category_id, title, body, body_html, status, published_at)
select ('40000000-0000-0000-0000-00000000000' || number)::uuid, '00000000-0000-0000-0000-000000000001',
    '30000000-0000-0000-0000-000000000001', 'An article ' || number, '<p>Text</p>', '<p>Text</p>', status,
    case when status in ('published', 'archived') then now() end
from (values (1, 'draft'), (2, 'pending'), (3, 'approved'), (4, 'published'), (5, 'archived')) as c (number, status);
insert into content_transitions (content_id, actor_id, action, from_status, to_status, note) values
    ('40000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000001', 'submit_for_review', 'draft', 'pending', null),
    ('40000000-0000-0000-0000-000000000003', '00000000-0000-0000-0000-000000000002', 'approve', 'pending', 'approved', 'Good');
insert into comments (content_id, author_id, body, body_html) values
    ('40000000-0000-0000-0000-000000000004', '00000000-0000-0000-0000-000000000002', 'Well said', 'Well said');
insert into subscriptions (user_id, plan, status, renews_at) values
    ('00000000-0000-0000-0000-000000000001', 'pro', 'active', now() + interval '1 month'),
    ('00000000-0000-0000-0000-000000000002', 'basic', 'cancelled', now() + interval '1 month');
insert into aggregated_stats (metric, subject_id, hour, sum, count) values
    ('views', '40000000-0000-0000-0000-000000000004', date_trunc('hour', now(), 'UTC'), 7, 7);
insert into feature_flags (name, is_on) values ('enable_new_ui', true), ('rate_limit_strict', false);
insert into feature_flag_overrides (name, user_id, is_on) values
    ('enable_new_ui', '00000000-0000-0000-0000-000000000001', false);
insert into outbox (event_id, topic, key, type, value, published_at) values
    ('50000000-0000-0000-0000-000000000001', 'content.v1', '40000000-0000-0000-0000-000000000004', 'content.published', '{}', now()),
    ('50000000-0000-0000-0000-000000000002', 'mail.v1', '00000000-0000-0000-0000-000000000001', 'letter.requested', '{}', null);
insert into consumed_events (consumer, source, event_id) values
    ('notifier', 'callboard', '50000000-0000-0000-0000-000000000001');
insert into dead_letters (fingerprint, consumer, topic, partition, "offset", key, value, reason, detail) values
    ('\x21', 'aggregator', 'activity.v1', 0, 7, 'k', 'not JSON', 'malformed', 'JSON is malformed');
insert into idempotency_keys (name, fingerprint, new_id, claim_id, lapses_at, expires_at) values
    ('\x31', '\x32', gen_random_uuid(), gen_random_uuid(), now(), now() + interval '1 day');
insert into mails (mail_id, recipient, letter, data, status, attempts, expires_at, sent_at) values
    ('60000000-0000-0000-0000-000000000001', 'grace@example.org', 'content_published', '{"title": "A", "content_id": "40000000-0000-0000-0000-000000000004", "note": "", "full_name": "Grace"}', 'queued', 1, now() + interval '1 hour', null),
    ('60000000-0000-0000-0000-000000000002', 'ada@example.org', '', '{"subject": "Hi", "text": "Hello", "html": ""}', 'sent', 1, now(), now()),
    ('60000000-0000-0000-0000-000000000003', 'ada@example.org', '', '{"subject": "Hi", "text": "Hello", "html": ""}', 'dead', 3, now(), null);
