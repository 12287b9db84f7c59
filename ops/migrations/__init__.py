"""Changes of the schema, one after the other: Alembic runs them, raw SQL is all that is in them.

An empty database gets schema.sql at once, which is what all migrations together make; a test compares the two.
"""
