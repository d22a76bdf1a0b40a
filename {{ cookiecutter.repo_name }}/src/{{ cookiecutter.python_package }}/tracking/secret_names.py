"""Which names mean a secret."""

import functools
import re
from typing import Any

ENDING = re.compile(
    r"(password|passwd|passphrase|passcode|pwd|secret|credential)s?$"
    r"|(^|_)(authorization|(basic|http)_auth|(access|private)_key_id"
    r"|(api|access|auth|bearer|bot|git|github|gitlab|id|refresh|session)_?tokens?"
    r"|(api|access|account|auth|encryption|master|private|secret|signing)_?keys?"
    r"|(openai|ssh)keys?"
    r"|(admin|db|ftp|login|mail|my|proxy|root|smtp|sql|ssh|store|user)pass)$"
)
# Names that end in these words, unless the word before says that it is something else.
TOKEN, PASS, KEY = "token", "pass", "key"
PLAIN_TOKENS = """
    begin blank bos class cls count decoder each end eos first forced image last
    mask max min n next num number oov pad padding per prefix sep special split
    start stop suffix total unk unknown
"""
PLAIN_PASSES = """
    all backward band by first forward high last low multi n num one per second
    single two
"""
PLAIN_KEYS = """
    alias answer any artifact attr attribute batch binary blob bucket business by
    cache candidate caption category child class cluster clustering col color colour
    column composite config content context custom data dataset date dedup default
    dependency dest destination dict dictionary dist distribution document dot edge
    empty end entity entry environment error eval event experiment explode extra
    feature field figure file filter first fold foreign format function global graph
    group grouping has hash header hot id image index info input integer is item job
    join joining json label last layer left legend level line link list local lookup
    map mapping match matching merge message meta metadata metric model name natural
    nested new next no node not object of old on option order ordering output page
    param parameter parent part partition path pipeline plot prefix primary prng
    prompt property public query question range record ref reference region registry
    response result right rng root routing row run sample schema score section
    sequence series setting shape shard short shuffle site sort sorting source split
    src start state status step stratify string style subject suffix surrogate table
    tag target task temp test text time timestamp train translation type unique val
    valid validation value variable weight xor yaml zip
"""
PLAIN = {
    TOKEN: set(PLAIN_TOKENS.split()),
    PASS: set(PLAIN_PASSES.split()),
    KEY: {*PLAIN_KEYS.split(), ""},
}


def words_of(name: str) -> list[str]:
    """Return the words of a name in any spelling, in lower case."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    words = [word for word in re.split(r"[\W_]+", name.lower()) if word]
    while words and words[-1].isdigit():
        words.pop()
    return [*words[:-1], words[-1].rstrip("0123456789")] if words else []


@functools.lru_cache(maxsize=10_000)
def is_secret(name: Any) -> bool:
    """Tell from the ending of a name whether its values are secret."""
    if not (words := words_of(str(name))):
        return False
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if last in PLAIN:
        return before not in PLAIN[last]
    return bool(ENDING.search("_".join(words)))


def is_some_key(name: str) -> bool:
    """Tell whether a name is secret only because it ends in ``key``."""
    words = words_of(name)
    return words[-1:] == [KEY] and not ENDING.search("_".join(words))


def secret_name(key: Any, above: str = "") -> str:
    """Return the secret name that a value has, or that its mapping stands below."""
    if is_secret(key):
        return str(key)
    return "" if is_some_key(above) else above
