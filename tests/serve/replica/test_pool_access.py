"""Keys and origins, by model of a pool."""

from __future__ import annotations

from pathlib import Path

from raymlops.serve.access import ApiKey, Keyring, digest_of
from raymlops.serve.web.cors import CorsPolicy
from raymlops.telemetry import Series, Snapshot
from tests.serve.conftest import World
from tests.serve.replica.wards import Ward, run


def test_a_key_is_good_for_the_models_it_names(wards: World, tmp_path: Path) -> None:
    keys_file = tmp_path / "keys.json"
    Keyring(keys_file).add(ApiKey(name="one", digest=digest_of("rml_one"), models=("ward-1",)))

    async def test(ward: Ward) -> None:
        key = {"x-api-key": "rml_one"}
        assert (await ward.ask("ward-1")).status_code == 401
        assert (await ward.ask("ward-0", headers=key)).status_code == 403
        assert (await ward.ask("ward-1", headers=key)).status_code == 200
        assert ward.held == {"ward-1"}

    series: list[Series] = []

    async def outlet(snapshot: Snapshot) -> None:
        series.extend(snapshot.series)

    run(wards, test, keys_file=keys_file, outlet=outlet)
    assert {each.labels for each in series if each.metric == "raymlops_request_errors_total"} == {
        (model, "none", "none", "unauthorized") for model in ("ward-0", "ward-1")
    }


def test_a_page_of_an_origin_that_is_named_may_ask_every_model(
    wards: World, tmp_path: Path
) -> None:
    keys_file, page = tmp_path / "keys.json", {"origin": "https://app.example.com"}
    Keyring(keys_file).add(ApiKey(name="one", digest=digest_of("rml_one")))

    async def test(ward: Ward) -> None:
        asked = page | {
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type,x-api-key",
        }
        permit = await ward.client.options("/v2/models/ward-1/infer", headers=asked)
        assert permit.status_code == 200
        assert permit.headers["access-control-allow-headers"] == "content-type,x-api-key"
        assert ward.held == set()
        refused = await ward.ask("ward-1", headers=page)
        answer = await ward.ask("ward-1", headers=page | {"x-api-key": "rml_one"})
        assert (refused.status_code, answer.status_code) == (401, 200)
        for readable in (permit, refused, answer):
            assert readable.headers["access-control-allow-origin"] == page["origin"]
        unasked = await ward.client.options("/v2/models/ward-1/infer", headers=page)
        assert unasked.status_code == 401

    run(wards, test, keys_file=keys_file, cors=CorsPolicy(origins=(page["origin"],)))
