"""A model in service: the lanes that answer, the window that is watched, and what is said about them."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from landuse.config.schema import DriftConfig, ServeConfig
from landuse.data.decode import Limits
from landuse.errors import FailureError, UserError
from landuse.monitoring.reference import load
from landuse.monitoring.window import Window
from landuse.serving.artifact import REFERENCE_FILE, SAMPLES
from landuse.serving.engine import Engine
from landuse.serving.lanes import Lanes, Loaded, Outcome, Pixels
from landuse.serving.logs import event
from landuse.serving.metrics import Metrics
from landuse.serving.refusal import Refusal
from landuse.serving.uploads import Budget

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")
LARGEST_SAMPLE = 10_000_000  # bytes
MOST_SAMPLES = 32


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
        loaded, self.samples, self._sample_paths = self._load(folder)
        self.metrics, self.budget = Metrics(self._state), Budget(settings.max_pending_bytes)
        self.lanes = Lanes(
            loaded, num_lanes, settings.max_batch, settings.max_queue, Limits(FORMATS, settings.max_pixels),
            self.metrics.batch,
        )  # fmt: skip
        self.is_ready = True

    async def answer(self, images: Sequence[bytes | Pixels]) -> tuple[list[Outcome], Loaded]:
        """An outcome per image, and the model that answered; counted.

        Raises:
            Refusal: the queue is full.
        """
        outcomes, loaded = await self.lanes.answer(images, self.settings.deadline_s)
        classes = loaded.engine.model.classes
        for outcome in outcomes:
            if isinstance(outcome, Refusal):
                self.metrics.refused(outcome.describe()["code"])
            else:
                best = int(outcome.argmax())
                self.metrics.answered(classes[best], float(outcome[best]))
        return outcomes, loaded

    def identity(self, loaded: Loaded) -> dict[str, str]:
        """Which model it is."""
        model = loaded.engine.model
        return {"name": self.settings.name, "version": model.version, "variant": model.variant}

    def facts(self) -> dict[str, Any]:
        """What the model in service is."""
        loaded = self.lanes.loaded
        model = loaded.engine.model
        return self.identity(loaded) | {
            "classes": model.classes,
            "image_size": model.image_size,
            "temperature": model.temperature,
            "source": model.info.get("source", {}),
            "facts": model.info.get("facts", {}),
            "limits": {name: getattr(self.settings, name) for name in ("max_bytes", "max_files", "max_pixels")},
        }

    def drift(self) -> dict[str, Any]:
        """Whether the newest images are like those that the model was validated on."""
        watcher = self.lanes.loaded.watcher
        if isinstance(watcher, Window):
            result: dict[str, Any] = watcher.result()
            return result
        settings = {"window": self._drift.window, "min_images": self._drift.min_images, "alpha": self._drift.alpha}
        return {"state": "unavailable", "num_images": 0, **settings, "tests": []}

    def sample(self, number: int) -> bytes | None:
        """A sample's PNG, if there is one of this number."""
        if not 0 <= number < len(self._sample_paths):
            return None
        with self._sample_paths[number].open("rb") as file:
            return file.read(LARGEST_SAMPLE)

    async def reload(self) -> dict[str, str]:
        """Take the newest export of the run into service; requests under way are answered by the model before.

        Raises:
            Refusal: it cannot be loaded; the one in service stays.
        """
        async with self._reloading:
            try:
                loaded, samples, paths = await asyncio.to_thread(lambda: self._load(self._find()))
            except (UserError, FailureError, OSError) as error:
                event("reload failed", {"reason": str(error)}, logging.ERROR)
                raise Refusal(503, "The model could not be loaded, the one before stays; the log says why.") from error
            self.lanes.loaded, self.samples, self._sample_paths = loaded, samples, paths
        event("reloaded", self.identity(loaded))
        return self.identity(loaded)

    def close(self) -> None:
        """Answer what waits, and end the lanes."""
        self.is_ready = False
        self.lanes.close()

    def _load(self, folder: Path) -> tuple[Loaded, list[str], list[Path]]:
        begun = time.perf_counter()
        engine = Engine(folder, self.settings.threads, self.settings.max_batch)
        window = None
        if (folder / REFERENCE_FILE).is_file():
            reference = load(folder / REFERENCE_FILE, len(engine.model.classes), engine.num_features)
            window = Window(reference, self._drift.window, self._drift.min_images, self._drift.alpha)
        else:
            event("drift is not watched", {"reason": f"the export has no {REFERENCE_FILE}"}, logging.WARNING)
        paths = [path for path in sorted((folder / SAMPLES).glob("*.png"))[:MOST_SAMPLES] if not path.is_symlink()]
        seconds = round(time.perf_counter() - begun, 3)
        event("loaded", {"variant": engine.model.variant, "version": engine.model.version, "seconds": seconds})
        return Loaded(engine, window), [path.stem for path in paths], paths

    def _state(self) -> Any:
        from landuse.serving.state import state

        return state(self)
