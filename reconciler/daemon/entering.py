"""Enters into the book what drifts beside containers' cpusets: partitions and slices. Pure."""

from __future__ import annotations

from reconciler import recurring, report


def enter(book: report.Book, news: recurring.News, kind: report.Kind = "cpuset") -> report.Entry:
    """Counts it; what there is to tell of it."""
    counters = book.counters
    counters.found += news.event == "drift.found"
    counters.unrepaired += (news.event == "drift.unrepairable") - news.takes_back
    counters.repaired += news.event == "drift.repaired"
    return report.Entry(
        event=news.event,
        container=news.container,
        fields=news.fields,
        silent=news.silent,
        since=news.since,
        kind=kind,
    )
