"""Locks for what several Python threads share."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager


def lock_across_forks() -> AbstractContextManager[bool]:
    """A re-entrant lock. A fork waits for it, so that no child is born with the lock held."""
    lock = threading.RLock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
        )
    return lock


class Turn:
    """One thread at a time trains a model, or reads or changes all of its state. Training takes its
    next turn at once, step after step: who waits for it to read goes first."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._waiting: list[None] = []  # one for each thread that waits or reads

    def to_train(self) -> AbstractContextManager[bool]:
        """A turn of training."""
        if self._waiting:
            self._let_pass()
        return self._lock

    @contextmanager
    def to_read(self) -> Iterator[None]:
        """A turn of reading or changing the state."""
        self._waiting.append(None)
        try:
            with self._lock:
                yield
        finally:
            self._waiting.pop()

    def _let_pass(self) -> None:
        for _ in range(50):  # not for ever: the calling thread may have the turn already
            if not self._waiting:
                return
            time.sleep(1e-4)
