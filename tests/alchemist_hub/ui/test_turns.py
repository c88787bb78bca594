"""The line of those who want to paint: order, estimates, leaving."""

import time

import pytest

from alchemist_hub.ui.turns import MOST_WAITING, Turns


def test_first_come_first_served_and_leaving_moves_the_others_up() -> None:
    turns = Turns()
    with turns.join("mini", 20) as first:
        with turns.join("mini", 20) as second, turns.join("mini", 20) as third:
            assert [turns.before(turn) for turn in (first, second, third)] == [0, 1, 2]
        assert turns.busy()
        with turns.join("mini", 20) as late:
            assert turns.before(late) == 1
    assert not turns.busy()


def test_whoever_fails_leaves_the_line() -> None:
    turns = Turns()
    with pytest.raises(ZeroDivisionError), turns.join("mini", 20):
        raise ZeroDivisionError
    assert not turns.busy()


def test_the_wait_is_what_the_last_comparisons_took_a_step() -> None:
    turns = Turns()
    with turns.join("mini", 20), turns.join("mini", 10), turns.join("mini", 20) as third:
        assert turns.wait(third) is None  # nothing was measured yet
        turns.learn("mini", 20, 4.0)
        assert turns.wait(third) == pytest.approx(0.2 * 20 + 0.2 * 10)
        turns.learn("mini", 10, 4.0)
        assert turns.left(third) == pytest.approx(0.3 * 20)


def test_what_is_being_painted_counts_down_and_never_below_nothing() -> None:
    turns = Turns()
    turns.learn("mini", 20, 4.0)
    with turns.join("mini", 20) as first, turns.join("mini", 20) as second:
        first.begun = time.monotonic() - 3
        assert turns.wait(second) == pytest.approx(1.0, abs=0.5)
        first.begun -= 100
        assert turns.wait(second) == 0


def test_an_unmeasured_pair_ahead_leaves_the_wait_open() -> None:
    turns = Turns()
    turns.learn("mini", 20, 4.0)
    with turns.join("sdxl", 50), turns.join("mini", 20) as second:
        assert turns.wait(second) is None


def test_the_line_is_bounded() -> None:
    turns = Turns()
    places = [turns.join("mini", 20) for _ in range(MOST_WAITING + 2)]
    joined = [place.__enter__() for place in places]
    assert joined[-1] is None and joined[-2] is not None
    for place in places:
        place.__exit__(None, None, None)
    assert not turns.busy()
