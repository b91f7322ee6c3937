"""A call of the prior's network in ONNX Runtime and in torch, beside a plain convolution of as many operations, in one run on one thread:
python tests/bench/bench_fast.py --out nbs/1_prior/results/fast.json

The rows take turns, so that other work on the machine slows all of them. Medians of processor time; how far each answer is from torch's."""
import argparse
import copy
import json
import platform
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

import lucidteach as lt
from lucidteach.prior.fast import fast
from lucidteach.prior.words import sample

BATCHES, TIMES = (1, 2, 8), (1, 20, 100, 300, 500, 700, 999)


class Product(torch.nn.Module):
    "A convolution of size 1 as a matrix product over the channels; with channels last nothing is copied"

    def __init__(self, conv):
        super().__init__()
        self.linear = torch.nn.Linear(conv.in_channels, conv.out_channels)
        self.linear.weight, self.linear.bias = torch.nn.Parameter(conv.weight[:, :, 0, 0].contiguous()), conv.bias

    def forward(self, x):
        return self.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def as_products(unet):
    for module in list(unet.modules()):
        for name, child in module.named_children():
            if isinstance(child, torch.nn.Conv2d) and child.kernel_size == (1, 1) and child.stride == (1, 1):
                setattr(module, name, Product(child))
    return unet


def with_unet(prior, change):
    "The same prior with a changed copy of its network"
    made, pipe = copy.copy(prior), copy.copy(prior.pipe)
    pipe.unet = change(copy.deepcopy(prior.pipe.unet)).requires_grad_(False).eval()
    made.pipe = pipe
    return made


def fused(unet):
    unet.fuse_qkv_projections()
    return unet


def bound(flops):
    "A 3x3 convolution with 256 channels at 16x16, repeated as often as gives as many operations; and how many more or fewer it does"
    B = 8
    x = torch.randn(B, 256, 16, 16).contiguous(memory_format=torch.channels_last)
    w = torch.randn(256, 256, 3, 3).contiguous(memory_format=torch.channels_last)
    each = 2 * B * 256 * 256 * 9 * 16 * 16
    n = max(1, round(flops / each))

    def run():
        for _ in range(n):
            F.conv2d(x, w, padding=1)

    return run, flops / (n * each)


@torch.no_grad()
def difference(prior, other):
    "Largest difference of eps over its largest value, over times, for eight true pictures with noise"
    seen, g, far = sample(8, seed=14, depth=0.0, corruption=0.0), torch.Generator().manual_seed(0), 0.0
    z, cond = prior.encode(torch.from_numpy(seen.images)), prior.embed(list(seen.captions[:7]) + [""])
    for t in TIMES:
        x = prior.schedule.add_noise(z, torch.randn(z.shape, generator=g), t)
        noise = prior.eps(x, t, cond)
        far = max(far, ((other.eps(x, t, cond) - noise).abs().max() / noise.abs().max()).item())
    return far


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--prior", default="toy")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--repeat", type=int, default=15)
    a = p.parse_args()
    torch.set_num_threads(1)
    import onnxruntime

    torch_one = lt.load_prior(a.prior, device="cpu")
    began = time.process_time()
    rows = {"torch": torch_one, "onnxruntime": fast(torch_one)}
    made = time.process_time() - began
    rows |= {"torch, projections as one": with_unet(torch_one, fused), "torch, 1x1 as products": with_unet(torch_one, as_products)}
    cond = {b: torch_one.embed(["a red mug"] * b) for b in BATCHES}
    x = {b: torch.randn(b, *torch_one.latent_shape) for b in BATCHES}
    with FlopCounterMode(display=False) as count:
        torch_one.eps(x[1], 300, cond[1])
    flops, bounds = count.get_total_flops(), {}
    for b in BATCHES:
        bounds[b] = bound(b * flops)

    out = {name: dict(ms={}) for name in ["bound", *rows]}
    for b in BATCHES:
        calls = {"bound": bounds[b][0]} | {k: (lambda prior=prior: prior.eps(x[b], 300, cond[b])) for k, prior in rows.items()}
        seconds = {k: [] for k in calls}
        with torch.no_grad():
            for call in calls.values():
                call()
            for _ in range(a.repeat):
                for k, call in calls.items():
                    began = time.process_time()
                    call()
                    seconds[k].append(time.process_time() - began)
        for k, v in seconds.items():
            out[k]["ms"][str(b)] = 1e3 * statistics.median(v) * (bounds[b][1] if k == "bound" else 1)
    for k, prior in rows.items():
        out[k]["difference"] = difference(torch_one, prior)
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if line.startswith("model name")), platform.processor()) if Path("/proc/cpuinfo").exists() else platform.processor()
    facts = dict(prior=a.prior, hardware=f"{cpu}, one thread", gflop=flops / 1e9, graph_seconds=round(made, 1), repeat=a.repeat, batches=[str(b) for b in BATCHES],
                 versions=f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}", command="python tests/bench/bench_fast.py")
    a.out.write_text(json.dumps(facts | dict(rows=out), indent=1), encoding="utf-8")
    print(json.dumps(facts | dict(rows=out), indent=1))


if __name__ == "__main__":
    main()
