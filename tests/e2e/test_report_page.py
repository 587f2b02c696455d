"""The page of a report in a real browser: nothing is wider than the window."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from forge.report.gather import gather
from forge.report.html import html
from tests.support.html_page import parse_page
from tests.support.report_world import ReportWorld, Version, sbom_of

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is installed"),
]
LONG = ("x" * 500, "a-name-of-many-parts-" * 8, "漢字" * 40)
# The frame is as wide as a telephone's window: a browser's own window is at least 500 px wide.
MEASURE = """<script>
const page = document.documentElement, wide = [];
for (const one of document.querySelectorAll("body *"))
  if (!one.closest("svg, .scroll") && one.getBoundingClientRect().right > page.clientWidth + 1)
    wide.push(one.tagName);
parent.postMessage(`${page.scrollWidth <= page.clientWidth} ${wide.join(" ")}`, "*");
</script></body>"""
FRAME = """<title></title><iframe src="page.html" width="{width}" height="900"></iframe>
<script>onmessage = event => document.title = event.data</script>"""


@pytest.mark.parametrize("width", [320, 420, 760, 1280])
def test_nothing_is_wider_than_the_window(tmp_path: Path, width: int) -> None:
    world = ReportWorld(tmp_path / "world")
    sbom = sbom_of(LONG, ("MIT", "y" * 300))
    for number, version in enumerate(("1.0.0", "1.1.0-rc.1", "123456789.123456789.1")):
        world.publish(Version(version, number, sbom=sbom), "development", "p" * 63)
    report = gather(world.store, world.root, "demo", "123456789.123456789.1", now=world.now)
    page = re.sub(r"<meta http-equiv[^>]*>", "", html(report))  # its policy forbids the script
    page = page.replace("<details>", "<details open>").replace("</body>", MEASURE)
    (tmp_path / "page.html").write_text(page)
    (tmp_path / "frame.html").write_text(FRAME.format(width=width))
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000")
    own = f"--user-data-dir={tmp_path / 'profile'}"
    frame = (tmp_path / "frame.html").as_uri()
    done = subprocess.run(
        [str(BROWSER), *options, own, "--dump-dom", frame],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    title = re.search("<title>.*?</title>", done.stdout)
    assert title is not None
    assert parse_page(title[0]).text.split() == ["true"]
