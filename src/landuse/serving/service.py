"""A model in service: the lanes that answer, the window that is watched, and what is said about them."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from prometheus_client.core import Metric

from landuse.config.schema import DriftConfig, ServeConfig
from landuse.data.limits import Limits
from landuse.errors import FailureError, UserError
from landuse.files import is_own
from landuse.monitoring import REFERENCE_FILE
from landuse.monitoring.reference import load
from landuse.monitoring.window import Window
from landuse.serving.artifact import SAMPLES, read_served
from landuse.serving.lanes import Lanes, Loaded, Outcome, Pixels
from landuse.serving.logs import event
from landuse.serving.maps import Maps, tile_of
from landuse.serving.messages import Load
from landuse.serving.metrics import Metrics, gauge, of_processes
from landuse.serving.refusal import Refusal
from landuse.serving.uploads import Budget

log = logging.getLogger(__name__)

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")
LARGEST_SAMPLE = 10_000_000  # bytes
MOST_SAMPLES = 32
LIMITS = ("max_bytes", "max_files", "max_pixels", "max_tiles")  # that clients are told


class Service:
    """What the routes ask."""

    def __init__(
        self, folder: Path, settings: ServeConfig, drift: DriftConfig, num_lanes: int, has_key: bool,
        find: Callable[[], Path],
    ) -> None:  # fmt: skip
        """
        Args:
            folder: an exported folder.
            has_key: whether clients show a key.
            find: the exported folder to take into service at a reload.

        Raises:
            UserError: the folder is damaged.
        """
        self.settings, self.has_key, self.release = settings, has_key, version("landuse")
        self._drift, self._find = drift, find
        self._reloading = asyncio.Lock()
        loaded = self._load(folder)
        self.metrics, self.budget = Metrics(self._state), Budget(settings.max_pending_bytes)
        self.lanes = Lanes(
            loaded, num_lanes, settings.max_batch, settings.max_queue, 2 * settings.deadline_s, drift.share,
            self.metrics.batch,
        )  # fmt: skip
        self.maps = Maps(self.lanes, settings)
        self.is_ready = False

    async def start(self) -> None:
        """Be ready.

        Raises:
            UserError: the model cannot be run.
            FailureError: a worker has ended in it.
        """
        await self.lanes.start()
        self.is_ready = True

    async def answer(
        self, images: Sequence[bytes | Pixels], loaded: Loaded | None = None
    ) -> tuple[list[Outcome], Loaded]:
        """An outcome per image, and the model that answered; answers are counted.

        Args:
            loaded: which model; None: the one in service.

        Raises:
            Refusal: the queue is full, or the images waited too long.
        """
        outcomes, loaded = await self.lanes.answer(images, self.settings.deadline_s, loaded)
        classes = loaded.model.classes
        for outcome in outcomes:
            if not isinstance(outcome, Refusal):
                best = int(outcome.argmax())
                self.metrics.answered(classes[best], float(outcome[best]))
        return outcomes, loaded

    def identity(self, loaded: Loaded) -> dict[str, str]:
        """Which model it is."""
        model = loaded.model
        return {"name": self.settings.name, "version": model.version, "variant": model.variant}

    def facts(self) -> dict[str, Any]:
        """What the model in service is."""
        loaded = self.lanes.loaded
        model = loaded.model
        return self.identity(loaded) | {
            "classes": model.classes,
            "image_size": model.image_size,
            "tile": tile_of(model),
            "temperature": model.temperature,
            "source": model.info.get("source", {}),
            "facts": model.info.get("facts", {}),
            "limits": {name: getattr(self.settings, name) for name in LIMITS},
        }

    def drift(self) -> dict[str, Any]:
        """Whether the newest images are like those that the model was validated on."""
        window = self.lanes.loaded.window
        if window is not None:
            return window.result()
        settings = {"window": self._drift.window, "min_images": self._drift.min_images, "alpha": self._drift.alpha}
        return {"state": "unavailable", "num_images": 0, **settings, "tests": []}

    async def reload(self) -> dict[str, str]:
        """Take the newest export of the run into service; requests under way are answered by the model before.

        Raises:
            Refusal: it cannot be loaded; the one in service stays.
        """
        async with self._reloading:
            try:
                loaded = await asyncio.to_thread(lambda: self._load(self._find()))
                await self.lanes.exchange(loaded)
            except Exception as error:  # whatever it is, the one in service must stay
                if not isinstance(error, UserError | FailureError):
                    log.exception("a model could not be loaded")
                event("reload failed", {"reason": str(error)}, logging.ERROR)
                raise Refusal(503, "The model could not be loaded, the one before stays; the log says why.") from error
        event("reloaded", self.identity(loaded))
        return self.identity(loaded)

    async def close(self) -> None:
        """Answer what waits, and end the lanes."""
        self.is_ready = False
        await self.lanes.close()

    def _load(self, folder: Path) -> Loaded:
        model, graph = read_served(folder)
        settings, window, reference = self.settings, None, None
        if (folder / REFERENCE_FILE).is_file():
            reference = load(folder / REFERENCE_FILE, len(model.classes))
            window = Window(reference, self._drift.window, self._drift.min_images, self._drift.alpha)
        else:
            event("drift is not watched", {"reason": f"the export has no {REFERENCE_FILE}"}, logging.WARNING)
        limits = Limits(FORMATS, settings.max_pixels)
        asked = Load(model, graph, reference, settings.threads, settings.max_batch, limits)
        return Loaded(model, asked, window, _samples(folder))

    def _state(self) -> Iterator[Metric]:
        """What the metrics say of this moment."""
        yield gauge("model_info", "The model in service.", 1, self.identity(self.lanes.loaded))
        yield gauge("queue_images", "Images that wait.", self.lanes.num_waiting)
        yield from of_processes([*self.lanes.worker_pids, *self.maps.worker_pids])
        drift = self.drift()
        differs = "1: the newest images are not like those that the model was validated on."
        yield gauge("drift", differs, float(drift["state"] == "drift"))
        yield gauge("drift_window_images", "Images that this is judged by.", drift["num_images"])


def _samples(folder: Path) -> dict[str, bytes]:
    """PNG files by their names, read once: the folder may be made anew while its model is in service."""
    paths = sorted((folder / SAMPLES).glob("*.png"))[:MOST_SAMPLES]
    return {path.stem: path.read_bytes() for path in paths if is_own(path, folder, LARGEST_SAMPLE)}
