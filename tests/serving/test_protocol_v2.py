"""The open inference protocol, by hand and by a stock client."""

import json

import httpx
import numpy as np
import pytest

from tests.serving.running import Running
from tests.serving.tiny_model import picture

IMAGES = np.stack([picture("roof"), picture("water")])
INFER = "/v2/models/landuse/infer"


def question(**changes: object) -> dict[str, object]:
    tensor = {"name": "images", "shape": list(IMAGES.shape), "datatype": "UINT8", "data": IMAGES.tolist()}
    return {"id": "7", "inputs": [tensor | changes]}


def test_server_and_model(client: httpx.Client) -> None:
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert client.get("/v2/health/live").status_code == client.get("/v2/health/ready").status_code == 200
    model = client.get("/v2/models/landuse").json()
    assert model["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, 16, 16, 3]}]
    assert model["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}]
    (version,) = model["versions"]
    assert client.get(f"/v2/models/landuse/versions/{version}/ready").json()["ready"] is True
    assert client.get("/v2/models/landuse/versions/1").status_code == 404
    assert client.get("/v2/models/other").json().keys() == {"error"}


@pytest.mark.parametrize("flat", [False, True])
def test_tensors_as_json(client: httpx.Client, flat: bool) -> None:
    asked = question(data=IMAGES.ravel().tolist()) if flat else question()
    answer = client.post(INFER, json=asked).json()
    (output,) = answer["outputs"]
    assert (answer["id"], answer["model_name"], output["shape"]) == ("7", "landuse", [2, 3])
    probabilities = np.reshape(output["data"], output["shape"])
    assert probabilities.argmax(axis=1).tolist() == [1, 2]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_any_text_is_an_id(client: httpx.Client) -> None:
    asked = json.dumps(question() | {"id": "\ud800"})
    assert client.post(INFER, content=asked.encode()).json()["id"] == "\ud800"


def test_tensors_as_bytes(client: httpx.Client) -> None:
    tensor = {
        "name": "images",
        "shape": list(IMAGES.shape),
        "datatype": "UINT8",
        "parameters": {"binary_data_size": IMAGES.nbytes},
    }
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"inference-header-content-length": str(len(text))}
    answer = client.post(INFER, content=text + IMAGES.tobytes(), headers=headers)
    length = int(answer.headers["inference-header-content-length"])
    (output,) = json.loads(answer.content[:length])["outputs"]
    binary = answer.content[length:]
    assert output["parameters"]["binary_data_size"] == len(binary)
    assert np.frombuffer(binary, "<f4").reshape(2, 3).argmax(axis=1).tolist() == [1, 2]


def test_a_stock_client(service: Running) -> None:
    triton = pytest.importorskip("tritonclient.http")
    client = triton.InferenceServerClient(f"127.0.0.1:{service.port}")
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("landuse")
    assert client.get_model_metadata("landuse")["platform"] == "onnx_onnxv1"
    for binary in (True, False):
        tensor = triton.InferInput("images", list(IMAGES.shape), "UINT8")
        tensor.set_data_from_numpy(IMAGES, binary_data=binary)
        output = triton.InferRequestedOutput("probabilities", binary_data=binary)
        answer = client.infer("landuse", [tensor], outputs=[output]).as_numpy("probabilities")
        assert answer.argmax(axis=1).tolist() == [1, 2]
    client.close()


WRONG = {
    "no json": b"{",
    "no object": b"[]",
    "deep": b"[" * 5000,
    "no inputs": b"{}",
    "two inputs": json.dumps({"inputs": [{}, {}]}).encode(),
    "other name": json.dumps(question(name="x")).encode(),
    "other type": json.dumps(question(datatype="FP32")).encode(),
    "other size": json.dumps(question(shape=[1, 8, 8, 3])).encode(),
    "negative": json.dumps(question(shape=[-2, 16, 16, 3])).encode(),
    "no image": json.dumps(question(shape=[0, 16, 16, 3], data=[])).encode(),
    "too many": json.dumps(question(shape=[5, 16, 16, 3], data=[0] * 5 * 768)).encode(),
    "too few values": json.dumps(question(data=[1, 2, 3])).encode(),
    "ragged": json.dumps(question(data=[[1], [2, 3]])).encode(),
    "text": json.dumps(question(data=["a"] * 1536)).encode(),
    "fractions": json.dumps(question(data=[0.5] * 1536)).encode(),
    "large values": json.dumps(question(data=[256] * 1536)).encode(),
    "one long text": json.dumps(question(data=["x" * 50_000] + [""] * 1535)).encode(),
    "a number": json.dumps(question(data=2_000_000_000)).encode(),
    "huge values": json.dumps(question(data=[10**400] + [0] * 1535)).encode(),
    "other output": json.dumps(question() | {"outputs": [{"name": "logits"}]}).encode(),
    "odd outputs": json.dumps(question() | {"outputs": 7}).encode(),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_requests(client: httpx.Client, name: str) -> None:
    response = client.post(INFER, content=WRONG[name])
    assert response.status_code == 400
    assert isinstance(response.json()["error"], str)


@pytest.mark.parametrize("length", ["x", "-1", "99999999", "1" * 5000])
def test_wrong_header_lengths(client: httpx.Client, length: str) -> None:
    headers = {"inference-header-content-length": length}
    assert client.post(INFER, json=question(), headers=headers).status_code == 400
