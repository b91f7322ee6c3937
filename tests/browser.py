"What the browser tests share: a Chromium, a JupyterLab on loopback, and how both are spoken to; conftest.py hands the fixtures out"
import base64, io, os, re, secrets, shutil, socket, subprocess, sys, time, urllib.request
from pathlib import Path

import numpy as np, pytest
from PIL import Image

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = "--no-sandbox --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync --use-angle=swiftshader --enable-unsafe-swiftshader".split()
HOME = ("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:", "about:")
IDLE = '.jp-Notebook-ExecutionIndicator[data-status="idle"]'

@pytest.fixture(scope="module")
def browser():
    "A Chromium, of one file of tests: as long as it is open, the loop of asyncio that it needs runs in this process"
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    if CHROMIUM is None: pytest.skip("no chromium on this machine; on Debian: apt-get install chromium")
    with playwright.sync_playwright() as p:
        b = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield b
        b.close()

class Lab:
    "A JupyterLab that runs: `folder` of the copies, `settings` of its user, `address(path)`"
    def __init__(self, folder, settings, port, token): self.folder, self.settings, self.port, self.token = folder, settings, port, token

    def address(self, path=""): return f"http://127.0.0.1:{self.port}/{path}?token={self.token}"

    def write(self, name, *cells):
        "A notebook of some cells of code in the folder, and its address"
        import nbformat
        spec = {"name": "python3", "display_name": "python3", "language": "python"}
        nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells], metadata={"kernelspec": spec}), self.folder/name)
        return self.address(f"lab/tree/{name}") + "&reset"

@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    "The lab that `lucidteach lab` opens, on loopback, with a random token and its settings in a temporary folder"
    tmp = tmp_path_factory.mktemp("lab"); mine = tmp/"mine"; mine.mkdir()
    with socket.socket() as s: s.bind(("127.0.0.1", 0)); port = s.getsockname()[1]
    token, home = secrets.token_hex(16), {k: str(tmp/v) for k, v in dict(JUPYTER_CONFIG_DIR="config", JUPYTER_DATA_DIR="data", JUPYTER_RUNTIME_DIR="run", IPYTHONDIR="ipython").items()}
    command = [sys.executable, "-m", "lucidteach.cli", "lab", "--folder", mine, "--no-browser", "--port", port, "--", "--ip=127.0.0.1", "--port-retries=0", f"--IdentityProvider.token={token}", "--LabApp.extension_manager=readonly"]
    log = open(tmp/"lab.log", "w")
    server = subprocess.Popen([*map(str, command)], env=os.environ | home, stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{port}/api?token={token}", server, tmp/"lab.log")
        yield Lab(mine, tmp/"config/lab/user-settings", port, token)
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

def page_of(browser, **kw):
    "A page, patient with a busy machine, that answers JupyterLab's dialogs; and the list of what it asks of the world outside"
    page = browser.new_page(**dict(viewport=dict(width=1300, height=1400)) | kw); page.set_default_timeout(180_000)
    page.add_locator_handler(page.locator("dialog.jp-Dialog").first, answer)
    return page, outside(page)

def outside(page, home=HOME):
    "Collects every request of a page that leaves the machine"
    gone = []
    page.on("request", lambda r: None if r.url.startswith(home) else gone.append(r.url))
    return gone

def shots(tmp_path):
    "Where screenshots go: the folder in BROWSER_SHOTS, for somebody who wants to look"
    folder = Path(os.environ.get("BROWSER_SHOTS", tmp_path)); folder.mkdir(parents=True, exist_ok=True)
    return folder

def pixels(src):
    "The picture in a data: address as an array [H,W,4]"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(src.split(",")[1]))).convert("RGBA"))

def answer(dialog):
    "A dialog of JupyterLab's (a slow kernel, a lost connection: a busy machine has them) gets its own default answer, and its words go to the log"
    print("JupyterLab asked:", dialog.inner_text())
    dialog.locator("button.jp-mod-accept").first.click()

def run_menu(page):
    "Run All Cells, where nothing is running"
    for dialog in page.locator("dialog.jp-Dialog").all(): answer(dialog)
    if not page.locator(".jp-InputPrompt", has_text="*").count():
        page.click('.lm-MenuBar-itemLabel:text-is("Run")'); page.click('.lm-Menu-itemLabel:text-is("Run All Cells")')

def run_all(page, what, tries=20):
    "Run All Cells until `what` is there; on a busy machine JupyterLab may not listen to the first call"
    from playwright.sync_api import TimeoutError
    for _ in range(tries):
        run_menu(page)
        try: return page.wait_for_selector(what, timeout=20_000)
        except TimeoutError: continue
    pytest.fail(f"no {what} after {tries} tries; the cell says: {page.locator('.jp-OutputArea-output').all_inner_texts()}")

def contrast(a, b):
    "WCAG's contrast ratio of two colours, each rgb(...), #rrggbb, or three numbers of 0 to 255"
    def light(c):
        if isinstance(c, str): c = [int(c[i:i + 2], 16) for i in (1, 3, 5)] if c[0] == "#" else re.findall(r"\d+", c)[:3]
        c = np.asarray(c, float)/255
        return np.where(c <= .04045, c/12.92, ((c + .055)/1.055)**2.4) @ [.2126, .7152, .0722]
    low, high = sorted((light(a), light(b)))
    return (high + .05)/(low + .05)
