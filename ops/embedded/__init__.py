"""The servers that `callboard up` runs by itself, from wheels alone.

They are PostgreSQL, Valkey, a Kafka-protocol broker and an SMTP catcher. Import from the modules: `data_directory`, and
`servers` (all four, ready to be supervised).
"""
