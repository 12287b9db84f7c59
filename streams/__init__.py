"""Kafka: the topics, the events they carry, their codec, the outbox and its relay, the Faust app that reads them."""
