"""A run's figures for Prometheus: made new from a snapshot at each scrape, nothing is counted here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from edgedistill import __version__
from edgedistill.errors import MissingExtraError
from edgedistill.runtime.firmware import THROTTLED_BITS
from edgedistill.runtime.quality import WORDS
from edgedistill.runtime.status import Status, distinct

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

ByLabel = Mapping[Any, float]

QUANTILES = {"0.5": "p50", "0.9": "p90", "0.99": "p99", "1": "max"}


class Metrics:
    """Answers scrapes; raises MissingExtraError where prometheus-client is not installed."""

    def __init__(self, status: Callable[[], Status]) -> None:
        try:
            import prometheus_client
        except ImportError as error:
            raise MissingExtraError("prometheus-client", "iot") from error
        self._status = status
        self._registry = prometheus_client.CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return all figures and their content type, in the format that an Accept header asks for."""
        from prometheus_client.exposition import choose_encoder

        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def describe(self) -> Iterable[Metric]:
        """Return nothing: what there is depends on the run."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield all figures; called by prometheus-client."""
        status = self._status()
        yield from _run(status)
        yield from _sources(status)
        yield from _outputs(status)
        yield from _machine(status)


def _run(status: Status) -> Iterator[Metric]:
    from prometheus_client.core import InfoMetricFamily, StateSetMetricFamily, SummaryMetricFamily

    facts = {"version": __version__, "bundle": status.bundle, "file": status.file, "engine": status.engine, "threads": str(status.threads)}
    yield InfoMetricFamily("edgedistill", "What runs.", value=facts)
    yield _gauge("start_time_seconds", "When the loop began, since 1970.", value=status.time_s - status.uptime_s)
    yield _counter("results", "Results since the start.", value=status.results)
    yield _gauge("fps", "Results a second over the last seconds.", value=status.fps or 0.0)
    if status.result_age_s is not None:
        yield _gauge("result_age_seconds", "Since the last result.", value=status.result_age_s)
    yield StateSetMetricFamily("edgedistill_quality", "The worst source's.", value={word: word == status.quality for word in WORDS})
    stages = SummaryMetricFamily("edgedistill_stage_seconds", "Latency by stage, over the newest results.", labels=["stage"])
    for stage, found in status.stages_ms.items():
        for quantile, name in QUANTILES.items():
            stages.add_sample("edgedistill_stage_seconds", {"stage": stage, "quantile": quantile}, getattr(found, name) / 1e3)
    yield stages


def _sources(status: Status) -> Iterator[Metric]:
    from prometheus_client.core import StateSetMetricFamily

    sources = list(zip(distinct([source.name for source in status.sources]), status.sources, strict=True))
    quality = StateSetMetricFamily("edgedistill_source_quality", "By source.", labels=["source"])
    for name, source in sources:
        quality.add_metric([name], {word: word == source.quality for word in WORDS})
    yield quality
    yield _gauge("source_up", "1 while it delivers.", {(name,): source.state == "running" for name, source in sources}, ["source"])
    fps = {(name,): source.fps or 0.0 for name, source in sources}
    yield _gauge("source_fps", "Frames a second that arrived over the last seconds.", fps, ["source"])
    ages = {(name,): source.age_s for name, source in sources if source.age_s is not None}
    yield _gauge("source_age_seconds", "Since its last frame.", ages, ["source"])
    yield _counter("captured", "Frames that arrived.", {(name,): source.captured for name, source in sources}, ["source"])
    dropped = {(name, cause): count for name, source in sources for cause, count in source.dropped.items()}
    yield _counter("dropped", "Frames that were lost, by cause.", dropped, ["source", "cause"])
    yield _counter("reconnects", "How often it was opened again.", {(name,): source.reconnects for name, source in sources}, ["source"])
    stalls = {(name,): source.stalls for name, source in sources}
    yield _counter("stalls", "How often it was silent for longer than it may.", stalls, ["source"])


def _outputs(status: Status) -> Iterator[Metric]:
    outputs = list(zip(distinct([output.name for output in status.outputs]), status.outputs, strict=True))
    texts = {"written": "Results that it took.", "dropped": "Results that it was too slow for.", "failed": "Results that it failed on."}
    for what, text in texts.items():
        yield _counter(f"output_{what}", text, {(name,): getattr(output, what) for name, output in outputs}, ["output"])


def _machine(status: Status) -> Iterator[Metric]:
    machine = status.machine
    if machine.temperature_c is not None:
        yield _gauge("temperature_celsius", "Of the hottest zone.", value=machine.temperature_c)
    if machine.throttled is not None:
        flags = {(flag,): flag in machine.throttled for flag in dict.fromkeys([*THROTTLED_BITS.values(), *machine.throttled])}
        yield _gauge("throttled", "What the firmware says of under-voltage and throttling.", flags, ["flag"])
    if machine.rss_mb is not None:
        yield _gauge("resident_memory_bytes", "Of this process.", value=machine.rss_mb * 1e6)


def _gauge(name: str, text: str, by_label: ByLabel | None = None, labels: list[str] | None = None, **given: Any) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    return _filled(GaugeMetricFamily(f"edgedistill_{name}", text, labels=labels, **given), by_label)


def _counter(name: str, text: str, by_label: ByLabel | None = None, labels: list[str] | None = None, **given: Any) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    return _filled(CounterMetricFamily(f"edgedistill_{name}", text, labels=labels, **given), by_label)


def _filled(family: Any, by_label: ByLabel | None) -> Any:
    for labels, value in (by_label or {}).items():
        family.add_metric(labels, value)
    return family
