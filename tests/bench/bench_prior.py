"""One call of the toy prior's network: python tests/bench/bench_prior.py [FOLDER]

Milliseconds for 8 samples (batch 4 with guidance) on one thread and on two, in float32 and bfloat16, channels-last (as the prior does it) and not;
the ratio to what plain 3x3 convolutions of as many operations cost, timed in alternation in the same run; and the error that half precision puts on
ISM's residual eps(x_t, t, y) - eps(x_s, s, null), the small difference of two large predictions, against float64. The house's limit is 2%."""
import platform, statistics, sys, time
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode
import lucidteach as lt
from lucidteach.prior.guidance import cfg

def ms(*fs, n=9):
    "Medians in ms of several functions, run in turn so that a busy machine slows all of them"
    times = [[] for _ in fs]
    for f in fs: f()
    for _ in range(n):
        for f, row in zip(fs, times): start = time.perf_counter(); f(); row.append((time.perf_counter() - start)*1e3)
    return [statistics.median(row) for row in times]

@torch.no_grad()
def speed(prior, dtype, threads):
    torch.set_num_threads(threads)
    x, cond = torch.randn(8, *prior.latent_shape), prior.embed(["a red mug"]*4 + [""]*4)
    with FlopCounterMode(display=False) as count: prior.eps(x, 500, cond)
    raw = lambda: prior.pipe.unet(x.to(dtype), 500, cond.emb.to(dtype))
    a, w = (v.to(dtype, memory_format=torch.channels_last) for v in (torch.randn(8, 128, 16, 16), torch.randn(128, 128, 3, 3)))
    flops, one = count.get_total_flops(), 2*8*128*128*9*256
    reps = 20
    eps, conv = ms(lambda: prior.eps(x, 500, cond), lambda: [F.conv2d(a, w, padding=1) for _ in range(reps)])
    bound = conv/reps*flops/one
    prior.pipe.unet.to(memory_format=torch.contiguous_format)
    plain, = ms(raw)
    prior.pipe.unet.to(memory_format=torch.channels_last)
    print(f"{str(dtype)[6:]:9s} {threads} thread(s)  {eps:6.1f} ms   convolution bound {bound:6.1f} ms ({flops/1e9:.1f} GFLOP at {one/conv*reps/1e6:.0f} GFLOP/s)   ratio {eps/bound:5.2f}   not channels-last {plain:6.1f} ms", flush=True)

@torch.no_grad()
def points(prior, texts, t, delta=50):
    "True pictures carried up by inversion to s and t, in float64"
    from lucidteach.prior import words, world
    z = prior.encode(torch.from_numpy(words.sample(len(texts), seed=5, background=0., corruption=0., depth=0.).images).double())
    null, sched, times = prior.embed("").repeat(len(z)), prior.schedule, [None, *range(200, t - delta, 200), t - delta, t]
    for a, b in zip(times, times[1:]):
        x_s = z
        z = sched.step(z, prior.eps(z, a, null), a, b)
    return x_s, z

@torch.no_grad()
def residual(prior, texts, x_s, x_t, t, g, delta=50):
    cond, null = prior.embed(texts), prior.embed("").repeat(len(texts))
    return cfg(prior.eps(x_t, t, cond), prior.eps(x_t, t, null), g) - prior.eps(x_s, t - delta, null)

def errors(priors, texts):
    "Relative error of the residual by precision, time and guidance"
    exact = priors.pop("float64")
    for t in (150, 300, 500, 800):
        x_s, x_t = points(exact, texts, t)
        for g in (1., 7.5):
            r = residual(exact, texts, x_s, x_t, t, g)
            size = r.norm()/exact.eps(x_t, t, exact.embed("").repeat(len(texts))).norm()
            bad = {k: ((residual(p, texts, x_s, x_t, t, g) - r).norm()/r.norm()).item() for k, p in priors.items()}
            print(f"t {t:3d}  guidance {g:3.1f}  residual {size.item():5.0%} of the prediction   error: " + "   ".join(f"{k} {v:.3%}" for k, v in bad.items()), flush=True)

if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else "toy"
    load = lambda dtype: lt.load_prior(name, device="cpu", dtype=dtype)
    print(f"{load(torch.float32)}  {platform.machine()}, torch {torch.__version__}")
    for dtype in (torch.float32, torch.bfloat16):
        for threads in (1, 2): speed(load(dtype), dtype, threads)
    torch.set_num_threads(1)
    texts = ["a red mug", "a blue car", "a green house", "a yellow rocket"]
    priors = {str(d)[6:]: load(d) for d in (torch.float64, torch.float32, torch.bfloat16)}
    half = load(torch.float32)          # float16 is refused on a CPU, where it is slow; its rounding is that of a GPU
    for m in (half.pipe.unet, half.pipe.text_encoder, half.pipe.vae): torch.nn.Module.to(m, torch.float16)
    half.dtype = torch.float16
    errors({**priors, "float16": half}, texts)
