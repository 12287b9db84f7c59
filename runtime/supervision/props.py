"""Props: an actor class with its constructor's arguments, checked by type checkers as a call of the class would be."""

import inspect
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from callboard.runtime.actor.actor import Actor
from callboard.runtime.actor.handlers import Handlers
from callboard.runtime.actor.messages import Message

P = ParamSpec("P")
M = TypeVar("M", bound=Message | None)

ActorFactory = Callable[..., Actor[Any]]


class Props(Generic[M]):
    """A recipe for an actor: `Props(Users, database, page_size=20)`. Each start and restart makes a new one.

    Raises TypeError for what is no Actor class, and for arguments that its constructor does not take: where the tree is
    composed, and not at the first start.
    """

    __slots__ = ("args", "kind", "kwargs", "make")

    def __init__(self, kind: Callable[P, Actor[M]], /, *args: P.args, **kwargs: P.kwargs) -> None:
        self.kind = actor_class(kind)
        _bind(self.kind, len(args), tuple(kwargs))
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = kwargs
        # Constructs the actor. The class itself where that is enough: an idle actor holds nothing more.
        self.make: ActorFactory = partial(self.kind, *args, **kwargs) if args or kwargs else self.kind

    @property
    def handlers(self) -> Handlers:
        """Those of the class."""
        return self.kind.handlers  # type: ignore[no-any-return]


class KeyedProps(Generic[M]):
    """The recipe for the actors of `entities`: the constructor takes the key before the arguments that stand here."""

    __slots__ = ("args", "kind", "kwargs")

    def __init__(self, kind: Callable[Concatenate[Any, P], Actor[M]], /, *args: P.args, **kwargs: P.kwargs) -> None:
        self.kind = actor_class(kind)
        _bind(self.kind, 1 + len(args), tuple(kwargs))
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = kwargs

    @property
    def handlers(self) -> Handlers:
        """Those of the class."""
        return self.kind.handlers  # type: ignore[no-any-return]

    def make_for(self, key: object) -> Actor[M]:
        """Construct the actor of a key."""
        return self.kind(key, *self.args, **self.kwargs)  # type: ignore[no-any-return]


def actor_class(kind: Any) -> Any:
    """The class itself. Raises TypeError for anything else."""
    if not (isinstance(kind, type) and issubclass(kind, Actor)):
        raise TypeError(f"Props takes an Actor class and its constructor's arguments, not {kind!r}")
    return kind


@lru_cache(maxsize=1024)
def _bind(kind: Any, count: int, names: tuple[str, ...]) -> None:
    """Hold a class against so many arguments and those of these names; once, for that takes longer than a start."""
    try:
        inspect.signature(kind).bind(*(None,) * count, **dict.fromkeys(names))
    except TypeError as error:
        raise TypeError(f"{kind.__name__} cannot be made of these arguments: {error}") from None


def props_of(kind: "Props[M] | Callable[[], Actor[M]]") -> Props[M]:
    """Props, or those of a class that needs no arguments."""
    return kind if isinstance(kind, Props) else Props(kind)
