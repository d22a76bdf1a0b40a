"""What secrets look like in a text, and what hides them.

A pattern has a group ``value``. Its rule returns what takes the place of that value,
or None if the value is no secret. Most rules look at the group ``name``.
"""

import base64
import re
from collections.abc import Callable, Mapping

from .secret_names import KEY, is_secret, is_some_key, words_of

HIDDEN = "***"
# Values that only say where a secret comes from, or that there is none.
NO_SECRET = re.compile(
    r"(?:\$?\{[^{}]*\}|\{\{.*\}\}|\$\w+|\$\(.*\)|%\(\w+\)s|%s|<[^<>]*>|\*+|\.\.\.|…"
    r"|null|none|true|false|yes|no|~|\[\]|)",
    re.IGNORECASE,
)
Rule = Callable[[re.Match[str]], str | None]

# -- Rules


def hide(found: re.Match[str]) -> str:
    """Hide every line of the value; their number stays."""
    return re.sub(r"\S.*", HIDDEN, found["value"])


def hide_by_name(found: re.Match[str]) -> str | None:
    """Hide the value of a secret name, unless it is a placeholder."""
    placeholder = NO_SECRET.fullmatch(found["value"].strip("\"'"))
    return HIDDEN if is_secret(found["name"]) and not placeholder else None


def hide_literal(found: re.Match[str]) -> str | None:
    """Hide a quoted value by its name, but not what is a plain constant of code."""
    name, value = found["name"], found["value"]
    if not is_secret(name):
        return None
    words = words_of(value)
    repeated = words and words == words_of(name)[-len(words) :]
    repeats_name = repeated and value.isidentifier()  # api_key="api_key"
    short = len(value) < 20 and not re.search(r"\d", value)
    constant = is_some_key(name) and short  # MODEL_KEY = "model"
    formatted = re.search("[rRfF]", found["prefix"]) and re.search(r"[{\[(]", value)
    return None if repeats_name or constant or formatted else hide_by_name(found)


def hide_list(found: re.Match[str]) -> str | None:
    """Hide the quoted values of a list."""
    secret = is_secret(found["name"]) and not is_some_key(found["name"])
    return hide_all(found["value"], {QUOTED: hide}) if secret else None


def hide_login(found: re.Match[str]) -> str | None:
    """Hide user and password of an address, unless they are placeholders."""
    user, colon, password = found["value"].partition(":")
    only_user = not colon and not found["scheme"].startswith("http")
    placeholder = password != HIDDEN and NO_SECRET.fullmatch(password or user)
    return None if only_user or placeholder else HIDDEN


def hide_query(found: re.Match[str]) -> str | None:
    """Hide a parameter of an address: by its name, and signatures."""
    signature = words_of(found["name"])[-1:] in (["sig"], ["signature"], ["credential"])
    long_key = found["name"] == KEY and len(found["value"]) > 15
    return HIDDEN if signature or long_key else hide_by_name(found)


def hide_assigned(found: re.Match[str]) -> str | None:
    """Hide the value of ``password=x``, and of ``user=me``."""
    user = words_of(found["name"])[-1:] in (["user"], ["username"], ["uid"])
    return HIDDEN if user else hide_by_name(found)


def hide_scheme(found: re.Match[str]) -> str | None:
    """Hide what follows ``Bearer`` and ``Basic``, but not a plain word."""
    value = found["value"]
    if found["scheme"].lower() == "bearer":
        return HIDDEN if re.search(r"\d", value) or len(value) > 20 else None
    try:
        return HIDDEN if b":" in base64.b64decode(value, validate=True) else None
    except ValueError:
        return None


# -- Patterns, each with an example

NAME = r"(?P<name>[A-Za-z_$][\w.$-]*)"
NAME_START = r"(?<![\w$.-])"
# A name in code: in quotes or without, in brackets (`x["name"]`), with its type.
CODE_NAME = (
    rf"{NAME_START}(?P<around>\\*[\"']|){NAME}(?P=around)\]?"
    r"(?:[ \t]*:[ \t]*[A-Za-z_][\w.\[\]| ]*)?[ \t]*"
)
QUOTED = r'(?P<quote>"""|\\*["\'])(?P<value>(?:\\.|[^\\\n])*?)(?P=quote)'
LITERAL = rf"(?P<prefix>[rbfuRBFU]?[rbfRBF]?){QUOTED}"
KNOWN_TOKEN = (
    r"(?P<value>\b(?:(?:A3T|AKIA|ASIA)[0-9A-Z]{16}\b"  # AWS
    r"|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}"
    r"|xox[a-z]-[\w-]{10,}|xapp-[\w-]{10,}"
    r"|sk-(?=[\w-]*\d)[\w-]{20,}|[sr]k_(?:live|test)_\w{10,}"
    r"|hf_[A-Za-z0-9]{20,}|AIza[\w-]{35}|ya29\.[\w-]{20,}"
    r"|dapi[0-9a-f]{32}|npm_\w{30,}|pypi-[\w-]{40,}|dckr_pat_[\w-]{16,}"
    r"|SG\.[\w-]{16,}\.[\w-]{16,}|AGE-SECRET-KEY-\w+"
    r"|eyJ[\w-]{6,}\.eyJ[\w-]{6,}(?:\.[\w-]*)?)"  # JSON web tokens
    r"|(?<=hooks\.slack\.com/services/)[\w/]{20,})"
)
# Up to its end; or, where that is cut off, all that may belong to it.
PRIVATE_KEY = (
    r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?P<value>"
    r"(?:(?!-----BEGIN).)*?(?=-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----)"
    r"|(?:(?:\s|\\n|[+-])*[A-Za-z0-9+/=]{16,})+)"
)
# postgresql://me:SECRET@host, up to the last @; but a path may hold an @, too
ADDRESS = (
    r"(?<!\w)(?P<scheme>\w*)://"
    r"(?!(?:(?:[\w-]+\.)+[\w-]+(?::\d+)?|[\w-]+:\d+|localhost)[/?#])"
    r"(?P<value>[^\s'\"]*)@"
)
# ?user=me&token=SECRET
QUERY = r"[?&;](?P<name>[\w.-]+)=(?P<value>[^&\s;'\"]*)"
# Bearer SECRET
SCHEME = r"(?i)\b(?P<scheme>bearer|basic)\s+(?P<value>[\w.~+/-]{8,}=*)"
# password = "SECRET", "password": "SECRET"
NAMED_LITERAL = rf"{CODE_NAME}(?::=|=>|[:=])[ \t]*{LITERAL}"
# os.environ.setdefault("PASSWORD", "SECRET")
SETTER = (
    r"(?:setdefault|setenv|getenv|putenv|environ\.get|header)\(\s*"
    rf"[\"']{NAME}[\"'],\s*{LITERAL}"
)
# --token=SECRET, --token SECRET
FLAG = (
    r"(?<![\w-])--(?P<name>[A-Za-z][\w-]*)[ =](?![A-Z_]+\b)"
    r"(?P<value>[^\s'\"-][^\s'\"]*)"
)
# connect("host=db password=SECRET")
CONNECTION = (
    r"(?i)[\"'][^\"'\n,()\[\]{}]*?"
    r"\b\w*(?:password|passwd|pwd|passphrase|secret|token)="
    r"(?P<value>(?!=|[?%{$<*`]|\.\.)[^\s\"';&,(){}]+)"
)
# passwords = ["SECRET", "SECRET"]
LIST = rf"{CODE_NAME}[:=][ \t]*(?P<value>[\[(][^\[\]()]*[\])])"
# "X-Api-Key: SECRET"
HEADER = (
    r"(?P<quote>[\"'])(?P<name>Authorization|[A-Za-z]+-[\w-]+):\s*"
    r"(?P<value>[^\"'{}$\n]+)(?=(?P=quote))"
)
# <password>SECRET</password>
ELEMENT = rf"<{NAME}>(?P<value>[^<\n]+)(?=</(?P=name)>)"
# machine host login me password SECRET
NETRC = r"\b(?:(?:machine|login|account)\s+\S+\s+)+password\s+(?P<value>\S+)"
# {user: me, password: SECRET}
FLOW = (
    r"[{\[,]\s*" + NAME + r"\s*:\s+"
    r"(?P<value>[^\s'\",{}\[\]](?:[^,{}\[\]\n]*[^\s,{}\[\]])?)"
)
# password=SECRET
ASSIGNED = rf"{NAME_START}{NAME}=(?!=)" r"(?P<value>[^&\s,;'\"()\[\]{}]+)"
# host:5432:database:me:SECRET in .pgpass, or a line of .netrc
LOGIN_LINE = (
    r"(?m)^(?:\s*password\s+|[\w.*-]+:(?:\d+|\*):[^:\s]+:[^:\s]+:)(?P<value>\S+)$"
)

# -- Which patterns apply where, and what hides their values

CODE = {
    PRIVATE_KEY: hide,
    KNOWN_TOKEN: hide,
    ADDRESS: hide_login,
    QUERY: hide_query,
    SCHEME: hide_scheme,
    NAMED_LITERAL: hide_literal,
    SETTER: hide_literal,
    FLAG: hide_by_name,
    CONNECTION: hide,
    LIST: hide_list,
    HEADER: hide_by_name,
    ELEMENT: hide_by_name,
    NETRC: hide,
}
SETTINGS = {FLOW: hide_by_name}
MESSAGES = {ASSIGNED: hide_assigned}
LOGIN_FILES = {LOGIN_LINE: hide}


def hide_all(text: str, rules: Mapping[str, Rule]) -> str:
    """Apply a table of patterns and rules to a text."""
    for expression, rule in rules.items():
        pattern = re.compile(expression)
        parts, done, position = [], 0, 0
        while found := pattern.search(text, position):
            start, end = found.span("value")
            if (hidden := rule(found)) is None:
                position = start  # it may hold another secret
                continue
            parts += [text[done:start], hidden]
            done, position = end, found.end()
        text = "".join([*parts, text[done:]])
    return text
