"""The inputs of a request, one after the other: each has a field, and has it once."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from raymlops.errors import SignatureError
from raymlops.models import Field
from raymlops.serve.form import Form
from raymlops.serve.protocols.datatypes import accepted
from raymlops.serve.protocols.documents import shown


def field_of(name: str, form: Form, seen: Container[str]) -> Field:
    """Raises SignatureError when there is no such input, or it was `seen` before."""
    if name in seen:
        raise SignatureError(name, "given twice")
    if name not in form.inputs:
        known = ", ".join(sorted(form.inputs))
        raise SignatureError(name, f"unknown; the model takes {known}")
    return form.inputs[name]


def check_datatype(field: Field, datatype: Any) -> str:
    """Raises SignatureError when values of `datatype` do not fit the field."""
    if not isinstance(datatype, str) or datatype not in accepted(field):
        raise SignatureError(field.name, f"has datatype {shown(datatype)}, not {field.datatype}")
    return datatype
