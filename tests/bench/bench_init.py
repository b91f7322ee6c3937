"""Where a scene begins, measured: python tests/bench/bench_init.py quality | effect

quality: clouds of the shipped text-to-points model against true ones (Chamfer, per category), the judges on their pictures, images/points.png.
effect:  the same distillation from a ball, a sphere and text-to-points: error of shape, judges, Janus against step; one entry per run, a run that is there is not done again.
Both write into nbs/4_scene/results/init.json."""
import argparse, json, platform, time
from dataclasses import asdict
from pathlib import Path
import lucidteach     # before torch
import numpy as np, torch
from PIL import Image
from lucidteach.scene.start import surface, true_points
from lucidteach.scene.points import draw_points, load_points, words_of
from lucidteach.scene.sources import initial_gaussians
from lucidteach.run.files import write_file
from lucidteach.judge.metrics import chamfer, correct, front_shown
from lucidteach.judge.judges import load_judge
from lucidteach.prior import words, world
from lucidteach.prior.world import CATEGORIES, COLORS, PATTERNS, Thing
from lucidteach.splat.camera import Camera

ROOT = Path(__file__).resolve().parents[2]
OUT, SHEET = ROOT/"nbs/4_scene/results/init.json", ROOT/"images/points.png"
AROUND = [world.Camera(a, 20., 3.2, 36.) for a in range(0, 360, 30)]

def kept(): return json.loads(OUT.read_text()) if OUT.exists() else {}
def keep(**new): OUT.parent.mkdir(exist_ok=True); write_file(OUT, json.dumps(kept() | new, indent=None) + "\n")

def things():
    "One of every category, in colours and patterns that take turns"
    return [Thing(c, list(COLORS)[3*i % len(COLORS)], PATTERNS[(0, 0, 1, 2)[i % 4]]) for i, c in enumerate(CATEGORIES)]

def prompt_of(t): return " ".join(w for w in ("a", t.color, "" if t.pattern == "plain" else t.pattern, words.NOUNS[t.category][0]) if w)

def solid(points, colours):
    "Nearly opaque splats at the points, a third smaller than the distance to the neighbours"
    g = initial_gaussians(torch.cat([points, colours], 1), len(points), opacity=.95)
    g.log_scales -= .4
    return g

def pictures(points, colours, cameras, size=64):
    "[B,3,size,size] on white"
    out = solid(points, colours).render(Camera.from_world(cameras, size), background=torch.ones(3))
    return out.rgb.detach().clamp(0, 1)

def true_clouds(category, rng, count=8, n=1024):
    "Clouds of true shapes of a category with random parameters"
    k = len(CATEGORIES[category].params)
    return [torch.from_numpy(surface(Thing(category, params=tuple(rng.random(k))), n, rng)[0]).float() for _ in range(count)]

def nearest(cloud, clouds): return min(chamfer(cloud, c) for c in clouds)

def tell(judge, images, prompt): return {k: v.nanmean().item() for k, v in correct(judge, images, [prompt]*len(images)).items() if k in ("category", "colour", "pattern")}

def quality(samples, guidance, steps):
    "Per category: Chamfer of drawn clouds and of other true ones to the nearest of eight true shapes; the judges on both as splats"
    net, judges, rng, rows, tiles, began = load_points(), {k: load_judge(k) for k in "ab"}, np.random.default_rng(0), {}, [], time.process_time()
    for thing in things():
        prompt, row, clouds = prompt_of(thing), [], true_clouds(thing.category, rng)
        points, colours = draw_points(net, words_of(prompt)[None].repeat(samples, 1), steps=steps, guidance=guidance, seed=1)
        others = [Thing(thing.category, thing.color, thing.pattern, tuple(rng.random(len(CATEGORIES[thing.category].params)))) for _ in range(samples)]
        truths, again = [true_points(t, seed=k) for k, t in enumerate(others)], [true_points(t, seed=samples + k)[0] for k, t in enumerate(others)]
        for k in range(samples):
            r = dict(drawn=nearest(points[k], clouds), true=nearest(truths[k][0], clouds), same=chamfer(truths[k][0], again[k]))
            for name, cloud in dict(drawn=(points[k], colours[k]), true=truths[k]).items():
                images = pictures(*cloud, AROUND[1::3])
                for j, judge in judges.items(): r |= {f"{name}_{q}_{j}": v for q, v in tell(judge, images, prompt).items()}
            row.append(r)
        rows[thing.category] = {k: float(np.mean([r[k] for r in row])) for k in row[0]} | dict(prompt=prompt)
        tiles.append(tile(thing, points[0], colours[0]))
        print(prompt, {k: round(v, 3) for k, v in rows[thing.category].items() if k in ("drawn", "true", "drawn_category_a", "true_category_a")}, flush=True)
    keep(quality=dict(samples=samples, guidance=guidance, steps=steps, cpu_seconds=round(time.process_time() - began), machine=platform.machine(), rows=rows))
    sheet(tiles)

def tile(thing, points, colours, size=96):
    "Truth, its points as splats, the drawn points from the same side and from behind"
    cameras = [world.Camera(30., 20., 3.2, 36.), world.Camera(150., 20., 3.2, 36.)]
    true = torch.from_numpy(world.render(thing, cameras[0], size).rgb)
    return torch.cat([true, pictures(*true_points(thing), cameras[:1], size)[0], *pictures(points, colours, cameras, size)], 2)

def sheet(tiles, columns=4):
    gap = torch.ones(3, tiles[0].shape[1], 12)
    rows = [torch.cat([x for t in tiles[i:i + columns] for x in (t, gap)], 2) for i in range(0, len(tiles), columns)]
    Image.fromarray((torch.cat(rows, 1).permute(1, 2, 0)*255 + .5).byte().numpy()).save(SHEET, optimize=True)

def centres(g, n=2000):
    "Points of the scene, drawn by opacity"
    return g.means.detach()[torch.multinomial(g.opacities.detach(), n, True, generator=torch.Generator().manual_seed(0))]

def look(g, prompt, clouds, judge):
    "Shape error, right answers, and how often the front is seen from behind, over twelve views"
    images = g.render(Camera.from_world(AROUND, 64), background=torch.ones(3)).rgb.detach().clamp(0, 1)
    behind = [i for i, c in enumerate(AROUND) if abs((c.azimuth + 180) % 360 - 180) >= 145]
    return dict(chamfer=nearest(centres(g), clouds)) | tell(judge, images, prompt) | dict(janus=(front_shown(judge, images[behind]) > .5).float().mean().item())

def run(prior, judge, prompt, init, seed, every, preset="toy", **more):
    "One distillation -> its curve: a row every `every` steps"
    from lucidteach.scene import run as runner, text_to_3d as t3
    c = t3.config(preset, init=init, seed=seed, **more)
    clouds = true_clouds(words.parse(prompt).category, np.random.default_rng(0), n=2000)
    began, state = time.process_time(), t3.State(t3.Splats(t3.start(c, prompt), c))
    rows = [dict(step=0, calls=0) | look(state.scene.gaussians.detach(), prompt, clouds, judge)]
    for _ in runner.generate(prior, prompt, "ism", c, state=state):
        if state.step % every == 0: rows.append(dict(step=state.step, calls=state.calls) | look(state.scene.gaussians.detach(), prompt, clouds, judge))
    return dict(prompt=prompt, init=init, preset=preset, seed=seed, steps=c.steps, cpu_seconds=round(time.process_time() - began, 1), settings=json.loads(json.dumps(asdict(c))), rows=rows)

def effect(prompts, inits, seeds, every, preset="toy", **more):
    "Every run that is not in the file yet; the file is written after each"
    from lucidteach.prior.checkpoints import load_prior
    prior, judge = load_prior("toy"), load_judge("a")
    for init in inits:
        for seed in seeds:
            for prompt in prompts:
                done = kept().get("effect", [])
                if any((r["prompt"], r["init"], r["seed"], r.get("preset", "toy")) == (prompt, init, seed, preset) for r in done): continue
                keep(effect=done + [run(prior, judge, prompt, init, seed, every, preset, **more)])
                print(prompt, init, seed, {k: round(v, 3) for k, v in kept()["effect"][-1]["rows"][-1].items()}, flush=True)

def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("what", choices=("quality", "effect"))
    p.add_argument("--samples", type=int, default=2, help="clouds of every category")
    p.add_argument("--guidance", type=float, default=2.)
    p.add_argument("--draw-steps", type=int, default=50)
    p.add_argument("--prompts", default="a green house;a brown teddy bear", help="with semicolons")
    p.add_argument("--inits", default="ball,sphere,text")
    p.add_argument("--seeds", default="0,1,2")
    p.add_argument("--preset", default="toy", help="toy is made for points from text, ball for a ball of points")
    p.add_argument("--every", type=int, default=20, help="steps between looks")
    p.add_argument("--steps", type=int, help="default: the preset's")
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    if a.what == "quality": quality(a.samples, a.guidance, a.draw_steps)
    else: effect(a.prompts.split(";"), a.inits.split(","), list(map(int, a.seeds.split(","))), a.every, a.preset, **(dict(steps=a.steps) if a.steps else {}))

if __name__ == "__main__": main()
