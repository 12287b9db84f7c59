"""Dispatch: the cell that runs an actor, its mailbox, the order of turns. It imports no supervisor."""
