"""A tracking server that fails once, and a comparison of what is recorded with what happened."""

import asyncio
import base64
import re
import threading
import time
from collections import Counter
from http import HTTPStatus

USER, PASSWORD = "aurelia", "sword/fish"
LOGIN = "aurelia:sword%2Ffish@"
STALL, GONE = 6, 15  # seconds
FAULTS = {
    "503": "answered 503, and not done",
    "401": "answered 401, and not done",
    "413": "an upload answered 413, and not done",
    "dropped": "the connection closed without an answer, and not done",
    "lost": "done, and the connection closed without an answer",
    "stall": f"done, and answered after {STALL} s",
    "gone": f"this request and all others refused for {STALL} s",
}


class Proxy:
    """Stands before a server on this machine, writes requests down, and breaks one.

    A request is known by its method, its path without ids, and how many like it came
    before: their order differs where files of a folder are sent in the disk's order.
    It asks for a password, as a team's server does.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._up = threading.Event()
        self.port = 0
        self._call(self._listen())
        self.begin()

    @property
    def uri(self) -> str:
        """The address with user and password, as one sets it in a shell."""
        return f"http://{LOGIN}127.0.0.1:{self.port}"

    def begin(self, request: str = "", fault: str = "") -> None:
        """Forget what came, and break this request in this way when it comes."""
        self.requests: list[str] = []
        self.broken = False
        self._break, self._fault = request, fault
        self._seen: Counter[str] = Counter()

    def wait_until_back(self) -> None:
        """Return when the server can be reached again."""
        assert self._up.wait(GONE + 30)

    def close(self) -> None:
        """Stop listening."""
        self._loop.call_soon_threadsafe(self._listener.close)
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _call(self, coroutine) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, limit=1 << 24
        )
        self.port = self._listener.sockets[0].getsockname()[1]
        self._up.set()

    async def _go(self) -> None:
        """Refuse every connection for a while."""
        self._up.clear()
        self._listener.close()
        await asyncio.sleep(GONE)
        await self._listen()

    async def _serve(self, reader, writer) -> None:
        try:
            head, body = await read_request(reader)
            fault = self._fault_of(head)
            if fault == "gone":
                self._going = self._loop.create_task(self._go())
            if fault in ("gone", "dropped"):
                return
            if fault.isdigit() or not authorised(head):
                writer.write(answer(HTTPStatus(int(fault or 401))))
            else:
                reply = await self._forward(head, body)
                if fault == "stall":
                    await asyncio.sleep(STALL)
                if fault != "lost":
                    writer.write(reply)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has left
        finally:
            writer.close()

    def _fault_of(self, head: bytes) -> str:
        """Write a request down; return how it is to be broken, if it is the one."""
        name = template(*head.split(b" ", 2)[:2])
        self._seen[name] += 1
        self.requests.append(f"{name} #{self._seen[name]}")
        if self.broken or self.requests[-1] != self._break:
            return ""
        self.broken = True
        return self._fault

    async def _forward(self, head: bytes, body: bytes) -> bytes:
        head = re.sub(rb"(?i)\r\nConnection: [^\r]*", b"", head)
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        writer.write(head[:-2] + b"Connection: close\r\n\r\n" + body)
        reply = await reader.read()
        writer.close()
        return reply


async def read_request(reader) -> tuple[bytes, bytes]:
    """Read one request: its head with the empty line, and its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    if re.search(rb"(?i)\r\nTransfer-Encoding: *chunked", head):
        return head, await reader.readuntil(b"0\r\n\r\n")
    length = re.search(rb"(?i)\r\nContent-Length: *(\d+)", head)
    return head, await reader.readexactly(int(length[1]) if length else 0)


def authorised(head: bytes) -> bool:
    """Tell whether a request brings user and password."""
    token = base64.b64encode(f"{USER}:{PASSWORD}".encode())
    return b"Basic " + token in head


def answer(status: HTTPStatus) -> bytes:
    """Return the answer of a proxy that refuses."""
    text = f"<html>{status} {status.phrase}</html>".encode()
    head = f"HTTP/1.1 {status} {status.phrase}\r\nContent-Type: text/html\r\n"
    head += f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n"
    return head.encode() + text


def template(method: bytes, path: bytes) -> str:
    """Return method and path without the ids and the query of one run."""
    text = path.decode().partition("?")[0]
    text = re.sub(r"^/api/\d\.\d/(mlflow/)?", "", text)
    text = re.sub(r"(?<=/)(m-)?[0-9a-f]{32}(?=/|$)|(?<=/)\d+(?=/|$)", "*", text)
    return f"{method.decode()} {text}"
