"""The doctor: checks of everything around a process, each with its remedy."""
