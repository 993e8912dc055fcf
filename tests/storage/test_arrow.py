from __future__ import annotations

from pathlib import Path

from raymlops.storage import Files, arrow_place
from tests.servers.seaweedfs import S3Server


def test_keys_are_apart_from_the_path(s3_server: S3Server) -> None:
    uri = s3_server.uri("models/arrow/here")
    path, filesystem = arrow_place(uri)
    assert path == "models/arrow/here"
    assert filesystem is not None
    with filesystem.open_output_stream(f"{path}/note.txt") as stream:
        stream.write(b"written by Arrow")
    assert Files(uri).read("note.txt") == b"written by Arrow"


def test_what_holds_no_keys_stays_as_it_is(s3_server: S3Server, tmp_path: Path) -> None:
    for uri in (str(tmp_path), f"file://{tmp_path}", s3_server.uri("models", keys=False)):
        assert arrow_place(uri) == (uri, None)
