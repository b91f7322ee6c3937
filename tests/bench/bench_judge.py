"""What two judges say of a prior: python tests/bench/bench_judge.py --prior toy --n 1000 --out nbs/5_judge/results/prior.json --sheet images/prior_judged.png

Held-out captions (30 DDIM steps, guidance 3) are judged for category, colour, view and pattern, beside what the judges say of the true pictures of the
same captions; KID at guidance 1; DDIM inversion with the null prompt, 50 steps up and down; and whether SDS and ISM, from a grey canvas, end
in what the prompt names. Pictures are kept under --work as they are made: a second call goes on, or only judges again. --n 100 for a quick look."""
import argparse, io, json, os, platform, time
from pathlib import Path
import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
import lucidteach as lt
from lucidteach.distill.canvas import Settings
from lucidteach.distill.loop import optimise
from lucidteach.distill.inversion import ddim_invert, ddim_sample
from lucidteach.judge.metrics import CATS, DEV_PROMPTS, HEADS, accuracy, correct, kid, shares, told
from lucidteach.judge.judges import answers, load_judge
from lucidteach.prior import world
from lucidteach.prior.truth import psnr
from lucidteach.prior.words import Batch, sample

WANTED = dict(category=.97, colour=.99, view=.92, pattern=.90)     # for a prior trained on a GPU; .93, .97, .85, .80 for one trained on a CPU
SEED, DDIM, CHUNK = 20_261_125, 30, 50
ARMS = [(m, c, g) for g in (7.5, 3.) for c in ("pixels", "latents") for m in ("sds", "ism")]     # guidance 7.5 is the issue's, 3 the library's default

def held_out(n: int, seed: int = SEED) -> Batch:
    "n captions that training never drew (another seed), and their true pictures; no depth maps, no spoilt pictures"
    return sample(n, seed=(seed, 7), background=.15, depth=0., corruption=0.)

def kept(file: Path, make):
    "What make() returns, a dict of tensors, or what it returned when `file` was written"
    if not file.exists():
        save_file({k: v.contiguous() for k, v in make().items()}, f"{file}.part"); os.replace(f"{file}.part", file)
    return load_file(file)

@torch.no_grad()
def samples(prior, captions, guidance, eta, work, say):
    "A sample of each caption, [n,3,64,64] in [0,1]; the noise of a caption depends on its number alone"
    parts = []
    for i in range(0, len(captions), CHUNK):
        texts, began = captions[i:i+CHUNK], time.process_time()
        def make():
            gens = [torch.Generator().manual_seed(SEED + i + k) for k in range(len(texts))]
            return dict(x=(prior.pipe(texts, num_inference_steps=DDIM, guidance_scale=guidance, eta=eta, generator=gens, output_type="pt").images * 255).round().byte())
        parts.append(kept(work/f"g{guidance:g}-eta{eta:g}-{i:05d}-{len(texts)}.safetensors", make)["x"])
        say(f"guidance {guidance:g}: {i+len(texts)} of {len(captions)} captions, {time.process_time()-began:.0f} s of CPU")
    return torch.cat(parts).float()/255

@torch.no_grad()
def inversion(prior, images, work, steps=50):
    "Up with the null prompt to pure noise and back: PSNR of every picture in dB; beside it that of the autoencoder alone"
    def make():
        rows = []
        for x in images.split(20):
            z = prior.encode(x)
            top = ddim_invert(prior, z, "", 999, 1000//steps)
            rows.append(torch.stack([prior.decode(ddim_sample(prior, top.x, "", 999, 1000//steps).x), prior.decode(z)]))
        return dict(x=torch.cat(rows, 1), steps=torch.tensor(len(top.eps)))
    back, only = kept(work/f"inversion-{len(images)}.safetensors", make)["x"]
    db = lambda y: torch.tensor([psnr(p, q) for p, q in zip(y, images)])
    return db(back), db(only), back

SWEEP = [(g, eta) for eta in (0., 1.) for g in (1., 3., 6., 12.)]

def sweep(prior, judges, captions, work, say):
    "How accuracy depends on guidance and on fresh noise, on fewer captions"
    rows = []
    for g, eta in SWEEP:
        x = samples(prior, captions, g, eta, work, say)
        rows.append(dict(guidance=g, eta=eta, n=len(x), **{k: accuracy(j, x, captions) for k, j in judges.items()}))
    return rows

def views(judge, images, captions):
    "4x4 counts: view word asked (row), seen (column), for objects with a marked front"
    asked, seen = told(captions)[:, 3], judge(images).view.argmax(1)
    return [[int(((asked == i) & (seen == j)).sum()) for j in range(4)] for i in range(4)]

def named(arm): return f"{arm[0]} on {arm[1]}, guidance {arm[2]:g}"

def distilled(prior, arm, steps, work, say):
    "DEV_PROMPTS by one arm (method, canvas, guidance) under the library's other settings: images [8,3,64,64] and network calls"
    settings = Settings(steps=steps, guidance=arm[2])
    def make():
        for now in optimise(prior, list(DEV_PROMPTS), *arm[:2], settings):
            if now.step % 50 == 0: say(f"{named(arm)}: step {now.step} of {steps}, {now.seconds:.0f} s")
        return dict(x=now.canvas.image().clamp(0, 1), calls=torch.tensor(now.calls))
    return kept(work/f"{'-'.join(arm[:2])}-g{arm[2]:g}-{steps}-{settings.head_start:g}.safetensors", make)

def per_category(judges, images, captions):
    "Category -> number of captions, and the share named rightly by each judge"
    asked, hits = told(captions)[:, 0], {k: correct(j, images, captions)["category"] for k, j in judges.items()}
    return {name: dict(n=int((asked == i).sum()), **{k: h[asked == i].mean().item() for k, h in hits.items()}) for i, name in enumerate(CATS) if (asked == i).any()}

def sheet(file, rows, columns=16, width=15):
    "rows: lists of (title, pictures, words below each), side by side; a PNG"
    from matplotlib.figure import Figure
    fig = Figure((width, width/columns*1.55*len(rows)), facecolor="white")
    axes = fig.subplots(len(rows), columns, squeeze=False, gridspec_kw=dict(left=.005, right=.995, bottom=.03, top=.97, wspace=.05, hspace=.4))
    for ax in axes.flat: ax.axis("off")
    for line, blocks in zip(axes, rows):
        k = 0
        for title, x, words in blocks:
            line[k].set_title(title, fontsize=8, loc="left", fontweight="bold", pad=3)
            for ax, o, w in zip(line[k:], x, words):
                ax.imshow(o.clamp(0, 1).permute(1, 2, 0), interpolation="nearest"); ax.text(.5, -.04, w, fontsize=5, ha="center", va="top", transform=ax.transAxes)
            k += len(x)
    page = io.BytesIO(); fig.savefig(page, format="png", dpi=85)
    Image.open(page).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)      # a third of the bytes

def picture(file, judges, captions, fakes, true, back, arms):
    "A sample of every category, what distillation makes of DEV_PROMPTS, and inversion"
    both = lambda x: [f"{a}\n{b}" for a, b in zip(*(j(x).words() for j in judges.values()))]
    asked = told(captions)[:, 0].tolist()
    first = [asked.index(k) for k in range(len(CATS)) if k in asked]
    rows = [[("samples at guidance 3, one of each category; below them the words of judge a, then judge b" if i == 0 else "", fakes[first[i:i+16]], both(fakes[first[i:i+16]]))] for i in range(0, len(first), 16)]
    blocks = [(named(arm), d["x"], both(d["x"])) for arm, d in arms.items()]
    rows += [blocks[i:i+2] for i in range(0, len(blocks), 2)]
    rows += [[("DDIM inversion with the null prompt and back: truth, result, truth, ...", torch.stack([true[:8], back[:8]], 1).flatten(0, 1), [f"{psnr(p, q):.1f} dB" if k else "" for p, q in zip(true, back[:8]) for k in (0, 1)])]]
    sheet(file, rows)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--prior", default="toy", help="toy, or a folder"); p.add_argument("--n", type=int, default=1000, help="captions")
    p.add_argument("--out", type=Path, required=True, help="JSON"); p.add_argument("--work", type=Path, help="folder for pictures [OUT without .json]-work")
    p.add_argument("--eta", type=float, default=0., help="0: DDIM; 1: fresh noise at every step"); p.add_argument("--sheet", type=Path, help="PNG")
    p.add_argument("--steps", type=int, default=200, help="of a distillation"); p.add_argument("--only-samples", action="store_true")
    a = p.parse_args(); began = time.process_time()
    a.work = a.work or Path("runs")/f"{a.out.stem}-work"; a.work.mkdir(parents=True, exist_ok=True)
    say = lambda text: print(text, flush=True)
    prior = lt.load_prior(a.prior, device="cpu")
    batch = held_out(a.n); true, captions = torch.from_numpy(batch.images), batch.captions
    asked = torch.tensor([answers(t, c) for t, c in zip(batch.things, batch.cameras)])
    fakes = samples(prior, captions, 3., a.eta, a.work, say)
    if a.only_samples: return
    plain = samples(prior, captions, 1., a.eta, a.work, say)
    judges = {k: load_judge(k) for k in "ab"}
    r = dict(prior=str(a.prior), n=a.n, ddim_steps=DDIM, eta=a.eta, guidance=3., seed=SEED, machine=f"{platform.machine()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}",
             judges={k: {q: j.recipe.get(q) for q in ("seed", "step", "cpu_minutes")} for k, j in judges.items()}, wanted=WANTED)
    r["samples"] = {k: accuracy(j, fakes, captions) for k, j in judges.items()}
    r["samples at guidance 1"] = {k: accuracy(j, plain, captions) for k, j in judges.items()}
    r["true pictures of the same captions"] = {k: accuracy(j, true, captions) for k, j in judges.items()}
    r["ceiling"] = {k: shares(j(true), asked) for k, j in judges.items()}
    r["asked"] = {k: int((told(captions)[:, i] >= 0).sum()) for i, k in enumerate(HEADS)}
    r["per category"] = per_category(judges, fakes, captions)
    r["views"] = {k: dict(samples=views(j, fakes, captions), true=views(j, true, captions)) for k, j in judges.items()}
    r["guidance sweep"] = sweep(prior, judges, captions[:min(a.n, 200)], a.work, say)
    f, g, h, s = (judges["b"](x).features for x in (plain, true, torch.from_numpy(held_out(a.n, SEED+1).images), fakes))
    r["kid"] = {"guidance 1": kid(f, h), "guidance 3": kid(s, h), "truth": kid(g, h), "dimension": g.shape[1], "n": [len(f), len(h)], "features": "judge b"}
    back, only, pictures = inversion(prior, true[:min(a.n, 100)], a.work)
    r["inversion"] = dict(n=len(back), steps=50, psnr=back.mean().item(), lowest=back.min().item(), share_above_25=(back >= 25).float().mean().item(), autoencoder=only.mean().item())
    arms = {arm: distilled(prior, arm, a.steps, a.work, say) for arm in ARMS}
    r["distilled"] = {named(arm): dict(calls=int(d["calls"]), **{k: accuracy(j, d["x"], DEV_PROMPTS) for k, j in judges.items()}, verdicts={k: j(d["x"]).words() for k, j in judges.items()}) for arm, d in arms.items()}
    r["cpu_seconds_this_call"] = round(time.process_time()-began)
    a.out.parent.mkdir(parents=True, exist_ok=True)
    part = a.out.with_suffix(".part"); part.write_text(json.dumps(r, indent=1)); os.replace(part, a.out)
    report(r)
    if a.sheet: picture(a.sheet, judges, captions, fakes, true, pictures, arms)

def report(r):
    "The result as text"
    row = lambda name, d: print(f"{name:48s}" + "  ".join(f"{k} {d[k]:6.1%}" for k in ("category", "colour", "view", "pattern") if d[k] == d[k]))
    print(f"\n{r['prior']}: {r['n']} captions, {r['ddim_steps']} DDIM steps, guidance 3, eta {r['eta']:g}")
    row("wanted", r["wanted"])
    for what in ("samples", "samples at guidance 1", "true pictures of the same captions", "ceiling"):
        for k in "ab": row(f"{what}, judge {k}", r[what][k])
    worst = sorted(r["per category"].items(), key=lambda kv: kv[1]["a"] + kv[1]["b"])
    print("per category (a, b): " + "  ".join(f"{c} {d['a']:.0%} {d['b']:.0%} of {d['n']}" for c, d in worst))
    for d in r["guidance sweep"]:
        for k in "ab": row(f"guidance {d['guidance']:g}, eta {d['eta']:g}, {d['n']} captions, judge {k}", d[k])
    for k in "ab": print(f"views asked (rows) and seen by {k}: samples {r['views'][k]['samples']}, true pictures {r['views'][k]['true']}")
    k, i = r["kid"], r["inversion"]
    print(f"KID (judge b, {k['dimension']} features, {k['n']}): guidance 1 {k['guidance 1']:.4f}, guidance 3 {k['guidance 3']:.4f}, truth {k['truth']:.4f}")
    print(f"inversion and back, {i['steps']} steps, {i['n']} pictures: {i['psnr']:.1f} dB (lowest {i['lowest']:.1f}, {i['share_above_25']:.0%} above 25; the autoencoder alone {i['autoencoder']:.1f})")
    for arm, d in r["distilled"].items():
        for j in "ab": row(f"{arm}, judge {j}", d[j]); print("   " + ", ".join(d["verdicts"][j]))
    print(f"{r['cpu_seconds_this_call']} s of CPU in this call")

if __name__ == "__main__": main()
