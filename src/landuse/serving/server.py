"""The process: a socket, uvicorn around the application, and what signals do."""

import asyncio
import contextlib
import logging
import math
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from landuse.allocator import return_freed_memory
from landuse.config.schema import Config
from landuse.data.workers import num_workers
from landuse.errors import UserError
from landuse.serving import logs
from landuse.serving.app import build_app
from landuse.serving.front import Front
from landuse.serving.guard import Shed, guarded
from landuse.serving.refusal import Refusal
from landuse.serving.service import Service
from landuse.serving.shedding import Shedding
from landuse.serving.traces import make_tracer

BACKLOG = 2048  # connections that the system holds until they are accepted
KEEP_ALIVE_S = 75
OTHER_FILES = 128  # that the process holds besides connections: the socket, the log, what is being read


def serve_forever(folder: Path, config: Config, find: Callable[[], Path]) -> None:
    """Serve an exported folder until SIGTERM or SIGINT, then answer what is under way and return.

    Args:
        find: the exported folder to take into service at SIGHUP.

    Raises:
        UserError: the address is taken or not this machine's, or the folder is damaged.
    """
    settings = config.serve
    logs.set_up(settings.log_format, config.log.level)
    api_key = os.environ.get("LANDUSE_API_KEY") or None
    _raise_open_files(settings.max_connections)
    listener = _listen(settings.host, port_of(settings.port))
    return_freed_memory()
    num_lanes = settings.lanes or num_workers()
    service = Service(folder, settings, config.drift, num_lanes, api_key is not None, find)
    tracer = make_tracer(settings.traces, {"service.name": settings.name, "service.version": service.release})
    app: ASGIApp = Front(build_app(service), service.metrics, tracer, api_key)
    shed: Shed | None = Shedding(lambda: service.lanes.is_full, service.metrics)
    if settings.cors_origins:  # outermost, so that a page of such a site can read refusals as well
        app = CORSMiddleware(
            app, allow_origins=settings.cors_origins, allow_methods=["GET", "POST"],
            allow_headers=["x-api-key", "authorization", "content-type"],
        )  # fmt: skip
        shed = None  # its answers would be none that such a page can read
    server = _Server(service, uvicorn.Config(
        app, http=guarded(settings.max_connections, settings.max_bytes, settings.upload_timeout_s, shed),
        ws="none", lifespan="off", log_config=None, access_log=False, server_header=False, backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S, timeout_graceful_shutdown=math.ceil(settings.drain_s),
    ))  # fmt: skip
    host, port = listener.getsockname()[:2]
    server.address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    try:
        server.run([listener])
    finally:
        tracer.close()
    logs.event("stopped")


def port_of(given: int | None) -> int:
    """The port to listen at: the one given, the environment's, or 8000.

    Raises:
        UserError: the environment's is no port.
    """
    if given is not None:
        return given
    text = os.environ.get("PORT") or "8000"
    if not text.isdecimal() or int(text) > 65535:
        raise UserError(f"The environment says PORT={text}, which is no port: set it to a number up to 65535.")
    return int(text)


def _raise_open_files(max_connections: int) -> None:
    """Let the process hold as many connections as it may have, each of which is an open file.

    Raises:
        UserError: the system does not allow as many.
    """
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = max_connections + OTHER_FILES
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise UserError(
            f"serve.max_connections={max_connections}: the system allows this process {hard:,} open files, of which "
            f"{OTHER_FILES} are for others; lower it, or raise the limit (ulimit -Hn)."
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        if os.name == "posix":  # on Windows it would let two services share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except socket.gaierror as error:
        raise UserError(
            f"serve.host={host} is not this machine's ({error.strerror}): give 127.0.0.1, or 0.0.0.0 for others."
        ) from error
    except OSError as error:
        raise UserError(
            f"serve.host={host} serve.port={port}: {error.strerror or error}. Choose another port, or end what uses it."
        ) from error
    return listener


class _Server(uvicorn.Server):
    """Stops at a signal with status 0: being told to stop is how a service ends."""

    address = ""

    def __init__(self, service: Service, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._service = service
        self._tasks: set[asyncio.Task[object]] = set()
        self._is_told = asyncio.Event()  # to stop

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """In place of uvicorn's, which would raise the signal again at the end."""
        loop = asyncio.get_running_loop()
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stop)
            loop.add_signal_handler(signal.SIGHUP, self._reload)
        except (NotImplementedError, AttributeError):  # Windows
            for name in ("SIGTERM", "SIGINT", "SIGBREAK"):  # the last, Ctrl-Break, is Windows' own
                if hasattr(signal, name):
                    signal.signal(getattr(signal, name), lambda *_: self._stop())
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Be ready, listen, and tell; or end, if that is wished meanwhile."""
        starting, stopping = asyncio.create_task(self._service.start()), asyncio.create_task(self._is_told.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if self.should_exit:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await self._service.close()
            return
        await starting
        await super().startup(sockets)
        identity = self._service.identity(self._service.lanes.loaded)
        logs.event("ready", {"address": self.address} | identity)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what is under way, and end the workers."""
        await super().shutdown(sockets)
        await self._service.close()

    def _stop(self) -> None:
        if self.should_exit:  # told a second time
            self.force_exit = True
        self._service.is_ready = False
        self.should_exit = True
        self._is_told.set()
        logs.event("stopping", {"connections": len(self.server_state.connections)})

    def _reload(self) -> None:
        async def reload() -> None:
            with contextlib.suppress(Refusal):  # what went wrong is in the log
                await self._service.reload()

        task = asyncio.get_running_loop().create_task(reload())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
