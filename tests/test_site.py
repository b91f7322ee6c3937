"""The site: built without a warning, every link leads somewhere, and a browser that opens it asks nobody but the disk.

In the suite one floor and the course; `make site` builds all and looks at all of it (SITE names the folder)."""
import importlib.util
import os
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browser import contrast, outside, shots

root = Path(__file__).parent.parent
FOLDER = os.environ.get("SITE")
HOME = ("file://", "data:", "blob:", "about:")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "The folder of pages"
    if FOLDER: return Path(FOLDER).resolve()
    for name in ("sphinx", "myst_nb", "furo"): pytest.importorskip(name, reason=f"{name} is not installed: pip install '.[site]', to build the site")
    spec = importlib.util.spec_from_file_location("site_", root / ".site" / "site.py")
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module.main(str(tmp_path_factory.mktemp("site")), "0_run")


class Links(HTMLParser):
    "What a page names, and what in it can be named"
    def __init__(self):
        super().__init__()
        self.named, self.ids = [], set()

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if "id" in given: self.ids.add(given["id"])
        if tag == "a" and "name" in given: self.ids.add(given["name"])
        for key in ("href", "src"):
            if key in given and tag in ("a", "img", "script", "link", "iframe", "source"): self.named.append((tag, given[key] or ""))


@cache
def links(path):
    parser = Links()
    parser.feed(path.read_text(encoding="utf8"))
    return parser


def test_links_lead_somewhere(site):
    "Within the site to files and headings that are there; to the outside an address that can be one"
    wrong, pages = [], [p for p in site.rglob("*.html") if "_static" not in p.parts and "turning" not in p.parts]
    assert len(pages) > 20
    for page in pages:
        for tag, name in links(page).named:
            u = urlsplit(name)
            if u.scheme in ("http", "https"):
                if tag != "a" or not re.fullmatch(r"[\w.-]+\.\w{2,}", u.netloc) or re.search(r"\s", name): wrong.append((page.name, tag, name))
            elif u.scheme in ("data", "mailto", "javascript") or not name: continue
            else:
                to = (page.parent / unquote(u.path)).resolve() if u.path else page
                if to.is_dir(): to = to / "index.html"
                if not to.is_file() or not to.is_relative_to(site): wrong.append((str(page.relative_to(site)), tag, name))
                elif u.fragment and to.suffix == ".html" and "_static" not in to.parts and unquote(u.fragment) not in links(to).ids: wrong.append((str(page.relative_to(site)), tag, name))
    assert not wrong, f"{len(wrong)} links lead nowhere: {wrong[:20]}"


def test_students_version_is_shown(site):
    for page in (site / "course").glob("c[0-9]*.html"): assert "BEGIN SOLUTION" not in (text := page.read_text(encoding="utf8")) and "HIDDEN TESTS" not in text and "NotImplementedError" in text


PAGES = ("index", "course", "course/c03_sds", "reference", "0_run/03_settings", "api/index", "api/run.settings", "api/prior.schedule", "course/teacher", "gallery", "ledger", "parity", "2_distill/24_ism", "4_scene/43b_study", "about")


def test_pages_in_a_browser_dark_and_light(browser, site, tmp_path):
    "Nothing from outside, no broken picture, formulas set, letters that can be read"
    folder, there = shots(tmp_path), [p for p in PAGES if (site / f"{p}.html").is_file()]
    assert {"index", "course", "reference", "api/index"} <= {*there}
    for theme in ("light", "dark"):
        page = browser.new_page(viewport=dict(width=1300, height=1000), color_scheme=theme)
        page.set_default_timeout(120_000)
        errors, gone = [], outside(page, HOME)
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.add_init_script(f"if (self === top) localStorage.setItem('theme', '{theme}')")     # a sandboxed frame has no storage
        for name in there:
            page.goto(f"file://{site / name}.html")
            if page.locator("span.math, div.math").count(): page.wait_for_selector("mjx-container", timeout=120_000)
            assert not page.locator("mjx-merror").count(), (name, page.locator("mjx-merror").first.inner_text())
            page.evaluate("() => Promise.all([...document.images].map(i => { i.loading = 'eager'; return i.decode().catch(() => 0); }))")
            broken = page.evaluate("() => [...document.images].filter(i => !i.naturalWidth).map(i => i.src.slice(-80))")
            assert not broken, (name, broken)
            ink, paper = page.evaluate("() => { const s = e => getComputedStyle(e); return [s(document.querySelector('article p')).color, s(document.body).backgroundColor]; }")
            assert contrast(ink, paper) > 7 and (contrast(paper, "#ffffff") < 1.2) == (theme == "light"), (name, theme, ink, paper)
            if "BROWSER_SHOTS" in os.environ: page.screenshot(path=str(folder / f"site-{theme}-{name.replace('/', '-')}.png"))
        assert not gone and not errors, (gone, errors)
        page.close()


def test_search_finds_a_page(browser, site):
    page = browser.new_page()
    page.set_default_timeout(120_000)
    gone = outside(page, HOME)
    page.goto(f"file://{site / 'search.html'}?q=pseudo-ground-truth+noise")
    page.wait_for_selector("#search-results li a", timeout=120_000)
    assert page.locator("#search-results li a").count() >= 1 and not gone
    page.close()
