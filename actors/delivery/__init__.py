"""Delivery: mail, from the request to the SMTP server, and the notices that events cause."""
