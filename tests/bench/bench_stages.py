"""The toy preset, chosen and tested: python tests/bench/bench_stages.py --out nbs/4_scene/results --rounds screen last toy_test

Each setting is a change of the first toy preset (one stage, times .8 to .3, guidance 3, mirrored); it makes objects, which are judged by judge b
over 12 views: share whose category, colour and pattern are named rightly; fine contrast over that of the middle shape; decibels to the middle shape where either stands (a guard, no aim);
`nearest`, `nearest_sharpness`: the same to the nearest true object in four of the views, as bench_create has it; `janus`: share of the views from behind in which judge b sees a front;
`off`: distance of the centres to the middle shape's surface, weighted by opacity, in units of the world (the object is about one unit large).
A line a run in create-stages.jsonl; runs that are there are not made again. Scenes and pictures lie beside them (`scenes`, not committed), and --pack makes of the pictures create-stages.webp, six views a run in the same order.
--rounds names the stages of the choice, see ROUNDS; --seeds, --prompts and --settings take a part of a round."""
import argparse, hashlib, io, json, time
from dataclasses import asdict, replace
from pathlib import Path
import lucidteach     # noqa: F401 before torch
import numpy as np, torch
from PIL import Image, ImageDraw, ImageFont
from lucidteach.distill.methods import METHODS
from lucidteach.judge.judges import load_judge
from lucidteach.judge.metrics import DEV_PROMPTS, TEST_PROMPTS, correct, front_shown
from lucidteach.prior import words, world
from lucidteach.prior.checkpoints import load_prior
from lucidteach.prior.fast import fast
from lucidteach.prior.guidance import view_cond
from lucidteach.prior.pictures import sharpness_ratio
from lucidteach.prior.truth import nearest_truth
from lucidteach.run.files import write_file
from lucidteach.scene import run as runner, text_to_3d as t3
from lucidteach.scene.config import WorldCameras, config
from lucidteach.scene.field import Field, field_like
from lucidteach.scene.sources import initial_gaussians
from lucidteach.scene.start import true_points
from lucidteach.splat.camera import Camera
from lucidteach.splat.gaussians import Gaussians

NAME = "create-stages"     # of its two files
BEFORE = dict(steps=80, batch=4, lr_means=(.006, .0005), head_start=.75, guidance=3., t_start=.8, t_range=(.02, .3), flip=.5, detail=None, guidance_detail=None, lr_color=(.04, .004))      # the first preset
TWO = dict(flip=0., guidance=5., head_start=.5, detail=(.5, .4, .1), lr_color=(.12, .02))            # the second: two stages of forty steps
ONE = TWO | dict(detail=None)     # one stage, with all else as in two
BRIGHT = ONE | dict(lr_color=(.2, .03))
EIGHT = BRIGHT | dict(batch=8, steps=60)
NOW = BRIGHT | dict(batch=8, steps=64, guidance=6.25, lr_means=(.003, .00025))      # the preset as it is
sds = lambda base, own: {name: ("sds", base | v) for name, v in own.items()}
CHOICE = sds(TWO, {"SDS": {}, "guidance 3": dict(guidance=3.), "guidance 3, then 7.5": dict(guidance=3., guidance_detail=7.5), "guidance 7.5": dict(guidance=7.5), "guidance 7.5, colours .25": dict(guidance=7.5, lr_color=(.25, .25/6)), "colours to .005": dict(lr_color=(.12, .005))})
SWITCHES = sds(TWO, {"one stage": dict(detail=None), "mirrored": dict(flip=.5), "colours .04": dict(lr_color=(.04, .004)), "no view words": dict(view_prompts=False)})
ISM = {"ISM": ("ism", TWO), "ISM, interval 200": ("ism", TWO | dict(delta_t=(200, 200)))}
OLD = sds({}, {"before": {}, "before, in two stages": dict(detail=(.5, .4, .1), head_start=.5)})
WHITE = {"on a ground": ("sds", TWO)}
HELD = sds(TWO, {f"{k} held": dict(held=k) for k in ("means", "scales", "opacities", "sh0")})      # in the second stage one parameter stays as the first left it
# what one stage may win: a thing changed at a time, then together
SCREEN = sds(ONE, {"one stage": {}, "160 steps": dict(steps=160), "guidance 6.5": dict(guidance=6.5), "colours .2": dict(lr_color=(.2, .03)), "160 steps, guidance 6.5": dict(steps=160, guidance=6.5), "times to .15": dict(t_range=(.02, .15)),
    "5000 points": dict(points=5000), "batches of 8": dict(batch=8), "no noise of scales": dict(scale_noise=0.)})
LOW = sds(TWO, {"guidance 5, then 2": dict(guidance_detail=2.), "guidance 7.5, then 2": dict(guidance=7.5, guidance_detail=2.), "two stages, batches of 8": dict(batch=8)})
VIEWS = sds(EIGHT, {"40 batches of 8, colours .2": dict(steps=40), "60 batches of 8, colours .2": {}, "batches of 8, colours .2": dict(steps=80)})
CENTRES = sds(BRIGHT, {"colours .2, centres .003": dict(lr_means=(.003, .00025)), "colours .2, centres .0015": dict(lr_means=(.0015, .000125)), "colours .2, centres .0015, guidance 6.5": dict(lr_means=(.0015, .000125), guidance=6.5)}) | sds(EIGHT, {
    "60 batches of 8, colours .2, centres .003": dict(lr_means=(.003, .00025)), "60 batches of 8, colours .2, centres .0015, guidance 6": dict(lr_means=(.0015, .000125), guidance=6.)})
LAST = sds(EIGHT, {"guidance 6, centres .003": dict(guidance=6., lr_means=(.003, .00025)), "guidance 6.5, centres .002": dict(guidance=6.5, lr_means=(.002, .00017)), "guidance 6, centres .003, 64 steps": dict(steps=64, guidance=6., lr_means=(.003, .00025))})
TOY = {"toy": ("sds", NOW)}
STAGE = dict(detail=(.5, .4, .1))
LATE = {"toy, ISM in the second half": ("ism", NOW), "toy, ISM in a stage of detail": ("ism", NOW | STAGE), "toy, SDS in a stage of detail": ("sds", NOW | STAGE)}
FIELD = {name: ("sds", own | dict(lr_field=(.01, .001), steps=160)) for name, own in {"field, one stage": BEFORE, "field": TWO}.items()}     # a radiance field that begins from the same points, see field_like, and takes twice the steps
OWN = NOW | dict(batch=4, steps=80)
FIELD |= sds(OWN, {"field, rate .003": dict(lr_field=(.003, .0003))})
CLOSED = dict(init_scale=1., pictures=64, lr_field=(.01, .001))     # points without gaps between them, and a field that is fitted to larger pictures of them
FIELDS = sds(OWN, {"field, closed start": CLOSED | dict(steps=160), "field, closed start, 80 steps": CLOSED}) | sds(BEFORE, {"field, one stage, closed start": CLOSED | dict(steps=160)})
FIELD |= FIELDS
PATTERNED = tuple(p for p in TEST_PROMPTS if words.parse(p).pattern != "plain")
THREE = ("a pink striped hat", "a blue car", "a yellow duck")
ROUNDS = dict(choice=(CHOICE, DEV_PROMPTS, (0,)), switches=(SWITCHES | ISM, THREE[:2], (0,)), ism=({"ISM": ISM["ISM"]}, DEV_PROMPTS, (0,)), test=({"SDS": ("sds", TWO), "ISM": ISM["ISM"]}, TEST_PROMPTS, (0, 1, 2)),   # name -> (settings: name -> (method, changes), prompts, seeds)
              why=(SWITCHES | {"guidance 3": CHOICE["guidance 3"]} | OLD, PATTERNED, (0,)), single=({"one stage": SWITCHES["one stage"]}, TEST_PROMPTS, (0,)), white=(WHITE, tuple(f"a white rocket on {ground}" for ground in ("blue", "black", "gray")), (0,)),
              held=(HELD, THREE, (0,)), screen=(SCREEN, THREE, (0,)), low=(LOW, THREE, (0,)), views=(VIEWS, THREE, (0,)), centres=(CENTRES, THREE, (0,)), last=(LAST, DEV_PROMPTS, (0,)), toy=(TOY, DEV_PROMPTS, (0, 1, 2)), toy_test=(TOY, TEST_PROMPTS, (0, 1, 2)),
              late=(LATE, DEV_PROMPTS, (0,)), field=(FIELD, THREE[:2], (0,)), fields=({"field, one stage": FIELD["field, one stage"]}, DEV_PROMPTS, (0,)),
              field_start=(FIELDS, ("a red mug", "a purple teapot", "a pink striped hat"), (0,)), field_dev=({"field, closed start": FIELDS["field, closed start"]}, DEV_PROMPTS, (0,)))
NEAR = (1, 4, 7, 10)     # of these the nearest truth is searched, as in bench_create
AROUND = [world.Camera(a, 20., 3., 40.) for a in range(0, 360, 30)]

def kept(out):
    "The runs of a folder"
    lines = out/f"{NAME}.jsonl"
    return [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()] if lines.exists() else []

def strip_of(out, row):
    "Where the six views of a run lie until they are packed"
    return out/"scenes"/"{name}, {prompt}, {seed}.png".format(**row)

def keep(out, row, picture):
    "One run more: first its picture, then its line"
    f = io.BytesIO()
    Image.fromarray(picture).save(f, "png")
    write_file(strip_of(out, row), f.getvalue())
    write_file(out/f"{NAME}.jsonl", "".join(json.dumps(r) + "\n" for r in [*kept(out), row]))

def truth_of(prompt):
    "The middle shape of a prompt from twelve sides"
    t = words.parse(prompt)
    thing = world.Thing(t.category, t.color or "red", t.pattern or "plain", background=t.background)
    return thing, torch.stack([torch.tensor(world.render(thing, c, 64).rgb) for c in AROUND])

def decibels(views, truth, ground):
    "Mean over the views of the decibels where either of the two stands"
    stands = ((truth - ground).abs() > .03).any(1) | ((views - ground).abs() > .03).any(1)
    return float(np.mean([-10*np.log10((a - b).square().mean(0)[m].mean().item()) for a, b, m in zip(views, truth, stands)]))

def off(thing, g):
    "Distance of the centres to the middle shape's surface, weighted by opacity"
    away, weight = np.abs(world.distance(thing, g.means.double().numpy())), g.opacities.numpy()
    return round(float((away*weight).sum()/weight.sum()), 4)

def measure(scene, prompt, judge):
    "The values of one object, and its six views [64,384,3]"
    thing, truth = truth_of(prompt)
    ground = t3.backdrop(prompt)
    views = t3.shoot(scene, Camera.from_world(AROUND, 64), ground).rgb
    right = correct(judge, views, [prompt]*len(views))
    values = {k: round(right[k].nanmean().item(), 3) for k in ("category", "colour", "pattern")}
    values |= dict(sharpness=round(float(np.mean([sharpness_ratio(a, b) for a, b in zip(views, truth)])), 3), psnr=round(decibels(views, truth, ground.reshape(3, 1, 1)), 2))
    near = [nearest_truth(views[i], prompt, camera=AROUND[i], starts=120) for i in NEAR]
    values |= dict(nearest=round(float(np.mean([n.psnr for n in near])), 2), nearest_sharpness=round(float(np.mean([sharpness_ratio(views[i], torch.as_tensor(n.image)) for i, n in zip(NEAR, near)])), 3))
    if world.CATEGORIES[thing.category].has_front: values["janus"] = round((front_shown(judge, views[5:8]) > .5).float().mean().item(), 3)
    return values, (torch.cat(list(views[::2]), 2).permute(1, 2, 0)*255 + .5).byte().numpy()

def scene_of(c, prompt, pictures=0):
    "What a run optimises: the points of the prompt, or a field that looks like them, fitted to pictures of so many pixels a side"
    g = t3.start(c, prompt)
    return t3.FieldScene(field_like(g, Field(resolutions=(16, 32), samples=32), size=pictures), c) if pictures else t3.Splats(g, c)

def begun(prior, c, prompt, out, pictures):
    "The first stage, which is SDS whatever comes after: made once, and gone on from bit for bit; and the processor seconds that it took"
    first = c.first_steps(c.head_start) if c.detail and c.head_start >= c.detail[0] else 0
    told = {k: v for k, v in asdict(c).items() if k not in ("guidance_detail", "delta_t", "delta_s", "start_noise", "target")} | dict(detail=first, prompt=prompt)
    file = out/"scenes"/(hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16] + ".half")
    before = time.process_time()
    state = t3.State(scene_of(c, prompt, pictures))
    if pictures: return state, time.process_time() - before
    if file.exists(): return state, runner.unpack(file, state, c)["rows"][0]["cpu"]
    began = time.process_time()
    for _ in zip(range(first), runner.generate(prior, prompt, "sds", c, state=state)): pass
    cpu = time.process_time() - began
    if first: write_file(file, runner.pack(state, [dict(step=0, cpu=cpu)]))
    return state, cpu

def one(prior, judge, name, method, own, prompt, seed, out):
    "One run, unless it is there"
    key = dict(name=name, prompt=prompt, seed=seed)
    if any(r.items() >= key.items() for r in kept(out)): return
    (out/"scenes").mkdir(exist_ok=True)
    own = dict(own)
    held, pictures = own.pop("held", None), own.pop("pictures", 32)
    c = config("toy", **{**BEFORE, **own}, seed=seed)
    field = name in FIELD
    state, cpu = begun(prior, c, prompt, out, pictures if field else 0)
    if held: state.scene.c = replace(c, **{t3.RATES[held]: (1e-12, 1e-12)})
    began = time.process_time()
    for _ in runner.generate(prior, prompt, method, c, state=state): pass
    cpu += time.process_time() - began
    if field: values, picture = measure(state.scene, prompt, judge)
    else:
        g = state.scene.gaussians.map(lambda v: v.detach())
        values, picture = measure(t3.Splats(g, config("toy")), prompt, judge)
        values["off"] = off(truth_of(prompt)[0], g)
        g.save(out/"scenes"/f"{name}, {prompt}, {seed}.ply")
    row = key | dict(method=method, settings=json.loads(json.dumps(own | (dict(held=held) if held else {}) | (dict(pictures=pictures) if field else {}))), **values, calls=state.calls, cpu=round(cpu, 1))
    keep(out, row, picture)
    print(*(f"{k} {v}" for k, v in row.items() if k != "settings"), flush=True)

def views_of(prompt, g, size):
    "Six views of a scene, or of the middle shape where there is none, [3,H,6W]"
    cams = AROUND[::2]
    thing = truth_of(prompt)[0]
    if g is None: return torch.cat([torch.tensor(world.render(thing, c, size).rgb) for c in cams], 2)
    c = config("toy")
    return torch.cat(list(t3.shoot(t3.Splats(runner.as_seen(g, c), c), Camera.from_world(cams, size), t3.backdrop(prompt)).rgb), 2)

def picture(out, path, prompts, size, names=(("SDS", "toy"), ("ISM", "toy, ISM in a stage of detail")), seed=0, left=90):
    "Truth and a row for each method, labelled, in two columns of prompts"
    font, blocks = ImageFont.load_default(15), []
    for p in prompts:
        rows = [("truth", views_of(p, None, size))]
        rows += [(label, views_of(p, Gaussians.load(f), size)) for label, n in names if (f := out/"scenes"/f"{n}, {p}, {seed}.ply").exists()]
        block = Image.new("RGB", (left + 6*size, 26 + size*len(rows)), "white")
        pen = ImageDraw.Draw(block)
        pen.text((left, 6), p, fill="black", font=font)
        for i, (label, row) in enumerate(rows):
            block.paste(Image.fromarray((row.clamp(0, 1)*255 + .5).byte().permute(1, 2, 0).numpy()), (left, 26 + size*i))
            pen.text((left - 10, 26 + size*i + size//2), label, fill="black", font=font, anchor="rm")
        blocks.append(block)
    half = (len(blocks) + 1)//2
    columns = [blocks[:half], blocks[half:]]
    sheet = Image.new("RGB", (2*(left + 6*size), max(sum(b.height for b in c) for c in columns)), "white")
    for x, column in enumerate(columns):
        for y, b in zip(np.cumsum([0] + [b.height for b in column]), column): sheet.paste(b, (x*(left + 6*size), int(y)))
    sheet.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    sheet.save(Path(path).with_suffix(".webp"), "webp", quality=88)

BENT = {"guidance 5": {}, "guidance 1": dict(guidance=1.), "guidance 7.5": dict(guidance=7.5), "no view words": dict(view_prompts=False), "times .3 to .1": dict(t_start=.3, t_range=(.02, .1)),
        "one lens, one height": dict(cameras=WorldCameras(elevation=(20., 20.), fov=(40., 40.), fill=(.85, .85), jitter=0.)), "centres held": dict(lr_means=(1e-9, 1e-9))}

def apparent(thing, image, azimuth, step=4, reach=24):
    "The azimuth whose true picture is nearest to an image, less the camera's, in degrees, by a parabola through the three nearest"
    d = np.arange(-reach, reach + 1, step)
    e = np.array([((image - torch.tensor(world.render(thing, world.Camera(azimuth + float(v), 20., 3., 40.), 64).rgb))**2).mean().item() for v in d])
    i = int(np.clip(e.argmin(), 1, len(d) - 2))
    return float(d[i] + step*(e[i - 1] - e[i + 1])/(2*(e[i - 1] - 2*e[i] + e[i + 1])))

def bend(prior, out, prompt="a green house", azimuths=(15, 30, 45, 60, 75, 120, 150)):
    """Why a house is bent. From points of the true surface in their colours, forty steps of the first stage by SDS: how far the centres at the corners of the walls moved away
    from the axis, and those in the middle of the walls; the share of the pictures that the object covers, over the beginning's. And at which azimuth x0_hat of a *true* picture seems to stand."""
    thing = truth_of(prompt)[0]
    base = TWO | dict(steps=40, detail=None, head_start=0.)
    c = config("toy", **{**BEFORE, **base})
    g0 = initial_gaussians(torch.cat(true_points(thing, c.points), 1), c.points, opacity=c.opacity)
    g0 = replace(g0, log_scales=g0.log_scales + np.log(c.init_scale))
    m = g0.means.numpy()
    X, Y, radius = abs(m[:, 0]), abs(m[:, 1]), np.hypot(m[:, 0], m[:, 1])
    wall = m[:, 2] < 0
    x, y = np.quantile(X[wall], .98), np.quantile(Y[wall], .98)
    corner = wall & (X > .8*x) & (Y > .8*y)
    middle = wall & (((X > .95*x) & (Y < .4*y)) | ((Y > .95*y) & (X < .4*x)))
    covered = lambda g: t3.shoot(t3.Splats(g, c), Camera.from_world(AROUND, 64)).alpha.mean().item()
    first, rows = covered(g0), []
    for name, own in BENT.items():
        c = config("toy", **{**BEFORE, **base, **own})
        *_, state = runner.generate(prior, prompt, "sds", c, state=t3.State(t3.Splats(g0, c)))
        g = state.scene.gaussians.map(lambda v: v.detach())
        away = np.hypot(*g.means.numpy()[:, :2].T) - radius
        rows.append(dict(name=name, corners=round(float(away[corner].mean()), 4), middles=round(float(away[middle].mean()), 4), covers=round(covered(g)/first, 3)))
        g.save(out/"scenes"/f"bent, {name}.ply")
        print(rows[-1], flush=True)
        write_file(out/"create-bent.json", json.dumps(dict(prompt=prompt, corners=int(corner.sum()), middles=int(middle.sum()), runs=rows), indent=1) + "\n")
    seen, draws = {}, torch.Generator().manual_seed(0)
    for g, t in ((1., 300), (1., 700), (7.5, 300), (7.5, 700)):
        seen[f"guidance {g:g}, t {t}"] = at = []
        for a in azimuths:
            z = prior.encode(torch.tensor(world.render(thing, world.Camera(float(a), 20., 3., 40.), 64).rgb)[None]).repeat(8, 1, 1, 1)
            told = view_cond(prior, prompt, torch.full((8,), float(a)), torch.full((8,), 20.))
            at.append(round(apparent(thing, prior.decode(METHODS["sds"](prior, z, told, t, guidance=g, generator=draws).x0_hat).mean(0), a), 2))
        print(t, g, at, flush=True)
    write_file(out/"create-bent.json", json.dumps(dict(prompt=prompt, corners=int(corner.sum()), middles=int(middle.sum()), runs=rows, azimuths=azimuths, apparent=seen), indent=1) + "\n")

def sheet_of(file):
    "The six views of each run [n,64,384,3]; two runs stand side by side in the sheet"
    a = np.asarray(Image.open(file).convert("RGB"))
    return a.reshape(-1, 64, a.shape[1]//384, 384, 3).swapaxes(1, 2).reshape(-1, 64, 384, 3)

def pack(out):
    "The sheet as it is committed, two runs side by side, for a WebP holds at most 16,383 rows of pixels: those of its runs whose pictures lie in `scenes` are new, the others stay"
    file, rows = out/f"{NAME}.webp", kept(out)
    there = sheet_of(file) if file.exists() else []
    strips = [np.asarray(Image.open(p)) if (p := strip_of(out, r)).exists() else there[i] for i, r in enumerate(rows)]
    strips += [np.full_like(strips[0], 255)]*(len(strips)%2)
    f = io.BytesIO()
    Image.fromarray(np.concatenate([np.concatenate(strips[i:i + 2], 1) for i in range(0, len(strips), 2)])).save(f, "webp", quality=85, method=6)
    write_file(file, f.getvalue())

def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--rounds", nargs="*", default=list(ROUNDS))
    p.add_argument("--settings", nargs="*"); p.add_argument("--prompts", nargs="*"); p.add_argument("--seeds", nargs="*", type=int)
    p.add_argument("--picture", type=Path, help="a .png of the development prompts, or of --prompts (a .webp beside it), from the scenes; nothing is made")
    p.add_argument("--size", type=int, default=128, help="pixels of a view in it")
    p.add_argument("--pack", action="store_true", help="the sheet of all runs from their pictures; nothing is made")
    p.add_argument("--fast", action="store_true", help="the network in ONNX Runtime, see 14b_fast: the same to 1e-5, in four fifths of the time")
    p.add_argument("--bend", action="store_true", help="why a house is bent: create-bent.json")
    a = p.parse_args()
    if a.picture: return picture(a.out, a.picture, a.prompts or DEV_PROMPTS, a.size)
    if a.pack: return pack(a.out)
    torch.set_num_threads(1)
    if a.bend: return bend(load_prior("toy"), a.out)
    prior, judge = load_prior("toy"), load_judge("b")
    if a.fast: prior = fast(prior)
    for r in a.rounds:
        settings, prompts, seeds = ROUNDS[r]
        for seed in a.seeds or seeds:
            for prompt in a.prompts or prompts:
                for name in (n for n in settings if not a.settings or n in a.settings): one(prior, judge, name, *settings[name], prompt, seed, a.out)

if __name__ == "__main__": main()
