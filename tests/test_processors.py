"""What does not depend on the processor: another instruction set of torch draws the same numbers and gives the same results up to their rounding.

torch takes its kernels by ATEN_CPU_CAPABILITY, "default" (no vector instructions), "avx2" or "avx512"; without it, the best that the processor has. OneDNN and MKL have switches of their own."""
import os, subprocess, sys
import pytest, torch
from safetensors.torch import load_file

CODE = """
import sys, lucidteach as lt, torch
from safetensors.torch import save_file
from lucidteach.prior import words, world
from lucidteach.prior.exact import MixturePrior
from lucidteach.splat.camera import LucidCameras
g, out = torch.Generator().manual_seed(0), {}
out["same uniform"], out["same whole"], out["same order"] = torch.rand(1000, generator=g), torch.randint(1000, (1000,), generator=g), torch.randperm(1000, generator=g)
out["same normal64"] = torch.randn(1000, generator=g, dtype=torch.float64)
out["draws normal32"] = torch.randn(1000, generator=g)
out["same render"] = torch.from_numpy(words.sample(2, seed=1, size=32).images)
x = torch.randn(2, 2, 3, 3, generator=g, dtype=torch.float64)
mixture = MixturePrior(torch.randn(3, 2, 3, 3, generator=g, dtype=torch.float64), [.3, .5, .2], [1., 2, .5], ["cat", "dog", "bird"])
out["float64 ism"] = lt.METHODS["ism"](mixture, x, "cat", 500).grad
toy = lt.load_prior("toy"); z = torch.linspace(-9, 9, 2*16*16*16).sin().reshape(2, *toy.latent_shape)
out["float32 network"] = toy.eps(z, 500, toy.embed(["a red mug", ""]))
out["float32 picture"] = toy.decode(z)
out["float32 cameras"] = LucidCameras(size=8).draw(600, generator=torch.Generator().manual_seed(5)).camera.viewmats
save_file({k: v.contiguous() for k, v in out.items()}, sys.argv[1])
"""

@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder, plain = tmp_path_factory.mktemp("sets"), {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", CODE, str(folder/"plain")], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"} | plain)
    exec(CODE.replace("sys.argv[1]", repr(str(folder/"native"))), {})
    return load_file(folder/"native"), load_file(folder/"plain")

def test_what_is_drawn_is_the_same(results):
    "Bit for bit, but for normal numbers in float32: their logarithm and cosine are other polynomials, some roundings of 6e-8 apart, of numbers up to 5"
    for k, v in results[0].items():
        if k.startswith("same"): assert torch.equal(v, results[1][k]), k
    assert (results[0]["draws normal32"] - results[1]["draws normal32"]).abs().max() < 20*2**-24*5

def test_what_is_computed_is_the_same(results):
    "float64 to 1e-12, float32 to 1e-4: 2^-53 and 2^-24 times the thousand roundings that a sum of a network's layer may have"
    for k, v in results[0].items():
        bound = dict(float64=1e-12, float32=1e-4).get(k.split()[0])
        if bound: assert (v - results[1][k]).abs().max() < bound*v.abs().max(), (k, (v - results[1][k]).abs().max())
