"""What the Faust app promises: every record has its fate, once, and nothing is committed before."""

from typing import Any

EFFECTS = "select count(*) from effects"
LETTERS = "select count(*) from dead_letters"


async def test_one_poison_among_a_thousand_is_one_dead_letter_and_999_effects(stage: Any) -> None:
    async with stage.playing("streams"), stage.producer() as send:
        for number in range(1000):
            value, headers = stage.encoded(stage.view(f"s{number % 7}"))
            await send(b"{" if number == 500 else value, headers, key=f"s{number % 7}")
        await stage.until(999, EFFECTS)
        await stage.until(1, LETTERS)
    assert await stage.count(EFFECTS) == 999
