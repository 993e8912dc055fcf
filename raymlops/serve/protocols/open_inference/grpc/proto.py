"""Messages made from a .proto file as it is imported, without a compiler or generated code.

Of the language, what protocol definitions without options need: messages within messages, fields,
`repeated`, `map`, `oneof` and services of unary calls.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "double": _Field.TYPE_DOUBLE,
    "float": _Field.TYPE_FLOAT,
    "int64": _Field.TYPE_INT64,
    "uint64": _Field.TYPE_UINT64,
    "int32": _Field.TYPE_INT32,
    "uint32": _Field.TYPE_UINT32,
    "bool": _Field.TYPE_BOOL,
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
}
_COMMENT = re.compile(r"//[^\n]*")
_TOKEN = re.compile(r'"[^"]*"|[\w.]+|\S')


def message_classes(text: str, name: str) -> Mapping[str, type[Any]]:
    """The classes of the messages at the top of the .proto `text`, by their name.

    They live in a pool of their own, so that other packages may bring the same messages.
    """
    file = parse_proto(text, name)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        message.name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{file.package}.{message.name}")
        )
        for message in file.message_type
    }


def parse_proto(text: str, name: str) -> descriptor_pb2.FileDescriptorProto:
    """The descriptor that protoc would make of `text`.

    Raises:
        ValueError: it holds what this parser does not know.
    """
    return _Parser(_TOKEN.findall(_COMMENT.sub("", text))).file(name)


class _Parser:
    def __init__(self, tokens: list[str]) -> None:
        self._tokens = iter(tokens)
        self._package = ""

    def file(self, name: str) -> descriptor_pb2.FileDescriptorProto:
        file = descriptor_pb2.FileDescriptorProto(name=name)
        for token in self._tokens:
            match token:
                case "syntax":
                    self._expect("=")
                    file.syntax = next(self._tokens).strip('"')
                    self._expect(";")
                case "package":
                    file.package = self._package = next(self._tokens)
                    self._expect(";")
                case "message":
                    self._message(file.message_type.add())
                case "service":
                    self._service(file.service.add())
                case _:
                    raise ValueError(f"{name}: {token!r} is not expected here")
        for message in file.message_type:
            _resolve(message, (file.package,), file)
        return file

    def _message(self, message: Any) -> None:
        message.name = next(self._tokens)
        for token in self._body():
            match token:
                case "message":
                    self._message(message.nested_type.add())
                case "oneof":
                    self._oneof(message)
                case "map":
                    self._map(message)
                case "repeated":
                    self._field(message, next(self._tokens), _Field.LABEL_REPEATED)
                case _:
                    self._field(message, token, _Field.LABEL_OPTIONAL)

    def _field(self, message: Any, kind: str, label: int) -> Any:
        name = next(self._tokens)
        self._expect("=")
        number = int(next(self._tokens))
        self._expect(";")
        field = message.field.add(name=name, number=number, label=label)
        if kind in _SCALARS:
            field.type = _SCALARS[kind]
        else:
            field.type, field.type_name = _Field.TYPE_MESSAGE, kind
        return field

    def _map(self, message: Any) -> None:
        """`map<K, V> f = 1;` is a repeated message of pairs."""
        self._expect("<")
        key = next(self._tokens)
        self._expect(",")
        value = next(self._tokens)
        self._expect(">")
        field = self._field(message, "", _Field.LABEL_REPEATED)
        entry = message.nested_type.add(name=f"{_pascal(field.name)}Entry")
        field.type_name = entry.name
        entry.options.map_entry = True
        for number, (name, kind) in enumerate((("key", key), ("value", value)), start=1):
            pair = entry.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL)
            if kind in _SCALARS:
                pair.type = _SCALARS[kind]
            else:
                pair.type, pair.type_name = _Field.TYPE_MESSAGE, kind

    def _oneof(self, message: Any) -> None:
        index = len(message.oneof_decl)
        message.oneof_decl.add(name=next(self._tokens))
        for kind in self._body():
            self._field(message, kind, _Field.LABEL_OPTIONAL).oneof_index = index

    def _service(self, service: Any) -> None:
        service.name = next(self._tokens)
        for token in self._body():
            if token != "rpc":
                raise ValueError(f"{token!r} in service {service.name} is not expected")
            method = service.method.add(name=next(self._tokens))
            method.input_type = self._argument()
            self._expect("returns")
            method.output_type = self._argument()
            method.options.SetInParent()  # as protoc takes the empty braces
            for _ in self._body():
                raise ValueError(f"{method.name} has options")

    def _argument(self) -> str:
        self._expect("(")
        name = next(self._tokens)
        self._expect(")")
        return f".{self._package}.{name}"

    def _body(self) -> Iterator[str]:
        self._expect("{")
        while (token := next(self._tokens)) != "}":
            yield token

    def _expect(self, wanted: str) -> None:
        found = next(self._tokens)
        if found != wanted:
            raise ValueError(f"{found!r} where {wanted!r} belongs")


def _resolve(message: Any, scope: tuple[str, ...], file: Any) -> None:
    """Completes the names of messages: those within the message, else those at the top."""
    own = (*scope, message.name)
    nested = {each.name for each in message.nested_type}
    for field in message.field:
        if field.type == _Field.TYPE_MESSAGE:
            where = own if field.type_name in nested else (file.package,)
            field.type_name = ".".join(("", *where, field.type_name))
    for each in message.nested_type:
        _resolve(each, own, file)


def _pascal(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))
