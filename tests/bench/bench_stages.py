"""The two stages of the toy preset, chosen: python tests/bench/bench_stages.py --out nbs/4_scene/results --rounds first second

Each setting is a change of the toy preset as it was (one stage, times .8 to .3, guidance 3, mirrored); it makes the development prompts and is judged by judge b
over 12 views: share whose category, colour and pattern are named rightly; fine contrast over that of the middle shape; decibels to the middle shape where either stands (a guard, no aim);
`off`: distance of the centres to the middle shape's surface, weighted by opacity, in units of the world (the object is about one unit large).
A line a run in create-stages.jsonl, in the same order a row of six views in create-stages.webp; runs that are there are not made again.
--rounds names the stages of the choice, see ROUNDS; --seeds, --prompts and --settings take a part of a round."""
import argparse, io, json, time
from pathlib import Path
import lucidteach     # noqa: F401 before torch
import numpy as np, torch
from PIL import Image
from lucidteach.judge.judges import load_judge
from lucidteach.judge.metrics import DEV_PROMPTS, correct
from lucidteach.prior import words, world
from lucidteach.prior.checkpoints import load_prior
from lucidteach.prior.pictures import sharpness_ratio
from lucidteach.run.files import write_file
from lucidteach.scene import run as runner, text_to_3d as t3
from lucidteach.scene.config import config
from lucidteach.splat.camera import Camera

BEFORE = dict(steps=80, head_start=.75, guidance=3., t_start=.8, t_range=(.02, .3), flip=.5, detail=None, guidance_detail=None, white_on=None)      # the preset as it was
ROUNDS = {}          # name -> (settings: name -> (method, changes), prompts, seeds)
AROUND = [world.Camera(a, 20., 3., 40.) for a in range(0, 360, 30)]

def truth_of(prompt):
    "The middle shape of a prompt from twelve sides"
    t = words.parse(prompt)
    thing = world.Thing(t.category, t.color or "red", t.pattern or "plain", background=t.background)
    return thing, torch.stack([torch.tensor(world.render(thing, c, 64).rgb) for c in AROUND])

def decibels(views, truth, ground):
    "Mean over the views of the decibels where either of the two stands"
    stands = ((truth - ground).abs() > .03).any(1) | ((views - ground).abs() > .03).any(1)
    return float(np.mean([-10*np.log10((a - b).square().mean(0)[m].mean().item()) for a, b, m in zip(views, truth, stands)]))

def measure(g, prompt, white_on, judge):
    "The values of one object, and its six views [64,384,3]"
    told = t3.grounded(prompt, white_on)
    thing, truth = truth_of(told)
    ground = t3.backdrop(told)
    views = t3.shoot(t3.Splats(g, config("toy")), Camera.from_world(AROUND, 64), ground).rgb
    right = correct(judge, views, [told]*len(views))
    away, weight = np.abs(world.distance(thing, g.means.double().numpy())), g.opacities.numpy()
    values = {k: round(right[k].nanmean().item(), 3) for k in ("category", "colour", "pattern")}
    values |= dict(sharpness=round(float(np.mean([sharpness_ratio(a, b) for a, b in zip(views, truth)])), 3), psnr=round(decibels(views, truth, ground.reshape(3, 1, 1)), 2), off=round(float((away*weight).sum()/weight.sum()), 4))
    return values, (torch.cat(list(views[::2]), 2).permute(1, 2, 0)*255 + .5).byte().numpy()

def kept(out):
    "The runs of a folder and their pictures"
    if not (out/"create-stages.jsonl").exists(): return [], []
    rows = [json.loads(line) for line in (out/"create-stages.jsonl").read_text(encoding="utf-8").splitlines()]
    sheet = np.asarray(Image.open(out/"create-stages.webp").convert("RGB"))
    return rows, list(sheet.reshape(-1, 64, 384, 3)[:len(rows)])

def keep(out, row, picture):
    "One run more: first its picture, then its line"
    rows, pictures = kept(out)
    f = io.BytesIO()
    Image.fromarray(np.concatenate([*pictures, picture])).save(f, "webp", lossless=True, quality=100)
    write_file(out/"create-stages.webp", f.getvalue())
    write_file(out/"create-stages.jsonl", "".join(json.dumps(r) + "\n" for r in [*rows, row]))

def one(prior, judge, name, method, own, prompt, seed, out):
    "One run, unless it is there"
    key = dict(name=name, prompt=prompt, seed=seed)
    if any(r.items() >= key.items() for r in kept(out)[0]): return
    c, cpu, began = config("toy", **{**BEFORE, **own}, seed=seed), time.process_time(), time.perf_counter()
    state = t3.State(t3.Splats(t3.start(c, prompt), c))
    for _ in runner.generate(prior, prompt, method, c, state=state): pass
    cpu, seconds = time.process_time() - cpu, time.perf_counter() - began
    values, picture = measure(state.scene.gaussians.map(lambda v: v.detach()), prompt, c.white_on, judge)
    row = key | dict(method=method, settings=json.loads(json.dumps(own)), **values, calls=state.calls, cpu=round(cpu, 1), seconds=round(seconds, 1))
    keep(out, row, picture)
    print(*(f"{k} {v}" for k, v in row.items() if k != "settings"), flush=True)

def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--rounds", nargs="*", default=list(ROUNDS))
    p.add_argument("--settings", nargs="*"); p.add_argument("--prompts", nargs="*"); p.add_argument("--seeds", nargs="*", type=int)
    a = p.parse_args()
    torch.set_num_threads(1)
    prior, judge = load_prior("toy"), load_judge("b")
    for r in a.rounds:
        settings, prompts, seeds = ROUNDS[r]
        for seed in a.seeds or seeds:
            for prompt in a.prompts or prompts:
                for name in a.settings or settings: one(prior, judge, name, *settings[name], prompt, seed, a.out)

if __name__ == "__main__": main()
