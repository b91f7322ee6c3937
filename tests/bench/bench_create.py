"""Text to 3D measured against the truth: python tests/bench/bench_create.py --prompts dev --methods ism,sds,inverted-noise --representation splats

Under --out one line per run in create.jsonl, and in the same order a row of six views of 64 pixels in create.webp (a run that is there is not done again);
at the end a sheet with the truth beside them. The methods spend equal network calls:
the ISM of the preset sets the budget, SDS takes more steps. `inverted-noise` is ISM that subtracts the noise of the whole path instead of the interval's.
Judge a has been used for tuning, judge b has not."""
import argparse, io, json, math, platform, time
from dataclasses import asdict, replace
from pathlib import Path
import lucidteach     # before torch
import numpy as np, torch
from PIL import Image
from lucidteach.lab import create as lab
from lucidteach.scene import config as settings_of, run as runner, text_to_3d as t3
from lucidteach.scene.start import true_points
from lucidteach.run.files import write_file
from lucidteach.run.jobs import peak_memory
from lucidteach.prior.pictures import saturation_ratio, sharpness_ratio
from lucidteach.judge.metrics import DEV_PROMPTS, TEST_PROMPTS, chamfer, correct, front_shown
from lucidteach.judge.judges import load_judge
from lucidteach.prior import words, world
from lucidteach.prior.truth import nearest_truth
from lucidteach.prior.checkpoints import load_prior
from lucidteach.splat.camera import Camera

ARMS = {"ism": ("ism", {}), "sds": ("sds", dict(head_start=0.)), "inverted-noise": ("ism", dict(target="full"))}
VARIANTS = {"": {}, "no-view-prompts": dict(view_prompts=False), "perp-neg": dict(perp_neg=True), "ball": {k: settings_of.BALL[k] for k in settings_of.BALL if settings_of.BALL[k] != settings_of.TOY[k]},
            "points": dict(lr_field=(.003, .0005))}     # a field that begins from the points of the preset; splats do anyway
AROUND = [world.Camera(a, 20., 3., 40.) for a in range(0, 360, 30)]
NEAR = (1, 4, 7, 10)     # of these the nearest truth is searched
KEY = ("representation", "arm", "variant", "prompt", "seed")     # what tells runs apart

def kept(out, name="create"):
    "The runs of a folder and their pictures [64,384,3]; a picture without its line, of a run that was killed in between, is left out"
    lines, sheet = out/f"{name}.jsonl", out/f"{name}.webp"
    if not lines.exists(): return [], []
    rows = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    return rows, list(np.asarray(Image.open(sheet).convert("RGB")).reshape(-1, 64, 384, 3)[:len(rows)])

def keep(out, row, picture, name="create"):
    "One run more: first its picture, then its line. A WebP holds at most 16,383 rows of pixels, which are 255 runs"
    rows, pictures = kept(out, name)
    f = io.BytesIO()
    Image.fromarray(np.concatenate([*pictures, picture])).save(f, "webp", lossless=True, quality=100)
    write_file(out/f"{name}.webp", f.getvalue())
    write_file(out/f"{name}.jsonl", "".join(json.dumps(r) + "\n" for r in [*rows, row]))

def cost(prior, prompt, method, c):
    "Network calls of a run: SDS costs two a view, more with Perp-Neg; ISM's number follows from the times"
    return lab.estimate(prior, prompt, method, c, t3.Splats(t3.start(replace(c, init="ball")), c))["calls"]

def settings(prior, prompt, arm, **more):
    "Method and Config of an arm; SDS gets the steps that spend what ISM does without Perp-Neg"
    method, own = ARMS[arm]
    c = t3.config("toy", **{**own, **more})
    if method == "sds": c = replace(c, steps=round(cost(prior, prompt, "ism", t3.config("toy", **{**more, "perp_neg": False}))*c.steps/cost(prior, prompt, "sds", c)))
    return method, c

def scene(kind, prompt, c):
    "Splats or a field; the field begins as a ball, or where the config draws points for the prompt, as these"
    if kind == "splats": return t3.Splats(t3.start(c, prompt), c)
    from lucidteach.scene.field import Field, field_like
    field = Field(resolutions=(16, 32), samples=32)
    return t3.FieldScene(field_like(t3.start(c, prompt), field, size=32) if c.init == "text" else field, c)

def nearest(image, prompt, camera):
    near = nearest_truth(image, prompt, camera=camera, starts=120)
    return near, dict(psnr=near.psnr, **near.baselines, sharpness=sharpness_ratio(image, torch.as_tensor(near.image)), saturation=saturation_ratio(image, torch.as_tensor(near.image)))

def centres(s, n=2000):
    "Points of the scene, drawn by opacity (splats)"
    if not isinstance(s, t3.Splats): return None
    g = s.gaussians
    return g.means.detach()[torch.multinomial(g.opacities.detach(), n, True, generator=torch.Generator().manual_seed(0))]

def true_shape(near, n=2000):
    "Points of the surface of the object that is nearest"
    return torch.as_tensor(true_points(near.thing, n)[0], dtype=torch.float)

def measure(s, prompt, judges):
    "Judges over 12 views; PSNR, sharpness and saturation against the nearest truth in 4; Chamfer; the front seen from behind"
    rgb = t3.shoot(s, Camera.from_world(AROUND, 64)).rgb
    found = [nearest(rgb[i], prompt, AROUND[i]) for i in NEAR]
    out = {k: float(np.mean([v[k] for _, v in found])) for k in found[0][1]}
    for name, judge in judges.items():
        right = correct(judge, rgb, [prompt]*len(rgb))
        out |= {f"{k}_{name}": right[k].nanmean().item() for k in ("category", "colour")}
        behind = [i for i, c in enumerate(AROUND) if abs((c.azimuth + 180) % 360 - 180) >= 145]
        if world.CATEGORIES[words.parse(prompt).category].has_front: out[f"janus_{name}"] = (front_shown(judge, rgb[behind]) > .5).float().mean().item()
    best = max(found, key=lambda v: v[1]["psnr"])[0]
    points = centres(s)
    if points is not None: out["chamfer"] = chamfer(points, true_shape(best))
    return out, rgb

def one(prior, judges, prompt, arm, kind, seed, variant, out, **more):
    "One run, its measures and its picture on disk; nothing where it is there"
    name = (kind, arm, variant, prompt, seed)
    if any(tuple(r[k] for k in KEY) == name for r in kept(out)[0]): return
    own = VARIANTS[variant or ("ball" if kind == "field" else "")]         # a field begins as a soft ball, or from points
    method, c = settings(prior, prompt, arm, seed=seed, **{**own, **more})
    began, cpu = time.perf_counter(), time.process_time()
    state = t3.State(scene(kind, prompt, c))
    for _ in runner.generate(prior, prompt, method, c, state=state): pass
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    values, rgb = measure(state.scene, prompt, judges)
    total = sum(state.seconds.values())
    row = dict(prompt=prompt, arm=arm, representation=kind, variant=variant, seed=seed, steps=state.step, calls=state.calls, stopped=state.stopped, seconds=seconds, cpu_seconds=cpu,
               shares={k: v/total for k, v in state.seconds.items()}, memory_mb=peak_memory(), threads=torch.get_num_threads(), machine=platform.machine(), settings=json.loads(json.dumps(asdict(c)))) | values
    strip = torch.cat(list(rgb[::2]), 2)
    keep(out, row, (strip.permute(1, 2, 0)*255 + .5).byte().numpy())
    print(*name, {k: round(row[k], 2) for k in ("seconds", "cpu_seconds", "psnr", "blurred", "category_a", "colour_a", "category_b")}, flush=True)

def sheet(prompts, out, path, kinds=(("splats", "sds"), ("splats", "inverted-noise"), ("splats", "ism"))):
    "Truth, then a row per method, for each prompt: six views"
    there = {tuple(r[k] for k in KEY): picture for r, picture in zip(*kept(out))}
    rows, kinds = [], [k for k in kinds if any((*k, "", p, 0) in there for p in prompts)]
    for p in prompts:
        t = words.parse(p)
        thing = world.Thing(t.category, color=t.color or "red", pattern=t.pattern or "plain")
        rows.append(np.concatenate([world.render(thing, c, 64).rgb.transpose(1, 2, 0) for c in AROUND[::2]], 1)*255)
        for k in kinds: rows.append(there.get((*k, "", p, 0), np.full((64, 384, 3), 235)))
    half = math.ceil(len(prompts)/2)*(1 + len(kinds))
    left, right = np.concatenate(rows[:half]), np.concatenate(rows[half:] + [np.full((64, 384, 3), 255)]*(2*half - len(rows)))
    Image.fromarray(np.concatenate([left, np.full((len(left), 16, 3), 255), right], 1).astype(np.uint8)).quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)

def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--prompts", default="dev", help="dev, test, or prompts with semicolons")
    p.add_argument("--methods", default="ism,sds,inverted-noise")
    p.add_argument("--representation", default="splats", choices=("splats", "field"))
    p.add_argument("--variants", default="", help="with commas, of " + ", ".join(v for v in VARIANTS if v))
    p.add_argument("--seeds", default="0")
    p.add_argument("--steps", type=int, help="of ISM; default: the preset's")
    p.add_argument("--out", default="nbs/4_scene/results", type=Path)
    p.add_argument("--sheet", default="images/create.png", type=Path)
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    prompts = {"dev": DEV_PROMPTS, "test": TEST_PROMPTS}.get(a.prompts) or tuple(v.strip() for v in a.prompts.split(";"))
    prior, judges = load_prior("toy"), {k: load_judge(k) for k in "ab"}
    torch.set_num_threads(a.threads)
    for prompt in prompts:
        for arm in a.methods.split(","):
            for variant in a.variants.split(","):
                for seed in map(int, a.seeds.split(",")): one(prior, judges, prompt, arm, a.representation, seed, variant, a.out, **(dict(steps=a.steps) if a.steps else {}))
    if a.sheet.parent.is_dir(): sheet(prompts, a.out, a.sheet)

if __name__ == "__main__": main()
