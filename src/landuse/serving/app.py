"""The routes of the service."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from landuse.serving import metrics as prometheus
from landuse.serving import page, schemas
from landuse.serving.answers import json_response
from landuse.serving.engine import top_classes
from landuse.serving.front import encoded
from landuse.serving.maps import LARGEST_TILE, SMALLEST_TILE
from landuse.serving.protocol_v2 import inference_routes
from landuse.serving.refusal import Refusal, busy
from landuse.serving.service import Service
from landuse.serving.uploads import files_of, read_body

DESCRIPTION = """
Classifies land use in aerial and satellite images. Send images as a multipart form to `POST /predict`, and one that is
larger than what the model looks at to `POST /map`; programs that
speak the open inference protocol (KServe, Triton) find the same model under `/v2`.
"""


def build_app(service: Service) -> FastAPI:
    """The application around a service; :class:`landuse.serving.front.Front` goes around it."""

    app = FastAPI(
        title="landuse", version=service.release, description=DESCRIPTION, docs_url=None, redoc_url=None,
    )  # fmt: skip
    _handle_errors(app, service)
    _answer_images(app, service)
    _map_image(app, service)
    _tell_about_model(app, service)
    _tell_about_health(app, service)
    _show_page(app, service)
    _show_documentation(app)
    app.include_router(inference_routes(service))
    return app


def _handle_errors(app: FastAPI, service: Service) -> None:
    """Every error is JSON of one form."""

    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Exception) -> Response:
        assert isinstance(refusal, Refusal)
        service.metrics.refused(refusal.code)
        return _as_response(request, refusal)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return _as_response(request, Refusal(500, "The request could not be answered."))

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        refusal = Refusal(error.status_code, f"{error.detail}: see /openapi.json.")
        return _as_response(request, refusal, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return _as_response(request, Refusal(422, f"{where}: {first['msg']}."))


def _as_response(request: Request, refusal: Refusal, headers: Any = None) -> Response:
    content, own = encoded(refusal, request.scope)
    return Response(content, refusal.status, {**(headers or {}), **own}, media_type="application/json")


def _answer_images(app: FastAPI, service: Service) -> None:
    settings = service.settings

    @app.post("/predict", tags=["predictions"], responses=schemas.PREDICT_RESPONSES, openapi_extra=schemas.UPLOAD)
    async def predict(request: Request, top_n: Annotated[int, Query(ge=1, le=1000)] = 5) -> Response:
        """Classify one or more images.

        Of a single image that cannot be used the answer is an error; among several its result says why. Probabilities
        are calibrated on the images that the model was validated on.
        """
        with service.budget.share() as share:
            body = await read_body(request, share, settings.max_bytes, settings.upload_timeout_s)
            files = files_of(request.headers.get("content-type"), body, settings.max_files)
            del body  # of which files are copies
            outcomes, loaded = await service.answer(files)
        refusals = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
        if len(outcomes) == 1 and refusals:
            raise refusals[0]
        for refusal in refusals:
            service.metrics.refused(refusal.code)
        classes = loaded.model.classes
        results = [
            {"file": i, "error": outcome.describe()}
            if isinstance(outcome, Refusal)
            else {
                "file": i,
                "predictions": [
                    {"class": name, "probability": probability}
                    for name, probability in top_classes(outcome, classes, top_n)
                ],
            }
            for i, outcome in enumerate(outcomes)
        ]
        request_id = request.scope["state"].get("request_id")
        return json_response({"model": service.identity(loaded), "results": results, "request_id": request_id})


def _map_image(app: FastAPI, service: Service) -> None:
    settings = service.settings

    @app.post("/map", tags=["predictions"], responses=schemas.MAP_RESPONSES, openapi_extra=schemas.UPLOAD_ONE)
    async def map_image(
        request: Request,
        tile: Annotated[int | None, Query(ge=SMALLEST_TILE, le=LARGEST_TILE, description=schemas.TILE)] = None,
        stride: Annotated[float, Query(ge=0.25, le=1, description=schemas.STRIDE)] = 0.5,
    ) -> Response:
        """Classify a large image tile by tile: what covers which part of it, without any georeference.

        There is one map at a time, and `GET /model` says how many tiles it may have. For scenes of any size, and for
        maps that lie on the ground, there is the command `python -m landuse.map`.
        """
        service.maps.require_free()
        if service.lanes.is_full:
            raise busy()
        with service.budget.share() as share:
            body = await read_body(request, share, settings.max_bytes, settings.upload_timeout_s)
            content, *others = files_of(request.headers.get("content-type"), body, settings.max_files)
            if others:
                raise Refusal(413, "A map is of one image: send a request for each.")
            del body  # of which the file is a copy
            found, loaded = await service.maps.make(content, tile, stride, request.is_disconnected)
        request_id = request.scope["state"].get("request_id")
        return json_response({"model": service.identity(loaded), **found, "request_id": request_id})


def _tell_about_model(app: FastAPI, service: Service) -> None:
    @app.get("/model", tags=["model"], responses=schemas.MODEL_RESPONSES)
    async def model() -> Response:
        """What answers: its classes, what it was trained on, how good it is."""
        return json_response(service.facts())

    @app.get("/drift", tags=["model"], responses=schemas.DRIFT_RESPONSES)
    def drift() -> Response:
        """Whether the newest images are like those that the model was validated on."""
        return json_response(service.drift())

    @app.post("/reload", tags=["model"], responses=schemas.RELOAD_RESPONSES)
    async def reload() -> Response:
        """Look for a newer export of the run, and take it into service; needs the service to have a key."""
        if not service.has_key:
            raise Refusal(404, "A service without a key is reloaded by the signal SIGHUP alone.")
        return json_response({"model": await service.reload()})


def _tell_about_health(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", tags=["health"], responses=schemas.HEALTH_RESPONSES)
    async def healthz() -> Response:
        """Whether the process is alive."""
        return json_response({"status": "alive"})

    @app.get("/readyz", tags=["health"], responses=schemas.READY_RESPONSES)
    async def readyz() -> Response:
        """Whether it can take requests."""
        if not service.is_ready:
            raise Refusal(503, "The service is about to stop.")
        return json_response({"status": "ready"})

    @app.get("/metrics", tags=["health"], responses=schemas.METRICS_RESPONSES)
    def metrics() -> Response:
        """For Prometheus."""
        return Response(service.metrics.text(), media_type=prometheus.CONTENT_TYPE)


def _show_page(app: FastAPI, service: Service) -> None:
    document, policy = page.render()

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return HTMLResponse(document, headers={"content-security-policy": policy})

    @app.get("/samples", tags=["page"], responses=schemas.SAMPLES_RESPONSES)
    async def samples() -> Response:
        """Images to try, of the split that the model was validated on."""
        names = enumerate(service.lanes.loaded.samples)
        return json_response({"samples": [{"name": name, "url": f"/samples/{i}"} for i, name in names]})

    @app.get("/samples/{number}", tags=["page"], responses=schemas.SAMPLE_RESPONSES)
    async def sample(number: int) -> Response:
        """One of these images."""
        contents = list(service.lanes.loaded.samples.values())
        if not 0 <= number < len(contents):
            raise Refusal(404, f"There is no sample {number}.")
        return Response(contents[number], media_type="image/png")


def _show_documentation(app: FastAPI) -> None:
    """Swagger UI as FastAPI has it, with its files from this machine."""
    assets = Path(str(files("fastapi_offline"))) / "static"
    app.mount("/docs/assets", StaticFiles(directory=assets), name="docs")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return get_swagger_ui_html(
            openapi_url="/openapi.json", title="landuse", swagger_js_url="/docs/assets/swagger-ui-bundle.js",
            swagger_css_url="/docs/assets/swagger-ui.css", swagger_favicon_url="data:,",
        )  # fmt: skip
