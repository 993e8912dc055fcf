from __future__ import annotations

import math

import pytest
from sqlalchemy import event

from raymlops.errors import NotFoundError, QueryError
from raymlops.ledger import Code, Ledger
from raymlops.ledger.tracking.search import Comparison, Every, Field, Not, Some, parse


@pytest.fixture
def runs(ledger: Ledger) -> Ledger:
    """a: 0.5 then 0.3, b: 0.4, c: NaN, d: nothing logged, e: failed with the smallest."""
    for name, params, losses, tags in (
        ("a", {"epochs": 3, "optimiser": "adam", "early": True}, [0.5, 0.3], {"team": "a"}),
        ("b", {"epochs": 5, "optimiser": "sgd"}, [0.4], {"team": "b", "learning rate": "high"}),
        ("c", {"epochs": 7.5, "optimiser": "it's"}, [math.nan], {}),
        ("d", {}, [], {"team": "a"}),
        ("e", {"epochs": 1}, [-1.0], {}),
    ):
        run = ledger.runs.start(
            kind="train", model="m", params=params, code=Code(commit=name, dirty_digest=None),
            config="", environment="", inputs={},
        )  # fmt: skip
        for step, loss in enumerate(losses):
            ledger.runs.log(run.id, {"log_loss": loss}, step=step)
        ledger.runs.tag(run.id, tags)
        if name == "e":
            ledger.runs.fail(run.id, "too good")
        else:
            ledger.runs.finish(run.id)
    return ledger


def found(ledger: Ledger, where: str, order_by: str | None = None) -> str:
    return "".join(run.code.commit for run in ledger.runs.list(where=where, order_by=order_by))


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("params.epochs >= 3", "abc"),
        ("params.epochs >= 3 and metrics.log_loss < 0.5 and tags.team = 'a'", "a"),
        ("metrics.log_loss < 0.4", "ae"),  # the last value counts, not the best
        ("metrics.log_loss != 0.4", "ae"),  # neither NaN nor nothing compares
        ("not metrics.log_loss < 0.4", "bcd"),
        ("metrics.log_loss > -2", "abe"),
        ("params.optimiser in ('adam', 'it''s')", "ac"),
        ("params.optimiser = 3", ""),
        ("params.early = true", "a"),
        ("params.epochs in (1, 7.5)", "ce"),
        ("tags.\"learning rate\" = 'high'", "b"),
        ("tags.team == 'a' or (params.epochs < 2 and not tags.team = 'a')", "ade"),
        ("commit >= 'd'", "de"),
        ("started_at > '2024-01-01' and ended_at < '9000-01-01T00:00Z'", "abcde"),
        ("error = 'too good'", "e"),
        ("not error = 'too good'", "abcd"),
        ("metrics.log_loss < 1e-1", "e"),
    ],
)
def test_runs_are_found_by_what_they_were_given_and_gave(
    runs: Ledger, where: str, names: str
) -> None:
    assert found(runs, where) == names


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("metrics.log_loss", "eabcd"),
        ("metrics.log_loss desc", "baecd"),
        ("params.epochs desc", "cbaed"),
        ("params.optimiser", "acbde"),
        ("tags.team asc", "adbce"),
        ("started_at desc", "edcba"),
    ],
)
def test_runs_are_sorted_and_those_without_come_last(runs: Ledger, order: str, names: str) -> None:
    assert found(runs, "model = 'm'", order) == names


def test_a_limit_holds_for_every_status(runs: Ledger) -> None:
    assert len(runs.runs.list(limit=2)) == 2
    assert [run.code.commit for run in runs.runs.list(status="finished", limit=1)] == ["a"]
    assert [run.code.commit for run in runs.runs.list(status="failed")] == ["e"]
    assert runs.runs.list(kind="tune") == []


def test_expressions_are_read_by_the_grammar() -> None:
    def equals(name: str) -> Comparison:
        return Comparison(Field("tags", name), "=", ("x",))

    assert parse("tags.a = 'x' or not tags.b.c = 'x' and tags.d = 'x'") == Some(
        (equals("a"), Every((Not(equals("b.c")), equals("d"))))
    )
    assert parse("( (params.p <= -1.5e3) )") == Comparison(Field("params", "p"), "<=", (-1500.0,))


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        ("", "expected params.NAME, metrics.NAME, tags.NAME or a column in: '', at its end"),
        ("params.epochs", "expected one of = != <= >= < > in: 'params.epochs', at its end"),
        ("params.epochs > 3 metrics.x < 1", "expected 'and', 'or' or the end in"),
        ("loss < 3", "'loss' is no column; ask for params.NAME, metrics.NAME, tags.NAME, id"),
        ("status = 'lost'", "status is asked for by itself"),
        ("metrics.loss < 'low'", "metrics.loss is a number, 'low' a text"),
        ("tags.team = 3", "tags.team is a text: write '3' in quotes, not 3"),
        ("started_at > 'soon'", "started_at is a time, 'soon' is none; write '2013-06-15'"),
        ("params.a in (1, 'x')", "params.a is held against numbers and texts at once"),
        ('params.a = "x"', "expected a number, a 'text', true or false in"),
        ("params.a > 3; DROP TABLE runs", "cannot be read from '; DROP TABLE runs' on"),
        ("__import__('os').system('x') = 1", "'__import__' is no column"),
        ("(params.a > 3", "expected ')' in"),
        ("params.a = 'open", "cannot be read from ''open' on"),
    ],
)
def test_what_cannot_be_understood_is_an_error_that_says_where(
    ledger: Ledger, where: str, problem: str
) -> None:
    with pytest.raises(QueryError) as refused:
        ledger.runs.list(where=where)
    assert problem in str(refused.value)


def test_names_and_values_never_become_part_of_a_statement(runs: Ledger) -> None:
    evil = "x'; DROP TABLE metrics; --"
    statements: list[str] = []
    event.listen(
        runs.database._engine,
        "before_cursor_execute",
        lambda _c, _u, statement, *_: statements.append(statement),
    )
    quoted = evil.replace("'", "''")
    for group in ("params", "metrics", "tags"):
        value = "1" if group == "metrics" else f"'{quoted}'"
        assert (
            runs.runs.list(where=f'{group}."{evil}" = {value}', order_by=f'{group}."{evil}"') == []
        )
    assert runs.runs.list(where=f"id = '{quoted}'", model=evil, kind=evil) == []
    with pytest.raises(NotFoundError):
        runs.runs.best(evil, minimize=True)
    assert statements
    assert not any("DROP" in statement for statement in statements)
    assert found(runs, "metrics.log_loss < 0.4") == "ae"


def test_the_best_run_needs_a_direction_and_is_never_nan(runs: Ledger) -> None:
    best = runs.runs.best
    assert best("log_loss", minimize=True).code.commit == "a"  # e failed
    assert best("log_loss", maximize=True).code.commit == "b"
    assert best("log_loss", minimize=True, where="params.epochs > 3").code.commit == "b"
    for wrong in ({}, {"maximize": True, "minimize": True}, {"maximize": False}):
        with pytest.raises(ValueError, match="needs maximize=True or minimize=True"):
            best("log_loss", **wrong)
    with pytest.raises(NotFoundError, match="no finished run has a value of 'f1'; there are: log"):
        best("f1", maximize=True)
    misspelt = r"value of 'log_loss', but none of where 'params.epoch > 3'; parameters .*: .*epochs"
    with pytest.raises(NotFoundError, match=misspelt):
        best("log_loss", minimize=True, where="params.epoch > 3")


def test_of_equal_runs_the_first_is_best(runs: Ledger) -> None:
    for commit in ("first", "second"):
        run = runs.runs.start(
            kind="train", model="n", params={}, code=Code(commit=commit, dirty_digest=None),
            config="", environment="", inputs={},
        )  # fmt: skip
        runs.runs.log(run.id, {"auc": 0.5})
        runs.runs.finish(run.id)
    assert runs.runs.best("auc", maximize=True).code.commit == "first"
    assert runs.runs.best("auc", minimize=True).code.commit == "first"


def test_a_name_that_no_run_has_is_told_with_those_there_are_the_likest_first(runs: Ledger) -> None:
    found = runs.runs.unknown(
        where="params.epoch > 1 or not (tags.teem = 'a' and params.epochs = 3)", order_by="model"
    )
    assert [str(each) for each in found] == [
        "no run has params.epoch; params there are: epochs, early, optimiser",
        "no run has tags.teem; tags there are: team, learning rate",
    ]
    (unknown,) = runs.runs.unknown(order_by="metrics.auc desc")
    assert str(unknown) == "no run has metrics.auc; metrics there are: log_loss"
