"""TLS ends at the door, by the files as they are now."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest

from raymlops.errors import ConfigError
from raymlops.serve.door.tls import TlsFiles
from tests.serve.coroutines import until
from tests.serve.door.conftest import make_certificate
from tests.serve.door.world import INFER, Run, World


def test_tls_ends_at_the_door_and_plain_connections_are_refused(
    certificate: tuple[Path, Path], run: Run
) -> None:
    async def test(world: World) -> None:
        await world.encrypt(TlsFiles(certificate=certificate[0], key=certificate[1]))
        await world.replica("one", "flights")
        await world.replica("two", "trains")
        trusted = ssl.create_default_context(cafile=str(certificate[0]))
        async with world.encrypted_client(trusted) as client:
            for model, wanted in (("flights", "one"), ("trains", "two"), ("flights", "one")):
                answer = await client.post(INFER.format(model), content=b"!" * 1_000_000)
                assert answer.text == wanted + "!" * 1_000_000
        async with world.client() as client:
            with pytest.raises(httpx.TransportError):
                await client.get(INFER.format("flights"))

    run(test)


def validity(port: int, trusted: ssl.SSLContext) -> dict[str, float]:
    """Of the certificate that a client is shown, as it reads it."""
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        trusted.wrap_socket(plain, server_hostname="localhost") as encrypted,
    ):
        shown: Any = encrypted.getpeercert()
    return {
        name: ssl.cert_time_to_seconds(shown[key])
        for name, key in (("since", "notBefore"), ("until", "notAfter"))
    }


def test_a_renewed_certificate_is_taken_and_a_broken_one_is_told(
    tmp_path: Path, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """Until the cluster was started anew, clients were shown the one that had run out."""
    certificate, key = make_certificate(tmp_path)
    first = certificate.read_bytes()

    async def test(world: World) -> None:
        door = await world.encrypt(TlsFiles(certificate=certificate, key=key))
        await world.replica("one", "flights")

        async def shown() -> bytes:
            host = ("127.0.0.1", world.port)
            return (await asyncio.to_thread(ssl.get_server_certificate, host)).encode()

        trusted = ssl.create_default_context(cafile=str(certificate))
        async with world.encrypted_client(trusted) as client:
            assert (await client.get(INFER.format("flights"))).text == "one"
            assert await shown() == first
            seen = await asyncio.to_thread(validity, world.port, trusted)
            assert door.standing()["certificate"] == {"file": str(certificate), **seen}
            certificate.write_bytes(first[:200])
            await until(lambda: door.standing()["problem"] is not None)
            assert await shown() == first
            told = "the certificate of before is used, the new one cannot be: TLS with certificate"
            assert door.standing()["problem"].startswith(f"{told} {certificate}")
            make_certificate(tmp_path)
            await until(lambda: door.standing()["problem"] is None)
            assert await shown() == certificate.read_bytes() != first
            renewed = ssl.create_default_context(cafile=str(certificate))
            seen = await asyncio.to_thread(validity, world.port, renewed)
            assert door.standing()["certificate"] == {"file": str(certificate), **seen}
            assert (await client.get(INFER.format("flights"))).text == "one"  # as it began

    run(test)
    assert "the certificate of before is used, the new one cannot be" in caplog.text


def test_a_door_that_is_back_waits_for_files_that_fit(
    tmp_path: Path, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """One that died while the files were broken never came back, also when they were mended."""
    certificate, key = make_certificate(tmp_path)
    tls = TlsFiles(certificate=certificate, key=key)

    async def test(world: World) -> None:
        first = await world.encrypt(tls)
        one = await world.replica("one", "flights")
        certificate.write_bytes(b"")
        first.close()
        world.doors.remove(first)
        back = await world.open(tls)
        told = f"nobody is let in until the files fit: TLS with certificate {certificate}"
        assert back.standing()["problem"].startswith(told)
        assert back.standing()["certificate"]["until"] is None
        with pytest.raises(ConfigError, match="nobody is let in"):
            back.card("127.0.0.1", "elsewhere")
        await until(lambda: one.doorway._held != {})
        async with world.encrypted_client(verify=False) as client:
            with pytest.raises(httpx.TransportError):
                await client.get(INFER.format("flights"))
            make_certificate(tmp_path)
            await until(lambda: back.standing()["problem"] is None)
            await until(lambda: back.standing()["replicas"] != [])
            assert (await client.get(INFER.format("flights"))).text == "one"
            assert back.card("127.0.0.1", "elsewhere").entrance.certificate

    run(test)
    assert "nobody is let in until the files fit" in caplog.text


def test_tls_files_that_do_not_fit_are_refused(certificate: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match=r"TLS with certificate .*: "):
        TlsFiles(certificate=certificate[1], key=certificate[0]).context()
