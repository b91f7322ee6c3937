"The viewer in a real browser: it draws what our rasterizer draws, asks for nothing, shows text as text, obeys the keyboard, and lets the graphics card go"
import base64, io, math, os, shutil, subprocess, sys
from pathlib import Path

import numpy as np, pytest, torch
from PIL import Image

from lucidteach.run.pages import filled
from lucidteach.viz.viewer import FRAME, View, aim, poster, rule, show, viewer_html
from lucidteach.splat.gaussians import Gaussians

EVIL = '"><img src=//192.0.2.1/x onerror=document.title=1><script>document.title=1</script>'      # also a legal file name
SIZE = 240

def scene(degree=0, n=1500, seed=0):
    "Flat and long Gaussians, faint and opaque ones, turned at random; with SH the colour depends on the side"
    g = torch.Generator().manual_seed(seed)
    s = Gaussians.primitive("torus", n, radius=.8, opacity=.5, seed=seed, sh_degree=degree)
    s.log_scales = torch.log(.005 + .06*torch.rand(n, 3, generator=g)); s.quats = torch.randn(n, 4, generator=g)
    s.logits = 3*torch.randn(n, generator=g); s.sh = torch.randn(s.sh.shape, generator=g)*torch.tensor([1.] + [.3]*(s.sh.shape[1] - 1))[:, None]
    return s

@pytest.fixture
def opened(browser, tmp_path):
    "(html, size, other arguments of new_page) -> page of that text, and the list of its requests; nothing may be asked of anybody, and no error raised"
    pages = []
    def go(html, size=SIZE, **kw):
        page, asked, wrong = browser.new_page(viewport=dict(width=size, height=size), **kw), [], []
        page.set_default_timeout(120_000)
        page.on("request", lambda r: asked.append(r.url)); page.on("pageerror", lambda e: wrong.append(str(e)))
        path = tmp_path/f"page{len(pages)}.html"; path.write_text(html)
        page.goto(path.as_uri()); pages.append((page, path, asked, wrong))
        return page
    yield go
    for page, path, asked, wrong in pages:
        page.close()
        assert {a for a in asked if not a.startswith("data:")} == {path.as_uri()}, f"the page asked for {asked}"
        assert not wrong, wrong

def drawn(page, frames=1):
    "The canvas as an array [3,H,W] in [0,1], once it has been drawn so many times"
    page.wait_for_function("n => +(document.querySelector('canvas').dataset.frames || 0) >= n", arg=frames)
    url = page.evaluate("document.querySelector('canvas').toDataURL('image/png')")
    return as_tensor(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))))

def as_tensor(image): return torch.tensor(np.asarray(image.convert("RGB"))).permute(2, 0, 1)/255
def psnr(a, b): return -10*(a - b).square().mean().clamp_min(1e-12).log10().item()
def shots(tmp_path): return Path(os.environ.get("BROWSER_SHOTS", tmp_path))

@pytest.mark.parametrize("k", [1e-6, 1e-3, 1e5])
def test_a_small_or_large_scene_is_the_same_picture(opened, k):
    "In the poster and in the browser, though the eye is nearer than the near plane"
    g = scene(1); h = Gaussians(g.means*k, g.log_scales + math.log(k), g.quats, g.logits, g.sh)
    a, b = (as_tensor(poster(x, aim(x), SIZE)) for x in (g, h))
    assert a.std() > .1 and psnr(a, b) > 50
    assert psnr(drawn(opened(viewer_html(h, view=aim(h)))), a) > 40

@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_draws_what_the_rasterizer_draws(opened, degree):
    g = scene(degree)
    for view, background in ((aim(g), (1., 1., 1.)), (View(200, -50, 1.1, (.3, .1, 0), 65), (.1, .3, .2))):      # from afar; from within, wide, with some behind the eye
        seen = drawn(opened(viewer_html(g, view=view, background=background, picture=False)))
        want = as_tensor(poster(g, view, SIZE, background))
        assert psnr(seen, want) > 45, f"degree {degree}, {view}: {psnr(seen, want):.1f} dB"
        assert psnr(seen.flip(2), want) < 30                                     # the comparison can tell left from right

def test_one_stray_far_away(opened):
    "A speck far behind the others, where it cannot be seen, leaves their order alone"
    g = scene(1); view = aim(g); eye = view.camera().centers[0]
    far = Gaussians.cat([g, Gaussians.from_points(-1e5*eye[None], opacity=.9, scale=.01).with_degree(1)])
    assert psnr(drawn(opened(viewer_html(far, view=view, picture=False))), as_tensor(poster(g, view, SIZE))) > 45

def test_few(opened):
    "One Gaussian, or none in sight, or one that is a point"
    g = scene(n=5); g.log_scales[1] = -12.; g.logits[4] = 9.
    for part in [g[i] for i in range(5)] + [g]:
        view = aim(part)
        assert psnr(drawn(opened(viewer_html(part, view=view, picture=False))), as_tensor(poster(part, view, SIZE))) > 45
    away = View(180, 0, 1., (0, 50., 0))
    assert drawn(opened(viewer_html(g, view=away, picture=False))).min() == 1

def test_many_faint_layers(opened):
    "Blending in 8 bits would round each of hundreds of layers"
    g = Gaussians.ball(6000, radius=.6, opacity=.03, scale=.05, rgb=torch.rand(6000, 3, generator=torch.Generator().manual_seed(1)))
    assert psnr(drawn(opened(viewer_html(g, picture=False))), as_tensor(poster(g, aim(g), SIZE))) > 45

def test_sort_is_a_sort(opened):
    page = opened(viewer_html(scene(), picture=False).replace("</script>\n</body>", "globalThis.order = order;</script>\n</body>"), bypass_csp=True); drawn(page)
    z = torch.cat([torch.randn(5000, generator=torch.Generator().manual_seed(2)), torch.tensor([2., 2., .5, .5, 1e9])]).tolist()
    js = "z => { const out = new Uint32Array(z.length), n = order(new Float32Array(z.flatMap(v => [0, 0, v])), [0, 0, 0], [0, 0, 1], out); return [...out.subarray(0, n)] }"
    out, z = page.evaluate(js, z), np.float32(z)
    assert sorted(out) == np.flatnonzero(z >= .01).tolist()                      # everything before the eye, once
    assert np.diff(z[out]).max() <= 0                                            # far to near, exactly
    assert out.index(5001) == out.index(5000) - 1 and out.index(5003) == out.index(5002) - 1   # equals: the later first
    slanted = "p => order(new Float32Array(p.flat()), [.1, .2, .3], [.36, .48, .8], new Uint32Array(p.length))"
    assert all(page.evaluate(slanted, (torch.rand(n, 3) + 1).tolist()) == n for n in [*range(1, 40), 3000])   # not one lost to rounding
    assert page.evaluate(js, []) == [] and page.evaluate(js, [1., 1., 1.]) == [2, 1, 0]

def test_keyboard_and_mouse(opened):
    g = scene(); view = aim(g); page = opened(viewer_html(g, picture=False)); start = drawn(page)
    at = lambda azimuth, elevation, k=1: as_tensor(poster(g, View(azimuth, elevation, view.radius*k, view.target), SIZE))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "CANVAS"
    page.keyboard.press("ArrowRight"); turned = drawn(page, 2)
    assert psnr(turned, start) < 25 and psnr(turned, at(35, 20)) > 45            # five degrees, exactly
    page.keyboard.press("ArrowUp"); assert psnr(drawn(page, 3), at(35, 15)) > 45
    page.keyboard.press("+"); assert psnr(drawn(page, 4), at(35, 15, .9)) > 45
    page.keyboard.press("Shift+ArrowLeft"); assert psnr(drawn(page, 5), at(35, 15, .9)) < 30
    page.keyboard.press("0"); assert psnr(drawn(page, 6), start) > 60            # back to the start
    page.mouse.move(100, 100); page.mouse.down(); page.mouse.move(140, 120); page.mouse.up()
    assert psnr(drawn(page, 7), at(50, 30)) > 45                                 # half a degree a pixel
    page.mouse.wheel(0, 60); assert psnr(drawn(page, 8), at(50, 30, math.exp(.09))) > 45
    page.wait_for_timeout(400); assert page.evaluate("shown.frames") == 8        # and nothing is drawn while nothing moves

def test_touch(opened):
    g = scene(); page = opened(viewer_html(g, picture=False), has_touch=True); start = drawn(page)
    touch = page.context.new_cdp_session(page)
    send = lambda kind, *points: touch.send("Input.dispatchTouchEvent", dict(type=kind, touchPoints=[dict(x=x, y=y, id=i) for i, (x, y) in enumerate(points)]))
    send("touchStart", (100, 100)); send("touchMove", (130, 100)); send("touchEnd")
    page.wait_for_function("() => shown.view.azimuth != 30")
    assert psnr(drawn(page, 2), start) < 25
    r = page.evaluate("shown.view.radius")
    send("touchStart", (100, 120), (140, 120)); send("touchMove", (90, 120), (150, 120)); send("touchMove", (80, 120), (160, 120)); send("touchEnd")
    page.wait_for_function("r => shown.view.radius < .7*r", arg=r)               # fingers twice as far apart: half as far away

@pytest.mark.parametrize("ratio", [1, 2])
def test_wide_window_and_sharp_screen(opened, ratio, tmp_path):
    g = scene(); page = opened(viewer_html(g, "a torus"), device_scale_factor=ratio)
    drawn(page); page.set_viewport_size(dict(width=360, height=SIZE))
    page.wait_for_function("w => document.querySelector('canvas').width == w", arg=360*ratio)
    wide = drawn(page)
    assert list(wide.shape) == [3, SIZE*ratio, 360*ratio]
    middle = wide[:, :, 60*ratio:300*ratio]                                      # the shorter side keeps the field of view
    assert psnr(middle, as_tensor(poster(g, aim(g), SIZE*ratio))) > 45

def test_a_sharper_screen(opened):
    "A zoomed page or a window on another screen: more pixels, though nobody measures a new size. (Chromium tells nobody where the size stays, so here it grows, unseen.)"
    blind = '<script>ResizeObserver = class { observe() {} }</script><script type="module">'
    page = opened(viewer_html(scene(), picture=False).replace('<script type="module">', blind)); drawn(page)
    screen = page.context.new_cdp_session(page)
    for ratio, width in ((2, SIZE + 2), (1, SIZE)):
        screen.send("Emulation.setDeviceMetricsOverride", dict(width=width, height=width, deviceScaleFactor=ratio, mobile=False))
        page.wait_for_function("w => document.querySelector('canvas').width == w", arg=ratio*width)

def test_hostile_title_is_text(opened, tmp_path):
    path = tmp_path/f"{EVIL.replace('/', '_')}.ply"; scene(n=50).save(path)
    for html, name in ((viewer_html(scene(n=50), EVIL), EVIL), (show(path, size=64)._repr_html_(), path.name)):
        page = opened(html)
        page.wait_for_selector("iframe" if "<iframe" in html else "canvas")
        page.wait_for_timeout(300)
        assert page.title() in (EVIL, "") and page.evaluate("document.images.length") == 1 and page.evaluate("document.images[0].alt") == name
        for frame in page.frames: assert frame.evaluate("document.querySelectorAll('[onerror]').length") == 0
    assert page.frames[1].title() == path.name

def test_frame_over_poster(opened, tmp_path):
    "What `show` puts into a notebook: the frame draws over the poster, and is of another origin"
    g = scene(3); page = opened(f"<body style='margin:0'>{show(g, 'a torus', size=SIZE)._repr_html_()}", color_scheme="dark")
    frame = page.frames[1]
    frame.wait_for_function("() => document.querySelector('canvas')?.dataset.state == 'drawn'")
    shot = page.screenshot(path=shots(tmp_path)/"viewer-frame.png")
    assert psnr(as_tensor(Image.open(io.BytesIO(shot))), as_tensor(poster(g, aim(g), SIZE))) > 45
    assert frame.evaluate("origin") == "null"

def test_twenty_viewers_on_a_page(opened, tmp_path):
    "More than browsers keep contexts: every picture stays, the card is let go, and any of them still turns"
    g = scene(n=60); box = show(g, size=40)._repr_html_()
    page = opened("<body style='margin:0;display:grid;align-content:start;grid-template-columns:repeat(5,40px)'>" + 20*box, 260)
    for f in page.frames[1:]: f.wait_for_function("() => document.querySelector('canvas')?.dataset.state == 'drawn'")
    page.wait_for_timeout(300)
    want = as_tensor(poster(g, aim(g), 40)); shot = as_tensor(Image.open(io.BytesIO(page.screenshot(path=shots(tmp_path)/"viewer-twenty.png"))))
    for i in range(20): y, x = 40*(i//5), 40*(i % 5); assert psnr(shot[:, y:y + 40, x:x + 40], want) > 45, i
    for f in page.frames[1:]: f.wait_for_function("() => !shown.active")
    first = page.frames[1]; first.focus("canvas"); page.keyboard.press("ArrowRight")
    first.wait_for_function("() => shown.view.azimuth == 35 && document.querySelector('canvas').dataset.frames >= 2")

def test_without_webgl2_the_poster_stays(opened, browser, tmp_path):
    g = scene(); html = viewer_html(g, "a torus", size=SIZE)
    broken = html.replace('<script type="module">', '<script>const old = HTMLCanvasElement.prototype.getContext; HTMLCanvasElement.prototype.getContext = function (kind, o) { return kind == "webgl2" ? null : old.call(this, kind, o) }</script><script type="module">')
    page = opened(broken, bypass_csp=True)                                       # whose policy would not let that script run
    page.wait_for_function("() => document.querySelector('.say').textContent.includes('WebGL2')")
    page.hover("canvas"); page.wait_for_timeout(400)                             # no word about keys that do nothing
    below = as_tensor(Image.open(io.BytesIO(page.screenshot())))[:, 60:]
    assert psnr(below, as_tensor(poster(g, aim(g), SIZE))[:, 60:]) > 45          # under the words, the picture
    page.evaluate("() => { HTMLCanvasElement.prototype.getContext = old; }"); page.keyboard.press("Tab"); page.keyboard.press("ArrowRight"); drawn(page)
    assert page.inner_text(".say") == ""                                         # once it turns, it no longer says that it cannot
    bare = opened(html, java_script_enabled=False)
    assert psnr(as_tensor(Image.open(io.BytesIO(bare.screenshot()))), as_tensor(poster(g, aim(g), SIZE))) > 45

HANDLER = '<img src="data:image/png,x" onerror="document.title=1"><script>document.title=1</script><a href="javascript:document.title=1">x</a>'

@pytest.mark.parametrize("embedded", [False, True])
def test_only_the_viewers_script_runs(opened, embedded):
    "Markup of a stranger in the page, as if nothing had been escaped: the policy lets none of it run, and the viewer turns all the same. Without the policy it would run"
    g = scene(n=60); box = viewer_html(g, "a torus", size=SIZE)
    spoilt = lambda page: page.replace('<div class="view">', HANDLER + '<div class="view">')
    if embedded:                                                                 # the frame of a report: the policy of the page outside holds within too
        frame = filled(FRAME, width=SIZE, title="a torus", still="", page=spoilt(box), note="")
        html = filled('<!doctype html><meta http-equiv="Content-Security-Policy" content="{{ rule }}"><title>a torus</title><body style="margin:0">{{ frame|safe }}' + HANDLER, rule=rule(frames=True), frame=frame)
    else: html = spoilt(box)
    page = opened(html); inside = page.frames[-1]
    inside.wait_for_function("() => document.querySelector('canvas').dataset.frames >= 1")
    inside.focus("canvas"); page.keyboard.press("ArrowRight")
    inside.wait_for_function("() => shown.view.azimuth == 35")
    page.evaluate("document.querySelector('a[href^=javascript]').click()"); page.wait_for_timeout(200)
    assert page.title() == "a torus" == inside.evaluate("document.title")
    bare = opened(html, bypass_csp=True); bare.wait_for_function("() => document.title == '1'")

def test_a_run_folder_of_a_stranger(opened, tmp_path):
    "Words that would run in panels' names, prompt and notes: the report shows them as text or not at all, its viewer turns, and no script but the viewer's runs"
    from lucidteach.lab import create as lab
    from lucidteach.scene import run as runner
    from lucidteach.prior.exact import GaussianPrior
    go = lambda: lab.create(HANDLER, "sds", prior=GaussianPrior(torch.zeros(3, 16, 16), 1.), preset="toy", out=tmp_path/"run", mode="quiet", steps=3, init="ball", size=16, points=60, every=1, view_prompts=False, overhead=False)
    go()
    (tmp_path/"run"/"panels"/"step-'><img src=x onerror=document.title=1>.png").write_bytes((tmp_path/"run"/"panels"/"step-000001.png").read_bytes())
    head = runner.read_with_numbers(tmp_path/"run"/"state.safetensors"); numbers = head[1] | dict(notes=[HANDLER, "Interrupted <b>"]); numbers.pop("digest")
    (tmp_path/"run"/"state.safetensors").write_bytes(runner.with_numbers(head[0], numbers | dict(digest=runner.digest(head[0], numbers))))
    (tmp_path/"run"/"report.html").unlink(); go()
    text = (tmp_path/"run"/"report.html").read_text()
    page = opened(text, 1000); inside = page.frames[-1]
    assert page.locator(".note").count() == 1 and page.locator(".strip").count() == 3 and page.title().startswith("<img src") and HANDLER in page.inner_text("h1")
    inside.wait_for_function("() => document.querySelector('canvas').dataset.frames >= 1")
    inside.focus("canvas"); page.keyboard.press("ArrowRight")
    inside.wait_for_function("() => shown.view.azimuth == 35")
    page.screenshot(path=shots(tmp_path)/"create-report.png", full_page=True)
    assert page.title().startswith("<img src")

def lucidteach(*args): return subprocess.run([sys.executable, "-m", "lucidteach.cli", *map(str, args)], capture_output=True, text=True, timeout=300)

def test_export_command(opened, tmp_path):
    g = scene(1); g.save(tmp_path/"scene.ply")
    r = lucidteach("export", tmp_path/"scene.ply", "--html", tmp_path/"out.html", "--to", tmp_path/"copy.ply")
    assert r.returncode == 0 and "1,500 Gaussians" in r.stdout, r.stderr
    page = opened((tmp_path/"out.html").read_text())
    assert page.title() == "scene.ply" and psnr(drawn(page), as_tensor(poster(g, aim(g), SIZE))) > 45
    assert torch.equal(Gaussians.load(tmp_path/"copy.ply").sh, g.sh)
    assert lucidteach("export", tmp_path/"scene.ply", "--html").returncode == 0 and (tmp_path/"scene.html").read_text() == (tmp_path/"out.html").read_text()
    again = lucidteach("export", tmp_path/"scene.ply", "--html", tmp_path/"out.html")
    assert again.returncode == 2 and "--overwrite" in again.stderr
    before = (tmp_path/"scene.ply").read_bytes()
    for wrong, word in ((["--html", tmp_path/"scene.ply"], "scene itself"), (["--to", tmp_path/"a.splat", "--to", tmp_path/"a.obj"], "a.obj")):       # before anything is written
        r = lucidteach("export", tmp_path/"scene.ply", "--overwrite", *wrong)
        assert r.returncode == 2 and word in r.stderr
    assert (tmp_path/"scene.ply").read_bytes() == before and not (tmp_path/"a.splat").exists()

@pytest.mark.parametrize("spoil, word", [
    (lambda b: b[:-100], "cut off"), (lambda b: b"PK" + b[2:], "not a PLY"), (lambda b: b[:200], "end_header"), (lambda b: b"", "not a PLY"),
    (lambda b: b.replace(b"binary_little_endian", b"ascii"), "ascii"), (lambda b: b.replace(b"vertex 1500", b"vertex 99999999999"), "promises"),
    (lambda b: b.replace(b"property float opacity", b"property float opacitx"), "opacity"), (lambda b: b[:-4] + b"\x00\x00\xc0\x7f", "nan"),
], ids=["cut", "zip", "no-header", "empty", "ascii", "promise", "column", "nan"])
def test_malformed_files(tmp_path, spoil, word):
    scene().save(tmp_path/"scene.ply"); path = tmp_path/"broken.ply"; path.write_bytes(spoil((tmp_path/"scene.ply").read_bytes()))
    r = lucidteach("export", path, "--html", tmp_path/"out.html")
    assert r.returncode == 2 and "Traceback" not in r.stderr and "broken.ply" in r.stderr and word in r.stderr, r.stderr
    assert not (tmp_path/"out.html").exists()

@pytest.mark.parametrize("args, word", [(["none.ply", "--html", "x.html"], "none.ply"), (["none.ply"], "--html"), (["none.obj", "--html", "x.html"], ".obj"), (["folder.ply", "--html", "x.html"], "folder.ply")])
def test_export_says_what_is_missing(tmp_path, args, word):
    (tmp_path/"folder.ply").mkdir()
    r = lucidteach("export", tmp_path/args[0], *[tmp_path/a if a.endswith(".html") else a for a in args[1:]])
    assert r.returncode == 2 and "Traceback" not in r.stderr and word in r.stderr, r.stderr
