"""The paper's configuration in real size, on random weights: python tests/bench/bench_paper.py --save results.json

Stable Diffusion 2.1-base's architecture, 512 px, 4 views, 81,920 Gaussians, ISM: seconds of whole steps of `create`'s loop spread over its 5,000, beside the
same UNet and encoder calls made bare in the same run, and peak memory; in half precisions, memory formats and compiled, as asked by --variants."""
import argparse, json, statistics, time
from pathlib import Path

class Watched:
    "A UNet that remembers what it was asked"
    def __init__(self, unet, asked): self.unet, self.asked = unet, asked
    def __getattr__(self, name): return getattr(self.unet, name)
    def __call__(self, *args, **kw): self.asked.append((args, kw)); return self.unet(*args, **kw)

def bare_calls(prior, advance):
    """One step's encoder and UNet calls as a function with nothing in between. `ordered`: the encoder's gradient after the UNet has answered, as every
    distillation must have it; else at once, where a GPU computes it while Python still asks the UNet"""
    import torch
    pipe, unet, encode, asked, pictures = prior.pipe, prior.pipe.unet, prior.pipe.vae.encode, [], []
    def watched_encode(x, **k): pictures.append(x.detach()); return encode(x, **k)
    pipe.__dict__["unet"], pipe.vae.encode = Watched(unet, asked), watched_encode
    try: advance()
    finally: pipe.__dict__["unet"], pipe.vae.encode = unet, encode
    def bare(ordered=True):
        z = encode(pictures[0].requires_grad_()).latent_dist.mode()
        if not ordered: z.backward(torch.ones_like(z))
        with torch.no_grad():
            for args, kw in asked: unet(*args, **kw)
        if ordered: z.backward(torch.ones_like(z))
    return bare

def clock(f, times=1):
    "Median seconds of calls of f"
    import torch
    wait, spent = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None, []
    for _ in range(times):
        wait(); began = time.perf_counter()
        f(); wait()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)

def measure(prior, c, at, profile=False):
    import torch
    from lucidteach.scene.text_to_3d import State, Splats, start
    from lucidteach.scene.run import Timed, advance
    prior = Timed(prior)
    state = State(Splats(start(c, "a red mug"), c, prior.device))
    def step(i):
        state.step = i
        advance(prior, "a red mug", "ism", c, state)
        if state.stopped: raise SystemExit(state.stopped)
    cuda, rows = prior.device.type == "cuda", []
    for i in at[:2] + at[-1:]: step(i)                                    # warm up
    if cuda: torch.cuda.reset_peak_memory_stats()
    if profile:
        from torch.profiler import profile as Profile, ProfilerActivity as A
        step(at[-1])
        import cProfile, pstats
        with cProfile.Profile() as p: clock(lambda: step(at[-1]))
        pstats.Stats(p).sort_stats("cumulative").print_stats(70)
        with Profile(activities=[A.CPU, A.CUDA]) as p: clock(lambda: step(at[-1]))
        print(p.key_averages().table(sort_by="cuda_time_total", row_limit=25, max_name_column_width=60))
    for i in at:
        step(i)
        before, bare = state.calls, bare_calls(prior, lambda: step(i))
        row = dict(step=i, t=state.t, calls=state.calls - before)
        state.seconds = dict.fromkeys(state.seconds, 0.)
        row["seconds"] = clock(lambda: step(i), 3)
        row["parts"] = {k: v/3 for k, v in state.seconds.items()}          # in the device's own time
        rows.append(row | dict(bare=clock(bare, 3), bare_at_once=clock(lambda: bare(False), 3)))
    return rows, torch.cuda.max_memory_allocated()/1e9 if cuda else None

COMPILERS = dict(compiled=dict(dynamic=False), graphs=dict(dynamic=False, backend="cudagraphs"))      # torch.compile's own code generator, or replayed CUDA graphs

def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--family", default="sd21base"); ap.add_argument("--steps", type=int, default=6, help="steps measured, spread over the run"); ap.add_argument("--save", type=Path)
    ap.add_argument("--variants", nargs="+", default=["float16"], help="float32, float16, bfloat16; with +contiguous (not channels-last), +compiled (torch.compile) or +graphs (CUDA graphs)")
    ap.add_argument("--profile", action="store_true", help="print where the time of a step goes, by torch.profiler")
    ap.add_argument("--device", default="auto"); ap.add_argument("--set", nargs="*", default=[], help="fields of Config, such as size=64")
    args = ap.parse_args()
    import torch
    from bench_sd import build
    from lucidteach.scene.config import config
    from lucidteach.prior.latent import LatentPrior, pick_device, quiet
    c = config("paper", **{k: json.loads(v) for k, v in (s.split("=") for s in args.set)})
    at = [int((i + .5)*c.steps/args.steps) + 37 for i in range(args.steps)]     # no step at which Gaussians are cloned, which is one in a hundred
    device = pick_device(args.device)[0]
    name = torch.cuda.get_device_name() if str(device).startswith("cuda") else "CPU"
    found = dict(device=name, torch=torch.__version__, family=args.family, steps=c.steps, batch=c.batch, size=c.size, points=c.points, variants={})
    for variant in args.variants:
        dtype, *how = variant.split("+")
        with quiet(): pipe = build(args.family.removeprefix("tiny-"), args.family.startswith("tiny-"), device=device)
        prior = LatentPrior(pipe, args.device, getattr(torch, dtype))
        if "contiguous" in how: pipe.unet.to(memory_format=torch.contiguous_format)
        began = time.perf_counter()
        for h in set(how) & set(COMPILERS):
            torch._dynamo.reset()
            pipe.unet.compile(**COMPILERS[h])
        rows, peak = measure(prior, c, at, args.profile)
        s = statistics.mean(r["seconds"] for r in rows)
        over = lambda k: statistics.median(r["seconds"]/r[k] for r in rows)
        ratio = f"{over('bare'):.2f} times its bare calls ({over('bare_at_once'):.2f} with the encoder's gradient at once), "
        found["variants"][variant] = dict(rows=rows, peak_gb=peak, whole_s=time.perf_counter() - began)
        print(f"{variant:22} {s:.3f} s a step, {ratio}{s*c.steps/60:.0f} min of {c.steps} steps, peak {peak or 0:.1f} GB on {name}", flush=True)
        if args.save: args.save.write_text(json.dumps(found, indent=1))
        del prior, pipe
        if torch.cuda.is_available(): torch.cuda.empty_cache()

if __name__ == "__main__": main()
