from __future__ import annotations

import json

from jsonschema import Draft202012Validator

from tests.serve.conftest import MODEL
from tests.serve.protocols.conftest import InProcess


def test_the_document_says_what_the_signature_takes(app: InProcess) -> None:
    document = json.loads(app.ask("GET", "/openapi.json").body)
    assert document["openapi"] == "3.1.0"
    assert document["info"]["title"] == MODEL
    assert json.loads(app.ask("GET", f"/v2/models/{MODEL}/openapi.json").body) == document
    body = document["paths"][f"/v2/models/{MODEL}/predict"]["post"]["requestBody"]
    record = body["content"]["application/json"]["schema"]["items"]
    assert record["required"] == ["radius", "smoothness"]
    assert record["properties"]["radius"] == {"type": "number", "minimum": 0.0, "maximum": 100.0}
    assert record["properties"]["size"] == {"type": ["string", "null"]}


def test_every_example_is_valid_and_answered(app: InProcess) -> None:
    document = json.loads(app.ask("GET", "/openapi.json").body)
    posts = [
        (path, methods["post"]) for path, methods in document["paths"].items() if "post" in methods
    ]
    assert len(posts) == 3
    for path, operation in posts:
        content = operation["requestBody"]["content"]["application/json"]
        Draft202012Validator(content["schema"]).validate(content["example"])
        answer = app.post(path, content["example"])
        reply = operation["responses"]["200"]["content"]["application/json"]["schema"]
        Draft202012Validator(reply).validate(answer)


def test_what_the_server_refuses_is_no_request_of_the_document(app: InProcess) -> None:
    path = f"/v2/models/{MODEL}/infer"
    paths = json.loads(app.ask("GET", "/openapi.json").body)["paths"]
    content = paths[path]["post"]["requestBody"]["content"]["application/json"]
    document, infer = content["example"], Draft202012Validator(content["schema"])
    inputs = document["inputs"]
    no_shape = [inputs[0] | {"shape": []}, *inputs[1:]]
    for refused in (
        {"inputs": no_shape},
        {"inputs": [*inputs[1:], inputs[1]]},
        {"inputs": inputs, "outputs": [{"name": "benign"}, {"name": "benign"}]},
        {"inputs": inputs[1:]},
    ):
        app.refusal(path, refused)
        assert not infer.is_valid(refused)
    required = [each for each in inputs if each["name"] in ("radius", "smoothness")]
    app.post(path, {"inputs": required})
    assert infer.is_valid({"inputs": required})


def test_whoever_opens_the_address_finds_the_page(app: InProcess) -> None:
    (found,) = json.loads(app.ask("GET", "/").body)["models"]
    assert found["name"] == MODEL
    assert app.ask("GET", found["docs"]).content_type.startswith("text/html")
    assert json.loads(app.ask("GET", found["openapi"]).body)["info"]["title"] == MODEL


def test_the_page_loads_nothing_from_elsewhere(app: InProcess) -> None:
    response = app.ask("GET", "/docs")
    assert response.content_type.startswith("text/html")
    page = response.body.decode()
    assert "http://" not in page
    assert "https://" not in page
    assert "default-src 'none'" in dict(response.headers)["content-security-policy"]
