"""The part of a W&B server that its library needs, on loopback: runs, history, artifacts. And it can misbehave."""

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENTITY = "someone"
KEY = "0123456789abcdef" * 2 + "01234567"


@dataclass
class Server:
    """What was sent to it, and how it behaves."""

    url: str = ""
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)  # by name: config, summary, history, exit code
    artifacts: list[dict[str, Any]] = field(default_factory=list)  # name, version, aliases, state, manifest
    blobs: dict[str, bytes] = field(default_factory=dict)  # uploaded, by path
    asked: list[str] = field(default_factory=list)  # names of GraphQL operations
    status: int = 200  # what it answers to everything from now on
    unknown: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)  # other addresses

    def history(self, run: str) -> list[dict[str, Any]]:
        """The rows of a run, by their offset in its file of history."""
        return [json.loads(line) for _, line in sorted(self.runs[run]["history"].items())]

    def summary(self, run: str) -> dict[str, Any]:
        return self.runs[run]["summary"]

    def files(self, name: str, version: int) -> dict[str, bytes]:
        """The content of an artifact."""
        (found,) = [a for a in self.artifacts if (a["name"], a["version"]) == (name, version)]
        return {path: self.blobs[f"{found['id']}/{path}"] for path in found["manifest"]["contents"]}


def snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _run(server: Server, name: str) -> dict[str, Any]:
    return server.runs.setdefault(
        name, {"name": name, "config": {}, "summary": {}, "history": {}, "exit_code": None, "tags": []}
    )


class _Handler(BaseHTTPRequestHandler):
    server_state: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        if self.path.startswith("/blob/") and (data := self.server_state.blobs.get(self.path[len("/blob/") :])):
            return self._send(data)
        return self._send(b"{}", 404)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def do_PUT(self) -> None:
        body = self._body()
        self.server_state.blobs[self.path.removeprefix("/blob/")] = body
        self._send(b"")

    def do_POST(self) -> None:
        state = self.server_state
        body = self._body()
        if state.status != 200:
            return self._send(b'{"error": "as ordered"}', state.status)
        if self.path != "/graphql" and not self.path.startswith("/files/"):  # how the library itself is used
            self.server_state.others.append(self.path)
            return self._send(b"{}")
        content = json.loads(body)
        if self.path == "/graphql":
            return self._send(json.dumps(self._graphql(content["query"], content.get("variables") or {})).encode())
        run = _run(state, self.path.split("/")[4])
        for file, part in (content.get("files") or {}).items():
            if file == "wandb-history.jsonl":
                run["history"] |= dict(enumerate(part["content"], start=part["offset"]))
            if file == "wandb-summary.json":
                run["summary"] = json.loads(part["content"][-1])
        if content.get("complete"):
            run["exit_code"] = content["exitcode"]
        return self._send(b"{}")

    def _send(self, data: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        found = re.search(r"(?:query|mutation)\s+(\w+)", query)
        name = found[1] if found else query[:60]
        self.server_state.asked.append(name)
        if (answer := getattr(self, f"_{snake_case(name)}", None)) is None:
            self.server_state.unknown.append(f"{name} {variables}\n{query}")
            return {"errors": [{"message": f"{name} is unknown here"}]}
        return {"data": answer(variables)}

    def _viewer(self, _: Any) -> Any:
        return {"viewer": {"id": "1", "entity": ENTITY, "username": ENTITY, "flags": "{}", "teams": {"edges": []}}}

    def _server_features_query(self, _: Any) -> Any:
        return {"serverInfo": {"features": []}}

    def _run_resume_status(self, variables: Any) -> Any:
        run = self.server_state.runs.get(variables["name"])
        if run is None:
            return {"model": {"id": "p", "name": variables["project"], "entity": {"name": ENTITY}, "bucket": None}}
        lines = [line for _, line in sorted(run["history"].items())]
        bucket = {
            "name": variables["name"], "historyLineCount": len(lines), "eventsLineCount": 0, "logLineCount": 0,
            "historyTail": json.dumps(lines[-1:]), "eventsTail": "[]", "summaryMetrics": json.dumps(run["summary"]),
            "config": json.dumps(run["config"]), "tags": run["tags"], "wandbConfig": json.dumps({"t": 1}),
        }  # fmt: skip
        return {"model": {"id": "p", "name": variables["project"], "entity": {"name": ENTITY}, "bucket": bucket}}

    def _upsert_bucket(self, variables: Any) -> Any:
        run = _run(self.server_state, variables["name"])
        if variables.get("config"):
            run["config"] = json.loads(variables["config"])
        run |= {key: variables[key] for key in ("groupName", "displayName", "tags", "jobType") if variables.get(key)}
        project = {"id": "p", "name": variables["project"], "entity": {"id": "e", "name": ENTITY}}
        bucket = {
            "id": f"id-{run['name']}", "name": run["name"], "displayName": "", "description": "", "sweepName": None,
            "project": project, "historyLineCount": len(run["history"]), "config": json.dumps(run["config"]),
        }  # fmt: skip
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def _get_default_entity(self, _: Any) -> Any:
        return self._viewer(_)

    def _organization_core_weave_organization_id(self, _: Any) -> Any:
        return {"entity": {"organization": {"coreWeaveOrganizationId": None}}}

    def _create_run_files(self, variables: Any) -> Any:
        files = [{"name": name, "uploadUrl": f"{self.server_state.url}/blob/run/{name}"} for name in variables["files"]]
        return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": files}}

    def _create_artifact(self, variables: Any) -> Any:
        asked, artifacts = variables["input"], self.server_state.artifacts
        name = asked["artifactCollectionName"]
        aliases = [alias["alias"] for alias in asked["aliases"]]
        same = [a for a in artifacts if (a["name"], a["digest"]) == (name, asked["digest"])]
        earlier = [a for a in artifacts if a["name"] == name]
        found = same[0] if same else {
            "id": f"artifact-{len(artifacts)}", "name": name, "digest": asked["digest"], "version": len(earlier),
            "state": "PENDING", "aliases": [], "type": asked["artifactTypeName"], "metadata": asked["metadata"],
        }  # fmt: skip
        for other in earlier:
            other["aliases"] = [alias for alias in other["aliases"] if alias not in aliases]
        found["aliases"] += aliases
        if not same:
            artifacts.append(found)
        sequence = {"latestArtifact": {"id": found["id"]} if same else None}
        return {
            "createArtifact": {"artifact": {"id": found["id"], "state": found["state"], "artifactSequence": sequence}}
        }

    def _manifest(self, variables: Any) -> Any:
        number = variables.get("artifactID") or variables.get("artifactManifestID", "").removeprefix("manifest-")
        file = {"uploadUrl": f"{self.server_state.url}/blob/{number}/manifest.json", "uploadHeaders": []}
        file |= {"id": f"file-{number}", "name": "wandb_manifest.json", "displayName": "wandb_manifest.json"}
        return {"artifactManifest": {"id": f"manifest-{number}", "file": file}}

    def _create_artifact_manifest(self, variables: Any) -> Any:
        return {"createArtifactManifest": self._manifest(variables)}

    def _update_artifact_manifest(self, variables: Any) -> Any:
        return {"updateArtifactManifest": self._manifest(variables)}

    def _create_artifact_files(self, variables: Any) -> Any:
        nodes = [
            {
                "node": {
                    "id": f"{file['artifactID']}/{file['name']}", "name": file["name"], "displayName": file["name"],
                    "uploadUrl": f"{self.server_state.url}/blob/{file['artifactID']}/{file['name']}",
                    "uploadHeaders": [], "artifact": {"id": file["artifactID"]}, "storagePath": file["name"],
                    "uploadMultipartUrls": None,
                }
            }
            for file in variables["input"]["artifactFiles"]
        ]  # fmt: skip
        return {"createArtifactFiles": {"files": {"edges": nodes}}}

    def _commit_artifact(self, variables: Any) -> Any:
        (found,) = [a for a in self.server_state.artifacts if a["id"] == variables["artifactID"]]
        found["state"] = "COMMITTED"
        found["manifest"] = json.loads(self.server_state.blobs[f"{found['id']}/manifest.json"])
        return {"commitArtifact": {"artifact": {"id": found["id"], "digest": found["digest"]}}}

    def _artifact_type(self, _: Any) -> Any:
        return {"project": {"artifact": None}}

    def _fetch_artifact_manifest(self, variables: Any) -> Any:
        file = {"directUrl": f"{self.server_state.url}/blob/{variables['id']}/manifest.json"}
        return {"artifact": {"currentManifest": {"__typename": "ArtifactManifest", "file": file}}}

    def _get_artifact_membership_file_urls(self, variables: Any) -> Any:
        found = self._found(f"{variables['collection']}:{variables['alias']}")
        assert found is not None
        place = f"{self.server_state.url}/blob/{found['id']}"
        edges = [
            {"node": {"__typename": "File", "name": name, "directUrl": f"{place}/{name}"}}
            for name in found["manifest"]["contents"]
        ]
        page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        files = {"pageInfo": page, "edges": edges}
        collection = {"__typename": "ArtifactSequence", "artifactMembership": {"files": files}}
        return {"project": {"artifactCollection": collection}}

    def _found(self, name: str) -> dict[str, Any] | None:
        name, _, alias = name.partition(":")
        for artifact in self.server_state.artifacts:
            if artifact["name"] == name and (alias in artifact["aliases"] or alias == f"v{artifact['version']}"):
                return artifact
        return None

    def _artifact_by_id(self, variables: Any) -> Any:
        (found,) = [a for a in self.server_state.artifacts if a["id"] == variables["id"]]
        return {"artifact": _described(found)["artifact"]}

    def _artifact_membership_by_name(self, variables: Any) -> Any:
        found = self._found(variables["name"])
        return {"project": {"artifactCollectionMembership": None if found is None else _described(found)}}


def _described(found: dict[str, Any]) -> dict[str, Any]:
    """An artifact as a member of its collection."""
    project = {"id": "p", "internalId": "1", "name": "landuse", "entity": {"name": ENTITY}}
    collection = {"__typename": "ArtifactSequence", "name": found["name"], "project": project}
    times = {"createdAt": "2026-01-01T00:00:00Z", "updatedAt": None}
    aliases = [{"__typename": "ArtifactAlias", "id": alias, "alias": alias} for alias in found["aliases"]]
    artifact = {
        "__typename": "Artifact", "id": found["id"], "artifactSequence": collection, "description": None,
        "versionIndex": found["version"], "artifactType": {"name": found["type"]}, "metadata": found["metadata"],
        "ttlDurationSeconds": -1, "ttlIsInherited": True, "tags": [], "historyStep": None, "size": 1,
        "state": found["state"], "digest": found["digest"], "commitHash": "c", "fileCount": 1, **times,
        "aliases": [alias | {"artifactCollection": collection} for alias in aliases],
    }  # fmt: skip
    return {
        "__typename": "ArtifactCollectionMembership", "id": "m", "versionIndex": found["version"], **times,
        "aliases": aliases, "artifactCollection": collection, "artifact": artifact,
    }  # fmt: skip


@contextmanager
def serving() -> Iterator[Server]:
    """A server while the block runs."""
    state = Server()
    handler = type("Handler", (_Handler,), {"server_state": state})
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    http.daemon_threads = True
    state.url = f"http://127.0.0.1:{http.server_port}"
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield state
    finally:
        http.shutdown()
        http.server_close()
