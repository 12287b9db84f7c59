"""The HTTP engine: connections, requests, routing, validation, limits and responses. It knows none of our routes."""
