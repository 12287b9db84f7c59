"""The stash: messages that an actor has put aside, until it takes them back."""

from typing import Any


class Stash:
    """Messages in the order they were put aside. `aside` is the one in progress, if it has just been put there."""

    __slots__ = ("aside", "items")

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.aside: Any = None

    def __len__(self) -> int:
        return len(self.items)

    def put(self, item: Any) -> None:
        """Put the message in progress aside."""
        self.items.append(item)
        self.aside = item

    def holds(self, item: Any) -> bool:
        """Whether a message is here."""
        return any(each is item for each in self.items)

    def remove(self, item: Any) -> None:
        """Take one out; harmless if it is not here."""
        self.items = [each for each in self.items if each is not item]
        if self.aside is item:
            self.aside = None

    def take_all(self) -> list[Any]:
        """Empty it."""
        items, self.items = self.items, []
        return items
