"""Identity: accounts, their sessions, passwords, addresses and personal data."""
