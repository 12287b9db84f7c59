"""The domain: one module an actor, with its messages, its rules and its SQL."""
