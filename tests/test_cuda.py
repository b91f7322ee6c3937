"What needs a GPU: gsplat's CUDA kernels against the float64 reference, in value and gradient, and a training step replayed from a CUDA graph; skipped where torch sees none"
import time
import numpy as np, pytest, torch
from test_gsplat import CASES, differences, name, rendered, scene

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")

@pytest.mark.parametrize("case", CASES, ids=name)
def test_gsplat_is_the_reference(case):
    case = dict(case)
    parts = scene(sh_degree=case.get("sh_degree"), covars=case.pop("covars", False))
    ours, theirs = rendered("cpu", torch.float64, "torch", *parts, **case), rendered("cuda", torch.float32, "gsplat", *parts, **case)
    for k, error in differences(ours, theirs).items():
        print(f"{k}: relative error {error:.1e}")
        assert error < (1e-3 if k.startswith("d ") else 1e-4), (case, k, error)

def test_auto_takes_gsplat():
    from lucidteach import rasterization
    t, V, K, w, h = scene()
    cuda = lambda x: x.cuda().float()
    meta = rasterization(**{k: cuda(v) for k, v in t.items()}, viewmats=cuda(V), Ks=cuda(K), width=w, height=h)[2]
    assert meta["backend"].startswith("gsplat")

def test_replayed_steps_are_steps(tmp_path):
    "Eight steps, the last five from a graph, against the same eight without"
    from lucidteach.prior import train as T
    c = T.Config(steps=8, batch=8, channels=(64, 64), warmup=2, pca_images=40, bank=64, pool=4)
    losses = []
    for plain in (True, False):
        tr = T.Trainer(c)
        tr.use_bank(T.make_bank(c, tr.ae))
        if plain: tr.warm = -10**9
        losses.append([float(s.loss) for s in tr.steps()])
    assert np.allclose(*losses, rtol=2e-2), losses
    assert len(set(losses[1])) == 8

def test_a_run_times_itself():
    "The shares of network, rendering and rest come from events in the GPU's queue; together they are not longer than the run"
    from lucidteach.create import text_to_3d as T
    from lucidteach.prior.latent import load_prior
    prior, began = load_prior("toy", device="cuda"), time.perf_counter()
    *_, state = T.generate(prior, "a red mug", "ism", T.config("toy", steps=3, head_start=0., init="ball", points=500))
    assert min(state.seconds.values()) > 0 and sum(state.seconds.values()) <= time.perf_counter() - began, state.seconds
