"""A learned autoencoder beside the toy prior's linear one: python tests/bench/bench_vae.py STEP ... [--out runs/vae] [--minutes 15]

Steps, in this order; each leaves a file in --out, and a later step says which earlier one it wants:
  data      pools of true renders and of splatted pictures, to train on and to judge by (different seeds)
  train     diffusers' AutoencoderKL, 64x64x3 -> 16x16x16, the linear latent's own size; until --minutes of processor time are spent in all;
            an interrupted run goes on where it was last saved
  rebuild   PSNR of encode -> decode on held-out pictures of nine kinds
  gradient  the gradient through `encode` against central differences, in float64
  descent   from grey or from noise, Adam on pixels with the loss |encode(x) - encode(truth)|^2: is the end the truth, or a checkerboard?
  distil    SDS and ISM at guidance 7.5 on a pixel canvas with an ideal denoiser in either latent space: no UNet, so nothing but the autoencoder differs
  report    nbs/1_prior/results/vae.json and images/vae_trial.png, which nbs/1_prior/14_latent.ipynb reads
Everything is a function of the seeds; one thread."""
import argparse, json, math, os, platform, time
from pathlib import Path
from types import SimpleNamespace
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from safetensors import safe_open
from safetensors.torch import load_file, save_file
import lucidteach as lt
from lucidteach.prior import words, world
from lucidteach.prior.exact import ImageSetPrior

ROOT = Path(__file__).resolve().parents[2]
LATENT, CHANNELS, BATCH, LR, KL, EDGES, AVERAGE, COARSE, SINCE = 16, (32, 32, 64), 8, 2e-3, 3e-4, .1, .998, 2., 900   # after its first 900 steps the network was still blind to colour: the last term of the loss came then
PROMPTS = ["a red mug", "a blue car", "a green house", "a yellow rocket", "a pink snowman", "an orange mushroom", "a purple table", "a brown teddy bear"]

def write(path, text):
    "Whole or not at all"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".part").write_text(text); os.replace(path.with_suffix(".part"), path)

def keep(path, tensors, **meta):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in tensors.items()}, path.with_suffix(".part"), {k: json.dumps(v) for k, v in meta.items()})
    os.replace(path.with_suffix(".part"), path)

def need(path, step):
    if not path.exists(): raise SystemExit(f"{path} is missing: run the step `{step}` first")
    return path

# ---------------------------------------------------------------- pictures
def splatted(n, seed, size=64):
    "Pictures by the project's own rasterizer: clouds of Gaussians of any colour, and objects of the world sprinkled with Gaussians of their colours"
    rng, out = np.random.default_rng(seed), []
    for i in range(n):
        cam = world.sample_camera(rng)
        if rng.random() < .35:
            k = int(rng.integers(20, 600))
            g = lt.Gaussians.ball(k, radius=.8, seed=int(rng.integers(1 << 31)), rgb=torch.from_numpy(rng.random((k, 3)) if rng.random() < .5 else np.tile(rng.random(3), (k, 1))).float(), opacity=float(rng.uniform(.05, .9)))
        else:
            r = world.render(world.sample_thing(rng, background=0., depth=0., corruption=0.), cam, size, 1)
            y, x = np.nonzero(r.alpha > .5)
            pick = rng.integers(len(y), size=int(rng.integers(100, 900)))
            y, x = y[pick], x[pick]
            f, z = size/2/math.tan(math.radians(cam.fov)/2), r.depth[y, x][:, None]
            ray = np.stack([(x + .5 - size/2)/f, (y + .5 - size/2)/f, np.ones(len(x))], 1)
            points = cam.position + (ray*z) @ cam.axes + rng.normal(size=(len(x), 3))*rng.choice([0., .02, .06])
            g = lt.Gaussians.from_points(points.astype(np.float32), torch.from_numpy(r.rgb[:, y, x].T.copy()), opacity=float(rng.uniform(.2, .95)), scale=float(rng.uniform(.015, .09)))
        g.log_scales = g.log_scales + .5*torch.from_numpy(rng.normal(size=(len(g), 3))).float()
        g.quats = torch.from_numpy(rng.normal(size=(len(g), 4))).float()
        g.logits = g.logits + torch.from_numpy(rng.normal(size=len(g))).float()
        camera = lt.Camera.look_at(tuple(cam.position), cam.target, size=size, fov_deg=cam.fov)
        bg = torch.from_numpy(rng.random(3)).float() if rng.random() < .4 else torch.ones(3)
        out.append(g.render(camera, background=bg, depth=False).rgb[0])
    return torch.stack(out).clamp(0, 1)

def renders(n, seed, **kw): return torch.from_numpy(words.sample(n, seed, **kw).images)

def data(out):
    train = dict(renders=renders(8000, (1, 0), background=.4, depth=.1, corruption=.1), splats=splatted(3000, 2))
    held = dict(renders=renders(128, (3, 0), background=0., depth=0., corruption=0.), coloured=renders(64, (4, 0), background=1., depth=0., corruption=0.), splats=splatted(64, 5))
    for name, pool in dict(train=train, held=held).items(): keep(out/f"{name}.safetensors", {k: (v*255).round().byte() for k, v in pool.items()})
    print(f"{ {k: len(v) for k, v in train.items()} } to train on, { {k: len(v) for k, v in held.items()} } held out")

def pools(out, name): return {k: v.float()/255 for k, v in load_file(need(out/f"{name}.safetensors", "data")).items()}

def blur(x, sigma):
    k = torch.exp(-.5*(torch.arange(-6, 7)/sigma)**2); k = (k/k.sum()).expand(3, 1, 1, 13)
    return F.conv2d(F.conv2d(F.pad(x, (6,)*4, mode="replicate"), k, groups=3), k.transpose(2, 3), groups=3)

def noisy(x, gen, std):
    "Noise of one pixel's size, or of several"
    n = torch.randn(x.shape, generator=gen)
    if torch.rand((), generator=gen) < .4: n = F.interpolate(F.avg_pool2d(n, 4)*4, x.shape[-1], mode="bilinear")
    return x + std*n

def plain(n, gen, size=64):
    "One colour, two colours with a soft border, or no picture at all but noise"
    a, b = torch.rand(2, n, 3, 1, 1, generator=gen)
    a = torch.where(torch.rand(n, 1, 1, 1, generator=gen) < .4, a[:, :1].expand_as(a), a)             # grey
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, size)]*2, indexing="ij")
    angle, shift, steep = (torch.rand(n, 1, 1, 1, generator=gen)*s for s in (2*math.pi, 1., 8.))
    flat = torch.lerp(a, b, (steep*(angle.cos()*x + angle.sin()*y - shift)).sigmoid()*(torch.rand(n, 1, 1, 1, generator=gen) < .6))
    return flat + torch.rand(n, 1, 1, 1, generator=gen)**2*.3*torch.randn(n, 3, size, size, generator=gen)

def batch(pool, n, gen):
    "n training pictures in [0,1]: what a distillation shows an encoder on its way from grey to an object"
    some = lambda v, k: v[torch.randint(len(v), (k,), generator=gen)]
    x, kinds = some(pool["renders"], n), torch.multinomial(torch.tensor([.35, .1, .12, .1, .1, .15, .08]), n, True, generator=gen)
    at = [(kinds == k).nonzero()[:, 0] for k in range(7)]
    for i in at[1]: x[i] = blur(x[i:i+1], .5 + 2.5*torch.rand((), generator=gen))[0]
    for i in at[2]: x[i] = noisy(x[i:i+1], gen, .2*torch.rand((), generator=gen))[0]
    w = lambda k: torch.rand(len(k), 1, 1, 1, generator=gen)
    if len(k := at[3]): x[k] = torch.lerp(x[k], some(pool["renders"], len(k)), w(k))
    if len(k := at[4]): x[k] = torch.lerp(plain(len(k), gen), x[k], w(k))
    if len(k := at[5]): x[k] = some(pool["splats"], len(k))
    if len(k := at[6]): x[k] = plain(len(k), gen)
    return torch.where(w(x) < .5, x, x.flip(-1)).clamp(0, 1)

# ---------------------------------------------------------------- the network
def make(latent=LATENT, channels=CHANNELS):
    "4x4 pixels to one place of the latent; no attention, so that any picture size will do; two groups for each norm, because every group forgets its own mean level, and with it a flat colour"
    n = len(channels)
    return AutoencoderKL(block_out_channels=channels, layers_per_block=1, latent_channels=latent, norm_num_groups=2, sample_size=64, mid_block_add_attention=False,
                         down_block_types=("DownEncoderBlock2D",)*n, up_block_types=("UpDecoderBlock2D",)*n, scaling_factor=1.)

def differences(x): return x.diff(dim=-1), x.diff(dim=-2)

def loss(vae, x, noise, coarse=COARSE):
    "Absolute error of the picture, of its edges and of its 4x4 averages, and a little of KL(latent || N(0,1)); x in [-1,1]"
    q = vae.encode(x).latent_dist
    y = vae.decode((q.mean + q.std*noise).to(x)).sample.float()
    edges = sum((a - b).abs().mean() for a, b in zip(differences(y), differences(x)))
    return (y - x).abs().mean() + EDGES*edges + coarse*F.avg_pool2d(y - x, 4).abs().mean() + KL*q.kl().float().mean()/q.mean[0].numel(), y

def cropped(x, step, gen, size=32):
    "Three steps of four see a window of 32x32 pixels, for a quarter of the time"
    i, j = torch.randint(x.shape[-1] - size + 1, (2,), generator=gen).tolist()
    return x[..., i:i+size, j:j+size] if step % 4 else x

def train(out, minutes, seed=0):
    "Constant rate, and a running mean of the weights, which is what counts: so any moment is a good one to stop at, and to go on from"
    torch.manual_seed(seed)
    pool, vae, file = pools(out, "train"), make().train(), out/"vae.safetensors"
    names, params = zip(*vae.named_parameters())
    mean, opt, log, spent, step = [p.detach().clone() for p in params], torch.optim.AdamW(params, LR, weight_decay=0., betas=(.9, .99)), [], 0., 0
    if file.exists():
        state, meta = load_file(file), info(file)
        step, log, spent, mean = meta["step"], meta["log"], meta["seconds"], [state[n] for n in names]
        vae.load_state_dict({n: state[f"raw.{n}"] for n in names})
        opt.load_state_dict({**opt.state_dict(), "state": {i: dict(step=torch.tensor(float(step)), exp_avg=state[f"m.{n}"], exp_avg_sq=state[f"v.{n}"]) for i, n in enumerate(names)}})
    def save():
        rest = {f"{m}.{n}": v for i, n in enumerate(names) for m, v in (("raw", params[i].detach()), ("m", opt.state[params[i]]["exp_avg"]), ("v", opt.state[params[i]]["exp_avg_sq"]))}
        keep(file, {**dict(zip(names, mean)), **rest}, step=step, log=log, seconds=spent + time.process_time() - start, seed=seed)
    start, recent = time.process_time(), []
    while spent + time.process_time() - start < 60*minutes:
        gen = torch.Generator().manual_seed(seed*10**7 + step)
        for g in opt.param_groups: g["lr"] = LR*min((step + 1)/100, 1)
        x = cropped(batch(pool, BATCH, gen)*2 - 1, step, gen)
        noise = torch.randn(BATCH, LATENT, *(n//4 for n in x.shape[2:]), generator=gen)
        with torch.autocast("cpu", torch.bfloat16): value, y = loss(vae, x, noise, COARSE*(step >= SINCE))
        opt.zero_grad(); value.backward(); torch.nn.utils.clip_grad_norm_(params, 1.); opt.step()
        torch._foreach_lerp_(mean, [p.detach() for p in params], 1 - min(AVERAGE, (1 + step)/(10 + step)))
        step += 1; recent.append((value.item(), ((y.detach() - x)/2).square().mean().item()))
        if step % 50 == 0:
            m = np.mean(recent, 0); recent = []
            log.append([step, float(m[0]), float(-10*np.log10(m[1]))])
            print(f"step {step:5d}  loss {m[0]:.4f}  {log[-1][2]:.2f} dB on training pictures  {(spent + time.process_time() - start)/60:.1f} min", flush=True)
            save()
    save()

def info(file):
    with safe_open(file, "pt") as f: return {k: json.loads(v) for k, v in f.metadata().items()}

# ---------------------------------------------------------------- the two encoders, on equal terms
@torch.no_grad()
def codec(ae, images):
    "encode: [0,1] -> latents; decode: back, not clamped; one number brings the latents of `images` to variance 1 on average, as Stable Diffusion's scaling_factor does"
    ae = ae.eval().requires_grad_(False)
    mode = lambda x: ae.encode(2*x - 1).latent_dist.mode()
    s = 1/mode(images).var((0, 2, 3)).mean().sqrt().item()
    return SimpleNamespace(encode=lambda x: mode(x)*s, decode=lambda z: ae.decode(z/s).sample/2 + .5, ae=ae, scale=s)

def learned(out):
    state, vae = load_file(need(out/"vae.safetensors", "train")), make()
    vae.load_state_dict({n: state[n] for n in vae.state_dict()})
    return vae

def codecs(out):
    images = pools(out, "train")["renders"][:200]
    return {"linear": codec(lt.load_prior("toy", device="cpu").pipe.vae, images), "learned": codec(learned(out), images)}

def psnr(a, b): return -10*((a - b)**2).flatten(1).mean(1).clamp_min(1e-6).log10()

def fineness(e):
    "Share of a difference's power that 2x2 averages remove: 0.75 for white noise, all of it for a checkerboard"
    return (1 - F.avg_pool2d(e, 2).square().mean()/e.square().mean()).item()

def kinds(out):
    "Held-out pictures of every kind, [64,3,64,64] each"
    held, gen = pools(out, "held"), torch.Generator().manual_seed(6)
    a, b = held["renders"].chunk(2)
    noise, flat = torch.randn(64, 3, 64, 64, generator=gen), torch.rand(64, 3, 1, 1, generator=gen).expand(64, 3, 64, 64)
    return {"world": a, "world, coloured background": held["coloured"], "blurred": blur(a, 1.5), "with noise 0.1": a + .1*noise, "two blended": (a + b)/2,
            "half-transparent": .4*a + .6*flat, "splatted": held["splats"], "grey": torch.linspace(.1, .9, 64)[:, None, None, None].expand_as(a),
            "one colour": flat, "grey with noise 0.05": .5 + .05*noise, "grey with noise 0.2": .5 + .2*noise}

@torch.no_grad()
def rebuild(out):
    table, both = {}, codecs(out)
    for kind, x in kinds(out).items():
        x = x[::2].clamp(0, 1)
        table[kind] = {name: psnr(c.decode(c.encode(x)).clamp(0, 1), x).mean().item() for name, c in both.items()}
        print(f"{kind:28}" + "".join(f"{name} {v:6.2f} dB   " for name, v in table[kind].items()), flush=True)
    write(out/"rebuild.json", json.dumps(table))

def gradient(out):
    "Relative difference between autograd and central differences of sum(sin(latents)), in float64, along 4 directions at 3 pictures: the largest, and how strong the gradient is"
    gen, table = torch.Generator().manual_seed(7), {}
    points = [v[:1].double() for k, v in kinds(out).items() if k in ("world", "splatted", "grey with noise 0.2")]
    for name, c in codecs(out).items():
        net, worst = c.ae.double(), 0.
        f = lambda x: net.encode(2*x - 1).latent_dist.mode().mul(c.scale).sin().sum()
        for x in points:
            x = x.requires_grad_(); grad, = torch.autograd.grad(f(x), x)
            for _ in range(4):
                d = torch.randn(x.shape, generator=gen, dtype=torch.float64)
                with torch.no_grad(): numeric = (f(x + 1e-5*d) - f(x - 1e-5*d))/2e-5
                worst = max(worst, (abs(numeric - (grad*d).sum())/(grad.norm()*d.norm())).item())
        table[name] = worst
        print(f"{name:8} gradient against central differences: largest difference {worst:.1e} of |gradient| |direction|", flush=True)
    write(out/"gradient.json", json.dumps(table))

def descend(c, x, z, steps=300, lr=.02, every=25):
    "Adam on pixels with 1/2 |encode(x) - z|^2; yields (step, loss, x)"
    x = x.clone().requires_grad_(); opt = torch.optim.Adam([x], lr)
    slower = torch.optim.lr_scheduler.LinearLR(opt, 1, .1, steps)
    for i in range(steps + 1):
        value = (c.encode(x) - z).square().sum()/2
        if i % every == 0: yield i, value.item()/z.numel(), x.detach().clone()
        if i < steps: opt.zero_grad(); value.backward(); opt.step(); slower.step(); x.data.clamp_(0, 1)

def descent(out):
    "What the encoder's gradient does to pixels when the target is beyond doubt"
    truth, gen = kinds(out)["world"][:6], torch.Generator().manual_seed(8)
    starts = dict(grey=(.8 + .05*torch.randn(6, 3, 64, 64, generator=gen)).clamp(0, 1), noise=torch.rand(6, 3, 64, 64, generator=gen))
    table, pictures = {}, {"truth": truth}
    for name, c in codecs(out).items():
        z = c.encode(truth)
        for start, x in starts.items():
            rows = [(i, value, *(psnr(v, truth).mean().item() for v in (x, c.decode(c.encode(x)).detach().clamp(0, 1))), fineness(x - truth), x) for i, value, x in descend(c, x, z)]
            table[f"{name} from {start}"] = {k: [r[j] for r in rows] for j, k in enumerate(("step", "loss", "psnr", "psnr_rebuilt", "fine"))}
            pictures[f"{name}.{start}"] = rows[-1][-1]
            print(f"{name:8} from {start:6} pixels: {rows[0][2]:.1f} -> {rows[-1][2]:.1f} dB; seen through encode and decode {rows[-1][3]:.1f} dB; "
                  f"half squared latent error {rows[0][1]:.3f} -> {rows[-1][1]:.5f}; {rows[-1][4]:.0%} of what is left is finer than 2 pixels", flush=True)
    keep(out/"descent.safetensors", pictures, table=table)

# ---------------------------------------------------------------- distillation without a network
class LatentSet(ImageSetPrior):
    "The ideal denoiser of encoded pictures: `encode` leaves the set's own members, which are latents already, as they are"
    def __init__(self, c, images, captions):
        super().__init__(images, captions, std=0.)
        self.c, self.members, self.images = c, images, c.encode(images).double()
        self.latent_shape = tuple(self.images.shape[1:])
    def encode(self, x, sample=False, generator=None): return self.c.encode(x) if x.shape[1] == 3 else x
    def decode(self, z): return self.c.decode(z.float()).clamp(0, 1)

PER = 64
def members(others=256):
    "True renders of the eight prompts, shapes and cameras free, and of anything else, which only the null prompt knows"
    images, captions = [], []
    for i, p in enumerate(PROMPTS):
        told, rng = words.parse(p), np.random.default_rng((9, i))
        for _ in range(PER):
            thing = world.sample_thing(rng, categories=[told.category], background=0., depth=0., corruption=0.)
            thing = type(thing)(thing.category, told.color, "plain", thing.params)
            images.append(world.render(thing, world.sample_camera(rng, .5, elevation=(0., 40.))).rgb); captions.append(p)
    rest = words.sample(others, 10, background=0., depth=0., corruption=0.)
    return torch.cat([torch.from_numpy(np.stack(images)), torch.from_numpy(rest.images)]), captions + ["something else"]*others

def distil(out, steps=120):
    from lucidteach.distill.canvas import Settings
    from lucidteach.distill.loop import optimise
    images, captions = members()
    table, pictures = {}, {}
    for name, c in codecs(out).items():
        prior = LatentSet(c, images, captions)
        for arm, method, head in (("sds", "sds", 0.), ("ism", "ism", 0.), ("ism after sds", "ism", .5)):
            start = time.process_time()
            for now in optimise(prior, PROMPTS, method, "pixels", Settings(steps=steps, guidance=7.5, head_start=head)): pass
            x = now.canvas.image()
            own = [images[:len(PROMPTS)*PER].reshape(len(PROMPTS), PER, 3, 64, 64)[i] for i in range(len(PROMPTS))]
            near = torch.stack([members[psnr(members, v[None]).argmax()] for members, v in zip(own, x)])
            seen = prior.decode(c.encode(x))
            table[f"{name}, {arm}"] = dict(psnr=psnr(x, near).tolist(), psnr_rebuilt=psnr(seen, near).tolist(), fine=fineness(x - near), white=psnr(torch.ones_like(near), near).tolist())
            pictures |= {f"{name}.{arm}": x, f"{name}.{arm}.rebuilt": seen, f"{name}.{arm}.nearest": near}
            row = table[f"{name}, {arm}"]
            print(f"{name:8} {arm:14} {np.mean(row['psnr']):5.1f} dB to the nearest member (white: {np.mean(row['white']):.1f}); seen through encode and decode {np.mean(row['psnr_rebuilt']):.1f} dB; "
                  f"{row['fine']:.0%} of the error finer than 2 pixels; {time.process_time() - start:.0f} s", flush=True)
    keep(out/"distil.safetensors", pictures, table=table, steps=steps)

# ---------------------------------------------------------------- what stays
def rounded(v): return float(f"{v:.4g}") if isinstance(v, float) else {k: rounded(w) for k, w in v.items()} if isinstance(v, dict) else [rounded(w) for w in v] if isinstance(v, list) else v

def report(out):
    meta, parts = info(need(out/"vae.safetensors", "train")), {k: json.loads(need(out/f"{k}.json", k).read_text()) for k in ("rebuild", "gradient")}
    parts |= {k: info(need(out/f"{k}.safetensors", k))["table"] for k in ("descent", "distil")}
    recipe = dict(millions=sum(p.numel() for p in make().parameters())/1e6, channels=list(CHANNELS), latent=[LATENT, 16, 16], batch=BATCH, rate=LR, kl=KL, edges=EDGES, coarse=COARSE, coarse_since=SINCE, average=AVERAGE, seed=meta["seed"],
                  steps=meta["step"], processor_minutes=meta["seconds"]/60, processor=f"{platform.machine()}, one thread, bfloat16 autocast", torch=torch.__version__)
    write(ROOT/"nbs"/"1_prior"/"results"/"vae.json", json.dumps(rounded(dict(recipe=recipe, log=meta["log"], **parts)), indent=1) + "\n")
    figure(load_file(out/"descent.safetensors"), load_file(out/"distil.safetensors"), parts["descent"], ROOT/"images"/"vae_trial.png")

def figure(ends, arts, curves, path):
    import matplotlib; matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    fig, axs = plt.subplot_mosaic([["a", "c"], ["b", "c"]], figsize=(10.5, 5.6), dpi=80, height_ratios=[1, 1.06], width_ratios=[1, 1.3], layout="constrained")
    def sheet(ax, rows, n, title):
        big = torch.cat([torch.cat([*v[:n]], 2) for v in rows.values()], 1).clamp(0, 1)
        ax.imshow(big.permute(1, 2, 0), interpolation="nearest"); ax.set(xticks=[], yticks=64*np.arange(len(rows)) + 32, yticklabels=list(rows)); ax.set_title(title, fontsize=9)
        ax.tick_params(length=0, labelsize=8); [s.set_visible(False) for s in ax.spines.values()]
    sheet(axs["a"], {"truth": ends["truth"]} | {f"{n}, {s}": ends[f"{n}.{s}"] for s in ("grey", "noise") for n in ("linear", "learned")}, 6, r"pixels that minimise $|\mathrm{enc}(x)-\mathrm{enc}(\mathrm{truth})|^2$, from grey or noise")
    sheet(axs["c"], {f"{n}, {label}": arts[f"{n}.{key}"] for arm in ("sds", "ism after sds") for n in ("linear", "learned")
                     for label, key in ((arm.replace(" after ", " after\n"), arm), ("its nearest\nmember", f"{arm}.nearest"))}, 8, "distilled with an ideal denoiser, guidance 7.5")
    for name, row in curves.items():
        n, start = name.split(" from ")
        axs["b"].plot(row["step"], row["psnr"], "-" if start == "grey" else "--", color=dict(linear="C0", learned="C1")[n], label=name)
    axs["b"].set(xlabel="step of Adam", ylabel="PSNR of the pixels, dB"); axs["b"].legend(fontsize=8, frameon=False)
    path.parent.mkdir(exist_ok=True); fig.savefig(path.with_suffix(".part"), format="png"); os.replace(path.with_suffix(".part"), path)

STEPS = dict(data=data, train=train, rebuild=rebuild, gradient=gradient, descent=descent, distil=distil, report=report)
def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="\n".join(__doc__.splitlines()[2:]), formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("what", nargs="+", choices=[*STEPS, "all"], metavar="STEP", help=", ".join(STEPS) + ", all")
    ap.add_argument("--out", type=Path, default=ROOT/"runs"/"vae"); ap.add_argument("--minutes", type=float, default=15., help="of processor time for the training in all")
    args = ap.parse_args()
    torch.set_num_threads(1)
    for what in list(STEPS) if "all" in args.what else args.what: STEPS[what](args.out, **dict(minutes=args.minutes) if what == "train" else {})

if __name__ == "__main__": main()
