#!/usr/bin/env python3
"""Clicks per minute and page, made without any of the project's code: `window-start-ms<TAB>page<TAB>count`, by window, then page.

In file order, a click is dropped when the end of its minute + 30,000 <= the greatest time so far, its own included. Lines that are no click
are skipped. Dropped and skipped are told on stderr, as `dropped N` and `skipped N`. Usage: click_analytics.py FILE...
"""

import collections
import json
import sys

counts = collections.Counter()
greatest, dropped, skipped = -1, 0, 0


def click(line):
    try:
        found = json.loads(line.decode("utf-8"))
        page, user, ts = found["page"], found["user"], found["ts"]
    except (ValueError, KeyError, TypeError, UnicodeDecodeError):
        return None
    good = isinstance(page, str) and isinstance(user, str) and type(ts) is int and ts >= 0
    return (page, ts) if good else None


for path in sys.argv[1:]:
    with open(path, "rb") as file:
        data = file.read()
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    for line in lines:
        found = click(line)
        if found is None:
            skipped += 1
            continue
        page, ts = found
        greatest = max(greatest, ts)
        start = ts - ts % 60_000
        if start + 60_000 + 30_000 <= greatest:
            dropped += 1
        else:
            counts[start, page] += 1
result = sorted(counts.items(), key=lambda item: (item[0][0], item[0][1].encode()))
sys.stdout.buffer.write("".join(f"{start}\t{page}\t{count}\n" for (start, page), count in result).encode())
print(f"dropped {dropped}\nskipped {skipped}", file=sys.stderr)
