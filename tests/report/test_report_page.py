"""The page in a browser: it loads without a network, shows all there is, and fits every screen."""

import base64
import json
import shutil
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.report.page import Sources, render
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
    browser.get((finished / "results/report.html").as_uri())
    browser.set_script_timeout(30)
    # The script of the page has run to its end when every table can be sorted.
    browser.execute_async_script(
        "const done = arguments[0]; const wait = () => document.querySelector('table.sortable:not(.dataTable)')"
        " ? setTimeout(wait, 50) : done(); wait();"
    )
    return browser


def all_of(page, selector, value):
    """Return the value of a JavaScript expression for every element `found` that a selector finds."""
    return page.execute_script(
        f"return [...document.querySelectorAll(arguments[0])].map(found => {value})", selector
    )


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
    widths = all_of(page, "main figure img", "found.complete * found.naturalWidth")
    assert len(widths) == 11
    assert all(widths)


@in_browser
def test_the_scheme_of_the_screen_is_followed_with_figures_on_white(page):
    dark = page.execute_script("return matchMedia('(prefers-color-scheme: dark)').matches")
    colour = "return getComputedStyle(document.querySelector('%s')).backgroundColor"
    page_, figure = (page.execute_script(colour % place) for place in ("body", ".paper"))
    assert (page_ == "rgb(255, 255, 255)") != dark
    assert figure == "rgb(255, 255, 255)"


@in_browser
def test_links_lead_somewhere_and_downloads_have_content(page):
    anchors = all_of(page, "a[href^='#']", "found.hash.slice(1)")
    assert len(anchors) > 10
    assert set(anchors) <= set(all_of(page, "[id]", "found.id"))
    links = all_of(page, "a[download]", "[found.download, found.href]")
    files = dict(links)
    assert len(files) == len(links)
    content = {name: base64.b64decode(url.split(",", 1)[1]) for name, url in files.items()}
    assert {"gd_toy.svg", "gd_toy.pdf", "gd_toy.csv", "claims.csv", "grid_smoke_grid.svg"} <= set(content)
    heads = {"svg": b"<?xml", "pdf": b"%PDF", "gz": b"\x1f\x8b"}
    for name, text in content.items():
        assert len(text) > 50
        assert text.startswith(heads.get(name.rsplit(".", 1)[1], b""))


@in_browser
def test_a_table_is_sorted_by_a_click_on_its_heading(page):
    estimates = "#claim-gd_toy table.sortable tbody td:nth-child(4)", "Number(found.innerText)"
    before = all_of(page, *estimates)
    page.execute_script("document.querySelector('#claim-gd_toy table.sortable th:nth-child(4)').click()")
    assert len(before) == 5
    assert all_of(page, *estimates) == sorted(before)
    # Numbers with words round them are sorted as numbers.
    deciding = "#scorecard table.sortable tbody td:nth-child(3)", "Number(found.dataset.order)"
    page.execute_script("document.querySelector('#scorecard table.sortable th:nth-child(3)').click()")
    assert all_of(page, *deciding) == sorted(all_of(page, *deciding))


def test_the_page_says_what_its_reader_needs(finished):
    text = (finished / "results/report.html").read_text()
    assert text.index('id="scorecard"') < text.index('id="claims"') < text.index('id="provenance"')
    for word in ("refute", "Criteria", "sha256", "torch 2", "4 replicates of each setting"):
        assert word in text
    for section in text.split("<article")[1:]:
        for heading in ("Trainings", "Tables and figures", "Verdicts and this page"):
            assert f"<dt>{heading}</dt>" in section
    for verdict in ("reproduced", "not-reproduced", "inconclusive"):
        assert f'class="tile {verdict}"' in text
    assert len(text) < 15e6


def test_the_same_results_give_the_same_page_and_a_report_of_the_workflow_with_captions(project):
    before = (project / "results/report.html").read_bytes()
    run(project, "--force", "results/report.html")
    assert (project / "results/report.html").read_bytes() == before
    run(project, "--report", "results/snakemake-report.html")
    text = (project / "results/snakemake-report.html").read_text()
    assert "4 replicates of each setting" in text


@pytest.mark.parametrize("forged", ["claims.csv", "claims/gd_toy.csv"])
def test_a_forged_verdict_does_not_reach_the_page(project, forged, monkeypatch):
    monkeypatch.chdir(project)
    study = Study.read(merge_over_default(SMOKE, Path("config")))
    sources = Sources(study, {}, Path("workflow/report"))
    assert "inconclusive" in render(sources)
    path = Path("results", forged)
    path.write_text(path.read_text().replace("inconclusive", "reproduced"))
    with pytest.raises(InputError, match=f"^results/{forged}: damaged or replaced .*repair with"):
        render(sources)
    # Without the logs, which hold the checksums of tables, what follows from the findings still decides.
    shutil.rmtree("results/logs")
    with pytest.raises(InputError, match=r"^results/claims\.csv: expected what follows from the findings"):
        render(sources)
