"""Pairs in memory: loaded once, the oldest leaving before a new one comes."""

import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from alchemist_hub.ui.shelf import Shelf


class Weights:
    """Something that can be seen to leave memory."""


def test_a_thing_is_loaded_once_however_many_ask() -> None:
    shelf, loads = Shelf(), []
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: shelf.take("a", 1, lambda: loads.append(1) or Weights()), range(32)))
    assert len(loads) == 1 and len(set(map(id, taken))) == 1


def test_the_one_not_used_for_longest_leaves_before_another_is_loaded() -> None:
    shelf = Shelf(room=10)
    gone = weakref.ref(shelf.take("a", 5, Weights))
    shelf.take("b", 5, Weights)
    kept = weakref.ref(shelf.take("b", 5, Weights))
    alive_while_loading = []
    shelf.take("c", 5, lambda: alive_while_loading.append(gone()) or Weights())
    assert alive_while_loading == [None]
    assert kept() is not None and shelf.names() == ("b", "c")


def test_one_that_is_larger_than_the_room_stands_alone() -> None:
    shelf = Shelf(room=10)
    shelf.take("a", 5, Weights)
    shelf.take("huge", 50, Weights)
    assert shelf.names() == ("huge",)


def test_what_fails_to_load_can_be_asked_for_again() -> None:
    shelf = Shelf()
    with pytest.raises(ZeroDivisionError):
        shelf.take("a", 1, lambda: 1 // 0)
    assert isinstance(shelf.take("a", 1, Weights), Weights)
