"""Hides secrets in everything that is recorded: parameters, texts, changes to the code.

A value is secret by its name (``password``, ``apiToken``, ``OPENAI_KEY``), by its form
(``ghp_…``, a private key), or by its place in an address. Secret names end in a secret
word, in any spelling. In code only quoted values are hidden:
``token = tokenizer(text)`` stays as it is.
"""

from __future__ import annotations

import base64
import os
import re
from dataclasses import asdict, is_dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from . import secret_names

MAX_BYTES = 1_000_000  # bytes
HIDDEN = "***"
# Values that only say where a secret comes from, or that there is none.
NO_SECRET = re.compile(
    r"(?:\$?\{[^{}]*\}|\{\{.*\}\}|\$\w+|\$\(.*\)|%\(\w+\)s|%s|<[^<>]*>|\*+|\.\.\.|…"
    r"|null|none|true|false|yes|no|~|\[\]|)",
    re.IGNORECASE,
)
FORMS = re.compile(
    r"\b(?:(?:A3T|AKIA|ASIA)[0-9A-Z]{16}\b"  # AWS
    r"|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}"
    r"|xox[a-z]-[\w-]{10,}|xapp-[\w-]{10,}"
    r"|sk-(?=[\w-]*\d)[\w-]{20,}|[sr]k_(?:live|test)_\w{10,}"
    r"|hf_[A-Za-z0-9]{20,}|AIza[\w-]{35}|ya29\.[\w-]{20,}"
    r"|dapi[0-9a-f]{32}|npm_\w{30,}|pypi-[\w-]{40,}|dckr_pat_[\w-]{16,}"
    r"|SG\.[\w-]{16,}\.[\w-]{16,}|AGE-SECRET-KEY-\w+"
    r"|eyJ[\w-]{6,}\.eyJ[\w-]{6,}(?:\.[\w-]*)?)"  # JSON web tokens
    r"|(?<=hooks\.slack\.com/services/)[\w/]{20,}"
)
PRIVATE_KEY = re.compile(
    r"(-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----)"
    r"(?:((?:(?!-----BEGIN).)*?)(-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----)"
    r"|((?:(?:\s|\\n|[+-])*[A-Za-z0-9+/=]{16,})+))",  # a part of one
    re.DOTALL,
)
# What stands before the last @ of an address; but a path may hold an @, too.
IN_ADDRESS = re.compile(
    r"(?<!\w)(\w*)://"
    r"(?!(?:(?:[\w-]+\.)+[\w-]+(?::\d+)?|[\w-]+:\d+|localhost)[/?#])([^\s'\"]*)@"
)
IN_QUERY = re.compile(r"([?&;])([\w.-]+)=([^&\s;'\"]*)")
SCHEME = re.compile(r"(?i)\b(bearer|basic)\s+([\w.~+/-]{8,}=*)")
NETRC = re.compile(r"(\b(?:(?:machine|login|account)\s+\S+\s+)+password\s+)\S+")
PASSWORD_LINE = re.compile(
    r"(?m)^(\s*password\s+|[\w.*-]+:(?:\d+|\*):[^:\s]+:[^:\s]+:)\S+$"
)
NAME = r"[A-Za-z_$][\w.$-]*"
TYPE = r"(?:[ \t]*:[ \t]*[A-Za-z_][\w.\[\]| ]*)?"  # of Python's annotations
QUOTED = (
    r'"""[^\n]*?"""|"(?:[^"\\\n]|\\.)*"|' + r"'(?:[^'\\\n]|\\.)*'|"
    r'\\+"(?:(?!\\*").)*\\+"' + r"|\\+'(?:(?!\\*').)*\\+'"
)
BEFORE = r"(?<![\w$.-])(\\*[\"']|)"
LITERAL = re.compile(
    rf"{BEFORE}({NAME})(\1\]?{TYPE}[ \t]*(?::=|=>|[:=])[ \t]*[rbfuRBFU]?[bfrBFR]?)"
    rf"({QUOTED})"
)
CALL = re.compile(
    r"((?:setdefault|setenv|getenv|putenv|environ\.get|header)\(\s*[\"'])"
    rf"({NAME})([\"'],\s*)({QUOTED})"
)
HEADER = re.compile(
    r"([\"'])(Authorization|[A-Za-z]+-[\w-]+)(:\s*)([^\"'{}$\n]+)(?=\1)"
)
LISTED = re.compile(
    rf"{BEFORE}({NAME})(\1\]?{TYPE}[ \t]*[:=][ \t]*)" r"([\[(][^\[\]()]*[\])])"
)
ELEMENT = re.compile(rf"<({NAME})>([^<\n]+)(?=</\1>)")
ASSIGNED = re.compile(rf"(?<![\w$.-])({NAME})=(?!=)" r"([^&\s,;'\"()\[\]{}]+)")
FLAG = re.compile(
    r"(?<![\w-])--([A-Za-z][\w-]*)([ =])(?![A-Z_]+\b)([^\s'\"-][^\s'\"]*)"
)
# Within a quoted text, such as what connects to a database.
IN_QUOTES = re.compile(
    r"(?i)([\"'][^\"'\n,()\[\]{}]*?\b\w*(?:password|passwd|pwd|passphrase|secret|token)=)"
    r"(?!=|[?%{$<*`]|\.\.)[^\s\"';&,(){}]+"
)
IN_FLOW = re.compile(
    r"([{\[,]\s*)" rf"({NAME})" r"(\s*:\s+)([^\s'\",{}\[\]][^,{}\[\]\n]*)"
)
LINE = re.compile(
    rf"(\s*(?:-\s+)*(?:(?:export|set|ENV|ARG)\s+)?)([\"']?)({NAME})\2"
    r"(\s*(?:[:?+]?=|:)(?!=)\s*)(.*)"
)
BELOW = re.compile(rf"(\s*(?:-\s+)?(?:[\"']?{NAME}[\"']?\s*[:=]\s+)?)(.*?)(,?\s*)")
SETTINGS = {".json", ".yaml", ".yml", ".toml", ".ini", ".env", ".txt", ".cfg", ".conf"}
SETTINGS |= {".properties", ".netrc", ".pgpass", ".tfvars"}
LOGINS = (".netrc", "_netrc", "netrc", ".pgpass", "pgpass")
VARIABLE = r"(MLFLOW|DATABRICKS|AWS|AZURE)_\w*(USERNAME|PASSWORD|TOKEN|SECRET|KEY)\w*"
FRAMES = re.compile(r"(?m)^(  File \".*\n(?:    .*\n)*)")


def mask_values(values: Any, name: str = "") -> Any:
    """Return nested values without secrets, as dictionaries, lists and plain values.

    Args:
        values: A value, with all that is in it.
        name: The secret name that it stands below, if any.
    """
    values = values.model_dump() if hasattr(values, "model_dump") else values
    if is_dataclass(values) and not isinstance(values, type):
        values = asdict(values)
    if isinstance(values, dict):
        above = "" if secret_names.is_some_key(name) else name
        return {
            key: mask_values(value, key if secret_names.is_secret(key) else above)
            for key, value in values.items()
        }
    if isinstance(values, (list, tuple, set)):
        hidden = [mask_values(value, name) for value in values]
        return type(values)(hidden) if type(values) in (tuple, set) else hidden
    if name and not isinstance(values, bool):
        harmless = isinstance(values, (int, float)) and secret_names.is_some_key(
            str(name)
        )
        return values if harmless or NO_SECRET.fullmatch(str(values)) else HIDDEN
    return mask(values) if isinstance(values, str) else values


def mask(text: str) -> str:
    """Hide secrets in a message or value: addresses, assignments, known formats."""
    return document(ASSIGNED.sub(hide_assigned, code(text)))


def code(text: str) -> str:
    """Hide secrets in code: known formats, addresses, quoted values."""
    for secret in environment_secrets():
        if secret in text:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", HIDDEN, text)
    text = PRIVATE_KEY.sub(hide_private_key, text)
    text = FORMS.sub(HIDDEN, text)
    text = IN_ADDRESS.sub(hide_in_address, text)
    text = IN_QUERY.sub(hide_in_query, text)
    text = SCHEME.sub(hide_scheme, text)
    text = LITERAL.sub(hide_literal, text)
    text = CALL.sub(hide_literal, text)
    text = FLAG.sub(lambda m: hide(m[0], m[1], m[3]), text)
    text = IN_QUOTES.sub(rf"\1{HIDDEN}", text)
    text = LISTED.sub(hide_list, text)
    text = HEADER.sub(lambda m: hide(m[0], m[2], m[4]), text)
    text = ELEMENT.sub(lambda m: hide(m[0], m[1], m[2]), text)
    return NETRC.sub(rf"\1{HIDDEN}", text)


def document(text: str, of_catalog: bool = False) -> str:
    """Hide secrets in YAML, JSON, TOML, ini, .env and plain text.

    Args:
        text: The text.
        of_catalog: Whether it is Kedro's catalog, where ``credentials: NAME`` names an
            entry of another file.
    """
    text = IN_FLOW.sub(lambda m: hide(m[0], m[2], m[4].rstrip()), code(text))
    lines, below = [], -1  # the indent of the secret name that lines stand below
    for line in text.split("\n"):
        content, indent = line.strip(), len(line) - len(line.lstrip())
        ends = content[:1] in ("]", "}", "#")
        if not content or (below >= 0 and ends and indent >= below):
            lines.append(line)
            continue
        if below >= 0 and indent >= below + (content[0] != "-"):
            lines.append(hide_below(line))
            continue
        found = LINE.fullmatch(line)
        name = found[3] if found and secret_names.is_secret(found[3]) else ""
        value = re.sub(r"(^|\s)#.*", "", found[5]).strip() if found else ""
        opens = re.fullmatch(r"[|>][+-]?\d*|[\[{]|", value)
        some_key = secret_names.is_some_key(name)
        below = -1
        if name and opens and not (some_key and value in ("", "{")):
            below = indent
        entry = of_catalog and "credentials" in name and re.fullmatch(r"[\w.-]+", value)
        done = re.match(r"\*{3}([,;&\s]|$)", value)
        if name and not (opens or entry or done or (some_key and value[0] == "{")):
            line = hide(line, name, value.rstrip(",;"))
        lines.append(line)
    return "\n".join(lines)


def file(name: str, text: str) -> str:
    """Hide secrets in a file, depending on the kind of file.

    Args:
        name: Its path, with slashes.
        text: All of it, or a part.
    """
    path = PurePosixPath(name)
    if path.name.startswith(LOGINS):
        text = PASSWORD_LINE.sub(rf"\1{HIDDEN}", text)
    if is_settings(name) or path.suffix.lower() in ("", ".sh", ".bash"):
        return document(text, any(part.startswith("catalog") for part in path.parts))
    return code(text)


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


def environment_secrets() -> list[str]:
    """Return the credentials in this process's environment, longest first."""
    found = set()
    for name, value in os.environ.items():
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


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without secrets."""
    return mask(str(error).strip().partition("\n")[0] or type(error).__name__)


def hide_below(line: str) -> str:
    """Hide a line of the list, mapping or block that belongs to a secret name."""
    found = BELOW.fullmatch(line)
    value = found[2] if found else ""
    if not found or value in "[{" or NO_SECRET.fullmatch(value.strip("\"'")):
        return line
    quote = value[0] if value[0] in "\"'" else ""
    return f"{found[1]}{quote}{HIDDEN}{quote}{found[3]}"


def hide(whole: str, name: str, value: str) -> str:
    """Hide a value within a text, if its name is secret."""
    if not secret_names.is_secret(name) or NO_SECRET.fullmatch(value.strip("\"'")):
        return whole
    head, _, tail = whole.rpartition(value)
    return f"{head}{HIDDEN}{tail}"


def hide_private_key(found: re.Match[str]) -> str:
    """Hide the lines of a private key; their number stays."""
    lines = (found[2] or found[4] or "").split("\n")
    hidden = (HIDDEN if len(line.strip()) > 1 else line for line in lines)
    return f"{found[1]}{chr(10).join(hidden)}{found[3] or ''}"


def hide_assigned(found: re.Match[str]) -> str:
    """Hide the value of ``password=x`` and of ``user=me``."""
    user = secret_names.words_of(found[1])[-1:] in (["user"], ["username"], ["uid"])
    return f"{found[1]}={HIDDEN}" if user else hide(found[0], found[1], found[2])


def hide_in_address(found: re.Match[str]) -> str:
    """Hide the credentials in an address, unless they are a placeholder."""
    scheme, (user, colon, password) = found[1], found[2].partition(":")
    only_a_name = not colon and not scheme.startswith("http")
    plain = password != HIDDEN and NO_SECRET.fullmatch(password or user)
    return found[0] if plain or only_a_name else f"{scheme}://{HIDDEN}@"


def hide_in_query(found: re.Match[str]) -> str:
    """Hide the value of a parameter in an address."""
    signature = secret_names.words_of(found[2])[-1:] in (
        ["sig"],
        ["signature"],
        ["credential"],
    )
    if signature or (found[2] == secret_names.KEY and len(found[3]) > 15):
        return f"{found[1]}{found[2]}={HIDDEN}"
    return hide(found[0], found[2], found[3])


def hide_scheme(found: re.Match[str]) -> str:
    """Hide the token after ``Bearer`` and ``Basic``, but not plain words."""
    value = found[2]
    if found[1].lower() == "bearer":
        secret = any(map(str.isdigit, value)) or len(value) > 20
    else:
        try:
            secret = b":" in base64.b64decode(value, validate=True)
        except ValueError:
            secret = False
    return f"{found[1]} {HIDDEN}" if secret else found[0]


def hide_literal(found: re.Match[str]) -> str:
    """Hide a quoted value, unless it repeats its name: ``api_key="api_key"``."""
    name, value = found[2], found[4].strip("\\\"'")
    words = secret_names.words_of(value)
    repeated = (
        words
        and words == secret_names.words_of(name)[-len(words) :]
        and value.isidentifier()
    )
    # A constant such as MODEL_KEY = "model" is none.
    constant = (
        secret_names.is_some_key(name)
        and len(value) < 20
        and not re.search(r"\d", value)
    )
    composed = re.search("[{\\[(]", value) and re.search("[rRfF]$", found[3])
    if not secret_names.is_secret(name):
        inside = LITERAL.sub(hide_literal, found[4][1:])  # of JSON within a text
        return f"{found[1]}{name}{found[3]}{found[4][:1]}{inside}"
    if NO_SECRET.fullmatch(value) or repeated or constant or composed:
        return found[0]
    return f"{found[1]}{name}{found[3]}{hide_quoted(found[4])}"


def hide_quoted(text: str) -> str:
    """Hide the content of a quoted literal."""
    quote = text[: len(text) - len(text.lstrip("\\\"'"))] or text[:1]
    return f"{quote}{HIDDEN}{quote}"


def hide_list(found: re.Match[str]) -> str:
    """Hide the quoted values of a list."""
    if not secret_names.is_secret(found[2]) or secret_names.is_some_key(found[2]):
        return found[0]
    hidden = re.sub(QUOTED, lambda literal: hide_quoted(literal[0]), found[4])
    return f"{found[1]}{found[2]}{found[3]}{hidden}"


def is_settings(name: str) -> bool:
    """Tell from its name whether a file holds settings rather than code."""
    path = PurePosixPath(name)
    return path.suffix.lower() in SETTINGS or path.name.startswith((".env", *LOGINS))
