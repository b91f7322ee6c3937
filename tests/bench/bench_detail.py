"""What a prior knows of fine detail, and what SDS and ISM leave of it:
python tests/bench/bench_detail.py --priors toy toy-detail --n 48 --judged 300 --out nbs/1_prior/results/detail.json --sheets images

For each prior, on true pictures that no training saw, with old patterns and with fine ones: the error of eps over t, the noise that an inversion
implies, inversion and back, what judges say of samples, and the distance of samples at guidance 1 from true pictures (KID). What could be known of the noise
at best, by an oracle that knows object and camera and learns the texture from other seeds. For the last prior, on six detailed prompts: samples, and SDS and ISM from the same start
(the true picture without its pattern), with the contrast of the detail over the truth's and how like a true texture it is. One thread.

The ledger of 53b_detail is a part of its own, not made unless it is asked for: sixteen prompts that nothing was chosen on, the settings of the front page.
It goes on where it stopped; --arms, --blocks and --seeds ask for a part, --fast for ONNX Runtime. Three seeds of all take 1.8 hours of one core:
    python tests/bench/bench_detail.py --priors toy-detail --parts ledger --fast --seeds 3 --out nbs/5_judge/results/detail_prior.json --sheets nbs/5_judge/results
"""
import argparse, json, time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

import lucidteach as lt
from lucidteach.distill.canvas import Settings
from lucidteach.distill.inversion import ddim_invert, ddim_sample, noise_rms
from lucidteach.distill.loop import optimise
from lucidteach.distill.methods import METHODS
from lucidteach.judge.judges import WEIGHTS, answers, load_judge
from lucidteach.judge.measures import pattern_margin
from lucidteach.judge.metrics import correct, kid, shares
from lucidteach.lab.comparison import WORLDS
from lucidteach.prior.cond import Cond
from lucidteach.prior.fast import fast
from lucidteach.prior.pictures import clutter, saturation_ratio
from lucidteach.prior.schedule import UniformT
from lucidteach.prior.texture import Textured, likeness, off_texture as off_of_true, rms_on, strength, surface, unit_patches
from lucidteach.prior.truth import psnr
from lucidteach.prior.words import caption
from lucidteach.prior.world import FINE_PATTERNS, Camera, Thing, render, sample_camera, sample_thing

SEED, TIMES = 20_261_130, (1, 10, 25, 50, 100, 200, 300, 500, 700, 900)
THINGS = [Thing("mug", "red", "speckled"), Thing("teddy", "brown", "furry"), Thing("hat", "green", "woven"), Thing("house", "blue", "bricked"),
          Thing("umbrella", "yellow", "speckled"), Thing("castle", "pink", "bricked")]
CAMERA = Camera(30, 20, 3.0)
ARMS = [("sds", g, {}) for g in (1., 3., 7.5, 20.)] + [("ism", g, dict(delta_s=100)) for g in (1., 3., 7.5)]

def truths(n: int, fine: bool, seed: int = SEED):
    "n true pictures on white with their captions; every fine pattern equally often"
    rng, pictures, captions, things, cams = np.random.default_rng((seed, fine)), [], [], [], []
    for i in range(n):
        t, cam = sample_thing(rng, background=0, depth=0, corruption=0), sample_camera(rng)
        if fine: t = replace(t, pattern=FINE_PATTERNS[i % 4], seed=10_000_000 + i)
        pictures.append(render(t, cam).rgb); captions.append(caption(t, cam)); things.append(t); cams.append(cam)
    return torch.from_numpy(np.stack(pictures)), captions, things, cams

@torch.no_grad()
def eps_error(prior, z, captions):
    "rms of eps(x_t) - eps over t, given the caption"
    cond, gen, out = prior.embed(captions), torch.Generator().manual_seed(SEED), {}
    for t in TIMES:
        e = torch.randn(z.shape, generator=gen)
        out[t] = float((prior.eps(prior.schedule.add_noise(z, e, t), t, cond) - e).square().mean().sqrt())
    return out

@torch.no_grad()
def inversion(prior, z):
    "rms of the implied noise at t = 100 to 700 with strides of 50, from clean data and with start noise"
    out, null = {}, prior.embed([""] * len(z))
    for name, start in (("clean", None), ("start noise", 1)):
        e = torch.randn(z.shape, generator=torch.Generator().manual_seed(SEED))
        x = z if start is None else prior.schedule.add_noise(z, e, 1)
        path = ddim_invert(prior, x, null, 700, 50, start=start)
        out[name] = {int(t): float(noise_rms(prior, z, x_t, t).mean()) for t, x_t in zip(path.times, path.xs) if t and t >= 50}
    return out

@torch.no_grad()
def there_and_back(prior, x):
    "PSNR in dB of each picture after 50 steps up with the null prompt and 50 down; and of the autoencoder alone"
    z = prior.encode(x)
    back = ddim_sample(prior, ddim_invert(prior, z, "", 999, 20).x, "", 999, 20).x
    db = lambda y: [psnr(a, b) for a, b in zip(y, x)]
    return dict(back=float(np.mean(db(prior.decode(back)))), autoencoder=float(np.mean(db(prior.decode(z)))))

def bars(judge, images, things, cams):
    "Share of right answers of a judge for what the things are, None where it is not asked; a view is asked as in training, 10 degrees from a border"
    right = shares(judge(images), torch.tensor([answers(t, c) for t, c in zip(things, cams)]))
    return {k: None if v != v else v for k, v in right.items()}

class PatchOracle:
    """Knows the object and the camera of each picture. Of the texture it knows, patch by patch of the latents, mean and covariance over other seeds.

    Its eps is the posterior mean of a Gaussian with that mean and covariance: no better than the true posterior mean, which nobody can compute here."""
    def __init__(self, prior, things, cams, seeds=200):
        self.schedule, parts = prior.schedule, []
        for thing, cam in zip(things, cams):
            x = torch.from_numpy(np.stack([render(replace(thing, seed=20_000_000 + k), cam).rgb for k in range(seeds)]))
            z = prior.encode(x).double().flatten(2).permute(2, 0, 1)                    # [patches, seeds, channels]
            mean = z.mean(1, keepdim=True)
            parts.append((mean[:, 0], *torch.linalg.eigh((z - mean).mT @ (z - mean)/seeds)))
        self.mean, self.var, self.axes = (torch.stack(v) for v in zip(*parts))             # [B,P,C], [B,P,C], [B,P,C,C]
    def embed(self, texts): return Cond(torch.ones(len(texts), 1), list(texts))
    def eps(self, x_t, t, cond):
        ab = self.schedule.abar(0 if t is None else t); a, s = ab.sqrt(), (1 - ab).sqrt()
        d = x_t.double().flatten(2).mT - a*self.mean
        keep = s*s/(ab*self.var.clamp(min=0) + s*s)
        e = (((d[:, :, None] @ self.axes)*keep[:, :, None]) @ self.axes.mT)[:, :, 0]/s
        return e.mT.reshape(x_t.shape).to(x_t.dtype)

@torch.no_grad()
def oracles(prior, n, say):
    "For n pictures of each fine pattern: error of eps at t = 1 and implied noise, of the oracle and of the prior"
    x, captions, things, cams = truths(4*n, True, SEED + 3); z, rows = prior.encode(x), {}
    for k, pattern in enumerate(FINE_PATTERNS):
        mine = slice(k, None, 4); oracle = PatchOracle(prior, things[mine], cams[mine])
        for who, p in (("oracle", oracle), ("prior", prior)):
            e = torch.randn(z[mine].shape, generator=torch.Generator().manual_seed(SEED + k))
            found = p.eps(p.schedule.add_noise(z[mine], e, 1), 1, p.embed(captions[mine]))
            rows.setdefault(who, {})[pattern] = dict(error=float((found - e).square().mean().sqrt()), implied=inversion(p, z[mine])["start noise"])
            say(f"{who} {pattern}: {json.dumps(rows[who][pattern])}")
    return dict(pictures=n, seeds=200, **rows)

@torch.no_grad()
def distances(prior, n):
    "KID of n samples at guidance 1 from n true pictures of other captions, and of other true pictures from these; features of judge b"
    out, judge = {}, load_judge("b")
    for kind, fine in (("old", False), ("fine", True)):
        (x, captions, *_), (true, *_) = truths(n, fine, SEED + 4), truths(n, fine, SEED + 5)
        features = lambda v: judge(v).features
        out[kind] = dict(samples=kid(features(samples(prior, captions, guidance=1.)), features(true)), truth=kid(features(x), features(true)))
    return out

@torch.no_grad()
def samples(prior, captions, guidance=3., steps=25, eta=1., batch=25):
    rows = []
    for i in range(0, len(captions), batch):
        gens = [torch.Generator().manual_seed(SEED + i + k) for k in range(len(captions[i:i+batch]))]
        rows.append(prior.pipe(captions[i:i+batch], num_inference_steps=steps, guidance_scale=guidance, eta=eta, generator=gens, output_type="pt").images.float().cpu())
    return torch.cat(rows)

SEEN = [Textured(caption(t, CAMERA, view=False)) for t in THINGS]

def contrast(x):
    "`strength` with one true picture, that of seed 0, as the measure: (detail - detail of the plain picture) over that of the truth, [B]"
    rms = lambda v: torch.stack([rms_on(p, surface(s)) for p, s in zip(v, SEEN)])
    base, true = rms([s.plain for s in SEEN]), rms([s.true(0) for s in SEEN])
    return (rms(x) - base) / (true - base)

def off_texture(x, others=12):
    "How far from true ones the texture of x is, 1 as far as another true picture, [B]: as in 13f_texture, with other seeds (its own hold the truth that is shown here)."
    out = []
    for p, s in zip(x, SEEN):
        where = surface(s)
        bank = torch.cat([unit_patches(s.true(100 + k), where) for k in range(24)])
        usual = np.mean([likeness(s.true(1000 + k), bank, where) for k in range(others)])
        out.append((1 - likeness(p, bank, where)) / (1 - usual))
    return torch.tensor(out)

def paint(prior, start, prompts, method, guidance, options, seed, steps=120, lr=.05):
    "Latents moved by Adam with a falling rate from `start`; times uniform in .02 to .7, weight gamma"
    z, cond = prior.encode(start).clone().requires_grad_(), prior.embed(prompts)
    noises, times = (torch.Generator().manual_seed(2*seed + k) for k in (0, 1))
    opt, draw = torch.optim.Adam([z], lr), UniformT(.02, .7)
    for i in range(steps):
        opt.param_groups[0]["lr"] = lr * (1 - .9*i/steps)
        t = draw(1000, 1, i/steps, generator=times).item()
        z.grad = METHODS[method](prior, z.detach(), cond, t, generator=noises, progress=i/steps, weight="gamma", guidance=guidance, **options).grad
        opt.step()
    return prior.decode(z.detach()).clamp(0, 1)

def sheet(columns, file, scale=2, head=26):
    "Columns of (title, pictures [B,3,h,w]) as one picture, without smoothing"
    h = columns[0][1].shape[-1] * scale
    im = Image.new("RGB", ((h + 4)*len(columns), head + (h + 4)*len(columns[0][1])), "white")
    for j, (title, x) in enumerate(columns):
        ImageDraw.Draw(im).multiline_text((j*(h + 4) + 4, 1), title, fill="black", spacing=0)
        for i, p in enumerate(x):
            im.paste(Image.fromarray((p.clamp(0, 1).permute(1, 2, 0).numpy()*255).round().astype(np.uint8)).resize((h, h), 0), (j*(h + 4), head + i*(h + 4)))
    im.quantize(256, dither=0).save(file, optimize=True)  # the notebook shows it

def distilled(prior, name, seeds, steps, sheets, say):
    "SDS and ISM from the plain true picture: contrast, off-texture and clutter of each arm, and the picture"
    prompts, plain = [v.prompt for v in SEEN], torch.stack([v.plain for v in SEEN])
    rows, columns = [], [("truth\nanother seed", torch.stack([v.true(7) for v in SEEN])), ("start\n(plain truth)", plain)]
    measure = lambda x: dict(contrast=contrast(x).tolist(), off_texture=off_texture(x).tolist(), clutter=[clutter(a, b) for a, b in zip(x, plain)])
    rows.append(dict(arm="truth, another seed", **measure(columns[0][1])))
    rows.append(dict(arm="truth through the autoencoder", **measure(prior.decode(prior.encode(columns[0][1])).clamp(0, 1))))
    for method, g, options in ARMS:
        for seed in range(seeds):
            began = time.process_time()
            x = paint(prior, plain, prompts, method, g, options, seed, steps)
            rows.append(dict(arm=f"{method} {g:g}", method=method, guidance=g, seed=seed, seconds=round(time.process_time() - began, 1), **measure(x)))
            if seed == 0: columns.append((f"{method.upper()} {g:g}\ncontrast {np.mean(rows[-1]['contrast']):.2f}", x))
            say(f"{rows[-1]['arm']}: contrast {np.mean(rows[-1]['contrast']):.2f}, off-texture {np.mean(rows[-1]['off_texture']):.1f}, clutter {np.mean(rows[-1]['clutter']):.3f}, {rows[-1]['seconds']} s")
    if sheets: sheet(columns, sheets/f"{name}_distilled.png")
    return dict(prompts=prompts, steps=steps, lr=.05, times=[.02, .7], rows=rows)

OLD = [Thing(*told) for told in (("mug", "red"), ("car", "blue"), ("teapot", "green"), ("duck", "yellow"), ("chair", "purple"), ("hat", "orange", "striped"), ("umbrella", "pink", "dotted"), ("house", "brown"))]

def grounds(prior, say):
    """What a prior leaves on the white ground around a true object: SDS and ISM from it, arm by arm, root mean square of the full range.

    Old patterns, which both priors know; `toy` saw even grounds, `toy-detail` sandy, shaded and cloudy ones too."""
    true, prompts, rows = torch.stack([torch.from_numpy(render(v, CAMERA).rgb) for v in OLD]), [caption(v, CAMERA, view=False) for v in OLD], {}
    with torch.no_grad(): rows["the autoencoder"] = [clutter(a, b) for a, b in zip(prior.decode(prior.encode(true)).clamp(0, 1), true)]
    for method, g in (("sds", 1.), ("sds", 7.5), ("ism", 1.), ("ism", 3.), ("ism", 7.5)):
        x = paint(prior, true, prompts, method, g, dict(delta_s=100) if method == "ism" else {}, 0)
        rows[f"{method} {g:g}"] = [clutter(a, b) for a, b in zip(x, true)]
        say(f"{method} {g:g}: clutter {np.mean(rows[f'{method} {g:g}']):.4f}")
    return dict(prompts=prompts, rows=rows)

STUDY = (("a speckled blue teapot", "a speckled orange sofa", "a furry purple hat", "a furry green cactus",
          "a woven red sofa", "a woven pink cake", "a bricked brown house", "a bricked green castle"),
         ("a speckled green mushroom", "a speckled brown duck", "a furry orange chair", "a furry pink bed",
          "a woven purple umbrella", "a woven yellow lamp", "a bricked orange mug", "a bricked red table"))  # two blocks, each painted at once
STUDY_ARMS = {f"{m} {g:g}": (m, g, {}) for m in ("sds", "ism") for g in (1., 3., 7.5, 20., 100.)}
STUDY_ARMS["sds, small times 1"] = ("sds", 1., dict(t_range=(.02, .2), t_start=.2))
STUDY_ARMS |= {f"fixed {g:g}": ("cfd", g, {}) for g in (1., 7.5)} | {"csd 1": ("csd", 1., {}), "sdi 7.5": ("sdi", 7.5, {})}
STUDY_ARMS |= {f"ism 1, T {t} S {s}" + ", start noise"*n: ("ism", 1., dict(options=dict(ism=dict(delta_t=t, delta_s=s, start_noise=n))))
               for t in (50, 200) for s in (50, 200) for n in (False, True)}

def as_rows(x):
    "Pictures [B,3,h,w] side by side, bytes [h,B w,3]"
    return (x.clamp(0, 1).permute(2, 0, 3, 1).flatten(1, 2)*255).round().to(torch.uint8).numpy()

def study_measures(x, seen, judge):
    "What is measured of pictures [B,3,h,w] of the objects `seen`: a list of B numbers each"
    hits = correct(judge, x, [s.prompt for s in seen])
    each = dict(strength=strength, off=off_of_true, clutter=lambda p, s: clutter(p, s.plain), saturation=lambda p, s: saturation_ratio(p, s.plain), margin=pattern_margin)
    return {k: [round(float(f(p, s)), 5) for p, s in zip(x, seen)] for k, f in each.items()} | {k: hits[k].tolist() for k in ("category", "colour")}

@torch.no_grad()
def resampled(prior, images, prompts, t, guidance, seed):
    "What the network makes of pictures by itself: noised to t, then sampled by DDIM in steps of 20. No method is in it"
    z = prior.encode(images)
    x_t = prior.schedule.add_noise(z, torch.randn(z.shape, generator=torch.Generator().manual_seed(SEED + seed)), t)
    return prior.decode(ddim_sample(prior, x_t, list(prompts), t, 20, guidance).x).float().clamp(0, 1)

def ledger_study(prior, jobs, folder, own, keep, say):
    """What each arm leaves of the plain start, prompt by prompt, in `own["rows"]`: a row for each job (seed, arm, block of eight prompts).

    Settings of `lucidteach compare` with this prior; the second block has other noises and times. The pictures of the first seed are strips in
    folder/detail_prior.webp (while it goes on in detail_prior.png, without loss). What is there already is not made again."""
    blocks, judge = [[Textured(p) for p in ps] for ps in STUDY], load_judge("b")
    packed, file = folder/"detail_prior.webp", folder/"detail_prior.png"
    rows = own.setdefault("rows", []); pictured = lambda: [r for r in rows if not r.get("seed")]
    strips = list(np.split(np.asarray(Image.open(file if file.exists() else packed).convert("RGB")), len(pictured()))) if rows else []
    own |= dict(prompts=STUDY, steps=WORLDS["toy-detail"]["steps"])
    there = lambda arm, block, seed=None: any((r["arm"], r["block"], r.get("seed")) == (arm, block, seed) for r in rows)
    def add(row, x):
        rows.append(row | study_measures(x, blocks[row["block"]], judge))
        if not row.get("seed"):
            strips.append(as_rows(x)); Image.fromarray(np.concatenate(strips)).save(file, compress_level=1)
        keep(); say(f"{row['arm']}, block {row['block']}" + (f", seed {row['seed']}, {row['seconds']} s" if "seed" in row else ""))
    for block, seen in enumerate(blocks):
        true, plain = torch.stack([s.true(77) for s in seen]), torch.stack([s.plain for s in seen])
        ends = dict(truth=lambda: true, start=lambda: plain) | {"truth through the autoencoder": lambda: prior.decode(prior.encode(true)).clamp(0, 1)}
        for name, x, t, g in (("start", plain, 700, 1.), ("start", plain, 700, 3.), *(("truth", true, t, 1.) for t in (100, 200, 300, 400))):
            ends[f"{name} noised to {t}, sampled at {g:g}"] = lambda x=x, t=t, g=g: resampled(prior, x, STUDY[block], t, g, block)
        for arm, make in ends.items():
            if not there(arm, block): add(dict(arm=arm, block=block), make())
    common = {k: v for k, v in WORLDS["toy-detail"].items() if k not in ("methods", "canvases")}
    for seed, arm, block in jobs:
        if there(arm, block, seed): continue
        (method, g, other), began = STUDY_ARMS[arm], time.process_time()
        settings = Settings(**common | dict(seed=seed + 100*block, guidance=g) | other)
        for now in optimise(prior, list(STUDY[block]), method, "latents", settings): pass
        if now.stopped: raise SystemExit(now.stopped)
        told = dict(calls=now.calls, seconds=round(time.process_time() - began, 1), runtime="torch" if prior.runtime is None else "onnxruntime")
        add(dict(arm=arm, block=block, method=method, guidance=g, seed=seed) | told, now.canvas.image().float().clamp(0, 1))
    page = Image.fromarray(np.concatenate(strips)).quantize(256, dither=0)  # the numbers were measured before
    page.convert("RGB").save(packed, lossless=True, quality=100, method=4); file.unlink(missing_ok=True)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--priors", nargs="+", default=["toy", "toy-detail"]); p.add_argument("--names", nargs="+", help="what they are called in the result")
    p.add_argument("--out", type=Path, required=True); p.add_argument("--sheets", type=Path)
    p.add_argument("--n", type=int, default=32, help="pictures for errors and inversions"); p.add_argument("--judged", type=int, default=100, help="samples of each kind for the judges")
    p.add_argument("--kid", type=int, default=60, help="samples of each kind for KID"); p.add_argument("--oracle", type=int, default=3, help="pictures of each pattern for the oracle")
    p.add_argument("--seeds", type=int, default=1); p.add_argument("--steps", type=int, default=120)
    p.add_argument("--parts", nargs="+", default=["errors", "judges", "kid", "oracle", "grounds", "distilled"])
    p.add_argument("--arms", nargs="+", choices=STUDY_ARMS, help="those of the ledger, by default all"); p.add_argument("--blocks", nargs="+", type=int, default=range(len(STUDY)))
    p.add_argument("--fast", action="store_true", help="the ledger's network in ONNX Runtime")
    a = p.parse_args(); torch.set_num_threads(1)
    out = json.loads(a.out.read_text(encoding="utf-8")) if a.out.exists() else dict(times=TIMES, n=a.n, judged=a.judged)
    began = time.process_time(); say = lambda s: print(f"{time.process_time()-began:5.0f} s  {s}", flush=True)
    keep = lambda: a.out.write_text(json.dumps(out, indent=1), encoding="utf-8")
    for name, source in zip(a.names or a.priors, a.priors):
        prior, own = lt.load_prior(source), out.setdefault(name, {})
        if "errors" in a.parts:
            for kind, fine in (("old", False), ("fine", True)):
                x, captions, *_ = truths(a.n, fine); z = prior.encode(x)
                own.setdefault("errors", {})[kind] = dict(eps=eps_error(prior, z, captions), implied=inversion(prior, z), **there_and_back(prior, x))
                say(f"{name} {kind}: " + json.dumps(own["errors"][kind])); keep()
        if "judges" in a.parts:
            for kind, fine in (("old", False), ("fine", True)):
                x, captions, things, cams = truths(a.judged, fine, SEED + 1); y = samples(prior, captions)
                for label, images in (("truth", x), ("samples", y)):
                    for j in ("a", "b", "a-detail", "b-detail"):
                        if not (WEIGHTS/f"judge_{j}").exists(): continue
                        own.setdefault("judges", {}).setdefault(kind, {}).setdefault(label, {})[j] = bars(load_judge(j), images, things, cams)
                say(f"{name} {kind}: " + json.dumps(own["judges"][kind])); keep()
                if a.sheets: sheet([(t.category, torch.stack([u, v])) for t, u, v in zip(things[:14], x, y)], a.sheets/f"{name}_samples_{kind}.png")
        if "kid" in a.parts:
            own["kid"] = dict(n=a.kid, **distances(prior, a.kid)); say(f"{name} KID: " + json.dumps(own["kid"])); keep()
        if "grounds" in a.parts: own["grounds"] = grounds(prior, say); keep()
        if "oracle" in a.parts and source == a.priors[-1]: own["oracle"] = oracles(prior, a.oracle, say); keep()
        if "distilled" in a.parts and source == a.priors[-1]:
            own["distilled"] = distilled(prior, name, a.seeds, a.steps, a.sheets, say); keep()
        if "ledger" in a.parts:
            jobs = [(seed, arm, block) for seed in range(a.seeds) for arm in a.arms or STUDY_ARMS for block in a.blocks]
            ledger_study(fast(prior) if a.fast else prior, jobs, a.sheets, own, keep, say)

if __name__ == "__main__": main()
