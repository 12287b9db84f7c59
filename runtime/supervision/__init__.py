"""The tree: supervisors, pools and entities, the system at its root, and what watches over it."""
