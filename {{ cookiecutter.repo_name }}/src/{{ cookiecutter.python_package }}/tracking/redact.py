"""Hides secrets in everything that is recorded: parameters, texts, changes to the code.

A value is secret by its name (``password``, ``apiToken``, ``OPENAI_KEY``), by its form
(``ghp_…``, a private key), or by its place in an address. Secret names end in a secret
word, in any spelling. In code only quoted values are hidden:
``token = tokenizer(text)`` stays as it is.
"""

import os
import re
from dataclasses import asdict, is_dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from . import environment, secret_names, secret_patterns
from .secret_patterns import HIDDEN, NO_SECRET, hide_all

MAX_BYTES = 1_000_000  # larger files are not searched
LOGIN_FILE = re.compile(r"[._]?netrc|\.?pgpass")
SETTINGS_FILE = re.compile(
    r"(?i).*\.(json|ya?ml|toml|ini|env|txt|cfg|conf|properties|netrc|pgpass|tfvars)$"
    rf"|\.env|{LOGIN_FILE.pattern}"
)
VARIABLE = r"(MLFLOW|DATABRICKS|AWS|AZURE)_\w*(USERNAME|PASSWORD|TOKEN|SECRET|KEY)\w*"
FRAMES = re.compile(r"(?m)^(  File \".*\n(?:    .*\n)*)")
# `name: value` and `name = value`, also of a list and of a shell
SETTING = re.compile(
    r"\s*(?:-\s+)*(?:(?:export|set|ENV|ARG)\s+)?(?P<quote>[\"']?)"
    rf"{secret_patterns.NAME}(?P=quote)"
    r"\s*(?:[:?+]?=|:)(?!=)\s*(?P<value>.*)"
)
# An item of a list, mapping or block
ITEM = re.compile(
    rf"\s*(?:-\s+)?(?:[\"']?{secret_patterns.NAME}[\"']?\s*[:=]\s+)?"
    r"(?P<quote>[\"']?)(?P<value>.*?)(?P=quote),?\s*"
)


def mask_values(values: Any, name: str = "") -> Any:
    """Return nested values without secrets, as dictionaries, lists and plain values.

    ``name`` is the secret name that they stand below, if any.
    """
    values = as_plain(values)
    if isinstance(values, dict):
        return {
            key: mask_values(value, secret_names.secret_name(key, name))
            for key, value in values.items()
        }
    if isinstance(values, (list, tuple, set)):
        hidden = [mask_values(value, name) for value in values]
        return type(values)(hidden) if type(values) in (tuple, set) else hidden
    if name and not isinstance(values, bool):
        number = isinstance(values, (int, float)) and secret_names.is_some_key(name)
        return values if number or NO_SECRET.fullmatch(str(values)) else HIDDEN
    return mask(values) if isinstance(values, str) else values


def as_plain(value: Any) -> Any:
    """Return typed parameters as a dictionary; any other value as it is."""
    if hasattr(value, "model_dump"):
        return value.model_dump()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return value


def mask(text: str) -> str:
    """Hide secrets in a message or value: addresses, assignments, known formats."""
    return hide_lines(hide_all(code(text), secret_patterns.MESSAGES))


def code(text: str) -> str:
    """Hide secrets in code: known formats, addresses, quoted values."""
    for secret in environment_secrets():
        if secret in text:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", HIDDEN, text)
    return hide_all(text, secret_patterns.CODE)


def file(name: str, text: str) -> str:
    """Hide secrets in a file or a part of it, depending on its name: settings or code.

    In a catalog of Kedro's, ``credentials: NAME`` only names an entry of another file.
    """
    path = PurePosixPath(name)
    if LOGIN_FILE.match(path.name):
        text = hide_all(text, secret_patterns.LOGIN_FILES)
    text = code(text)
    if is_settings(name) or path.suffix.lower() in ("", ".sh", ".bash"):
        of_catalog = any(part.startswith("catalog") for part in path.parts)
        text = hide_lines(text, of_catalog)
    return text


def is_settings(name: str) -> bool:
    """Tell from its name whether a file holds settings rather than code."""
    return bool(SETTINGS_FILE.match(PurePosixPath(name).name))


def diff(text: str) -> str:
    """Hide secrets in the output of ``git diff``."""
    parts = re.split(r"(?m)^(?=diff --git )", text)
    return "".join(map(diff_of_file, parts))


def diff_of_file(text: str) -> str:
    """Hide secrets in the changes to one file, in removed and added lines."""
    about, *hunks = re.split(r"(?m)^(?=@@ )", text)
    names = re.match(r"diff --git .* \"?b/(.*?)\"?\n", about)
    name, shown = names[1] if names else "", [about]
    for hunk in hunks:
        first, *lines = hunk.split("\n")
        where, _, heading = first[2:].partition("@@")
        for other in "+-":
            side = [n for n, line in enumerate(lines) if line[:1] not in (other, "\\")]
            after = file(name, "\n".join(lines[n][1:] for n in side)).split("\n")
            for n, line in zip(side, after, strict=True):
                lines[n] = f"{lines[n][:1]}{line}"
        shown.append("\n".join([f"@@{where}@@{file(name, heading)}", *lines]))
    return "".join(shown)


def traceback(text: str) -> str:
    """Hide secrets in a traceback: in lines of code and in messages."""
    parts = FRAMES.split(text)
    shown = [code(p) if n % 2 else mask(p) for n, p in enumerate(parts)]
    return "".join(shown)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without secrets."""
    return mask(str(error).strip().partition("\n")[0] or type(error).__name__)


def environment_secrets() -> list[str]:
    """Return the credentials in this process's environment, longest first."""
    found = set()
    for name, value in environment.variables().items():
        secret = re.fullmatch(VARIABLE, name) or (
            secret_names.is_secret(name) and len(value) > 11
        )
        if secret and not os.path.exists(value):  # as PWD and SSH_ASKPASS name
            found.add(value)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        user, _, _ = os.environ.get(name, "").partition("://")[2].rpartition("@")
        password = user.partition(":")[2]
        found |= {password, unquote(password)}
    return sorted(found - {""}, key=len, reverse=True)


def hide_lines(text: str, of_catalog: bool = False) -> str:
    """Hide unquoted values of settings, and what is in the blocks of secret names."""
    text = hide_all(text, secret_patterns.SETTINGS)
    lines, block = [], -1  # the indent of the secret name whose block this is
    for line in text.split("\n"):
        content, indent = line.strip(), len(line) - len(line.lstrip())
        inside = block >= 0 and indent >= block
        if content and not (inside and content[0] in "]}#"):
            if inside and (indent > block or content[0] == "-"):
                line = hide_item(line)
            else:
                line, opens_block = hide_setting(line, of_catalog)
                block = indent if opens_block else -1
        lines.append(line)
    return "\n".join(lines)


def hide_setting(line: str, of_catalog: bool) -> tuple[str, bool]:
    """Hide the value of a secret name; tell whether a block of values follows it."""
    found = SETTING.fullmatch(line)
    if not found or not secret_names.is_secret(name := found["name"]):
        return line, False
    value = re.sub(r"(^|\s)#.*", "", found["value"]).strip().rstrip(",;")
    if secret_names.is_some_key(name) and value[:1] in ("", "{"):
        return line, False
    if re.fullmatch(r"[|>][+-]?\d*|[\[{]|", value):
        return line, True
    entry = of_catalog and "credentials" in name and re.fullmatch(r"[\w.-]+", value)
    done = re.match(r"\*{3}([,;&\s]|$)", value)
    if entry or done or NO_SECRET.fullmatch(value.strip("\"'")):
        return line, False
    start = found.start("value")
    return f"{line[:start]}{HIDDEN}{line[start + len(value) :]}", False


def hide_item(line: str) -> str:
    """Hide a line of the list, mapping or block that belongs to a secret name."""
    found = ITEM.fullmatch(line)
    value = found["value"].strip("\"'") if found else ""
    if not found or value in "[{" or NO_SECRET.fullmatch(value):
        return line
    start, end = found.span("value")
    return f"{line[:start]}{HIDDEN}{line[end:]}"
