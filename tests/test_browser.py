"What only a browser can tell: the lab opens at its first page, a lesson runs in it, the report reads well and loads nothing"
import json
from types import SimpleNamespace

import pytest, torch

from browser import IDLE, answer, contrast, page_of, run_menu, shots

def test_lab_opens_at_the_first_lesson(lab, browser, tmp_path):
    "The first lesson with its pictures and no broken widget, no launcher and no pop-up; its last line leads to the index; then a lesson's copy runs in its kernel from top to bottom, and nothing is asked of the world outside"
    page, gone = page_of(browser)
    page.goto(lab.address())
    try:
        page.wait_for_selector(".jp-RenderedMarkdown h1:has-text('start')")
        page.wait_for_function("() => { const e = document.querySelector('.jp-OutputArea-output img'); return e && e.complete && e.naturalWidth > 0 && e.alt.includes('a red mug') }")
        page.wait_for_selector(IDLE, state="attached")
    finally: page.screenshot(path=shots(tmp_path)/"lab-start.png")
    assert "/lab/tree/00_start.ipynb" in page.url and not page.locator(".jp-Launcher").count()
    assert not page.locator(".Toastify__toast, dialog.jp-Dialog").count(), page.locator(".Toastify__toast, dialog.jp-Dialog").all_inner_texts()
    said = page.locator(".jp-OutputArea-output").all_inner_texts()
    assert not any("model not found" in text for text in said) and any("run this cell" in text for text in said), said
    page.locator(".jp-RenderedMarkdown a:text-is('index')").click()
    page.wait_for_function("() => { const e = document.querySelector('.jp-RenderedMarkdown img'); return e && e.complete && e.naturalWidth > 0 }")
    page.screenshot(path=shots(tmp_path)/"lab-index.png")
    lesson = lab.folder/"2_distill/21_sds.ipynb"
    page.goto(lab.address("lab/tree/2_distill/21_sds.ipynb") + "&reset")
    page.wait_for_selector(IDLE, state="attached")
    try: cells = run_to_the_end(page, lesson)
    finally: page.screenshot(path=shots(tmp_path)/"lab-lesson.png")
    page.close()
    assert not [o for c in cells for o in c["outputs"] if o["output_type"] == "error"] and any("image/png" in o.get("data", {}) for c in cells for o in c["outputs"])
    assert not gone, f"the page asked for {gone}"

def run_to_the_end(page, path, tries=60):
    "Run All Cells, and save until the file says that the last cell has run -> its code cells"
    cells = []
    for k in range(tries):
        if k % 10 == 0: run_menu(page)
        page.wait_for_timeout(1500)
        for dialog in page.locator("dialog.jp-Dialog").all(): answer(dialog)
        page.keyboard.press("Control+s"); page.wait_for_timeout(500)
        try: cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
        except json.JSONDecodeError: continue                               # read while it was written
        if cells[-1]["execution_count"] or any(o["output_type"] == "error" for c in cells for o in c["outputs"]): return cells
    pytest.fail(f"{path.name} did not come to its end: {[c['execution_count'] for c in cells]}")

@pytest.fixture(scope="module")
def report(tmp_path_factory):
    "A report with a hostile prompt in it -> its path"
    from lucidteach.lab.compare import compare
    from lucidteach.prior.exact import ImageSetPrior
    from lucidteach.lab.page import save_report
    evil = '<img src="http://192.0.2.1/x.png" onerror="document.title=1"><script>document.title=1</script>'
    world = torch.linspace(0, 1, 16).repeat(2, 3, 16, 1)
    truth = lambda image, prompt: SimpleNamespace(image=world[0], psnr=10., baselines=dict(white=5., silhouette=8., blurred=9.))
    result = compare(evil, prior=ImageSetPrior(world, [evil, evil], std=.1), steps=6, every=1, truth=truth, mode="quiet")
    return save_report(result, tmp_path_factory.mktemp("report") / "run")

@pytest.mark.parametrize("width,scheme", [(1280, "light"), (1000, "light"), (360, "dark")])
def test_report(report, browser, tmp_path, width, scheme):
    page = browser.new_page(viewport=dict(width=width, height=800), color_scheme=scheme)
    asked = []
    page.on("request", lambda r: asked.append(r.url))
    page.goto(report.as_uri()); page.wait_for_load_state("networkidle")
    assert {a for a in asked if not a.startswith("data:")} == {report.as_uri()}
    assert page.title().startswith("SDS and ISM: <img"), "the prompt must be shown as text and do nothing"
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth && i.alt)")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page must not be wider than the screen"
    assert fits(page) if width == 1280 else fits(page, ".row"), "no picture may be hidden, and on a wide screen nothing of the table"
    ink, paper = page.evaluate("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
    assert contrast(ink, paper) > 7
    page.screenshot(path=shots(tmp_path)/f"report-{width}.png", full_page=True)
    page.close()

def fits(page, what=".row, .scroll"):
    "Whether no row of pictures and no table needs scrolling"
    return page.evaluate("what => [...document.querySelectorAll(what)].every(e => e.scrollWidth <= e.clientWidth)", what)

def test_report_on_paper(report, browser):
    page = browser.new_page(viewport=dict(width=703, height=1000)); page.goto(report.as_uri())      # A4 without margins of 12 mm
    assert not fits(page)
    page.emulate_media(media="print")
    assert fits(page), "paper cannot be scrolled"
    page.close()
