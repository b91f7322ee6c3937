"""A distillation step on a Stable Diffusion, against the bare network calls it is made of: python tests/bench/bench_sd.py FOLDER_OR_ID

Seconds per SDS and per ISM step - picture -> latents -> step -> gradient at the picture - beside the sum of the same UNet, encoder and encoder-gradient
calls made on diffusers' modules directly, in alternation in the same run; peak memory of both. `--random sd15|sd21base|sd21|sdxl` needs no download:
the family's published sizes with random weights (time and memory do not depend on the numbers). `--random tiny-sd21` and so on run anywhere in seconds."""
import argparse, platform, resource, statistics, sys, time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny import FAMILIES, build

class Peak:
    "Peak memory of a block in GB: of the CUDA allocator, else of the process as it stands (which never falls)"
    def __init__(self, device): self.cuda = device.type == "cuda"
    def __enter__(self):
        import torch
        if self.cuda: torch.cuda.reset_peak_memory_stats()
        return self
    def __exit__(self, *_):
        import torch
        self.gb = torch.cuda.max_memory_allocated()/1e9 if self.cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*1024/1e9

def seconds(f, device):
    import torch
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait(); start = time.perf_counter(); f(); wait()
    return time.perf_counter() - start

def distill(prior, image, method, cond, **options):
    "What a user runs: picture -> latents -> step -> gradient at the picture"
    import lucidteach as lt
    image.grad = None
    z = prior.encode(image)
    step = lt.METHODS[method](prior, z, cond, 500, negative=distill.null, **options)
    lt.surrogate(z, step.grad).backward()
    return step

def bare(prior, image, cond, null, singles):
    "The same networks called directly: encoder with its gradient, `singles` calls on B samples, one call on 2B"
    import torch
    pipe, B = prior.pipe, len(image)
    image.grad = None
    z = pipe.vae.encode((2*image - 1).to(prior.device, pipe.vae.dtype)).latent_dist.mode()
    x = z.detach().to(prior.dtype).contiguous(memory_format=torch.channels_last)
    t = torch.full((2*B,), 500, device=prior.device)
    both = type(cond).cat(null, cond)
    with torch.no_grad():
        for _ in range(singles): pipe.unet(x, t[:B], null.emb, added_cond_kwargs=null.extra or None)
        pipe.unet(x.repeat(2, 1, 1, 1), t, both.emb, added_cond_kwargs=both.extra or None)
    z.backward(torch.ones_like(z))

def measure(prior, batch=4, repeats=5, delta_s=200):
    "SDS and ISM at t = 500, guidance 7.5, beside their bare calls; medians of runs in alternation"
    import torch
    image = torch.rand(batch, 3, prior.image_size, prior.image_size, device=prior.device, requires_grad=True)
    cond, null = prior.embed("a red mug").repeat(batch), prior.embed("").repeat(batch)
    distill.null = null
    ism = dict(delta_t=50, delta_s=delta_s, inverse=null)
    for name, options, singles in (("sds", {}, 0), ("ism", ism, -(-450//delta_s) + 1)):
        whole, parts, calls = [], [], distill(prior, image, name, cond, **options).calls
        bare(prior, image, cond, null, singles)
        assert calls == batch*(singles + 2), (calls, singles)
        for _ in range(repeats):
            with Peak(prior.device) as a: whole.append(seconds(lambda: distill(prior, image, name, cond, **options), prior.device))
            with Peak(prior.device) as b: parts.append(seconds(lambda: bare(prior, image, cond, null, singles), prior.device))
        w, p = statistics.median(whole), statistics.median(parts)
        print(f"{name}  batch {batch}  {w:8.4f} s a step  {p:8.4f} s bare calls  {w/p:5.2f} x   peak {a.gb:.2f} GB, bare {b.gb:.2f} GB   {calls} network evaluations", flush=True)

def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("prior", nargs="?", help="folder, hub id or single file")
    ap.add_argument("--random", choices=[a + f for a in ("", "tiny-") for f in FAMILIES], help="random weights of this family's size")
    ap.add_argument("--device", default="auto"); ap.add_argument("--dtype", choices=("float32", "float16", "bfloat16"))
    ap.add_argument("--batch", type=int, default=4); ap.add_argument("--repeats", type=int, default=5)
    args = ap.parse_args()
    import torch
    from lucidteach.prior.latent import LatentPrior, pick_device, quiet
    from lucidteach.prior.checkpoints import load_prior
    dtype = getattr(torch, args.dtype) if args.dtype else None
    if args.random:
        with quiet(): pipe = build(args.random.removeprefix("tiny-"), args.random.startswith("tiny-"), device=pick_device(args.device)[0])
        prior = LatentPrior(pipe, args.device, dtype)
    else: prior = load_prior(args.prior or "toy", device=args.device, dtype=dtype)
    name = torch.cuda.get_device_name() if prior.device.type == "cuda" else f"{platform.machine()}, {torch.get_num_threads()} thread(s)"
    print(f"{args.random or args.prior or 'toy'}: {prior} on {name}, torch {torch.__version__}")
    measure(prior, args.batch, args.repeats)

if __name__ == "__main__": main()
