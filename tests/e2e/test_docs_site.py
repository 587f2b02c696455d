"""`make docs`: every page of docs/ is on the site, no link is broken, no other host is asked."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(one.relative_to(ROOT / "docs") for one in (ROOT / "docs").rglob("*.md"))
# Elements whose address a browser loads without a click.
LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.sample]


class Addresses(HTMLParser):
    """What a page loads, and where its navigation leads."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.navigation: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag in LOADED and values.get("rel") != "canonical":
            self.loaded.append(values.get(LOADED[tag], ""))
        if tag == "a" and "md-nav__link" in values.get("class", ""):
            self.navigation.append(values.get("href", ""))


def build(checkout: Path, site: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / "scripts" / "docs-site", site],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    (ROOT / ".forge").mkdir(exist_ok=True)
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder


@pytest.fixture(scope="module")
def front(site: Path) -> Addresses:
    found = Addresses()
    found.feed((site / "index.html").read_text(encoding="utf-8"))
    return found


def test_navigation_leads_to_every_page(site: Path, front: Addresses) -> None:
    reached = {one.split("#")[0] for one in front.navigation}
    assert {str(page.with_suffix(".html")) for page in PAGES} <= reached
    assert [one for one in reached if one and not (site / one).is_file()] == []


def test_search_finds_each_page(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    found = {entry["location"].split("#")[0] for entry in index["docs"]}
    assert {str(page.with_suffix(".html")) for page in PAGES} <= found


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    loaded = []
    for page in site.rglob("*.html"):
        addresses = Addresses()
        addresses.feed(page.read_text(encoding="utf-8"))
        loaded += [one for one in addresses.loaded if re.match(r"(https?:)?//", one)]
    assert loaded == []


@pytest.mark.parametrize("link", ["[x](no-such-page.md)", "[x](glossary.md#no-such-heading)"])
def test_broken_link_ends_the_build(site: Path, tmp_path: Path, link: str) -> None:
    """Also with a hook of our own, which takes links out of pages."""
    assert site.is_dir()  # so the environment of the site is made
    for name in ("docs", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copyfile(ROOT / "mkdocs.yml", tmp_path / "mkdocs.yml")
    for name in (".forge", ".venv"):
        (tmp_path / name).symlink_to(ROOT / name)
    with (tmp_path / "docs" / "index.md").open("a", encoding="utf-8") as page:
        page.write(f"\n{link}\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    assert "no-such" in done.stdout + done.stderr
