"""Shared by the tests: the domain played on real servers, whole processes, and doubles of what is outside."""
