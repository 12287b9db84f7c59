"""A bank: an entity for each account, and one for each transfer, which neither loses nor makes money.

A transfer takes from one account, gives to the other, and gives back what the other refused. An account books a number
once: a transfer that was cut short is asked for again, with its number, and goes on where it stopped.
"""

import asyncio
from dataclasses import dataclass, field

from callboard.runtime import (
    Actor,
    Entities,
    Intensity,
    KeyedProps,
    Ref,
    Refusal,
    Request,
    System,
    entities,
    on,
    supervisor,
)


class Balance(Request[int], frozen=True):
    account: str


class Book(Request[int], frozen=True):
    """Add cents to an account, or take them; once for each number."""

    account: str
    number: str
    cents: int


class Transfer(Request[None], frozen=True):
    """Move cents from one account to another."""

    number: str
    source: str
    target: str
    cents: int


class AccountClosedError(Refusal):
    """The account takes nothing."""


class NotEnoughError(Refusal):
    """The account has less."""


@dataclass
class Row:
    """An account as it is kept; a real bank has a table, and writes balance and number in one transaction."""

    cents: int = 0
    closed: bool = False
    booked: set[str] = field(default_factory=set)


class Account(Actor[Balance | Book]):
    """One account: whoever books waits for its turn here."""

    def __init__(self, name: str, ledger: dict[str, Row]) -> None:
        self.name = name
        self.ledger = ledger

    async def on_start(self) -> None:
        self.row = self.ledger.setdefault(self.name, Row())

    @on(Balance)
    def balance(self, _message: Balance) -> int:
        return self.row.cents

    @on(Book)
    def book(self, message: Book) -> int:
        if message.number not in self.row.booked:
            if self.row.closed:
                raise AccountClosedError(f"{self.name} is closed")
            if self.row.cents + message.cents < 0:
                raise NotEnoughError(f"{self.name} has {self.row.cents} cents")
            self.row.cents += message.cents
            self.row.booked.add(message.number)
        return self.row.cents


class Teller(Actor[Transfer]):
    """One transfer."""

    def __init__(self, _number: str, accounts: Ref[Book]) -> None:
        self.accounts = accounts

    @on(Transfer)
    async def transfer(self, message: Transfer) -> None:
        await self.accounts.ask(Book(message.source, f"{message.number} out", -message.cents))
        try:
            await self.accounts.ask(Book(message.target, f"{message.number} in", message.cents))
        except Refusal:
            await self.accounts.ask(Book(message.source, f"{message.number} back", message.cents))
            raise


def bank(ledger: dict[str, Row]) -> tuple[Entities[Balance | Book], Entities[Transfer]]:
    """The accounts and the transfers over a ledger."""
    accounts = entities(
        "accounts", KeyedProps(Account, ledger), key=lambda message: message.account, idle_s=60, limit=10_000
    )
    transfers = entities(
        "transfers",
        KeyedProps(Teller, accounts),
        key=lambda message: message.number,
        idle_s=1,
        limit=10_000,
        intensity=Intensity(100, 60),
    )
    return accounts, transfers


async def main() -> None:
    """Move some money."""
    ledger = {"ada": Row(100), "eve": Row(closed=True)}
    accounts, transfers = bank(ledger)
    async with System(supervisor("root", accounts, transfers)):
        await asyncio.gather(*(transfers.ask(Transfer(str(n), "ada", "bob", 10)) for n in range(5)))
        for refused in (Transfer("too much", "ada", "bob", 1000), Transfer("closed", "ada", "eve", 10)):
            try:
                await transfers.ask(refused)
            except Refusal as refusal:
                print(refusal)  # noqa: T201 - what it is for
    print({name: row.cents for name, row in ledger.items()})  # noqa: T201 - the same


if __name__ == "__main__":
    asyncio.run(main())
