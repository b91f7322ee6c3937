"What needs a GPU: gsplat's CUDA kernels against the float64 reference, in value and gradient, a run of `create`, and a training step replayed from a CUDA graph; skipped where torch sees none"
import time, warnings
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
    from lucidteach.prior import train as T, training_run as R
    c = T.Config(steps=8, batch=8, channels=(64, 64), warmup=2, pca_images=40, bank=64, pool=4)
    losses = []
    for plain in (True, False):
        tr = T.Trainer(c)
        tr.use_bank(R.make_bank(c, tr.ae))
        if plain: tr.warm = -10**9
        losses.append([float(s.loss) for s in tr.steps()])
    assert np.allclose(*losses, rtol=2e-2), losses
    assert len(set(losses[1])) == 8

@pytest.fixture(scope="module")
def prior():
    from lucidteach.prior.latent import load_prior
    return load_prior("toy", device="cuda")

def short(**settings):
    from lucidteach.scene import text_to_3d as T
    return T.config("toy", steps=4, head_start=0., init="ball", points=500, **settings)

def test_a_run_times_itself(prior):
    "The shares of network, rendering and rest come from events in the GPU's queue; together they are not longer than the run"
    from lucidteach.scene import run as R
    began = time.perf_counter()
    *_, state = R.generate(prior, "a red mug", "ism", short())
    assert min(state.seconds.values()) > 0 and sum(state.seconds.values()) <= time.perf_counter() - began, state.seconds

def test_a_step_hardly_waits(prior):
    "PyTorch counts the waits that it knows of: the two of tests/test_waits.py, and gsplat's for the number of tiles that its splats touch"
    from lucidteach.scene import run as R
    steps = R.generate(prior, "a red mug", "ism", short())
    next(steps)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen: warnings.simplefilter("always"); next(steps)
    finally: torch.cuda.set_sync_debug_mode("default")
    where = [f"{w.filename}:{w.lineno}" for w in seen if "synchroniz" in str(w.message)]
    assert len(where) <= 4, where

def test_numbers_are_looked_at_after_the_network(prior):
    from lucidteach import METHODS
    calls = prior.calls
    with pytest.raises(ValueError, match="NaN"): METHODS["sds"](prior, torch.full((1, *prior.latent_shape), torch.nan, device="cuda"), "a red mug", 500)
    assert prior.calls == calls + 2

def test_a_run_goes_on_from_a_checkpoint(prior, tmp_path):
    "All that a checkpoint holds comes back on the GPU as it was; what follows is not compared, for atomic sums differ from run to run and Adam makes steps of a rounding error"
    from lucidteach.scene import run as R, text_to_3d as T
    c = short(densify=(0, 100, 50), view_prompts=False)
    steps = R.generate(prior, "a red mug", "ism", c)
    for _ in range(2): state = next(steps)
    (tmp_path/"s").write_bytes(R.pack(state))
    again = T.State(T.Splats(T.start(c), c, "cuda"))
    R.unpack(tmp_path/"s", again)
    before, after = state.scene.memory(), again.scene.memory()
    assert before.keys() == after.keys()
    for k, v in before.items(): assert v.device == after[k].device and torch.equal(v, after[k]), k
    *_, last = R.generate(prior, "a red mug", "ism", c, state=again)
    assert last.step == c.steps and not last.stopped
