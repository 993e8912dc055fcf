"""The messages beside those that protoc made."""

from __future__ import annotations

import subprocess

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from raymlops.serve.protocols.open_inference.grpc.messages import request_class
from raymlops.serve.protocols.open_inference.grpc.proto import parse_proto
from tests.servers import triton_client

_PROTOC_MADE = (
    "import sys; from google.protobuf.descriptor_pb2 import FileDescriptorProto; "
    "from tritonclient.grpc import service_pb2; file = FileDescriptorProto(); "
    "service_pb2.DESCRIPTOR.CopyToProto(file); "
    "sys.stdout.buffer.write(file.SerializeToString())"
)


def test_messages_are_those_that_protoc_made() -> None:
    done = subprocess.run(
        [triton_client.python(), "-c", _PROTOC_MADE], capture_output=True, check=True
    )
    theirs = FileDescriptorProto.FromString(done.stdout)
    known = {message.name: message for message in theirs.message_type}
    methods = {method.name: method for method in theirs.service[0].method}
    file = FileDescriptorProto()
    request_class("ModelInfer").DESCRIPTOR.file.CopyToProto(file)
    assert file.package == theirs.package
    metadata = next(each for each in file.message_type if each.name == "ModelMetadataResponse")
    assert metadata.nested_type[0].field.pop().name == "parameters"  # MLServer's, not Triton's
    metadata.nested_type[0].nested_type.clear()
    for message in file.message_type:
        wanted = known[message.name]
        fields = {field.name: field for field in wanted.field}
        assert [fields[field.name] for field in message.field] == list(message.field)
        assert list(message.nested_type) == [
            each
            for each in wanted.nested_type
            if each.name in {nested.name for nested in message.nested_type}
        ]
        assert message.oneof_decl == wanted.oneof_decl
    for method in file.service[0].method:
        assert (method.input_type, method.output_type) == (
            methods[method.name].input_type,
            methods[method.name].output_type,
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("enum A { B = 0; }", "'enum' is not expected"),
        ("message A { int64 b 1; }", "'1' where '=' belongs"),
        ("service S { stream A }", "'stream' in service S"),
    ],
)
def test_a_proto_beyond_the_parser_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_proto(text, "x.proto")
