"""For testing actors, and what is built of them.

- `VirtualTimeLoop`: a clock that jumps, so that hours pass in milliseconds, always the same way.
- `Probe`: stands for an actor, remembers what it is told, answers as scripted.
- `EventRecorder`: waits for lifecycle events.
- `SeededLoop`, `run`, `seeds`: schedules drawn from a seed; the one that fails says how to replay it.
- `stress`: races the starts, stops, kills, restarts and resizes of your tree.

    @pytest.fixture
    def anyio_backend():
        return "asyncio", {"loop_factory": VirtualTimeLoop}

    @pytest.mark.parametrize("seed", seeds(100))
    def test_nobody_is_served_twice(seed):
        run(scenario, seed)         # async def scenario(): ...
"""

from callboard.runtime.testkit.probe import EventRecorder, Probe
from callboard.runtime.testkit.seeded import SeededLoop
from callboard.runtime.testkit.stress import LeftOverError, nodes, run, seeds, stress
from callboard.runtime.testkit.virtual_time import StuckError, VirtualTimeLoop

Watch = EventRecorder  # the name that it had

__all__ = [
    "EventRecorder",
    "LeftOverError",
    "Probe",
    "SeededLoop",
    "StuckError",
    "VirtualTimeLoop",
    "Watch",
    "nodes",
    "run",
    "seeds",
    "stress",
]
