"""Columns from JSON that names them: a list for each input, or a record for each row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from raymlops.data import Column
from raymlops.errors import RequestError, SignatureError
from raymlops.models import Field
from raymlops.serve.form import Form
from raymlops.serve.protocols.documents import kind_of, mapping, shown
from raymlops.serve.protocols.json_tensors import read_json
from raymlops.serve.protocols.shapes import Shape

Unwrap = Callable[[Field, list[Any]], list[Any]]
"""What a protocol makes of the values of a field before they are looked at one by one."""

_LISTS = {list}
_NO_CONTEXT: Mapping[str, Any] = {}


def as_they_are(_: Field, values: list[Any]) -> list[Any]:
    return values


def columns_of_lists(
    values: Mapping[str, Any], form: Form, *, is_strict: bool, unwrap: Unwrap = as_they_are
) -> Mapping[str, Column]:
    """Checked columns of {input: [a value for each row]}; an input that may be missing need not
    be named.

    Args:
        is_strict: whether the values were strictly JSON, see `documents.load`.

    Raises:
        RequestError: 400, naming the field at fault.
    """
    if is_strict and values.keys() == form.inputs.keys():
        lists = [values[name] for name in form.names]
        if set(map(type, lists)) == _LISTS:
            columns = form.read(lists, len(lists[0]))
            if columns is not None:
                return columns
    return _read_each(values, form, unwrap)


def columns_of_records(
    records: Sequence[Any],
    form: Form,
    *,
    is_strict: bool,
    unwrap: Unwrap = as_they_are,
    context: Mapping[str, Any] = _NO_CONTEXT,
) -> Mapping[str, Column]:
    """Checked columns of [{input: value}, ...], a record for each row; what a record does not
    name is as `context` has it, else missing.

    Raises:
        RequestError: 400, naming the row or the field at fault.
    """
    if is_strict and not context and (columns := _read_plain(records, form)) is not None:
        return columns
    if not records:
        raise RequestError(400, "there are no rows")
    names = dict.fromkeys(context)
    for row, record in enumerate(records):
        if not isinstance(record, dict):
            raise RequestError(400, f"row {row} is {kind_of(record)}, not an object")
        names.update(dict.fromkeys(record))
    # Before a list of all rows is made for each name: a small body can name thousands.
    form.check_names(names)
    lists = {name: [record.get(name, context.get(name)) for record in records] for name in names}
    return columns_of_lists(lists, form, is_strict=is_strict, unwrap=unwrap)


def _read_plain(records: Sequence[Any], form: Form) -> Mapping[str, Column] | None:
    """The columns of records that name all inputs and nothing else."""
    try:
        if set(map(len, records)) != {len(form.names)}:
            return None
        rows = list(map(itemgetter(*form.names), records))
    except (KeyError, TypeError):
        return None
    values = [rows] if len(form.names) == 1 else list(zip(*rows, strict=True))
    return form.read(values, len(records))


def _read_each(values: Mapping[str, Any], form: Form, unwrap: Unwrap) -> dict[str, Column]:
    form.check_names(values)
    columns: dict[str, Column] = {}
    try:
        for name, data in values.items():
            columns[name] = _column(form.inputs[name], data, unwrap)
    except SignatureError as error:
        raise RequestError(400, str(error)) from error
    columns = form.completed(columns)
    form.check(columns)
    return columns


def _column(field: Field, data: Any, unwrap: Unwrap) -> Column:
    """A list of rows, of which one value may lie in a list of its own."""
    if not isinstance(data, list):
        wanted = ", not a list with a value for each row"
        raise SignatureError(field.name, "is ", shown(data), wanted)
    if not data:
        raise SignatureError(field.name, "has no rows")
    of_column = (len(data), *_shape_of(field, data))
    is_wrapped = not field.shape and isinstance(data[0], list)
    given = (len(data), 1) if is_wrapped else of_column
    return read_json(field, Shape(given, of_column), field.datatype, unwrap(field, data))


def _shape_of(field: Field, data: list[Any]) -> tuple[int, ...]:
    """The field's; of rows of any length, that of the first.

    Raises:
        SignatureError: one is no list, or of another length than the first.
    """
    if not field.is_free:
        return field.shape
    for row, values in enumerate(data):
        if not isinstance(values, list):
            raise SignatureError(field.name, f"row {row} is ", shown(values), ", not a list")
        if not values or len(values) != len(data[0]):
            raise SignatureError(
                field.name,
                f"row {row} has {len(values)} values, row 0 has {len(data[0])}; those of one "
                "request have the same number, at least one: ask with the others apart",
            )
    return (len(data[0]), *field.shape[1:])


def named(values: Any, form: Form, where: str) -> Mapping[str, Any]:
    """`values` by the name of their input, which need not be given when there is only one."""
    if not isinstance(values, dict) and len(form.names) == 1:
        return {form.names[0]: values}
    return mapping(values, where)
