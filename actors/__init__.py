"""The domain: one module for each actor, with its messages, rules and SQL."""
