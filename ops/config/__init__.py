"""The configuration: what settings there are, where they come from, and how they are reloaded."""
