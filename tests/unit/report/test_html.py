"""The page: figures as in the manifests, nothing from outside, no text that becomes markup."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

from forge.report.gather import gather
from forge.report.html import html
from forge.report.report import ReleaseReport
from tests.support.html_page import Node, parse_page
from tests.support.report_world import (
    CONCURRENCY,
    LICENCES,
    PACKAGES,
    ReportWorld,
    Version,
    result_of,
    sbom_of,
)

PROFILES = ("development", "jetson-agx-orin")
VERSIONS = ("1.0.0", "1.1.0", "1.2.0", "1.3.0")
LOADING = {
    "script", "link", "img", "iframe", "object", "embed", "base", "form", "image", "use", "source",
    "foreignobject", "video", "audio", "animate", "set", "track", "frame",
}  # fmt: skip
HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "' onmouseover='alert(1)",
    "</style></svg></title><base href=//evil>",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt; &amp; \u202e \u0000 Ünïcødé 漢字 🙂",
    "]]><!-- --!>",
    "x" * 3000,
)


@pytest.fixture(scope="module")
def report(module_folder: Path) -> ReleaseReport:
    world = ReportWorld(module_folder / "world")
    for number, version in enumerate(VERSIONS):
        world.publish(Version(version, number), *PROFILES)
    world.world.promote("1.3.0", "stable")
    return gather(world.store, world.root, "demo", "1.3.0", now=world.now)


@pytest.fixture(scope="module")
def page(report: ReleaseReport) -> Node:
    return parse_page(html(report))


def section(page: Node, profile: str = "development") -> Node:
    return page.one("section", id=profile)


def tables(section: Node) -> dict[str, list[list[str]]]:
    """Rows below their titles, by the titles."""
    found = (table.rows() for table in section.all("table"))
    return {" ".join(rows[0]): rows[1:] for rows in found}


def style_of(page: Node) -> str:
    (style,) = page.one("style").parts
    assert isinstance(style, str)
    return style


class TestFigures:
    """What the page says is what the manifests say."""

    def test_title_channels_and_root(self, page: Node, report: ReleaseReport) -> None:
        assert page.one("h1").text == "demo 1.3.0"
        badges = [one.text for one in page.one("ul", class_="badges").all("li")]
        assert badges[:2] == ["channel canary", "channel stable"]
        assert report.root_sha256 in page.one("code", class_="digest").text

    def test_overview_has_a_row_for_each_profile(self, page: Node, report: ReleaseReport) -> None:
        rows = page.all("table")[0].rows()[1:]
        assert [row[0] for row in rows] == list(PROFILES)
        for row, one in zip(rows, report.profiles, strict=True):
            smoke, before = one.manifest.smoke, one.history[-2].manifest.smoke
            change = (smoke.ttft_ms_p50 / before.ttft_ms_p50 - 1) * 100
            assert row[3] == f"{one.manifest.tree.size / 1000:.1f} kB"
            assert row[4] == f"{smoke.ttft_ms_p50:.0f} ms ({change:+.1f} %)"
            assert row[5].startswith(f"{smoke.output_tokens_per_s:.1f} tokens/s (+")
            assert row[-1] == "passed"

    @pytest.mark.parametrize("profile", PROFILES)
    def test_whole_digests_of_tree_manifest_steps_and_proofs(
        self, page: Node, report: ReleaseReport, profile: str
    ) -> None:
        one = next(each for each in report.profiles if each.name == profile)
        text = section(page, profile).text
        assert one.proofs is not None
        digests = [one.manifest.tree.digest, one.manifest_sha256]
        digests += [file.sha256 for file in one.proofs.files]
        digests += [
            each for link in one.manifest.chain for each in (link.key, *link.outputs.values())
        ]
        assert len(digests) > 20
        assert not [digest for digest in digests if digest not in text]

    def test_a_row_for_each_concurrency(self, page: Node) -> None:
        rows = next(rows for title, rows in tables(section(page)).items() if "concurrency" in title)
        assert [row[0] for row in rows] == list(map(str, CONCURRENCY))
        for row, level in zip(rows, result_of(3).levels, strict=True):
            rate, joules = level.output_token_throughput, level.energy_per_output_token
            assert rate is not None
            assert joules is not None
            assert row[5] == f"{rate.mean:.4g} ± 2 tokens/s"
            assert row[7] == f"{joules.mean:.4g} ± 0.03 J/token"

    def test_a_row_for_each_version_newest_first(self, page: Node, report: ReleaseReport) -> None:
        rows = next(rows for title, rows in tables(section(page)).items() if "published" in title)
        assert [row[0] for row in rows] == list(reversed(VERSIONS))
        for row, past in zip(rows, reversed(report.profiles[0].history), strict=True):
            assert past.receipt is not None
            worst = min(part.same_top or 0 for part in past.receipt.sections.values())
            assert f"{worst * 100:.1f}%" in row
            assert f"{past.manifest.smoke.peak_rss_mib:.0f} MiB" in row

    def test_downloads_from_nothing_and_from_each_version(
        self, page: Node, report: ReleaseReport
    ) -> None:
        rows = tables(section(page))["device has fetches share packages"]
        assert [row[0] for row in rows] == ["nothing", "1.2.0", "1.1.0", "1.0.0"]
        sizes = [one.bytes or 0 for one in report.profiles[0].downloads]
        assert [row[1] for row in rows] == [f"{size / 1000:.1f} kB" for size in sizes]
        assert [row[2] for row in rows] == [f"{size / sizes[0] * 100:.1f}%" for size in sizes]

    def test_gate_licences_and_packages(self, page: Node) -> None:
        found = tables(section(page))
        gate = found["metric measured limit result"]
        assert {row[0]: row[3] for row in gate}["ttft_ms_p50"] == "ok"
        assert {row[0] for row in found["licence packages"]} == set(LICENCES)
        assert sum(int(row[1]) for row in found["licence packages"]) == len(PACKAGES)
        assert [row[0] for row in found["package version licence"]] == list(PACKAGES)

    def test_commands_to_check_it_name_this_version(self, page: Node) -> None:
        commands = [one.text for one in page.one("ol", class_="checks").all("code")]
        assert commands[0].startswith("forge report demo 1.3.0 ")
        assert "forge bundle show 1.3.0 --name demo --profile development" in commands[1]


class TestPictures:
    """What is drawn has the proportions of the figures."""

    def figure(self, page: Node, title: str) -> Node:
        (found,) = [one for one in section(page).all("figure") if one.one("h4").text == title]
        return found.one("svg")

    def test_points_lie_on_one_scale(self, page: Node) -> None:
        svg = self.figure(page, "Output, by version")
        drawn = [float(dot.attributes["cy"]) for dot in svg.all("circle")]
        values = [
            level.output_token_throughput.mean
            for concurrency in CONCURRENCY
            for number in range(len(VERSIONS))
            for level in result_of(number).levels
            if level.concurrency == concurrency and level.output_token_throughput
        ]
        assert len(drawn) == len(values) == 12
        (low, top), (high, bottom) = (
            min(zip(values, drawn, strict=True)),
            max(zip(values, drawn, strict=True)),
        )
        for value, y in zip(values, drawn, strict=True):
            expected = top + (bottom - top) * (value - low) / (high - low)
            assert abs(y - expected) < 0.02

    def test_bars_are_as_long_as_their_bytes(self, page: Node, report: ReleaseReport) -> None:
        svg = self.figure(page, "Bytes that a device fetches")
        bars = [one for one in svg.all("rect") if one.attributes["class"] != "track"]
        widths = [float(one.attributes["width"]) for one in bars]
        sizes = [one.bytes or 0 for one in report.profiles[0].downloads]
        assert len(widths) == len(sizes) == 4
        for width, size in zip(widths, sizes, strict=True):
            assert width / widths[0] == pytest.approx(size / sizes[0], abs=1e-3)

    def test_each_picture_has_a_title_for_readers_who_do_not_see_it(self, page: Node) -> None:
        pictures = page.all("svg")
        assert len(pictures) == 2 * (9 + 2)
        for one in pictures:
            assert one.attributes["role"] == "img"
            assert isinstance(one.parts[0], Node)
            assert (one.parts[0].tag, bool(one.parts[0].text)) == ("title", True)

    def test_the_chain_has_a_row_for_each_step_and_an_arc_for_each_input(
        self, page: Node, report: ReleaseReport
    ) -> None:
        svg = self.figure(page, "How it was built")
        steps = report.profiles[0].steps
        names = [one.text for one in svg.all("text", class_="name")]
        assert names == [step.step for step in steps]
        arcs = [one for one in svg.all("path") if one.attributes["class"].startswith("arc")]
        assert len(arcs) == sum(len(step.inputs or {}) for step in steps)

    def test_every_class_has_a_style(self, page: Node) -> None:
        used = {name for one in page.all() for name in one.attributes.get("class", "").split()}
        styled = set(re.findall(r"\.([a-z][a-z-]*)", style_of(page)))
        assert used - styled == set()


class TestPolicy:
    """The page opens from a disk or a bucket and asks for nothing."""

    def test_policy_allows_only_the_style_sheet_that_is_there(self, page: Node) -> None:
        meta = page.one("meta", **{"http-equiv": "Content-Security-Policy"})
        rules = dict(rule.strip().split(" ", 1) for rule in meta.attributes["content"].split(";"))
        digest = base64.b64encode(hashlib.sha256(style_of(page).encode()).digest()).decode()
        assert rules == {
            "default-src": "'none'",
            "style-src": f"'sha256-{digest}'",
            "base-uri": "'none'",
            "form-action": "'none'",
        }

    def test_nothing_is_asked_for(self, page: Node) -> None:
        tags = {one.tag for one in page.all()}
        assert not tags & LOADING
        for one in page.all():
            names = set(one.attributes)
            assert not names & {"src", "srcset", "style", "action", "xlink:href", "background"}
            assert not [name for name in names if name.startswith("on")]
            assert one.attributes.get("href", "#").startswith("#")
        assert not re.search(r"url\(|@import|https?:|//|expression", style_of(page))

    def test_links_lead_to_a_place_of_the_page(self, page: Node) -> None:
        ids = [one.attributes["id"] for one in page.all() if "id" in one.attributes]
        assert len(set(ids)) == len(ids)
        targets = {one.attributes["href"].removeprefix("#") for one in page.all("a")}
        assert targets == set(PROFILES)

    def test_the_same_report_gives_the_same_bytes(self, report: ReleaseReport) -> None:
        assert html(report) == html(report)


class TestHostileTexts:
    """A text of a manifest, an SBOM or a proof stays a text."""

    @pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
    def test_no_text_becomes_markup(self, report: ReleaseReport, text: str) -> None:
        plain, hostile = (parse_page(html(with_text(report, each))) for each in ("x", text))
        assert hostile.shape() == plain.shape()
        assert hostile.text.count(visible(text)[:30]) >= 8
        assert not re.search("[\x00\u202e]", hostile.text)

    def test_texts_of_a_published_sbom(self, module_folder: Path) -> None:
        world = ReportWorld(module_folder / "sbom")
        sbom = sbom_of(HOSTILE[:6], (*HOSTILE[:6], ""))
        world.publish(Version("1.0.0", 0, sbom=sbom))
        page = parse_page(html(gather(world.store, world.root, "demo", "1.0.0", now=world.now)))
        rows = tables(section(page))["package version licence"]
        assert [row[0] for row in rows] == list(map(visible, HOSTILE[:6]))
        assert not page.all("img")


def visible(text: str) -> str:
    return " ".join(re.sub("[\x00\u202e]", "\ufffd", text).split())


def with_text(report: ReleaseReport, text: str) -> ReleaseReport:
    """The report with a text at every place that another one wrote."""
    (one, *_) = report.profiles
    manifest = one.manifest
    fit = manifest.fit.model_copy(update={"runtime": {text: text}, "driver_min": text})
    smoke = manifest.smoke.model_copy(update={"machine": text})
    serving = manifest.serving.model_copy(update={"images": {text: text}})
    changed = manifest.model_copy(
        update={"fit": fit, "smoke": smoke, "serving": serving, "created": text}
    )
    assert one.sbom is not None
    assert one.proofs is not None
    assert one.gates.smoke is not None
    check = one.gates.smoke.checks[0].model_copy(update={"metric": text, "measured": text})
    profile = replace(
        one,
        manifest=changed,
        history=(replace(one.history[0], note=text), replace(one.current, manifest=changed)),
        downloads=(replace(one.downloads[0], note=text, bytes=None),),
        gates=replace(
            one.gates,
            smoke=one.gates.smoke.model_copy(update={"checks": (check,)}),
            steps={text: text},
        ),
        steps=(replace(one.steps[0], step=text, outputs={text: text}),),
        licences=(text,),
        sbom=replace(one.sbom, model=text, packages=(replace(one.sbom.packages[0], name=text),)),
        proofs=replace(one.proofs, builder=text, files=(replace(one.proofs.files[0], name=text),)),
    )
    return replace(report, profiles=(profile,), yanked=text, channels=(text,))


class TestStyle:
    """Light, dark and paper."""

    def variables(self, style: str, start: str) -> dict[str, str]:
        """The colours that are set first after some text."""
        block = style[style.index(start) :]
        block = block[block.index(":root") :]
        return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6})", block[: block.index("}")]))

    def test_each_colour_is_set_for_light_dark_and_paper(self, page: Node) -> None:
        style = style_of(page)
        light = self.variables(style, ":root")
        dark = self.variables(style, "@media (prefers-color-scheme: dark)")
        paper = self.variables(style, "@media print")
        assert light.keys() == dark.keys() == paper.keys()
        assert set(re.findall(r"var\(--([a-z-]+)\)", style)) == light.keys()

    @pytest.mark.parametrize(
        "scheme", [":root", "@media (prefers-color-scheme: dark)", "@media print"]
    )
    def test_texts_can_be_read(self, page: Node, scheme: str) -> None:
        """Contrast of at least 4.5, as WCAG 2.2 (1.4.3) asks of text."""
        colours = self.variables(style_of(page), scheme)
        for ink in ("ink", "faint", "a", "b", "c", "d", "e", "good", "bad"):
            for paper in ("paper", "panel"):
                assert contrast(colours[ink], colours[paper]) >= 4.5, (ink, paper)
        assert contrast(colours["good"], colours["good-paper"]) >= 4.5
        assert contrast(colours["bad"], colours["bad-paper"]) >= 4.5

    def test_paper_shows_what_is_folded(self, page: Node) -> None:
        style = style_of(page)
        assert "details::details-content" in style[style.index("@media print") :]


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    """Relative luminance: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    digits = colour.lstrip("#")
    wide = digits if len(digits) == 6 else "".join(digit * 2 for digit in digits)
    parts = [int(wide[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
