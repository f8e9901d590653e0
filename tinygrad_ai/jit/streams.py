"""Random numbers that are not this library's: a capture draws them once, and then nobody does."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tinygrad_ai.errors import GraphError


class Stream(NamedTuple):
    """A generator of random numbers: how its state is read and set, and what it was."""

    name: str
    get: Callable[[], Any]
    set: Callable[[Any], Any]
    then: bytes


class Streams:
    """The generators of Python and NumPy, and those ``among`` some objects, as they are now."""

    def __init__(self, among: Iterable[Any]) -> None:
        self._known: list[Stream] = []
        self._note("Python's random numbers", random.getstate, random.setstate)
        self._note("NumPy's random numbers", np.random.get_state, np.random.set_state)
        for x in among:
            if isinstance(x, random.Random):
                self._note("a random.Random", x.getstate, x.setstate)
            elif isinstance(x, np.random.RandomState):
                self._note("a NumPy RandomState", x.get_state, x.set_state)
            elif isinstance(x, np.random.Generator):
                bits = x.bit_generator
                ways = partial(getattr, bits, "state"), partial(setattr, bits, "state")
                self._note("a NumPy Generator", *ways)

    def _note(self, name: str, get: Callable[[], Any], set_: Callable[[Any], Any]) -> None:
        self._known.append(Stream(name, get, set_, pickle.dumps(get())))

    def check(self) -> None:
        """Raise GraphError where numbers were drawn since; they are given back."""
        drawn = [s for s in self._known if pickle.dumps(s.get()) != s.then]
        for stream in drawn:
            stream.set(pickle.loads(stream.then))
        if drawn:
            raise GraphError(
                f"jit: the function draws from {drawn[0].name}, which a compiled step would not do "
                "again",
                "   help: draw from tinygrad_ai.random, or pass the numbers as arguments",
                "   help: if another thread drew them, call the step once before that begins",
            )
