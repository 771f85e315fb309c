"""Metrics as text in the Prometheus format. The one door to prometheus-client, imported when first asked.

No I/O, but tens of milliseconds the first time, and some on a large node: ask in a thread.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable

from reconciler.daemon import counters, metrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


async def text(its: metrics.Sources) -> bytes:
    """What the metrics say now, in UTF-8. No hook waits for it."""
    at = metrics.moment(its)
    return await asyncio.to_thread(lambda: render(metrics.families(at, its)))


def render(families: Iterable[metrics.Family]) -> bytes:
    """The text of these families, in UTF-8."""
    from prometheus_client import exposition, metrics_core  # noqa: PLC0415  4 MiB, which many never need

    class Collector:
        """What prometheus-client takes for a registry."""

        def collect(self) -> Iterable[metrics_core.Metric]:
            for family in families:
                name = metrics.PREFIX + family.name
                metric = metrics_core.Metric(name, family.help, family.kind)
                for sample in family.samples:
                    _add(metric, name, sample)
                yield metric

    def _add(metric: metrics_core.Metric, name: str, sample: metrics.Sample) -> None:
        labels = dict(sample.labels)
        if not isinstance(sample.value, counters.Histogram):
            suffix = "_total" if metric.type == "counter" else ""
            metric.add_sample(name + suffix, labels, float(sample.value))
            return
        total, counts = sample.value.total, list(itertools.accumulate(sample.value.counts))
        for bound, count in zip((*map(str, counters.BOUNDS), "+Inf"), counts, strict=True):
            metric.add_sample(f"{name}_bucket", {**labels, "le": bound}, count)
        metric.add_sample(f"{name}_count", labels, counts[-1])
        metric.add_sample(f"{name}_sum", labels, total)

    return exposition.generate_latest(Collector())
