"""Settings, and the request documents that they are filled into."""

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from landuse.cloud.remote import BUCKET_NAME
from landuse.errors import UserError

FOLDER = Path(__file__).parent
PREFIX = "cloud."
NUMBER = "PROJECT_NUMBER"  # shown in a dry run, where nobody is asked for it
ACCOUNT = (re.compile(r"[\w.+-]+@[\w.-]+"), "a service account's address")
FORMS = {
    "project": (re.compile(r"[a-z][a-z0-9-]{0,29}"), "a project's ID: lower-case letters, digits and hyphens"),
    "region": (re.compile(r"[a-z]+-[a-z]+\d+"), "a region such as europe-west1"),
    "bucket": (BUCKET_NAME, "a bucket's name: lower-case letters, digits, hyphens, dots"),
    "repository": (re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?"), "lower-case letters, digits and hyphens"),
    "tag": (re.compile(r"\w[\w.-]{0,127}"), "an image's tag"),
    "name": (re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,100}"), "letters, digits, hyphens and underscores"),
    "timeout": (re.compile(r"[0-9]+s"), "seconds, such as 86400s"),
    "strategy": (re.compile("SPOT|STANDARD"), "SPOT or STANDARD"),
    "github": (re.compile(r"[\w.-]+/[\w.-]+"), "OWNER/REPOSITORY"),
    "budget.account": (re.compile(r"[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}"), "a billing account: 012345-6789AB-CDEF01"),
    "serve.name": (re.compile(r"[a-z]([a-z0-9-]{0,47}[a-z0-9])?"), "lower-case letters, digits and hyphens"),
    "sql.instance": (re.compile(r"[a-z]([a-z0-9-]{0,96}[a-z0-9])?"), "lower-case letters, digits and hyphens"),
    "database_secret": (re.compile(r"[\w-]{1,255}"), "a secret's name: letters, digits, hyphens and underscores"),
    "serve.model": (  # it becomes part of an override
        re.compile(r"(?!.*\.\.)[\w.@+-]+(/[\w.@+-]+)*/?", re.ASCII),
        "an exported folder within the bucket, without gs:// and its name: letters, digits, and _ . @ + - /",
    ),
    "wandb_secret": (re.compile(r"[\w-]{1,255}"), "a secret's name: letters, digits, hyphens and underscores"),
    "serve.key_secret": (re.compile(r"[\w-]{1,255}"), "a secret's name: letters, digits, hyphens and underscores"),
    **{f"accounts.{name}": ACCOUNT for name in ("build", "train", "serve", "github")},
}
RANGES = {
    "workers": (2, 1000, "machines; on one, landuse.sweep has workers=N of its own"),
    "disk_gb": (10, 64000, "GB"),
    "upload_every_s": (1, 86400, "seconds"),
    "serve.concurrency": (1, 1000, "requests at once"),
    "serve.min_instances": (0, 1000, "instances"),
    "serve.max_instances": (1, 1000, "instances"),
    "budget.units": (1, 10**9, "units of the account's currency"),
}
KINDS = {bool: "true or false", int: "a whole number", list: "a list, such as [A,B]", dict: "a mapping"}


@dataclass
class Request:
    """What is sent. ``body`` is JSON, or None for no body."""

    say: str
    verb: str
    url: str
    body: dict[str, Any] | None = None
    keep: str | None = None  # the setting that the answer's number becomes
    data: bool = False  # the body is bytes, given to whoever sends it
    wait: bool = True  # for the operation that it begins
    once: bool = False  # not repeated where it may have been carried out
    unless: dict[str, str] | None = None  # not sent where a list has an item with these values


@dataclass
class PolicyChange:
    """Who is to have which role on a resource. The policy is read, changed and written back under its etag.

    ``change``: "add" these members to those of the role, "remove" them, have "exact" these, or "shrink" the role's
    members to those that are among these.
    """

    say: str
    url: str
    bindings: list[dict[str, Any]] = field(default_factory=list)  # role, members
    change: str = "add"

    @property
    def read(self) -> Request:
        """How this resource's API has a policy read."""
        if "//storage." in self.url:
            return Request(self.say, "GET", f"{self.url}/iam?optionsRequestedPolicyVersion=3")
        if "//cloudresourcemanager." in self.url:
            return Request(self.say, "POST", f"{self.url}:getIamPolicy", {"options": {"requestedPolicyVersion": 3}})
        verb = "POST" if "//iam." in self.url else "GET"
        return Request(self.say, verb, f"{self.url}:getIamPolicy?options.requestedPolicyVersion=3")

    def write(self, policy: Mapping[str, Any]) -> Request | None:
        """How it has the changed policy written; None where there is nothing to change."""
        changed = self.merged(policy)
        if changed == [dict(binding) for binding in policy.get("bindings") or []]:
            return None
        new = {"version": max(1, int(policy.get("version") or 1))} | dict(policy) | {"bindings": changed}
        if "//storage." in self.url:
            return Request(self.say, "PUT", f"{self.url}/iam", new)
        return Request(self.say, "POST", f"{self.url}:setIamPolicy", {"policy": new})

    def merged(self, policy: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The bindings after the change. Those of others, and those under a condition, stay as they are."""
        result = [dict(binding) for binding in policy.get("bindings") or []]
        for wanted in self.bindings:
            ours = [b for b in result if b["role"] == wanted["role"] and "condition" not in b]
            present = {member for binding in ours for member in binding.get("members") or []}
            if self.change in ("remove", "shrink"):
                for binding in ours:
                    stays = self.change == "shrink"
                    binding["members"] = [m for m in binding.get("members") or [] if (m in wanted["members"]) == stays]
            elif self.change == "exact":
                result = [b for b in result if b not in ours]
                result.append({"role": wanted["role"], "members": sorted(wanted["members"])})
            elif missing := [m for m in wanted["members"] if m not in present]:
                if not ours:
                    ours = [{"role": wanted["role"], "members": []}]
                    result += ours
                ours[0]["members"] = [*(ours[0].get("members") or []), *missing]
        return [binding for binding in result if binding.get("members")]


Step = Request | PolicyChange


def settings(words: list[str]) -> tuple[DictConfig, list[str]]:
    """The settings after ``cloud.key=value`` words and the environment, and the other words.

    Raises:
        UserError: a key is unknown, or a value has not the form that it must have.
    """
    config = OmegaConf.load(FOLDER / "settings.yaml")
    assert isinstance(config, DictConfig)
    OmegaConf.set_struct(config, True)
    defaults = OmegaConf.to_container(config)
    for key in config:
        if (value := os.environ.get(f"LANDUSE_CLOUD_{str(key).upper()}")) is not None:
            _set(config, defaults, str(key), value)
    others = []
    for word in words:
        key, equals, value = word.removeprefix(PREFIX).partition("=")
        if not word.startswith(PREFIX):
            others.append(word)
        elif not equals:
            raise UserError(f"{word} gives no value: write {word}=VALUE.")
        else:
            _set(config, defaults, key, value)
    OmegaConf.set_struct(config, False)
    config.github_parts = str(config.github or "/").split("/")
    config.project_number = NUMBER
    return config, others


def _set(config: DictConfig, defaults: Any, key: str, value: str) -> None:
    known = list(_keys(config))
    if key not in known:
        near = difflib.get_close_matches(key, known, 1)
        hint = f"did you mean {PREFIX}{near[0]}?" if near else "settings.yaml beside cloud.py lists them."
        raise UserError(f"There is no setting {PREFIX}{key}: {hint}")
    default = defaults
    for part in key.split("."):
        default = default[part]
    if default is None or isinstance(default, str):  # text stays as it is: the tag 1.10 is no number
        is_none = value in ("", "null", "???")
        if is_none and default not in (None, "???"):
            raise UserError(f"{PREFIX}{key} needs a value: leave it out for that of settings.yaml, {default}.")
        OmegaConf.update(config, key, None if is_none else literal(value))
        return
    if isinstance(default, dict) and not key.startswith("machines."):
        raise UserError(f"{PREFIX}{key} is given by its keys, such as {PREFIX}{key}.{next(iter(default))}=...")
    try:
        new = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{PREFIX}{key}={value} is no YAML: put quotes around it.") from error
    if type(new) is not type(default):
        raise UserError(f"{PREFIX}{key}={value} is not {KINDS[type(default)]}.")
    if isinstance(new, list) and not all(isinstance(item, str) and item not in ("", "???") for item in new):
        raise UserError(f"{PREFIX}{key}={value} is not a list of texts, such as [A,B].")
    OmegaConf.update(config, key, new)


def _keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, config):
        yield f"{prefix}{key}"
        value = None if OmegaConf.is_missing(config, key) else config._get_node(key)
        if isinstance(value, DictConfig):
            yield from _keys(value, f"{prefix}{key}.")


def require(config: DictConfig, *keys: str) -> None:
    """Make sure that these settings are given, and that every given one has its form.

    Raises:
        UserError: one is missing or malformed.
    """
    for key in ("project", *keys):
        if OmegaConf.is_missing(config, "project") or OmegaConf.select(config, key, throw_on_missing=False) is None:
            missing = "project" if OmegaConf.is_missing(config, "project") else key
            variable = "" if "." in missing else f" or export LANDUSE_CLOUD_{missing.upper()}=..."
            raise UserError(f"{PREFIX}{missing} is not set: give {PREFIX}{missing}=...{variable}.")
    for key, (pattern, form) in FORMS.items():
        value = OmegaConf.select(config, key, throw_on_missing=False)
        if value is not None and not pattern.fullmatch(str(value)):
            raise UserError(f"{PREFIX}{key}={value} is not {form}.")
    for key, (least, most, unit) in RANGES.items():
        if not least <= (value := OmegaConf.select(config, key)) <= most:
            raise UserError(f"{PREFIX}{key}={value} is not from {least} to {most} {unit}.")
    if config.machine not in config.machines:
        raise UserError(f"There is no {PREFIX}machine={config.machine}: {', '.join(map(str, config.machines))}.")


def no_words(words: list[str]) -> None:
    """These commands know settings alone.

    Raises:
        UserError: there are other words.
    """
    if words:
        raise UserError(f"{words[0]} is not understood here: settings are given as cloud.KEY=VALUE.")


def steps(document: str, config: DictConfig) -> Iterator[Step]:
    """The document's steps, each filled when its turn comes: what an answer has told is in those behind it.

    Raises:
        UserError: a setting that a step needs is missing.
    """
    for step in yaml.safe_load((FOLDER / document).read_text(encoding="utf-8")):
        filled = fill(config, step)
        if "when" in filled and not filled.pop("when"):
            continue
        if "policy" in filled:
            yield PolicyChange(url=filled.pop("policy"), **filled)
        else:
            verb, _, url = filled.pop("send").partition(" ")
            yield Request(verb=verb, url=url, **filled)


def fill(config: DictConfig, document: dict[str, Any]) -> dict[str, Any]:
    """A document with its interpolations resolved; keys without a value are left out.

    Raises:
        UserError: a setting that it needs is missing.
    """
    config.document = document
    try:
        filled = OmegaConf.to_container(config.document, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(f"A setting that this needs is missing or wrong: {str(error).splitlines()[0]}.") from error
    assert isinstance(filled, dict)
    return {str(key): _without_nulls(value) for key, value in filled.items()}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def literal(text: str) -> str:
    """Text that OmegaConf leaves as it is: an override may hold an interpolation of the training's own."""
    return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + "\\${", text)
