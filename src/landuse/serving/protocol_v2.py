"""The open inference protocol, version 2, that KServe, Triton and their clients speak.

Specification: github.com/kserve/open-inference-protocol, and for tensors as bytes behind the JSON (which clients of
Triton send unless told otherwise) its extension "binary_tensor_data".
"""

import json
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response
from numpy.typing import NDArray
from pydantic_core import to_json

from landuse.files import require_shallow
from landuse.serving.engine import INPUT
from landuse.serving.refusal import Refusal
from landuse.serving.schemas import TENSORS, V2_MISSING, V2_NOT_READY, V2_REFUSALS, V2_RESPONSES
from landuse.serving.service import Service
from landuse.serving.uploads import read_body

OUTPUT = "probabilities"
JSON_LENGTH = "inference-header-content-length"
LARGEST_ID = 1000  # characters


def inference_routes(service: Service) -> APIRouter:
    """The routes under /v2."""
    router = APIRouter(prefix="/v2", tags=["open inference protocol"], responses=V2_RESPONSES)
    versioned: dict[str, Any] = {"include_in_schema": False}  # as the same without a version

    @router.get("")
    async def server() -> Response:
        """What this server is."""
        return _json({"name": "landuse", "version": service.release, "extensions": ["binary_tensor_data"]})

    @router.get("/health/live")
    async def live() -> Response:
        """Whether the process is alive."""
        return _json({"live": True})

    @router.get("/health/ready", responses=V2_NOT_READY)
    async def ready() -> Response:
        """Whether it can take requests."""
        if not service.is_ready:
            raise Refusal(503, "The service is about to stop.")
        return _json({"ready": True})

    @router.get("/models/{name}", responses=V2_MISSING)
    @router.get("/models/{name}/versions/{version}", **versioned)
    async def model(request: Request, name: str) -> Response:
        """The model's tensors."""
        _require_model(service, request)
        loaded = service.lanes.loaded.engine.model
        side, classes = loaded.image_size, len(loaded.classes)
        return _json({
            "name": name,
            "versions": [loaded.version],
            "platform": "onnx_onnxv1",
            "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, side, side, 3]}],
            "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, classes]}],
        })  # fmt: skip

    @router.get("/models/{name}/ready", responses=V2_MISSING)
    @router.get("/models/{name}/versions/{version}/ready", **versioned)
    async def model_ready(request: Request, name: str) -> Response:
        """Whether the model can take requests."""
        _require_model(service, request)
        return _json({"name": name, "ready": service.is_ready})

    @router.post("/models/{name}/infer", responses=V2_MISSING | V2_REFUSALS, openapi_extra=TENSORS)
    @router.post("/models/{name}/versions/{version}/infer", **versioned)
    async def infer(request: Request, name: str) -> Response:
        """Probabilities of images that are already cut and resized."""
        _require_model(service, request)
        with service.budget.share() as share:
            body = await read_body(request, share, service.settings.max_bytes, service.settings.upload_timeout_s)
            question, images = _read(request, body, service)
            outcomes, loaded = await service.answer(list(images))
        for outcome in outcomes:
            if isinstance(outcome, Refusal):
                raise outcome
        return _write(question, np.stack(outcomes), name, loaded.engine.model.version)  # type: ignore[arg-type]

    return router


def _json(content: Any) -> Response:
    return Response(to_json(content), media_type="application/json")


def _require_model(service: Service, request: Request) -> None:
    name, version = request.path_params["name"], request.path_params.get("version")
    if name != service.settings.name or version not in (None, service.lanes.loaded.engine.model.version):
        raise Refusal(404, f"There is no such model here: it is called {service.settings.name}.")


def _read(request: Request, body: bytes, service: Service) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """The question, and its images (N, S, S, 3)."""
    length = request.headers.get(JSON_LENGTH, str(len(body)))
    if not length.isdecimal() or int(length) > len(body):
        raise Refusal(400, f"{JSON_LENGTH} must be the number of bytes of the JSON.")
    text, binary = body[: int(length)], body[int(length) :]
    try:
        question = json.loads(text)
        require_shallow(question)
        tensor, *others = question["inputs"]
        if others or tensor["name"] != INPUT or tensor["datatype"] != "UINT8":
            raise ValueError(f"its only input is '{INPUT}' of the datatype UINT8")
        side = service.lanes.loaded.engine.model.image_size
        shape = [int(number) for number in tensor["shape"]]
        if len(shape) != 4 or shape[1:] != [side, side, 3] or not 1 <= shape[0] <= service.settings.max_files:
            raise ValueError(f"its shape is [n, {side}, {side}, 3] with n from 1 to {service.settings.max_files}")
        images = _tensor(tensor, binary).reshape(shape)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        problem = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise Refusal(400, f"The request is not what the model takes: {problem[:300]}.") from error
    return question, images


def _tensor(tensor: dict[str, Any], binary: bytes) -> NDArray[np.uint8]:
    if "data" not in tensor:
        if tensor["parameters"]["binary_data_size"] != len(binary):
            raise ValueError("binary_data_size is not the number of bytes behind the JSON")
        return np.frombuffer(binary, np.uint8)
    values = np.asarray(tensor["data"])
    if values.dtype.kind not in "iu" or values.size == 0 or values.min() < 0 or values.max() > 255:
        raise ValueError("its values are integers from 0 to 255")
    return values.astype(np.uint8)


def _write(question: dict[str, Any], probabilities: NDArray[np.float32], name: str, version: str) -> Response:
    content: dict[str, Any] = {"model_name": name, "model_version": version}
    if isinstance(identity := question.get("id"), str):
        content["id"] = identity[:LARGEST_ID]
    output: dict[str, Any] = {"name": OUTPUT, "datatype": "FP32", "shape": list(probabilities.shape)}
    if not _wants_binary(question):
        return _json(content | {"outputs": [output | {"data": probabilities.ravel().tolist()}]})
    binary = probabilities.astype("<f4").tobytes()
    text = to_json(content | {"outputs": [output | {"parameters": {"binary_data_size": len(binary)}}]})
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
