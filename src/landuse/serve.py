"""python -m landuse.serve: answer requests over HTTP with the exported model of ``run=``."""

import logging

from landuse.cli import Invocation, leave, run_command
from landuse.config.schema import Config
from landuse.config.validate_service import validate_serve
from landuse.exports import find_exported, require_extra
from landuse.tracking import logs

log = logging.getLogger(__name__)


def serve(config: Config, call: Invocation) -> None:
    """Serve until SIGTERM or Ctrl-C, then answer what is under way and exit with status 0.

    Raises:
        UserError: no such run, a damaged export, or an address that cannot be listened at.
    """
    validate_serve(config)
    require_extra("serve", "fastapi", "httptools", "onnxruntime", "prometheus_client", "python_multipart", "uvicorn")
    logs.to_stderr(config.log)
    folder = find_exported(config)

    from landuse.serving.server import serve_forever

    serve_forever(folder, config, lambda: find_exported(config))


def main() -> None:
    """Entry point of landuse-serve."""
    run_command("serve", serve)


if __name__ == "__main__":
    main()
    leave()
