"""The open inference protocol, version 2, that KServe, Triton and their clients speak.

Specification: github.com/kserve/open-inference-protocol, and for tensors as bytes behind the JSON (which clients of
Triton send unless told otherwise) its extension "binary_tensor_data".
"""

import asyncio
import json
from itertools import chain
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response
from numpy.typing import NDArray

from landuse.serving.answers import json_response
from landuse.serving.engine import INPUT
from landuse.serving.lanes import Loaded
from landuse.serving.refusal import Refusal
from landuse.serving.schemas import TENSORS, V2_MISSING, V2_NOT_READY, V2_REFUSALS, V2_RESPONSES
from landuse.serving.service import Service
from landuse.serving.uploads import read_body

OUTPUT = "probabilities"
JSON_LENGTH = "inference-header-content-length"
VERSIONED: dict[str, Any] = {"include_in_schema": False}  # routes that are as those without a version
LARGEST_ID = 1000  # characters
CHARACTERS_A_VALUE, LARGEST_REST = 6, 65_536  # of JSON: "255, " and a bracket; and all around the values


def inference_routes(service: Service) -> APIRouter:
    """The routes under /v2."""
    router = APIRouter(prefix="/v2", tags=["open inference protocol"], responses=V2_RESPONSES)
    _answer_tensors(router, service)

    @router.get("")
    async def server() -> Response:
        """What this server is."""
        return json_response({"name": "landuse", "version": service.release, "extensions": ["binary_tensor_data"]})

    @router.get("/health/live")
    async def live() -> Response:
        """Whether the process is alive."""
        return json_response({"live": True})

    @router.get("/health/ready", responses=V2_NOT_READY)
    async def ready() -> Response:
        """Whether it can take requests."""
        if not service.is_ready:
            raise Refusal(503, "The service is about to stop.")
        return json_response({"ready": True})

    @router.get("/models/{name}", responses=V2_MISSING)
    @router.get("/models/{name}/versions/{version}", **VERSIONED)
    async def model(request: Request, name: str) -> Response:
        """The model's tensors."""
        _require_model(service, request)
        loaded = service.lanes.loaded.model
        side, classes = loaded.image_size, len(loaded.classes)
        return json_response({
            "name": name,
            "versions": [loaded.version],
            "platform": "onnx_onnxv1",
            "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, side, side, 3]}],
            "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, classes]}],
        })  # fmt: skip

    @router.get("/models/{name}/ready", responses=V2_MISSING)
    @router.get("/models/{name}/versions/{version}/ready", **VERSIONED)
    async def model_ready(request: Request, name: str) -> Response:
        """Whether the model can take requests."""
        _require_model(service, request)
        return json_response({"name": name, "ready": service.is_ready})

    return router


def _answer_tensors(router: APIRouter, service: Service) -> None:
    @router.post("/models/{name}/infer", responses=V2_MISSING | V2_REFUSALS, openapi_extra=TENSORS)
    @router.post("/models/{name}/versions/{version}/infer", **VERSIONED)
    async def infer(request: Request, name: str) -> Response:
        """Probabilities of images that are already cut and resized."""
        _require_model(service, request)
        with service.budget.share() as share:
            body = await read_body(request, share, service.settings.max_bytes, service.settings.upload_timeout_s)
            loaded, length = service.lanes.loaded, request.headers.get(JSON_LENGTH)
            # In a thread, because a large question takes long to read.
            question, images = await asyncio.to_thread(_read, length, body, loaded, service.settings.max_files)
            del body
            outcomes, _ = await service.answer(list(images), loaded)
        rows = []
        for outcome in outcomes:
            if isinstance(outcome, Refusal):
                raise outcome
            rows.append(outcome)
        return _write(question, np.stack(rows), name, loaded.model.version)


def _require_model(service: Service, request: Request) -> None:
    name, version = request.path_params["name"], request.path_params.get("version")
    if name != service.settings.name or version not in (None, service.lanes.loaded.model.version):
        raise Refusal(404, f"There is no such model here: it is called {service.settings.name}.")


def _read(length: str | None, body: bytes, loaded: Loaded, max_images: int) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """The question, and its images (N, S, S, 3).

    Args:
        length: of the JSON, the header's text; None: of the whole body.
    """
    side = loaded.model.image_size
    most_json = CHARACTERS_A_VALUE * max_images * side * side * 3 + LARGEST_REST
    try:
        num_bytes = len(body) if length is None else int(length) if len(length) < 12 and length.isdecimal() else -1
        if not 0 <= num_bytes <= min(len(body), most_json):
            raise ValueError(f"its JSON must have at most {most_json:,} bytes, and {JSON_LENGTH} must say how many")
        question = json.loads(body[:num_bytes])
        tensor, *others = question["inputs"]
        if others or tensor["name"] != INPUT or tensor["datatype"] != "UINT8":
            raise ValueError(f"its only input is '{INPUT}' of the datatype UINT8")
        shape = [int(number) for number in tensor["shape"]]
        if len(shape) != 4 or shape[1:] != [side, side, 3] or not 1 <= shape[0] <= max_images:
            raise ValueError(f"its shape is [n, {side}, {side}, 3] with n from 1 to {max_images}")
        images = _tensor(tensor, body[num_bytes:]).reshape(shape)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        problem = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise Refusal(400, f"The request is not what the model takes: {problem[:300]}.") from error
    return question, images


def _tensor(tensor: dict[str, Any], binary: bytes) -> NDArray[np.uint8]:
    if "data" not in tensor:
        if tensor["parameters"]["binary_data_size"] != len(binary):
            raise ValueError("binary_data_size is not the number of bytes behind the JSON")
        return np.frombuffer(binary, np.uint8)
    values = tensor["data"]
    for _ in range(3):  # flat, or nested as the shape is
        if isinstance(values, list) and values and isinstance(values[0], list):
            values = list(chain.from_iterable(values))
    if not isinstance(values, list):
        raise ValueError("data must be a list")
    # Not numpy, which would find a common type for whatever there is: of one long text among many, gigabytes.
    return np.frombuffer(bytes(values), np.uint8)


def _write(question: dict[str, Any], probabilities: NDArray[np.float32], name: str, version: str) -> Response:
    content: dict[str, Any] = {"model_name": name, "model_version": version}
    if isinstance(identity := question.get("id"), str):
        content["id"] = identity[:LARGEST_ID]
    output: dict[str, Any] = {"name": OUTPUT, "datatype": "FP32", "shape": list(probabilities.shape)}
    if not _wants_binary(question):
        answer = content | {"outputs": [output | {"data": probabilities.ravel().tolist()}]}
        return Response(json.dumps(answer), media_type="application/json")  # which takes any text as an id
    binary = probabilities.astype("<f4").tobytes()
    text = json.dumps(content | {"outputs": [output | {"parameters": {"binary_data_size": len(binary)}}]}).encode()
    return Response(text + binary, media_type="application/octet-stream", headers={JSON_LENGTH: str(len(text))})


def _wants_binary(question: dict[str, Any]) -> bool:
    """For this output, or for all of them.

    Raises:
        Refusal: it asks for an output that there is not.
    """
    outputs = question.get("outputs") or [{"name": OUTPUT}]
    try:
        names = [output["name"] for output in outputs]
        asked = outputs[0].get("parameters", {}).get("binary_data")
        default = question.get("parameters", {}).get("binary_data_output", False)
    except (TypeError, KeyError, AttributeError):
        raise Refusal(400, "outputs must be a list of objects with a name.") from None
    if names != [OUTPUT]:
        raise Refusal(400, f"The model's only output is '{OUTPUT}'.")
    return bool(default if asked is None else asked)
