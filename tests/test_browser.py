"What only a browser can tell: the stepper answers in JupyterLab, the report reads well and loads nothing"
import base64, io, json, os, re, secrets, shutil, socket, subprocess, sys, time, urllib.request
from pathlib import Path
from types import SimpleNamespace

import nbformat, numpy as np, pytest, torch
from PIL import Image

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine; on Debian: apt-get install chromium")
FLAGS = "--no-sandbox --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync".split()
WALK = """
import torch
from lucidteach.prior.exact import ImageSetPrior
from lucidteach.prior.world import Camera, Thing, render
from lucidteach.viz.explorers import stepper
world = torch.stack([torch.as_tensor(render(Thing(*thing), Camera(50, 20), 24).rgb) for thing in (("mug", "red"), ("car", "blue"))])
prior = ImageSetPrior(world, ["a red mug", "a blue car"], std=.1)
walk = stepper(prior, prompt="a blue car", t=600, guidance=3.)
"""

@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        b = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield b
        b.close()

@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    "The lab that `lucidteach lab` opens, on loopback, with a random token and its settings in a temporary folder -> (folder of the copies, address of a path)"
    tmp = tmp_path_factory.mktemp("lab"); mine = tmp / "mine"; mine.mkdir()
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(WALK)], metadata={"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}})
    nbformat.write(nb, mine / "walk.ipynb")
    with socket.socket() as s: s.bind(("127.0.0.1", 0)); port = s.getsockname()[1]
    token, home = secrets.token_hex(16), {k: str(tmp / v) for k, v in dict(JUPYTER_CONFIG_DIR="config", JUPYTER_DATA_DIR="data", JUPYTER_RUNTIME_DIR="run", IPYTHONDIR="ipython").items()}
    command = [sys.executable, "-m", "lucidteach.cli", "lab", "--folder", mine, "--no-browser", "--port", port, "--", "--ip=127.0.0.1", "--port-retries=0", f"--IdentityProvider.token={token}", "--LabApp.extension_manager=readonly"]
    log = open(tmp / "lab.log", "w")
    server = subprocess.Popen([*map(str, command)], env=os.environ | home, stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{port}/api?token={token}", server, tmp / "lab.log")
        yield mine, lambda path: f"http://127.0.0.1:{port}/{path}?token={token}"
    finally:
        server.terminate()
        try: server.wait(10)
        except subprocess.TimeoutExpired: server.kill()

def wait_for(address, server, log, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try: return urllib.request.urlopen(address, timeout=2).read()
        except OSError: time.sleep(.3)
    pytest.fail(f"JupyterLab did not answer:\n{log.read_text()[-2000:]}")

def outside(page):
    "Collects every request of a page that leaves the machine"
    gone = []
    page.on("request", lambda r: None if r.url.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:", "file:", "about:")) else gone.append(r.url))
    return gone

def shots(tmp_path):
    "Where screenshots go: the folder in BROWSER_SHOTS, for somebody who wants to look"
    return Path(os.environ.get("BROWSER_SHOTS", tmp_path))

def pixels(src):
    "The picture in a data: address as an array"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(src.split(",")[1]))).convert("RGB"))

def answer(dialog):
    "A dialog of JupyterLab's (a slow kernel, a lost connection: a busy machine has them) gets its own default answer, and its words go to the log"
    print("JupyterLab asked:", dialog.inner_text())
    dialog.locator("button.jp-mod-accept").first.click()

def run_all(page, image, tries=20):
    "Run All Cells until the image is there; on a busy machine JupyterLab may not listen to the first call"
    for _ in range(tries):
        for dialog in page.locator("dialog.jp-Dialog").all(): answer(dialog)
        if not page.locator(".jp-InputPrompt", has_text="*").count():     # nothing is running
            page.click('.lm-MenuBar-itemLabel:text-is("Run")'); page.click('.lm-Menu-itemLabel:text-is("Run All Cells")')
        try: return page.wait_for_selector(image, timeout=20_000)
        except playwright.TimeoutError: continue
    pytest.fail(f"no picture after {tries} tries; the cell says: {page.locator('.jp-OutputArea-output').all_inner_texts()}")

def test_lab_opens_at_the_index(lab, browser, tmp_path):
    "The index with its picture, no launcher and no pop-up; then a lesson's copy runs in its kernel from top to bottom, and nothing is asked of the world outside"
    mine, address = lab
    page = browser.new_page(viewport=dict(width=1300, height=1000)); page.set_default_timeout(180_000)
    gone = outside(page)
    page.add_locator_handler(page.locator("dialog.jp-Dialog").first, answer)
    page.goto(address(""))
    try:
        page.wait_for_selector(".jp-RenderedMarkdown h1:has-text('lucidteach')")
        page.wait_for_function("() => { const e = document.querySelector('.jp-RenderedMarkdown img'); return e && e.complete && e.naturalWidth > 0 }")
        page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', state="attached")
    finally: page.screenshot(path=shots(tmp_path) / "lab-index.png")
    assert "/lab/tree/index.ipynb" in page.url and not page.locator(".jp-Launcher").count()
    assert not page.locator(".Toastify__toast, dialog.jp-Dialog").count(), page.locator(".Toastify__toast, dialog.jp-Dialog").all_inner_texts()
    lesson = mine / "2_distill/21_sds.ipynb"
    page.goto(address("lab/tree/2_distill/21_sds.ipynb") + "&reset")
    page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', state="attached")
    try: cells = run_to_the_end(page, lesson)
    finally: page.screenshot(path=shots(tmp_path) / "lab-lesson.png")
    page.close()
    assert not [o for c in cells for o in c["outputs"] if o["output_type"] == "error"] and any("image/png" in o.get("data", {}) for c in cells for o in c["outputs"])
    assert not gone, f"the page asked for {gone}"

def run_to_the_end(page, path, tries=60):
    "Run All Cells, and save until the file says that the last cell has run -> its code cells"
    cells = []
    for k in range(tries):
        if k % 10 == 0 and not page.locator(".jp-InputPrompt", has_text="*").count():
            page.click('.lm-MenuBar-itemLabel:text-is("Run")'); page.click('.lm-Menu-itemLabel:text-is("Run All Cells")')
        page.wait_for_timeout(1500)
        for dialog in page.locator("dialog.jp-Dialog").all(): answer(dialog)
        page.keyboard.press("Control+s"); page.wait_for_timeout(500)
        try: cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
        except json.JSONDecodeError: continue                               # read while it was written
        if cells[-1]["execution_count"] or any(o["output_type"] == "error" for c in cells for o in c["outputs"]): return cells
    pytest.fail(f"{path.name} did not come to its end: {[c['execution_count'] for c in cells]}")

def test_stepper_in_jupyterlab(lab, browser, tmp_path):
    page = browser.new_page(viewport=dict(width=1300, height=1000)); page.set_default_timeout(180_000)  # generous: a busy machine is slow, a quiet one needs 20 s
    gone, image = outside(page), ".jp-OutputArea-output img"
    page.add_locator_handler(page.locator("dialog.jp-Dialog").first, answer)
    page.goto(lab[1]("lab/tree/walk.ipynb") + "&reset")
    page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', state="attached")
    try: run_all(page, image); page.wait_for_selector(".noUi-handle")
    finally: page.screenshot(path=shots(tmp_path) / "stepper-start.png")
    seen = [page.eval_on_selector(image, "e => e.src")]
    def after(act):
        act()
        page.wait_for_function("([where, old]) => { const e = document.querySelector(where); return e && e.src != old }", arg=[image, seen[-1]])
        seen.append(page.eval_on_selector(image, "e => e.src"))
    after(lambda: page.locator(".noUi-handle").first.press("ArrowRight"))
    assert page.locator(".widget-readout").first.inner_text() == "601"
    after(lambda: page.click('button:has-text("next step")'))
    after(lambda: page.select_option(".widget-dropdown select", "ism"))
    after(lambda: page.click('button:has-text("previous step")'))
    page.screenshot(path=shots(tmp_path) / "stepper.png")
    page.close()
    canvas = [pixels(s)[80:, 20:210] for s in seen]  # the first panel: x itself, below its title
    assert (canvas[0] == canvas[1]).all(), "another t must leave the canvas alone"
    assert (canvas[1] != canvas[2]).any(), "a step must change the canvas"
    assert (canvas[2] == canvas[3]).all(), "another method must leave the canvas alone"
    assert (canvas[4] == canvas[0]).all(), "going back must bring the first canvas back"
    assert not gone, f"the page asked for {gone}"

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
    page.screenshot(path=shots(tmp_path) / f"report-{width}.png", full_page=True)
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

def contrast(a, b):
    "WCAG's contrast ratio of two css colours rgb(...)"
    def light(css):
        c = np.array([int(v) for v in re.findall(r"\d+", css)[:3]]) / 255
        return np.where(c <= .04045, c / 12.92, ((c + .055) / 1.055)**2.4) @ [.2126, .7152, .0722]
    high, low = sorted((light(a), light(b)))[::-1]
    return (high + .05) / (low + .05)
