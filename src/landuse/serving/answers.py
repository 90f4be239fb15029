"""Answers as JSON."""

from typing import Any

from fastapi.responses import Response
from pydantic_core import to_json


def json_response(content: Any) -> Response:
    """Status 200; written several times as fast as by the framework's own class."""
    return Response(to_json(content), media_type="application/json")
