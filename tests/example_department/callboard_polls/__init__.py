"""Polls for Callboard: a package outside of it, which plugs in by two entry points."""
