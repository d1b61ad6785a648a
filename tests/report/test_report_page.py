"""The page in a browser: it loads without a network, shows all there is, and fits every screen."""

import base64
import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.report.page import Sources, render
from intrinsic_lr.stats import toy
from intrinsic_lr.study.config_files import merge_over_default
from intrinsic_lr.study.study import Study
from projects import SMOKE, run

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

pytestmark = pytest.mark.workflow
in_browser = pytest.mark.skipif(not (BROWSER and DRIVER), reason="chromium and chromedriver are not installed")
SCREENS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    flags = (
        "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", "disable-dev-shm-usage", "hide-scrollbars",
        f"user-data-dir={tmp_path_factory.mktemp('browser')}",
    )  # fmt: skip
    for flag in flags:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(params=SCREENS, ids=[f"{width}-{scheme}" for width, scheme in SCREENS])
def page(request, browser, finished):
    """The smoke study's page, opened on a screen of some width in a light or dark scheme."""
    width, scheme = request.param
    browser.execute_cdp_cmd("Network.enable", {})
    browser.get_log("browser"), browser.get_log("performance")
    scheme = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get((finished / "results/smoke/report.html").as_uri())
    return browser


def all_of(page, selector, value):
    """Return the value of a JavaScript expression for every element `found` that a selector finds."""
    return page.execute_script(
        f"return [...document.querySelectorAll(arguments[0])].map(found => {value})", selector
    )


def content_of(url):
    head, text = url.split(",", 1)
    return base64.b64decode(text) if head.endswith("base64") else unquote_to_bytes(text)


@in_browser
def test_loads_alone_and_without_complaint_and_fits_the_screen(page):
    assert page.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    # The browser's own first page asks for things too.
    urls = [request["request"]["url"] for request in sent if request["documentURL"] == page.current_url]
    assert urls
    assert [url for url in urls if not url.startswith(("file:", "data:", "blob:"))] == []
    width, shown = page.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert width <= shown
    images = "[...document.querySelectorAll('main .paper img')]"
    loaded = f"Promise.all({images}.map(found => found.decode())).then(() => true)"
    assert page.execute_async_script(f"{loaded}.then(arguments[0])")
    # Each figure as it is drawn for this screen, and no other.
    kinds = all_of(page, "main .paper img", "[found.className, found.clientWidth > 0, found.clientWidth]")
    assert {(kind, seen) for kind, seen, _ in kinds} == {
        ("narrow", shown < 600),
        ("wide", shown >= 600),
    }
    assert len(kinds) > 20
    assert max(width for _, _, width in kinds) <= shown


@in_browser
def test_the_scheme_of_the_screen_is_followed_by_page_and_figures(page):
    dark = page.execute_script("return matchMedia('(prefers-color-scheme: dark)').matches")
    style = "return getComputedStyle(document.querySelector('%s')).%s"
    for place in ("body", ".paper"):
        colour = page.execute_script(style % (place, "backgroundColor"))
        light = sum(map(int, re.findall(r"\d+", colour)[:3])) > 600
        assert light != dark
    assert ("invert" in page.execute_script(style % (".paper img", "filter"))) == dark


@in_browser
def test_on_paper_all_is_light_whole_and_unfolded(page):
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    page.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert all(all_of(page, "details:has(.table)", "found.open"))
    assert set(all_of(page, ".table", "getComputedStyle(found).overflowX")) == {"visible"}
    assert set(all_of(page, ".badge", "getComputedStyle(found).printColorAdjust")) == {"exact"}
    assert page.execute_script("return getComputedStyle(document.querySelector('.paper img')).filter") == "none"
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@in_browser
def test_tables_are_told_to_screen_readers_and_reached_by_keyboard(page):
    regions = all_of(page, ".table", "[found.tabIndex, found.getAttribute('role'), found.ariaLabel]")
    assert len(regions) > 5
    assert all(index == 0 and role == "region" and label for index, role, label in regions)
    assert all(all_of(page, "table", "found.caption.textContent.trim()"))
    assert set(all_of(page, "th", "found.scope")) == {"col", "row"}
    assert all(all_of(page, "main img", "found.alt"))
    # What overflows says so.
    told = all_of(
        page, ".table", "[found.checkVisibility() && found.scrollWidth > found.clientWidth + 1, found.className]"
    )
    assert all(overflows == ("overflows" in name) for overflows, name in told)
    assert page.execute_script("return window.innerWidth") > 600 or any(overflows for overflows, _ in told)


@in_browser
def test_links_lead_somewhere_and_downloads_have_content(page):
    anchors = all_of(page, "a[href^='#']", "found.hash.slice(1)")
    assert len(anchors) > 10
    assert set(anchors) <= set(all_of(page, "[id]", "found.id"))
    links = all_of(page, "a[download]", "[found.download, found.href]")
    files = dict(links)
    assert len(files) == len(links)
    content = {name: content_of(url) for name, url in files.items()}
    assert {"gd_toy.svg", "gd_toy.pdf", "gd_toy.csv", "claims.csv", "grid_smoke_grid.svg"} <= set(content)
    heads = {"svg": b"<svg", "pdf": b"%PDF", "gz": b"\x1f\x8b"}
    for name, text in content.items():
        assert len(text) > 50
        assert text.startswith(heads.get(name.rsplit(".", 1)[1], b""))


@in_browser
def test_a_table_is_sorted_by_its_headings_as_numbers_where_a_column_has_numbers(page):
    headings = "#claim-gd_toy table th.sortable button"
    names = all_of(page, headings, "found.textContent")
    # Estimates of different quantities are not compared.
    assert "n" in names
    assert "Estimate" not in names
    place = 1 + all_of(page, "#claim-gd_toy > .table thead th", "found.textContent").index("n")
    cells = f"#claim-gd_toy > .table tbody td:nth-child({place})", "Number(found.innerText)"
    before = all_of(page, *cells)
    click = f"document.querySelector('#claim-gd_toy thead th:nth-child({place}) button').click()"
    for sign in (1, -1):
        page.execute_script(click)
        assert all_of(page, *cells) == sorted(before, key=lambda value: sign * value)
    heading = page.execute_script(f"return document.querySelector('#claim-gd_toy th:nth-child({place})').ariaSort")
    assert heading == "descending"


@in_browser
def test_the_toy_of_the_page_gives_the_losses_of_the_library(page):
    for lr, intrinsic_lr in ((1.0, 0.01), (100.0, 0.05), (0.001, 0.02)):
        expected = toy.descend([0.8, 0.6], lr, intrinsic_lr, 500).loss
        assert page.execute_script(f"return toyLosses(0.8, 0.6, {lr}, {intrinsic_lr}, 500)") == list(expected)
    before = page.execute_script("return document.querySelector('.toy polyline').getAttribute('points')")
    assert len(before.split()) == 1201
    page.execute_script(
        "const rate = document.querySelector('.toy input'); rate.value = 2;"
        "rate.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    assert page.execute_script("return document.querySelector('.toy polyline').getAttribute('points')") != before
    assert 0.8 < float(page.execute_script("return document.querySelector('.toy .late').textContent")) < 1.25


def test_the_page_says_what_its_reader_needs(finished):
    text = (finished / "results/smoke/report.html").read_text()
    places = [text.index(f'id="{place}"') for place in ("result", "scorecard", "claims", "provenance")]
    assert places == sorted(places)
    for word in ("change our mind", "Criteria", "sha256", "torch 2", "4 replicates of each setting"):
        assert word in text
    for section in text.split("<article")[1:]:
        for heading in ("Trainings", "Tables and figures", "Verdicts and this page"):
            assert f"<dt>{heading}</dt>" in section
    for address in ("https://arxiv.org/abs/2010.02916", "https://www.offconvex.org/2020/10/21/intrinsicLR/"):
        assert f'href="{address}"' in text
    for claim in ("gd_toy", "function_space_mixing"):
        article = text.split(f'<article id="claim-{claim}"')[1].split("</article>")[0]
        assert f"claims/{claim}.py" in article
        assert f"<code>claims.{claim}</code>" in article
        assert f"results/smoke/figures/{claim}.svg" in re.search(r'class="command">(.*?)</code>', article)[1]
    assert len(text) < 15e6


def test_a_study_of_the_users_own_is_titled_as_theirs(project, monkeypatch):
    monkeypatch.chdir(project)
    config = merge_over_default(SMOKE, Path("config"))
    words = {"title": "My <grid>", "subtitle": "of rates", "intro": "One & two.\n\nThree."}
    for report, expected in (
        (words, ["<h1>My &lt;grid&gt;</h1>", "of rates", "<p>One &amp; two.</p><p>Three.</p>"]),
        ({}, ["<h1>Study smoke</h1>"]),
    ):
        text = render(Sources(Study.read({**config, "report": report}), {}, Path("workflow/report")))
        assert all(part in text for part in expected)
    for wrong, told in (({"title": "a\nb"}, "one line"), ({"name": "x"}, "unknown key 'name'")):
        with pytest.raises(InputError, match=rf"^config: report.*{told}"):
            Study.read({**config, "report": wrong})


def test_the_same_results_give_the_same_page_and_a_report_of_the_workflow_with_captions(project):
    before = (project / "results/smoke/report.html").read_bytes()
    run(project, "--force", "results/smoke/report.html")
    assert (project / "results/smoke/report.html").read_bytes() == before
    run(project, "--report", "results/snakemake-report.html")
    text = (project / "results/snakemake-report.html").read_text()
    assert "4 replicates of each setting" in text


@pytest.mark.parametrize("forged", ["claims.csv", "claims/gd_toy.csv"])
def test_a_forged_verdict_does_not_reach_the_page(project, forged, monkeypatch):
    monkeypatch.chdir(project)
    study = Study.read(merge_over_default(SMOKE, Path("config")))
    sources = Sources(study, {}, Path("workflow/report"))
    assert "inconclusive" in render(sources)
    path = Path("results/smoke", forged)
    path.write_text(path.read_text().replace("inconclusive", "reproduced"))
    with pytest.raises(InputError, match=f"^results/smoke/{forged}: damaged or replaced .*repair with"):
        render(sources)
    # Without the logs, which hold the checksums of tables, what follows from the findings still decides.
    shutil.rmtree("results/smoke/logs")
    with pytest.raises(InputError, match=r"^results/smoke/claims\.csv: expected what follows from the findings"):
        render(sources)
