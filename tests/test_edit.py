"Editing: a killed run goes on bit for bit, folders are safe, wrong calls are told before any work, any checkpoint folder works"
import html
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

import lucidteach as lt
from lucidteach.distill.zoo import pds_coefficients
from lucidteach.lab import edit as lab
from lucidteach.prior.exact import ImageSetPrior, MixturePrior
from lucidteach.scene.edit import EditConfig, SceneEdit, edit_config, edit_scene, edit_steps, votes
from lucidteach.scene.field import Field
from lucidteach.scene.text_to_3d import Splats, State
from lucidteach.splat.gaussians import Gaussians
from tiny import folders, lora_file  # noqa: F401  folders: a fixture

torch.set_num_threads(1)
WORDS = ("a red mug", "a blue mug")
SCENE = dict(steps=12, size=16, view_prompts=False, overhead=False, batch=2, guidance=1.0, every=4, save_seconds=0.0)
PICTURE = dict(steps=20, guidance=1.0, every=5, save_seconds=0.0)


def mugs():
    "A picture [3,16,16], and the same with another middle"
    mug = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    blue = mug.clone()
    blue[:, 4:12, 4:12] = 1 - mug[:, 4:12, 4:12]
    return mug, blue


def prior(std=0.05):
    return ImageSetPrior(torch.stack(mugs()), list(WORDS), std=std)


def plain():
    "A prior that knows a red and a blue picture"
    red, blue = (torch.ones(1, 3, 16, 16) * torch.tensor(v).view(1, 3, 1, 1) for v in ((0.8, 0.1, 0.1), (0.1, 0.2, 0.9)))
    return ImageSetPrior(torch.cat([red, blue]), list(WORDS), std=0.3)


def ball(n=60):
    return Gaussians.ball(n, radius=0.5, seed=0, rgb=torch.tensor([0.8, 0.1, 0.1]), opacity=0.8)


def quiet(what, *words, **more):
    return lt.edit(what, *(words or WORDS), **{"mode": "quiet", **more})


# --- the losses, by the papers' formulas written out one sample at a time in float64


def abar(t):
    product = 1.0
    for i in range(t + 1):
        product *= 1 - (0.00085**0.5 + (0.012**0.5 - 0.00085**0.5) * i / 999) ** 2
    return product


@pytest.mark.parametrize("name", ["dds", "dreamcatalyst", "bridge"])
def test_losses_against_a_straight_line(name):
    g = torch.Generator().manual_seed(0)
    normal = lambda *s: torch.randn(*s, generator=g).double()
    world = MixturePrior(normal(3, 2, 2, 2), [0.3, 0.5, 0.2], [1.0, 2.0, 0.5], ["cat", "dog", "bird"])
    x, src, noise = 0.5 * normal(3, 2, 2, 2), 0.5 * normal(3, 2, 2, 2), normal(3, 2, 2, 2)
    ts, prompts, was = [20, 500, 930], ["cat", "dog", "bird"], ["dog", "bird", "cat"]

    def guided(z, t, text):
        ask = lambda p: world.eps(z[None], t, world.embed(p))[0]
        return ask("") + 3 * (ask(text) - ask(""))

    want = []
    for i, t in enumerate(ts):
        a, s = abar(t) ** 0.5, (1 - abar(t)) ** 0.5
        z, z_src = a * x[i] + s * noise[i], a * src[i] + s * noise[i]
        if name == "bridge":
            ask = lambda p, z=z, t=t: world.eps(z[None], t, world.embed(p))[0]
            want.append(3 * (ask(prompts[i]) - ask(was[i])))
            continue
        gap = guided(z, t, prompts[i]) - guided(z_src, t, was[i])
        e = 2.718281828459045
        by_time = (0.2 + 0.8 * (t / 1000) ** (1 / e), 0.075 * e ** (t / 1000)) if name == "dreamcatalyst" else (1.0, 0.0)
        want.append(by_time[0] * gap + by_time[1] * (x[i] - src[i]))
    more = dict(negative=was) if name == "bridge" else dict(source=(src, was))
    step = lt.METHODS[name](world, x, prompts, torch.tensor(ts), noise=noise, guidance=3.0, weight="uniform", **more)
    far = (step.grad - torch.stack(want)).abs().max() / torch.stack(want).abs().max()
    assert far < 1e-11
    assert (step.grad - step.w * (step.eps_pred - step.target)).abs().max() < 1e-12


def test_dreamcatalyst_is_pds_with_other_weights():
    "Both are a difference of predictions and a spring; with PDS's weights at a time DreamCatalyst is PDS"
    g = torch.Generator().manual_seed(1)
    x, noise = torch.randn(2, 3, 16, 16, generator=g).double(), torch.randn(2, 3, 16, 16, generator=g).double()
    source = (prior().encode(mugs()[0][None]).double(), WORDS[0])
    psi, chi = (float(v) for v in pds_coefficients(prior().schedule, 400))
    how = dict(noise=noise, source=source)
    got = lt.METHODS["dreamcatalyst"](prior(), x, WORDS[1], 400, least=chi, growth=0.0, spring=psi / np.exp(0.4), **how)
    want = lt.METHODS["pds"](prior(), x, WORDS[1], 400, **how)
    assert (got.grad - want.grad).abs().max() < 1e-10 * want.grad.abs().max()


# --- what an edit does


@pytest.mark.parametrize("method", ["dds", "pds", "dreamcatalyst", "bridge"])
def test_an_edit_ends_at_the_other_picture(method):
    mug, blue = mugs()
    r = quiet(mug, prior=prior(), method=method, steps=60, guidance=1.0, t_range=(0.05, 0.9))
    gap = lambda a: (a - blue).square().mean().sqrt()
    assert gap(r.after) < 0.5 * gap(mug), method


def test_a_mask_that_is_found_is_where_the_pictures_differ():
    mug, blue = mugs()
    r = quiet(mug, prior=prior(), mask="found", **PICTURE)
    differs = ((mug - blue).abs().amax(0) > 0.01)[None]
    assert (r.mask & differs).sum() / (r.mask | differs).sum() > 0.6
    assert r.after[(~r.mask).expand(3, -1, -1)].equal(mug[(~r.mask).expand(3, -1, -1)])


def test_nothing_changes_where_prompts_say_the_same():
    "DDS's gradient is exactly 0 at the source with the source's prompt, whatever the noise; so the picture stays"
    mug, _ = mugs()
    s = next(edit_steps(prior(), mug[None], WORDS[0], WORDS[0], "dds", EditConfig(steps=3)))
    assert s.grad == 0 and s.canvas.image()[0].equal(mug)


def test_votes_are_shares_of_weights():
    "Against finite differences: brighten one Gaussian, and see how much of what changes lies in the mask"
    c = edit_config(**SCENE)
    scene = Splats(ball(12), c)
    cam = lt.Camera.orbit(torch.tensor([0.0, 90.0]), 20.0, 3.0, size=16, fov_deg=40.0)
    mask = torch.zeros(2, 1, 16, 16)
    mask[:, :, :, :7] = 1
    got = votes(scene, cam, mask)
    with torch.no_grad():
        was = scene.draw(cam, torch.ones(2, 3)).rgb
        for i in range(12):
            scene.params["sh0"][i] += 0.01
            change = scene.draw(cam, torch.ones(2, 3)).rgb - was
            scene.params["sh0"][i] -= 0.01
            if change.sum() > 1e-3:
                assert abs((change * mask).sum() / change.sum() - got[i]) < 1e-3, i


@pytest.mark.parametrize("method", ["dds", "dreamcatalyst", "ism"])
def test_a_scene_becomes_blue_and_anchors_hold_its_shape(method):
    g = ball()
    free = quiet(g, prior=plain(), method=method, anchors=dict(geometry=0.0), **SCENE)
    held = quiet(g, prior=plain(), method=method, anchors=dict(geometry=1.0, opacity=1.0), **SCENE)
    was = held.job.before.params
    for r in (free, held):
        now = r.state.scene.params
        assert (now["sh0"] - was["sh0"]).mean((0, 1))[2] > 0.05  # bluer
        assert now["means"].equal(was["means"]) == (r is held)
    assert held.state.scene.params["opacities"].equal(was["opacities"])


def test_a_field_is_edited():
    field = Field(resolutions=(4, 6), hidden=8, samples=8)
    before = {k: v.clone() for k, v in field.state_dict().items()}
    r = quiet(field, prior=plain(), **{**SCENE, "steps": 3})
    assert r.complete and r.gaussians is None
    assert all(v.equal(before[k]) for k, v in field.state_dict().items())  # the field that was given is not touched
    assert any(not v.equal(before[k]) for k, v in r.state.scene.module.state_dict().items())


# --- folders, checkpoints, kills


CHILD = """
import sys, time; sys.path.insert(0, {tests!r})
import torch; torch.set_num_threads(1)
import test_edit as here
kind, out = sys.argv[1:]
slow = here.prior() if kind == "picture" else here.plain()
ask = slow.eps
slow.eps = lambda *a: (time.sleep(.01), ask(*a))[1]
if kind == "picture": here.quiet(here.mugs()[0], prior=slow, out=out, mask="found", **here.PICTURE)
else: here.quiet(here.ball(), prior=slow, out=out, mask="found", **here.SCENE)
"""


def child(kind, out):
    env = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    code = CHILD.format(tests=os.path.dirname(__file__))
    return subprocess.Popen([sys.executable, "-c", code, kind, str(out)], env=env)


def step_of(out):
    "The step of the checkpoint in a folder, 0 without one"
    path = out / "state.safetensors"
    if not path.exists():
        return 0
    data = path.read_bytes()
    told = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["run"])
    if "step" in told:
        return told["step"]
    try:
        with safe_open(str(path), "pt") as f:
            return int(f.get_tensor("loop.numbers")[0])
    except OSError:
        return 0


@pytest.mark.parametrize("kind", ["picture", "scene"])
def test_killed_runs_go_on_bit_for_bit(kind, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "killed"
    if kind == "picture":
        quiet(mugs()[0], prior=prior(), out=whole, mask="found", **PICTURE)
    else:
        quiet(ball(), prior=plain(), out=whole, mask="found", **SCENE)
    p = child(kind, out)
    while p.poll() is None and step_of(out) < 4:
        time.sleep(0.002)
    p.send_signal(signal.SIGKILL)
    assert p.wait() == -signal.SIGKILL, "the run was over before it could be killed"
    assert 4 <= step_of(out) < 12
    assert child(kind, out).wait(120) == 0
    made = "after.png" if kind == "picture" else "object.ply"
    assert (out / made).read_bytes() == (whole / made).read_bytes()
    promised = {"config.json", "metrics.jsonl", "report.html", "state.safetensors", made}
    assert promised <= {f.name for f in out.iterdir()}
    assert not [f for f in out.iterdir() if f.name.endswith(".part")]


def test_the_same_call_does_nothing_twice_and_another_is_refused(tmp_path):
    mug, out = mugs()[0], tmp_path / "run"
    first = quiet(mug, prior=prior(), out=out, **PICTURE)
    was = {f.name: f.stat().st_mtime_ns for f in out.iterdir()}
    again = quiet(mug, prior=prior(), out=out, **PICTURE)
    assert again.done_before and again.after.equal(first.after) and again.rows == first.rows
    assert {f.name: f.stat().st_mtime_ns for f in out.iterdir()} == was
    for other in (dict(method="pds"), dict(seed=1), dict(mask="found")):
        with pytest.raises(FileExistsError, match="holds another run"):
            quiet(mug, prior=prior(), out=out, **{**PICTURE, **other})
    with pytest.raises(FileExistsError, match="different picture"):
        quiet(1 - mug, prior=prior(), out=out, **PICTURE)
    assert quiet(mug, prior=prior(), out=out, overwrite=True, method="pds", **PICTURE).method == "pds"


@pytest.mark.parametrize("hurt", ["cut", "flipped", "foreign", "other"])
def test_a_damaged_checkpoint_is_told(hurt, tmp_path):
    out = tmp_path / "run"
    quiet(mugs()[0], prior=prior(), out=out, **PICTURE)
    path = out / "state.safetensors"
    data = bytearray(path.read_bytes())
    if hurt == "flipped":
        data[-9] ^= 64
    path.write_bytes(dict(cut=data[: len(data) // 2], flipped=data, foreign=b"no checkpoint", other=data[:8])[hurt])
    with pytest.raises(ValueError, match="no whole checkpoint of this run.*delete it"):
        quiet(mugs()[0], prior=prior(), out=out, **PICTURE)
    path.unlink()
    assert quiet(mugs()[0], prior=prior(), out=out, **PICTURE).complete


def test_ctrl_c_keeps_what_is_there(tmp_path, monkeypatch):
    "The step at hand ends, the folder says that it was interrupted, and the same call ends where the whole run ends"
    whole = quiet(mugs()[0], prior=prior(), **PICTURE)
    slow, asked = prior(), []
    ask = slow.eps

    def eps(*a):
        asked.append(1)
        if len(asked) == 16:
            os.kill(os.getpid(), signal.SIGINT)
        return ask(*a)

    slow.eps = eps
    r = quiet(mugs()[0], prior=slow, out=tmp_path / "run", **PICTURE)
    assert r.interrupted and 0 < r.step < 20 and "goes on from there" in r.notes[0]
    assert "Interrupted" in (tmp_path / "run" / "report.html").read_text()
    after = quiet(mugs()[0], prior=prior(), out=tmp_path / "run", **PICTURE)
    assert after.complete and after.after.equal(whole.after) and not after.notes


def test_the_folder_of_a_run_is_edited_again(tmp_path):
    quiet(mugs()[0], prior=prior(), out=tmp_path / "one", **PICTURE)
    back = quiet(tmp_path / "one", *WORDS[::-1], prior=prior(), **PICTURE)
    assert back.complete and (back.before - mugs()[1]).abs().mean() < (back.before - mugs()[0]).abs().mean()
    quiet(ball(), prior=plain(), out=tmp_path / "two", **SCENE)
    assert quiet(tmp_path / "two", *WORDS[::-1], prior=plain(), **SCENE).complete


def test_the_report_escapes_and_loads_nothing(tmp_path):
    words = ("a <script>alert(1)</script> mug", "a \"blue' mug")
    known = ImageSetPrior(torch.stack(mugs()), list(words), std=0.05)
    r = quiet(mugs()[0], *words, prior=known, out=tmp_path / "run", **PICTURE)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<script>alert" not in page and page.count("<script>") == 1
    assert "default-src 'none'" in html.unescape(page) and "http" not in page.replace("http-equiv", "")
    assert 'type="range"' in page and r.complete


# --- wrong calls


def asked_nothing():
    "A prior that must not be asked for a prediction"
    p = prior()
    p.eps = lambda *a: pytest.fail("the network was asked")
    return p


def files(tmp_path):
    names = {k: tmp_path / f"{k}.png" for k in ("broken", "grey", "clear", "small", "fine", "black")}
    names["broken"].write_bytes(b"\x89PNG\r\n\x1a\nnothing of a picture")
    Image.new("L", (16, 16)).save(names["grey"])
    Image.new("RGBA", (16, 16), (9, 9, 9, 100)).save(names["clear"])
    Image.new("RGB", (8, 8)).save(names["small"])
    Image.new("RGB", (16, 16), (9, 200, 9)).save(names["fine"])
    Image.new("L", (16, 16)).save(names["black"])
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "empty").mkdir()
    return names


P = torch.rand(3, 16, 16)
WRONG = {  # name: (what, words, options, kind of error, what it says)
    "same prompts": (P, ("a red mug", "a red  mug"), {}, ValueError, "are both 'a red mug'"),
    "no source": (P, ("", "a blue mug"), {}, ValueError, "source is one prompt"),
    "target a list": (P, ("a red mug", ["a blue mug"]), {}, ValueError, "target is one prompt"),
    "method misspelt": (P, WORDS, dict(method="ddss"), ValueError, "did you mean 'dds'"),
    "no method of editing": (P, WORDS, dict(method="sds"), ValueError, "unknown method of editing 'sds'"),
    "a contrast without a network": (P, WORDS, dict(method="contrastive"), ValueError, "use dds"),
    "the same of a scene": (ball(), WORDS, dict(method="contrastive", **SCENE), ValueError, "use dds"),
    "contrast below 0": (P, WORDS, dict(method="contrastive", options=dict(contrast=-1.0)), ValueError, "0 or more"),
    "option misspelt": (P, WORDS, dict(method="pds", options=dict(strid=3)), TypeError, "did you mean 'stride'"),
    "option that editing sets": (P, WORDS, dict(options=dict(guidance=3.0)), ValueError, "editing sets itself"),
    "setting misspelt": (P, WORDS, dict(step=3), TypeError, "did you mean 'steps'"),
    "setting of scenes": (P, WORDS, dict(lr_color=(0.1, 0.1)), TypeError, "edit() of a picture has no setting"),
    "steps 0": (P, WORDS, dict(steps=0), ValueError, "steps must be a whole number"),
    "times that fall": (P, WORDS, dict(t_range=(0.9, 0.2)), ValueError, "t_range must rise"),
    "rate 0": (P, WORDS, dict(rate=0.0), ValueError, "rate must be"),
    "canvas": (P, WORDS, dict(canvas="oil"), ValueError, "canvas must be one of"),
    "grey tensor": (P[:1], WORDS, {}, ValueError, "expand(3, -1, -1)"),
    "four channels": (torch.cat([P, P[:1] / 2]), WORDS, {}, ValueError, "RGBA"),
    "bytes": (255 * P, WORDS, {}, ValueError, "divide by 255"),
    "whole numbers": ((255 * P).byte(), WORDS, {}, ValueError, "float tensor [3,H,W] in [0,1]"),
    "NaN": (P * torch.nan, WORDS, {}, ValueError, "nan"),
    "numpy": (P.numpy(), WORDS, {}, ValueError, "torch.as_tensor"),
    "wrong size": (P[:, :8, :8], WORDS, {}, ValueError, "8 x 8 px, this prior's pictures 16 x 16"),
    "not square": (P[:, :8], WORDS, {}, ValueError, "16 x 8 px"),
    "two pictures": (torch.stack([P, P]), WORDS, {}, ValueError, "give one picture"),
    "a number": (7, WORDS, {}, ValueError, "got int"),
    "mask empty": (P, WORDS, dict(mask=torch.zeros(16, 16)), ValueError, "the mask is empty"),
    "mask of all": (P, WORDS, dict(mask=torch.ones(16, 16)), ValueError, "leave it out"),
    "mask of another size": (P, WORDS, dict(mask=torch.eye(8)), ValueError, "the picture's size, [16,16]"),
    "mask a word": (P, WORDS, dict(mask="find"), FileNotFoundError, "find: no such file"),
    "mask a number": (P, WORDS, dict(mask=3), ValueError, "must be None, 'found'"),
    "anchors of a picture": (P, WORDS, dict(anchors={}), ValueError, "mask"),
    "threads": (P, WORDS, dict(threads=3), ValueError, "threads is 'auto'"),
    "sdedit of a scene": (ball(), WORDS, dict(method="sdedit"), ValueError, "use dds for a scene"),
    "ground of a scene": (ball(), ("a red mug", "a red mug on blue"), {}, ValueError, "a ground is no part of a scene"),
    "mask of a scene": (ball(), WORDS, dict(mask=torch.eye(16)), ValueError, "mask='found' or None"),
    "mask of a field": (Field(resolutions=(3,), samples=4), WORDS, dict(mask="found", **SCENE), ValueError, "a field has none"),
    "setting of pictures": (ball(), WORDS, dict(canvas="latents"), TypeError, "edit() of a scene has no setting"),
    "anchor of 2": (ball(), WORDS, dict(anchors=dict(geometry=2)), ValueError, "share within 0..1"),
    "anchor misspelt": (ball(), WORDS, dict(anchors=dict(geomtry=1)), TypeError, "geomtry"),
    "empty scene": (ball()[:0], WORDS, {}, ValueError, "holds no Gaussian"),
    "scene with NaN": (ball().map(lambda v: v * torch.nan), WORDS, dict(**SCENE), ValueError, "NaN or infinity"),
    "size of a scene": (ball(), WORDS, {**SCENE, "size": 32}, ValueError, "size must be 16"),
    "no file": ("no/such.png", WORDS, {}, FileNotFoundError, "no such file"),
    "no folder": ("no/such", WORDS, {}, FileNotFoundError, "no such file or folder"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_are_told_before_any_work(name, tmp_path):
    what, words, options, kind, says = WRONG[name]
    with pytest.raises(kind) as e:
        lt.edit(what, *words, **{"prior": asked_nothing(), "out": tmp_path / "run", "mode": "quiet", **options})
    assert says in str(e.value)
    assert not (tmp_path / "run").exists()


FILES = {
    "broken": "cannot be read as a picture",
    "grey": "grey",
    "clear": "RGBA and partly transparent",
    "small": "8 x 8 px",
    "notes.txt": "neither a picture's nor a scene's",
    "empty": "no object.ply and no after.png",
}


@pytest.mark.parametrize("name", FILES)
def test_wrong_files_are_told(name, tmp_path):
    path = files(tmp_path).get(name, tmp_path / name)
    with pytest.raises((ValueError, FileNotFoundError)) as e:
        quiet(path, prior=asked_nothing())
    assert FILES[name] in str(e.value) and str(path.name) in str(e.value)
    with pytest.raises(ValueError, match="mask is empty"):
        quiet(tmp_path / "fine.png", prior=asked_nothing(), mask=tmp_path / "black.png")


def test_words_that_the_toy_world_does_not_know_are_told_at_once(monkeypatch):
    "By name, without the prior being loaded; for another prior they are no error (`test_any_checkpoint_folder`)"
    monkeypatch.setattr(lab, "opened", lambda *a: pytest.fail("the prior was loaded"))
    for words, says in (((WORDS[0], "a teal mug"), "no colour 'teal'"), (("a red mgu", WORDS[1]), "did you mean")):
        with pytest.raises(ValueError, match=says):
            lt.edit(torch.rand(3, 64, 64), *words, mode="quiet")


# --- any checkpoint


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_any_checkpoint_folder(family, folders, tmp_path):  # noqa: F811
    "A tiny random pipeline: a picture on both canvases with a mask that is found, and a scene"
    pipe = lt.load_prior(folders / family, device="cpu")
    side = pipe.image_size
    x = torch.rand(3, side, side, generator=torch.Generator().manual_seed(0))
    words = ("a cat on a mat", "a dog on a mat")
    for canvas in ("latents", "pixels"):
        r = quiet(x, *words, prior=pipe, steps=3, canvas=canvas, mask="found", level=0.6)
        assert r.complete and r.after.shape == x.shape and 0 <= r.after.min() and r.after.max() <= 1
    if family == "sd15":
        assert quiet(x, *words, prior=pipe, method="sdedit", steps=2).complete
        plain, held = (
            quiet(x, *words, prior=pipe, method=m, steps=2, options=o)
            for m, o in (("dds", {}), ("contrastive", dict(contrast=1.0)))
        )
        assert held.complete and held.calls == 1.5 * plain.calls and not held.after.equal(plain.after)
        for method in ("dds", "contrastive"):
            s = quiet(ball(), *words, prior=pipe, method=method, steps=1, size=side, batch=1)
            assert s.complete and not s.state.scene.params["sh0"].equal(s.job.before.params["sh0"])


# --- the command


def test_the_command(tmp_path, capsys, monkeypatch):
    from lucidteach import cli

    monkeypatch.chdir(tmp_path)
    picture = tmp_path / "mug.png"
    array = (mugs()[0] * 255).byte().permute(1, 2, 0).numpy()
    Image.fromarray(array).save(picture)
    monkeypatch.setattr(lab, "opened", lambda *a: prior())
    assert cli.main(["edit", str(picture), *WORDS, "--prior", "mine", "--steps", "3", "--mask", "found"]) == 0
    told = capsys.readouterr()
    assert told.out.strip().endswith("runs/a-blue-mug-edit/report.html") or "a-blue-mug-edit" in told.out
    assert "network calls" in told.err
    assert cli.main(["edit", str(picture), "a red mug", "a red mug"]) == 2
    assert "say in the target what shall be different" in capsys.readouterr().err
    assert cli.main(["edit", str(picture), *WORDS, "--maks", "found"]) == 2
    assert "did you mean --mask?" in capsys.readouterr().err


def test_the_command_takes_a_lora(folders, tmp_path, capsys):  # noqa: F811
    "As compare and create take it; another LoRA is another run"
    from lucidteach import cli

    path, picture = tmp_path / "style.safetensors", tmp_path / "cat.png"
    lora_file(lt.load_prior(folders / "sd15", device="cpu").pipe, path)
    Image.fromarray(np.full((64, 64, 3), 120, np.uint8)).save(picture)
    words = ["edit", str(picture), "a cat", "a dog", "--prior", str(folders / "sd15"), "--device", "cpu", "--steps", "2"]
    assert cli.main([*words, "--out", str(tmp_path / "plain")]) == 0
    assert cli.main([*words, "--out", str(tmp_path / "lora"), "--lora", f"{path}@0.5"]) == 0
    with_it, without = ((tmp_path / k / "after.png").read_bytes() for k in ("lora", "plain"))
    assert with_it != without
    capsys.readouterr()
    assert cli.main([*words, "--out", str(tmp_path / "lora")]) == 2
    assert "holds another run" in capsys.readouterr().err
    assert cli.main([*words, "--lora", str(tmp_path / "none.safetensors")]) == 2
    assert "none.safetensors: no such file" in capsys.readouterr().err
