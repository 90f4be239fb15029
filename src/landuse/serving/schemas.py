"""The shapes of the service's answers, for its OpenAPI description; the answers themselves are written directly."""

from typing import Any, Literal

from pydantic import BaseModel, Field

EXAMPLE_ID = "5f3a9c02-1"


class Identity(BaseModel):
    """Which model answered."""

    name: str = Field(examples=["landuse"])
    version: str = Field(examples=["d2a84f4b8b65"], description="Tells this graph from any other.")
    variant: str = Field(examples=["fp32"])


class Problem(BaseModel):
    """Why there is no answer."""

    code: str = Field(examples=["unsupported_media_type"], description="For programs.")
    message: str = Field(examples=["The file is not a readable image (no known image format): repair or remove it."])
    request_id: str | None = Field(default=None, examples=[EXAMPLE_ID])


class Failure(BaseModel):
    """Every error has this form."""

    error: Problem


class Prediction(BaseModel):
    """A class and its probability."""

    class_: str = Field(alias="class", examples=["airplane"])
    probability: float = Field(ge=0, le=1, examples=[0.9731])


class Result(BaseModel):
    """Of one file: predictions, or an error."""

    file: int = Field(description="Its place in the request, from 0.")
    predictions: list[Prediction] | None = Field(default=None, description="The most probable class first.")
    error: Problem | None = None


class Predicted(BaseModel):
    """Of one request."""

    model: Identity
    results: list[Result]
    request_id: str | None = Field(examples=[EXAMPLE_ID])


class MappedClass(BaseModel):
    """A class that occurs in a map."""

    class_: str = Field(alias="class", examples=["forest"])
    share: float = Field(gt=0, le=1, description="Of the image's area.", examples=[0.62])
    colour: str = Field(pattern="^#[0-9a-f]{6}$", examples=["#1b7a3d"])


class Cells(BaseModel):
    """What the map says of each cell of the image."""

    rows: list[int] = Field(description="Pixels at which rows of cells begin, from the top, and the image's height.")
    columns: list[int] = Field(description="Likewise from the left, and the image's width.")
    classes: str = Field(
        description="Base64 of a byte a cell, row by row: the place of its class in the map's `classes`, from 0. In "
        "numpy: `frombuffer(b64decode(classes), uint8).reshape(len(rows) - 1, len(columns) - 1)`."
    )
    confidences: str = Field(description="As `classes`: the probability of that class, 255 for certainty.")


class Map(BaseModel):
    """Of a large image."""

    model: Identity
    width: int = Field(description="Of the upright image, in pixels.")
    height: int
    tile: int = Field(description="Side of what the model saw at once, in pixels of the image.")
    stride: int = Field(description="Pixels from one tile to the next.")
    tiles: int = Field(description="How many there were.")
    classes: list[MappedClass] = Field(description="Those that occur, the most frequent first.")
    cells: Cells
    preview: str = Field(description="The image as a JPEG of at most 1,024 pixels a side, as a data: address.")
    request_id: str | None = Field(examples=[EXAMPLE_ID])


class ModelFacts(Identity):
    """What the model is."""

    classes: list[str]
    image_size: int = Field(description="Side of the square that images are cut and resized to, in pixels.")
    tile: int = Field(description="Side of the images that it was trained with, in their own pixels.")
    temperature: float = Field(description="What the logits are divided by to calibrate the probabilities.")
    source: dict[str, Any] = Field(description="The run that it comes from.")
    facts: dict[str, Any] = Field(description="What was measured when it was exported.")
    limits: dict[str, int] = Field(description="Of a request: bytes, files, pixels and tiles of an image.")


class Drift(BaseModel):
    """Whether the newest images are like those that the model was validated on."""

    state: Literal["ok", "drift", "too_few", "unavailable"]
    num_images: int
    window: int
    min_images: int
    alpha: float
    tests: list[dict[str, Any]]


class State(BaseModel):
    """Of the process."""

    status: Literal["alive", "ready"]


class Reloaded(BaseModel):
    """Which model is in service now."""

    model: Identity


class Sample(BaseModel):
    """An image to try."""

    name: str
    url: str


class Samples(BaseModel):
    """All of them."""

    samples: list[Sample]


def _responses(answer: type[BaseModel] | None, *statuses: int) -> dict[int | str, dict[str, Any]]:
    answers: dict[int | str, dict[str, Any]] = {} if answer is None else {200: {"model": answer}}
    return answers | {status: {"model": Failure, "description": WHY[status]} for status in (*statuses, 401)}


WHY = {
    400: "The form is damaged.",
    401: "The service asks for a key.",
    404: "There is no such thing.",
    408: "The request took too long to arrive.",
    413: "Too many bytes, files, pixels or tiles.",
    415: "No form with files, or no image of a format that is taken.",
    422: "No file, an image that cannot be used, or a wrong parameter.",
    429: "Too many images are waiting, or another one is being mapped; Retry-After says when to try again.",
    503: "The image waited or its map took for too long, or the service is about to stop.",
}
PREDICT_RESPONSES = _responses(Predicted, 400, 408, 413, 415, 422, 429, 503)
MAP_RESPONSES = _responses(Map, 400, 408, 413, 415, 422, 429, 503)
TILE = "Side of what the model sees at once, in pixels of the image; else that of `GET /model`."
STRIDE = "From one tile to the next, as a share of its side: 1 is fastest, 0.25 the smoothest map."
MODEL_RESPONSES = _responses(ModelFacts)
DRIFT_RESPONSES = _responses(Drift)
RELOAD_RESPONSES = _responses(Reloaded, 404, 503)
HEALTH_RESPONSES: dict[int | str, dict[str, Any]] = {200: {"model": State}}
READY_RESPONSES = HEALTH_RESPONSES | {503: {"model": Failure, "description": WHY[503]}}
SAMPLES_RESPONSES = _responses(Samples)
PNG = {"content": {"image/png": {}}, "description": "The image."}
SAMPLE_RESPONSES: dict[int | str, dict[str, Any]] = _responses(None, 404, 422) | {200: PNG}
METRICS_RESPONSES: dict[int | str, dict[str, Any]] = _responses(None) | {
    200: {"content": {"text/plain": {}}, "description": "Prometheus' text format."}
}


class V2Failure(BaseModel):
    """Errors have this form in the open inference protocol."""

    error: str


def _v2(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": V2Failure, "description": WHY[status]} for status in statuses}


V2_RESPONSES, V2_MISSING, V2_NOT_READY = _v2(401), _v2(404), _v2(503)
V2_REFUSALS = _v2(400, 408, 413, 429, 503)
TENSORS: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "object", "required": ["inputs"], "properties": {"inputs": {"type": "array"}}},
                "example": {"inputs": [{"name": "images", "datatype": "UINT8", "shape": [1, 64, 64, 3], "data": []}]},
            }
        },
    }
}
FORMATS = "JPEG, PNG, WebP, TIFF or BMP."


def _upload(files: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "required": ["file"], "properties": {"file": files}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


FILE = {"type": "string", "format": "binary"}
UPLOAD = _upload({"type": "array", "minItems": 1, "items": FILE, "description": f"Images: {FORMATS}"})
UPLOAD_ONE = _upload(FILE | {"description": f"An image: {FORMATS}"})
