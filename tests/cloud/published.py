"""Google's published description of its APIs, as the locked google-api-python-client carries it, and what breaks it."""

import functools
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

VERSIONS = {
    "aiplatform": "v1", "artifactregistry": "v1", "billingbudgets": "v1", "cloudbuild": "v1", "logging": "v2",
    "cloudresourcemanager": "v3", "iam": "v1", "run": "v2", "secretmanager": "v1", "serviceusage": "v1",
    "sqladmin": "v1", "storage": "v1",
}  # fmt: skip
PYTHON = {"string": str, "boolean": bool, "integer": int, "number": (int, float), "object": dict, "array": list}
INTEGERS_AS_TEXT = ("int64", "uint64")
Json = dict[str, Any]


@functools.cache
def document(api: str) -> Json:
    """The description of one API."""
    import googleapiclient

    folder = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
    found = json.loads((folder / f"{api}.{VERSIONS[api]}.json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def problems(value: Any, schema: Json, schemas: Json, where: str = "") -> list[str]:
    """What in a value is not as its schema says: unknown keys, types, names that are no choice, read-only keys."""
    if reference := schema.get("$ref"):
        schema = schemas[reference]
    kind = schema.get("type", "any")
    if kind == "any":
        return []
    if not isinstance(value, PYTHON[kind]) or (isinstance(value, bool) and kind != "boolean"):
        is_number = schema.get("format") in INTEGERS_AS_TEXT and isinstance(value, int)  # JSON numbers are taken too
        return [] if is_number and not isinstance(value, bool) else [f"{where}: {value!r} is no {kind}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where}: {value!r} is none of {schema['enum']}"]
    if schema.get("format") in INTEGERS_AS_TEXT and not re.fullmatch(r"-?\d+", value):
        return [f"{where}: {value!r} is no number"]
    if schema.get("format") == "google-duration" and not re.fullmatch(r"\d+(\.\d+)?s", value):
        return [f"{where}: {value!r} is no duration"]
    if kind == "array":
        return [p for i, item in enumerate(value) for p in problems(item, schema["items"], schemas, f"{where}[{i}]")]
    found = []
    for key, item in value.items() if kind == "object" else ():
        inner = schema.get("properties", {}).get(key) or schema.get("additionalProperties")
        name = f"{where}.{key}"
        if inner is None:
            found.append(f"{name}: unknown")
        elif inner.get("readOnly"):
            found.append(f"{name}: is the server's to say")
        else:
            found += problems(item, inner, schemas, name)
    return found


def method_of(verb: str, url: str) -> tuple[str, Json]:
    """The API and the method that a request calls; its path parameters match the published patterns.

    Raises:
        LookupError: no method is called so.
    """
    parts = urlsplit(url)
    name = parts.netloc.removesuffix(".googleapis.com")
    api = name if name in VERSIONS else name.rpartition("-")[2]  # a region may stand in front
    assert parts.scheme == "https" and api in VERSIONS, url
    described = document(api)
    for method in methods(described):
        paths = [described["servicePath"] + method.get("flatPath", method["path"])]
        paths += [p["path"].lstrip("/") for p in method.get("mediaUpload", {}).get("protocols", {}).values()]
        for path in paths:
            pattern = re.sub(r"\\\{(\w+)\\\}", r"[^/:]+", re.escape(path))
            if method["httpMethod"] == verb and re.fullmatch(pattern, parts.path.lstrip("/")):
                return api, method
    raise LookupError(f"{verb} {url}")


def methods(resource: Json) -> list[Json]:
    """Every method, at any depth."""
    inner = [method for child in resource.get("resources", {}).values() for method in methods(child)]
    return [*resource.get("methods", {}).values(), *inner]


def faults(verb: str, url: str, body: Json | None) -> list[str]:
    """Everything in a request that the published description does not allow."""
    api, method = method_of(verb, url)
    query = parse_qs(urlsplit(url).query, keep_blank_values=True)
    known = {name: p for name, p in method["parameters"].items() if p["location"] == "query"}
    found = [f"?{name}: unknown" for name in query if name not in {*known, "uploadType", "fields"}]
    found += [f"?{name}: missing" for name, p in known.items() if p.get("required") and name not in query]
    if "request" not in method:
        return found if body is None else [*found, f"{method['id']} takes no body"]
    return found + ([] if body is None else problems(body, method["request"], document(api)["schemas"], method["id"]))
