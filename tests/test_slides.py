"""Slides in a browser: no slide is too full for its page, nothing is asked of the network, s opens the notes.

In the suite one lesson; `make slides` builds all and looks at all of them (SLIDES names the folder)."""
import importlib.util
import io
import os
import re
from pathlib import Path

import numpy as np
import pytest
from browser import outside, shots
from PIL import Image

root = Path(__file__).parent.parent
SIZES = ((1024, 768), (1920, 1080))
FOLDER = os.environ.get("SLIDES")


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    "The pages of one lesson, or those that were built"
    if FOLDER: return sorted(Path(FOLDER).resolve().glob("c[0-9][0-9]_*.html"))
    spec = importlib.util.spec_from_file_location("slides", root / ".site" / "slides.py")
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module.main(str(tmp_path_factory.mktemp("slides")), 3)


def opened(browser, path, size):
    page = browser.new_page(viewport=dict(width=size[0], height=size[1]))
    page.set_default_timeout(120_000)
    page.errors, page.gone = [], outside(page, ("file://", "data:", "blob:", "about:"))
    page.on("pageerror", lambda e: page.errors.append(str(e)))
    page.on("requestfailed", lambda r: page.errors.append(r.url))
    page.goto(f"file://{path}")
    page.wait_for_selector("body[data-ready=yes]", timeout=120_000)
    return page


FULL = """() => [...document.querySelectorAll('.slides section')].filter(s => !s.querySelector('section')).map(s => {
  const up = []; for (let e = s; e && e.tagName === 'SECTION'; e = e.parentElement) { up.push([e, e.style.display]); e.style.display = 'block'; }
  const box = s.querySelector(':scope > .fits').getBoundingClientRect(), k = Reveal.getScale(), page = Reveal.getConfig();
  const text = (s.querySelector('h1,h2,h3') || {}).textContent || s.innerText.slice(0, 40);
  const wide = Math.max(0, ...[...s.querySelectorAll('.fits > *, pre, img, mjx-math, table')].map(e => e.getBoundingClientRect().right - s.getBoundingClientRect().left)) / k;
  const r = { text, high: box.height / k, scroll: s.scrollHeight, wide, page: [page.width, page.height], zoom: +s.querySelector(':scope > .fits').style.zoom };
  up.forEach(([e, was]) => { e.style.display = was; });
  return r; })"""


def test_no_slide_is_too_full(browser, slides, tmp_path):
    "At both sizes, measured on every slide; letters are never made smaller than two thirds"
    folder, small = shots(tmp_path), []
    for path in slides:
        for size in SIZES:
            page = opened(browser, path, size)
            found = page.evaluate(FULL)
            assert 10 <= len(found) <= 40, (path.name, len(found))
            for k, s in enumerate(found):
                where = f"{path.stem}, slide {k + 1} ({s['text']!r}) at {size[0]} x {size[1]}"
                assert s["high"] <= s["page"][1] + 1 and s["scroll"] <= s["page"][1] + 1, f"{where} is {s['high']:.0f} high (scrollHeight {s['scroll']})"
                assert s["wide"] <= s["page"][0] + 2, f"{where} is {s['wide']:.0f} wide of {s['page'][0]}"
                if s["zoom"] < 2 / 3: small.append(f"{where}: everything at {s['zoom']:.0%}")
            assert not page.gone and not page.errors, (page.gone, page.errors)
            assert not page.locator("mjx-merror").count(), f"{path.stem}: {page.locator('mjx-merror').first.inner_text()}"
            assert inked(page) > .01, f"{path.stem}: the first slide is blank"
            if "BROWSER_SHOTS" in os.environ: take(page, len(found), folder, f"{path.stem}-{size[0]}")
            page.close()
    assert not small, "too much on one slide:\n" + "\n".join(small)


def inked(page):
    "Share of the window that is not white"
    seen = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"))
    return (seen < 200).mean()


def take(page, n, folder, name):
    "A picture of every slide, for somebody who wants to look"
    for k in range(n):
        page.evaluate("k => { const s = Reveal.getSlides()[k]; const i = Reveal.getIndices(s); Reveal.slide(i.h, i.v); while (Reveal.availableFragments().next) Reveal.nextFragment(); }", k)
        page.wait_for_timeout(450)
        page.screenshot(path=str(folder / f"{name}-{k + 1:02}.png"))


def test_a_slide_has_notes_and_s_opens_them(browser, slides):
    "The speaker's window shows what the notes of the slide say"
    page = opened(browser, slides[0], SIZES[0])
    k, note = page.evaluate("() => { const all = Reveal.getSlides(); const k = all.findIndex(s => s.querySelector('aside.notes')); return [k, all[k].querySelector('aside.notes').textContent]; }")
    page.evaluate("k => { const i = Reveal.getIndices(Reveal.getSlides()[k]); Reveal.slide(i.h, i.v); }", k)
    with page.expect_popup() as opened_: page.keyboard.press("s")
    told = opened_.value
    told.wait_for_selector(".speaker-controls-notes:not(.hidden) .value", timeout=60_000)
    squeeze = lambda s: re.sub(r"\s+", "", s)
    assert squeeze(note)[:30] in squeeze(told.locator(".speaker-controls-notes .value").inner_text())
    assert not page.gone
