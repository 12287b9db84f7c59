"""The HTTP engine: connections, requests, routing, validation, limits and responses. It knows no route of ours."""
