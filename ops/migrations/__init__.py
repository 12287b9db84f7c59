"""Changes of the schema, in order: Alembic runs them, and they contain raw SQL only.

An empty database gets schema.sql at once, which equals the result of all migrations; a test compares the two.
"""
