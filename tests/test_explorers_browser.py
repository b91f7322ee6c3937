"""Every explorer in JupyterLab, by keyboard and by mouse: the page says and shows what the library computes here.

A row of ROWS is one explorer. Its code runs twice, in the page's kernel and in this process; then both are moved alike, there by
keys and mouse, here by `set` and by its buttons. After every move the picture and its alt text must be the same in both places.
"""
import html
import io
import json
import re
import time
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image

from browser import IDLE, answer, contrast, page_of, pixels, run_all, shots
from lucidteach.viz.instrument import INK, SHARE

IMAGE = ".jp-OutputArea-output img[alt]"

WORLD = """
import torch
import lucidteach as lt
from lucidteach.prior.exact import ImageSetPrior
from lucidteach.prior.world import Camera, Thing, render
things = (("mug", "red", 60), ("mug", "red", -120), ("car", "blue", 50))
world = torch.stack([torch.as_tensor(render(Thing(kind, colour), Camera(azimuth, 20), 24).rgb) for kind, colour, azimuth in things])
exact = ImageSetPrior(world, ["a red mug", "a red mug", "a blue car"], std=0.1)
"""


# What a hand does: move(page) does it there and returns what it chose; the same is done here by `like`.


@dataclass(frozen=True)
class Key:
    "A slider, by the keyboard"

    dial: str
    key: str = "ArrowRight"

    def move(self, page):
        before = readout(page, self.dial)
        handle(page, self.dial).press(self.key)
        page.wait_for_function("([e, old]) => e.innerText != old", arg=[dial(page, self.dial).locator(".widget-readout").element_handle(), before])
        return {self.dial: number(readout(page, self.dial))}


@dataclass(frozen=True)
class Mouse:
    "A slider, by a click on its line, `at` of the way"

    dial: str
    at: float

    def move(self, page):
        before = readout(page, self.dial)
        line = dial(page, self.dial).locator(".noUi-target")
        line.scroll_into_view_if_needed()
        box = line.bounding_box()
        page.mouse.click(box["x"] + self.at * box["width"], box["y"] + box["height"] / 2)
        page.wait_for_function("([e, old]) => e.innerText != old", arg=[dial(page, self.dial).locator(".widget-readout").element_handle(), before])
        return {self.dial: number(readout(page, self.dial))}


@dataclass(frozen=True)
class Menu:
    "A choice"

    dial: str
    value: str

    def move(self, page):
        dial(page, self.dial).locator("select").select_option(self.value)
        return {self.dial: self.value}


@dataclass(frozen=True)
class Press:
    "A button: by the mouse, or by Enter where it has the focus"

    name: str
    by: str = "mouse"

    def move(self, page):
        button = page.locator(f'button.jupyter-button:text-is("{self.name}")')
        button.click() if self.by == "mouse" else button.press("Enter")
        return self.name


@dataclass(frozen=True)
class Refused:
    "A move that cannot be: the page says `words`, field and picture stay"

    move_: Menu
    words: str


@dataclass(frozen=True)
class Row:
    "One explorer"

    name: str  # of its function
    module: str  # where the function is; without it the test is left out
    code: str  # whose last line is the explorer
    moves: tuple
    first: str  # how its alt text begins, before anything is moved
    refused: Refused | None = None
    check: object = None  # of this explorer and its alt text: a number on the page, computed in another way
    is_picture_same: bool = True  # False where it shows times that a clock took

    @property
    def cell(self):
        lines = self.code.strip().splitlines()
        return "\n".join([f"from lucidteach.{self.module} import {self.name}", *lines])


def dial(page, name):
    return page.locator(".jupyter-widgets", has=page.locator(f'xpath=./*[contains(@class, "widget-label") and normalize-space()="{name}"]')).last


def handle(page, name):
    return dial(page, name).locator(".noUi-handle")


def readout(page, name):
    return dial(page, name).locator(".widget-readout").inner_text()


def number(text):
    value = float(text.replace(",", ""))
    return int(value) if value.is_integer() and "." not in text else value


def alike(made, done):
    "The same move here"
    made.buttons()[done]() if isinstance(done, str) else made.set(**done)


def here(row):
    "The explorer in this process"
    names: dict = {}
    *lines, last = row.cell.splitlines()
    exec("\n".join(lines), names)
    return eval(last, names)


def agrees(page, made, is_picture_same=True, seconds=60):
    "Soon the alt text there is the one here, and the picture there is the one here"
    _, png, words = made.answer()
    assert re.search(r"\d", words), "the alt text says numbers"
    own, end = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA")).astype(int), time.monotonic() + seconds
    while True:
        alt, src = page.locator(IMAGE).first.evaluate("e => [e.alt, e.src]")
        there = pixels(src)
        same = not is_picture_same or there.shape == own.shape and np.abs(there - own).max() <= 2
        if alt == words and same:
            return
        if time.monotonic() > end:
            pytest.fail(f"the picture on the page is another, or the page says\n{alt}\nand the library\n{words}")
        page.wait_for_timeout(100)


def gradient_by_hand(made, alt):
    "The stepper's first number, from the loss itself"
    from lucidteach.distill.methods import METHODS

    noise = torch.Generator().manual_seed(10_000 * made.seed + made.number)
    step = METHODS["sds"](made.prior, made.x, made.prompt, made.t, guidance=made.guidance, weight="sigma2", generator=noise)
    told = float(re.search(r"SDS after \d+ steps: gradient ([\d.e+-]+)", alt)[1].rstrip("."))
    assert told == pytest.approx(step.grad.square().mean().sqrt().item(), rel=5e-3)


def blending_by_hand(made, alt):
    "What is left of the light behind each Gaussian, from the alphas before it"
    left = 1.0
    for alpha, seen, weight in re.findall(r"alpha ([\d.]+), T ([\d.]+), weight ([\d.]+)", alt):
        assert float(seen) == pytest.approx(left, abs=2e-3) and float(weight) == pytest.approx(left * float(alpha), abs=2e-3)
        left *= 1 - float(alpha)
    assert float(re.search(r"background ([\d.]+)", alt)[1].rstrip(".")) == pytest.approx(left, abs=3e-3)


ROWS = [
    Row(
        "stepper",
        "viz.explorers",
        WORLD + 'lt.stepper(exact, prompt="a blue car", t=600, guidance=3.0, beside="ism")',
        (Key("t"), Press("next step"), Press("next step", by="keyboard"), Mouse("t", 0.3), Menu("beside", "csd"), Key("guidance", "ArrowLeft"), Press("previous step")),
        first="a blue car, time 600, guidance 3, seed 0.",
        refused=Refused(Menu("method", "bridge"), "unknown prompt"),
        check=gradient_by_hand,
    ),
    Row(
        "target_grid",
        "viz.targets",
        WORLD + 'target_grid(exact, "a red mug", guidance=1.0, seeds=2)',
        (Key("guidance"), Mouse("smear", 0.4), Menu("beside", "csd")),
        first="Targets of a red mug",
    ),
    Row(
        "interval_explorer",
        "viz.interval",
        WORLD + 'interval_explorer(exact, "a red mug", smear=1.0, guidance=3.0)',
        (Key("t"), Mouse("delta_t", 0.2), Menu("inverse", "the prompt")),
        first="ISM on a red mug, time 500",
    ),
    Row("field_explorer", "viz.field_explorer", "field_explorer(t=300, noises=4)", (Key("t"), Mouse("t", 0.6), Press("lower t", by="keyboard"), Menu("method", "score")), first="A mixture in the plane"),
    Row("guidance_explorer", "viz.guidance_explorer", 'guidance_explorer("ideal", prompt="a blue car", t=500)', (Key("azimuth", "ArrowLeft"), Mouse("t", 0.7), Press("turn left")), first=""),
    Row("splat_explorer", "viz.splat_explorer", "splat_explorer()", (Key("opacity"), Mouse("x", 0.6), Menu("which", "B"), Key("angle"), Press("step")), first="Three Gaussians", check=blending_by_hand),
    Row("live_create", "viz.live3d", 'live_create("a red mug")', (Press("one step"), Key("azimuth"), Menu("method", "sds")), first="a red mug, step 0 of 64", is_picture_same=False),
    Row("microscope_explorer", "viz.live3d", "microscope_explorer(steps=40, size=32, views=8)", (Press("next moment"), Press("next moment", by="keyboard"), Key("grow_grad2d"), Mouse("prune_opa", 0.8)), first="Step "),
    Row(
        "board",
        "lab.board",
        WORLD + 'made = lt.compare("a red mug", ("sds@1", "ism@3"), prior=exact, canvases=["pixels"], steps=6, every=2, mode="quiet", truth=None)\nboard(made)',
        (Key("record", "ArrowLeft"), Press("next record")),
        first="a red mug, 2 results side by side.",
    ),
]


@pytest.mark.parametrize("row", [r for r in ROWS if find_spec(f"lucidteach.{r.module}")], ids=lambda r: r.name)
def test_explorer(lab, browser, tmp_path, row):
    made = here(row)
    page, gone = page_of(browser)
    page.goto(lab.write(f"{row.name}.ipynb", row.cell))
    page.wait_for_selector(IDLE, state="attached")
    try:
        run_all(page, IMAGE)
        assert page.locator(IMAGE).first.get_attribute("alt").startswith(row.first)
        agrees(page, made, row.is_picture_same)
        for move in row.moves:
            alike(made, move.move(page))
            agrees(page, made, row.is_picture_same)
            if row.check:
                row.check(made, page.locator(IMAGE).first.get_attribute("alt"))
        if row.refused:
            stays(page, made, row.refused)
        assert labels(page) == [d.name for d in made.dials()]
        spoken = page.locator(".jp-OutputArea-output [title]").evaluate_all("es => es.map(e => e.title)")
        sliders = [d for d in made.dials() if not (d.choices or d.is_tick or d.is_text)]      # ipywidgets gives the others no title
        silent = [d.name for d in sliders if not any(d.words in title for title in spoken)]
        assert not silent, f"what these dials are, in words: {silent} of {spoken}"
        page.screenshot(path=shots(tmp_path) / f"explorer-{row.name}.png")
        is_legible(page)
        is_kept(page, lab.folder / f"{row.name}.ipynb")
    finally:
        page.screenshot(path=shots(tmp_path) / f"explorer-{row.name}-1024.png")
        page.close()
    assert not gone, f"the page asked for {gone}"


def is_legible(page):
    "On a projector of 1024 x 768, with JupyterLab's side bar open, the letters of a picture have 12 pixels"
    page.set_viewport_size(dict(width=1024, height=768))
    image = page.locator(IMAGE).first
    image.scroll_into_view_if_needed()
    assert page.locator("#jp-left-stack").bounding_box()["width"] > 200
    assert image.evaluate("e => e.clientWidth") / SHARE >= 12


def is_kept(page, path, seconds=60):
    "The saved notebook holds the picture as it is now, with its words, for readers without a kernel; and no widget's state"
    alt, src = page.locator(IMAGE).first.evaluate("e => [e.alt, e.src]")
    end = time.monotonic() + seconds
    while True:
        page.keyboard.press("Control+s")
        page.wait_for_timeout(700)
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError:  # read while it was written
            saved = dict(cells=[], metadata={})
        shown = "".join("".join(o.get("data", {}).get("text/html", "")) for c in saved["cells"] for o in c.get("outputs", []))
        if html.escape(alt) in shown and src in shown:
            break
        assert time.monotonic() < end, f"the saved notebook does not show {alt}"
    assert "widgets" not in saved["metadata"] and path.stat().st_size < 1.5e6


def labels(page):
    "Of all fields, as a screen reader finds them"
    texts = page.locator(".widget-label, .widget-label-basic").all_inner_texts()
    return [text.strip() for text in texts if text.strip(" \n\u200b")]


def stays(page, made, refused):
    "What cannot be is said, and nothing else changes"
    src, field_ = page.locator(IMAGE).first.get_attribute("src"), dial(page, refused.move_.dial).locator("select")
    before = field_.input_value()
    refused.move_.move(page)
    page.wait_for_selector(f'[role="alert"]:has-text("{refused.words}")')
    assert field_.input_value() == before
    assert page.locator(IMAGE).first.get_attribute("src") == src
    agrees(page, made)


def test_list_of_explorers_in_the_dark(lab, browser, tmp_path):
    "`lt.explore()` and the stepper in JupyterLab's dark theme: no white box, and words that can be read"
    theme = lab.settings / "@jupyterlab/apputils-extension/themes.jupyterlab-settings"
    theme.parent.mkdir(parents=True, exist_ok=True)
    theme.write_text('{"theme": "JupyterLab Dark"}')
    page, gone = page_of(browser)
    try:
        page.goto(lab.write("dark.ipynb", ROWS[0].cell, "lt.explore()"))
        page.wait_for_selector(IDLE, state="attached")
        run_all(page, f'{IMAGE}[src^="data:image/webp"]')
        assert page.evaluate("document.body.dataset.jpThemeLight") == "false"
        for image in page.locator(IMAGE).all()[:2]:
            shot = np.asarray(Image.open(io.BytesIO(image.screenshot())).convert("RGB"))
            alpha = Image.fromarray(pixels(image.get_attribute("src"))[..., 3]).resize(shot.shape[1::-1])
            ground = np.median(shot[np.asarray(alpha) == 0], 0)
            assert ground.max() < 60, "the ground of a picture is that of the page"
            assert contrast(INK, ground) > 4, "its words can be read"
    finally:
        page.screenshot(path=shots(tmp_path) / "explorers-dark.png")
        page.close()
        theme.unlink()
    assert not gone, f"the page asked for {gone}"


VIEWER = ".lucidteach-viewer"
CARDS = """
globalThis.cards = [];
const old = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, o) {
  if (kind === "webgl2" && globalThis.poor) return null;
  const made = old.call(this, kind, o);
  if (kind === "webgl2" && made) cards.push(made);
  return made;
};
"""
LIVE = """
import torch
import lucidteach as lt
from lucidteach.prior.exact import ImageSetPrior
from lucidteach.prior.world import Camera, Thing, render
torch.set_num_threads(1)
shown = torch.as_tensor(render(Thing("mug", "red"), Camera(40, 20), 32).rgb)[None]
prior = ImageSetPrior(shown, ["a red mug"], std=0.1)
making = lt.live_create("a red mug", "sds", prior=prior, init="ball", points=400, size=32, steps=5000, view_prompts=False)
making
"""


def at(page):
    "Azimuth and elevation in degrees from which the object is seen, the number of its scene, how often it was drawn"
    return page.locator(VIEWER).evaluate("e => [e.viewer.view.azimuth, e.viewer.view.elevation, +e.dataset.scene, e.viewer.frames]")


def canvas(page):
    return np.asarray(Image.open(io.BytesIO(page.locator(f"{VIEWER} canvas").screenshot())).convert("RGB")).astype(int)


def test_running_object_is_turned(lab, browser, tmp_path):
    """A run's object turns under mouse and arrow keys while the run goes on, the eye stays where it was put while new
    scenes come, one WebGL context serves them all and every new view of the cell, and no widget's state is saved.
    """
    page, gone = page_of(browser)
    page.add_init_script(CARDS)
    page.goto(lab.write("turned.ipynb", LIVE, "making.stop()"))
    page.wait_for_selector(IDLE, state="attached")
    try:
        run_first(page, f"{VIEWER} canvas[data-state=drawn]")
        azimuth, elevation, scene, _ = at(page)
        assert (azimuth, elevation, scene) == (40, 20, 0)
        page.locator('button.jupyter-button:text-is("start")').click()
        page.wait_for_function(f"() => +document.querySelector('{VIEWER}').dataset.scene >= 2")  # the run goes on
        before = canvas(page)

        box = page.locator(f"{VIEWER} canvas").bounding_box()
        page.mouse.move(box["x"] + 100, box["y"] + 100)
        page.mouse.down()
        page.mouse.move(box["x"] + 160, box["y"] + 120, steps=3)
        page.mouse.up()
        assert at(page)[:2] == [70, 30]  # half a degree a pixel
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowDown")  # JupyterLab does not take them for its own
        azimuth, elevation, scene, frames = at(page)
        assert (azimuth, elevation) == (65, 35)

        page.wait_for_function(f"n => +document.querySelector('{VIEWER}').dataset.scene >= n", arg=scene + 3)
        later = at(page)
        assert later[:2] == [65, 35] and later[3] >= frames + 2, "new scenes are drawn, and the eye stays"
        assert np.abs(canvas(page) - before).mean() > 1, "what is shown changes"
        page.screenshot(path=shots(tmp_path) / "explorer-live-turned.png")
        for _ in range(3):  # the cell once more: the old view goes, and its context with it
            page.locator('button.jupyter-button:text-is("stop")').click()
            run_first(page, f"{VIEWER} canvas[data-state=drawn]", again=True)
        assert page.locator(VIEWER).count() == 1
        page.wait_for_timeout(300)
        assert page.evaluate("cards.filter(c => !c.isContextLost()).length") <= 1, page.evaluate("cards.length")

        page.keyboard.press("Control+s")
        page.wait_for_timeout(1500)
        text = (lab.folder / "turned.ipynb").read_text()
        assert '"widgets"' not in text and len(text) < 1.5e6
    finally:
        page.screenshot(path=shots(tmp_path) / "explorer-live-again.png")
        page.close()
    assert not gone, f"the page asked for {gone}"


def run_first(page, what, again=False, state="visible"):
    "Run the first cell until `what` is there; `again`: a new one, not that of before"
    if again:
        page.locator(VIEWER).evaluate("e => { e.dataset.old = 1 }")
        what = f"{VIEWER}:not([data-old]) canvas[data-state=drawn]"
    for _ in range(6):
        for dialog in page.locator("dialog.jp-Dialog").all():
            answer(dialog)
        page.locator(".jp-Notebook .jp-Cell .cm-content").first.click()
        page.keyboard.press("Control+Enter")
        try:
            return page.wait_for_selector(what, state=state, timeout=30_000)
        except Exception as e:
            if "Timeout" not in type(e).__name__:
                raise
    pytest.fail(f"no {what}; the cell says: {page.locator('.jp-OutputArea-output').all_inner_texts()}")


def test_without_webgl_the_picture_stays(lab, browser, tmp_path):
    "The viewer says why it is empty and makes itself small; the picture below shows the object, step by step"
    page, gone = page_of(browser)
    page.add_init_script("globalThis.poor = true;" + CARDS)
    page.goto(lab.write("poor.ipynb", LIVE))
    page.wait_for_selector(IDLE, state="attached")
    try:
        run_first(page, f"{VIEWER} canvas[data-state=failed]", state="attached")
        assert "WebGL2" in page.locator(f"{VIEWER} .say").inner_text()
        assert page.locator(VIEWER).bounding_box()["height"] < 100
        assert page.locator(IMAGE).first.get_attribute("alt").startswith("a red mug, step 0 of 5000")
        page.locator('button.jupyter-button:text-is("one step")').click()
        page.wait_for_selector(f'{IMAGE}[alt^="a red mug, step 1 of 5000"]')
    finally:
        page.screenshot(path=shots(tmp_path) / "explorer-live-poor.png")
        page.close()
    assert not gone, f"the page asked for {gone}"
