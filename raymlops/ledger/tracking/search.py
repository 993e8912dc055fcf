"""The language runs are searched in, read into a tree of values; nothing of it is ever executed.

    params.epochs >= 3 and metrics.log_loss < 0.5 and tags.team in ('a', 'b')

    expression  = conjunction {"or" conjunction}
    conjunction = term {"and" term}
    term        = "not" term | "(" expression ")" | comparison
    comparison  = field ("=" | "!=" | "<" | "<=" | ">" | ">=") value
                | field "in" "(" value {"," value} ")"
    field       = ("params" | "metrics" | "tags") "." name | column
    value       = number | 'text' | true | false

A name that is no plain word stands in double quotes: params."learning rate".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from raymlops.errors import QueryError

GROUPS = ("params", "metrics", "tags")
COLUMNS = ("id", "kind", "model", "parent_id", "commit", "error", "started_at", "ended_at")
OPERATORS = ("=", "!=", "<=", ">=", "<", ">")

Value = float | str | bool


@dataclass(frozen=True)
class Field:
    """A column of runs (`group` ""), or a parameter, a last metric or a tag by name."""

    group: Literal["", "params", "metrics", "tags"]
    name: str

    def __str__(self) -> str:
        return f"{self.group}.{self.name}" if self.group else self.name


@dataclass(frozen=True)
class Comparison:
    """A field held against a value, or with "in" against several."""

    field: Field
    operator: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Not:
    term: Expression


@dataclass(frozen=True)
class Every:
    terms: tuple[Expression, ...]


@dataclass(frozen=True)
class Some:
    terms: tuple[Expression, ...]


Expression = Comparison | Not | Every | Some


@dataclass(frozen=True)
class Order:
    """What runs are sorted by; those without it come last either way."""

    field: Field
    descending: bool


def parse(text: str) -> Expression:
    """Raises QueryError when `text` is no expression; says where and what was expected."""
    reader = _Reader(text)
    expression = reader.expression()
    reader.end()
    return expression


def parse_order(text: str) -> Order:
    """`FIELD`, `FIELD asc` or `FIELD desc`; raises QueryError."""
    reader = _Reader(text)
    field = reader.field()
    descending = reader.take("desc") is not None
    if not descending:
        reader.take("asc")
    reader.end()
    return Order(field, descending)


def fields(expression: Expression) -> Iterator[Field]:
    """Every field that is held against something."""
    match expression:
        case Comparison():
            yield expression.field
        case Not():
            yield from fields(expression.term)
        case Every() | Some():
            for term in expression.terms:
                yield from fields(term)


_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])
    | (?P<text>'(?:[^']|'')*')
    | (?P<quoted>"[^"]+")
    | (?P<word>[A-Za-z_][\w-]*)
    | (?P<mark><=|>=|!=|==|[=<>(),.])
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            rest = text[at:].strip()
            raise QueryError(f"'{text}' cannot be read from '{rest}' on; texts stand in 'quotes'")
        kind = match.lastgroup
        yield _Token(kind, match[kind], match.start(kind))
        at = match.end()
    yield _Token("end", "", len(text))


class _Reader:
    """Recursive descent, one method a rule of the grammar above."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))
        self._next = 0

    def expression(self) -> Expression:
        terms = [self._conjunction()]
        while self.take("or"):
            terms.append(self._conjunction())
        return terms[0] if len(terms) == 1 else Some(tuple(terms))

    def field(self) -> Field:
        word = self._expect("word", "params.NAME, metrics.NAME, tags.NAME or a column").text
        if word in GROUPS:
            self._expect_mark(".")
            return Field(word, self._name())  # type: ignore[arg-type]
        if word == "status":
            raise self._error("status is asked for by itself (--status): it can be 'lost'", -1)
        if word not in COLUMNS:
            raise self._error(
                f"'{word}' is no column; ask for params.NAME, metrics.NAME, tags.NAME, "
                + ", ".join(COLUMNS),
                -1,
            )
        return Field("", word)

    def take(self, *texts: str) -> str | None:
        """The next token, taken if it is one of these words or marks."""
        token = self._tokens[self._next]
        if token.kind in ("word", "mark") and token.text.lower() in texts:
            self._next += 1
            return token.text.lower()
        return None

    def end(self) -> None:
        self._expect("end", "'and', 'or' or the end")

    def _conjunction(self) -> Expression:
        terms = [self._term()]
        while self.take("and"):
            terms.append(self._term())
        return terms[0] if len(terms) == 1 else Every(tuple(terms))

    def _term(self) -> Expression:
        if self.take("not"):
            return Not(self._term())
        if self.take("("):
            inner = self.expression()
            self._expect_mark(")")
            return inner
        return self._comparison()

    def _comparison(self) -> Comparison:
        field = self.field()
        if self.take("in"):
            self._expect_mark("(")
            values = [self._value()]
            while self.take(","):
                values.append(self._value())
            self._expect_mark(")")
            return Comparison(field, "in", tuple(values))
        operator = self.take("==", *OPERATORS)
        if operator is None:
            raise self._error(f"expected one of {' '.join(OPERATORS)} in")
        return Comparison(field, "=" if operator == "==" else operator, (self._value(),))

    def _value(self) -> Value:
        if (literal := self.take("true", "false")) is not None:
            return literal == "true"
        token = self._tokens[self._next]
        if token.kind == "number":
            self._next += 1
            return float(token.text)
        text = self._expect("text", "a number, a 'text', true or false").text
        return text[1:-1].replace("''", "'")

    def _name(self) -> str:
        """Words joined by dots, or one name in double quotes."""
        if self._tokens[self._next].kind == "quoted":
            return self._expect("quoted", "").text[1:-1]
        words = [self._expect("word", "a name").text]
        while self.take("."):
            words.append(self._expect("word", "a name").text)
        return ".".join(words)

    def _expect(self, kind: str, wanted: str) -> _Token:
        token = self._tokens[self._next]
        if token.kind != kind:
            raise self._error(f"expected {wanted} in")
        self._next += 1
        return token

    def _expect_mark(self, mark: str) -> None:
        if self.take(mark) is None:
            raise self._error(f"expected '{mark}' in")

    def _error(self, problem: str, back: int = 0) -> QueryError:
        at = self._tokens[self._next + back].at
        where = f"before '{self._text[at:]}'" if self._text[at:].strip() else "at its end"
        return QueryError(f"{problem}: '{self._text}', {where}")
