"""Kafka: topics, events, their codec, the outbox and its relay, and the Faust app that reads them."""
