"""What is answered to which path: a table. No path ever names a file; what is not in the table does not exist."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from edgedistill.errors import MissingExtraError
from edgedistill.latency import Percentiles
from edgedistill.runtime.monitor import Seen
from edgedistill.runtime.serve import page, state
from edgedistill.runtime.serve.answer import Answer, json, text
from edgedistill.runtime.serve.metrics import Metrics
from edgedistill.runtime.serve.options import ServeOptions
from edgedistill.runtime.serve.preview import Preview
from edgedistill.runtime.serve.request import Request, RequestError
from edgedistill.runtime.status import Status

#: So long one snapshot answers everybody who asks for it.
FRESH_S = 0.5
#: How long a snapshot waits for its picture.
SNAPSHOT_S = 2.0


class Watched(Protocol):
    """What is asked of a monitor; any thread may."""

    def status(self) -> Status: ...

    def latency(self, newest: int) -> Mapping[str, Percentiles]: ...

    def newest(self, source: int | None = None) -> Seen | None: ...

    def wait_newer(self, number: int, timeout_s: float, *, source: int | None = None) -> Seen | None: ...


class Routes:
    """The paths and what they answer; lives in the server's event loop."""

    def __init__(self, monitor: Watched, options: ServeOptions) -> None:
        self.monitor, self.options = monitor, options
        self.history = state.History()
        self.previews: dict[int, Preview] = {}
        self._cached: dict[str, tuple[float, Answer]] = {}
        self._table: dict[str, Callable[[Request], Awaitable[Answer]]] = {
            "/": self._page,
            "/state.json": self._state,
            "/snapshot.jpg": self._snapshot,
            "/metrics": self._metrics,
            "/healthz": self._alive,
            "/readyz": self._ready,
        }

    async def answer(self, request: Request) -> Answer:
        """Return the answer to a request; raises RequestError with 404, 501 or 503."""
        route = self._table.get(request.path)
        if route is None:
            raise RequestError(404, "there is nothing here; see / for what is running")
        return await route(request)

    def preview(self, request: Request) -> Preview:
        """Return the pictures of the source that is asked for; raises RequestError with 404."""
        if not self.options.preview:
            raise RequestError(404, "pictures are not shown here: it was started with --no-preview")
        number = self._source(request)
        if number not in self.previews:
            self.previews[number] = Preview(self.monitor, number, self.options)
        return self.previews[number]

    def take_point(self) -> None:
        """Take this second's point of the latency graph."""
        newest = self.monitor.newest()
        self.history.add(newest.number if newest else 0, self.monitor.latency)

    def close(self) -> None:
        """Let the threads of all previews end."""
        for preview in self.previews.values():
            preview.close()

    def _source(self, request: Request) -> int:
        asked = request.query.get("source", "0")
        known = [str(source.source) for source in self.monitor.status().sources]
        if asked not in known:
            raise RequestError(404, f"there is no such source; there are: {', '.join(known)}")
        return int(asked)

    def _fresh(self, key: str, make: Callable[[], Answer]) -> Answer:
        """Return an answer that is made at most every `FRESH_S`, however many ask."""
        now_s = time.monotonic()
        made_s, answer = self._cached.get(key, (0.0, None))
        if answer is None or now_s - made_s >= FRESH_S:
            answer = make()
            self._cached[key] = (now_s, answer)
        return answer

    async def _page(self, request: Request) -> Answer:
        return page.live()

    async def _state(self, request: Request) -> Answer:
        with_history = "history" in request.query

        def make() -> Answer:
            found = state.document(self.monitor.status(), preview=self.options.preview)
            return json(found | {"history": self.history.columns()} if with_history else found)

        return self._fresh(f"state {with_history}", make)

    async def _snapshot(self, request: Request) -> Answer:
        preview = self.preview(request)
        newest = self.monitor.newest(self._source(request))
        picture = await preview.newer(newest.number - 1, SNAPSHOT_S) if newest else None
        if picture is None:
            raise RequestError(503, "there is no picture yet")
        return Answer(200, picture.jpeg, "image/jpeg")

    async def _metrics(self, request: Request) -> Answer:
        accept = request.headers.get("accept", "")
        open_metrics = "application/openmetrics-text" in accept

        def make() -> Answer:
            try:
                return Answer(200, *Metrics(self.monitor.status).text(accept if open_metrics else ""))
            except MissingExtraError as error:
                raise RequestError(501, str(error)) from error

        return self._fresh(f"metrics {open_metrics}", make)

    async def _alive(self, request: Request) -> Answer:
        return text(200, "ok")

    async def _ready(self, request: Request) -> Answer:
        def make() -> Answer:
            reason = state.not_ready(self.monitor.status())
            return text(200, "ok") if reason is None else text(503, reason)

        return self._fresh("ready", make)
