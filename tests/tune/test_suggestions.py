from __future__ import annotations

from dataclasses import replace

import pytest

from raymlops.tune import TuneSpec
from raymlops.tune.suggestions import Suggestions, Tried

SPEC = TuneSpec()


def trials(suggestions: Suggestions, count: int) -> list[Tried]:
    """So many trials, one at a time; the sixth fails."""
    ended = []
    for _ in range(count):
        number, parameters = suggestions.next()
        rate, dropout = parameters["learning_rate"], parameters["dropout"]
        loss = None if number == 5 else (dropout - 0.2) ** 2 + 100.0 * rate
        suggestions.end(number, loss)
        outcome = "failed" if loss is None else "finished"
        ended.append(Tried(number=number, parameters=parameters, outcome=outcome, loss=loss))  # type: ignore[arg-type]
    return ended


@pytest.mark.parametrize("num_known", [0, 4, 11, 17])
def test_what_is_known_gives_the_suggestions_of_an_undisturbed_search(num_known: int) -> None:
    """Beyond the tenth, the losses so far decide what is suggested."""
    undisturbed = trials(Suggestions(SPEC, seed=3), 20)
    known = undisturbed[:num_known]
    rest = trials(Suggestions(SPEC, seed=3, tried=known), 20 - num_known)
    assert known + rest == undisturbed
    assert [each.number for each in undisturbed] == list(range(20))


def test_what_was_cut_off_is_suggested_again_under_its_number() -> None:
    tried = trials(Suggestions(SPEC, seed=3), 7)
    cut_off = replace(tried[4], outcome="cut off", loss=None)
    again = Suggestions(SPEC, seed=3, tried=[*tried[:4], cut_off, *tried[5:]])
    assert again.next() == (4, dict(tried[4].parameters))
    assert again.next()[0] == 7


def test_a_number_that_died_before_it_was_recorded_draws_the_same_again() -> None:
    tried = trials(Suggestions(SPEC, seed=3), 7)
    again = Suggestions(SPEC, seed=3, tried=[*tried[:2], *tried[4:]])
    assert [again.next() for _ in range(2)] == [
        (each.number, dict(each.parameters)) for each in tried[2:4]
    ]


def test_numbers_and_seeds_draw_apart() -> None:
    drawn = [Suggestions(SPEC, seed=seed).next()[1]["dropout"] for seed in (-1, 0, 1)]
    drawn += [each.parameters["dropout"] for each in trials(Suggestions(SPEC, seed=2), 10)]
    assert len(set(drawn)) == 13
