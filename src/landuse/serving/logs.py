"""Logs of the service on stderr, a line an event, as JSON for machines or as text for people.

Nothing that a client sent is in them: no file names, no addresses, no query.
"""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

log = logging.getLogger("landuse.serving")


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        content = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "severity": record.levelname,  # as Google Cloud's logs call it
            "event": record.getMessage(),
            **fields,
        }
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        return json.dumps(content, ensure_ascii=False)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={value}" for name, value in getattr(record, "fields", {}).items())
        clock = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        line = f"{clock} {record.levelname.lower():7} {record.getMessage()} {fields}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def set_up(form: str, level: str) -> None:
    """Send all logging of this process to stderr.

    Args:
        form: json or text.
        level: debug, info, warning or error; single requests are told from info on.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    log.setLevel(level.upper())
    logging.getLogger("landuse").handlers[:] = []
    logging.getLogger("landuse").propagate = True


def event(name: str, fields: Mapping[str, Any] | None = None, severity: int = logging.INFO) -> None:
    """Write one line."""
    if log.isEnabledFor(severity):
        log.log(severity, name, extra={"fields": fields or {}})
