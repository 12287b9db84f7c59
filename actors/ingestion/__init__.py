"""Ingestion: the keys of producers, and the events that they send over HTTP."""
