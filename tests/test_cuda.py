"What needs a GPU: gsplat's CUDA kernels against the float64 reference, in value and gradient, and a training step replayed from a CUDA graph; skipped where torch sees none"
import itertools, time
import numpy as np, pytest, torch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")

def scene(N=400, C=2, sh_degree=None, covars=False, seed=0):
    "Random Gaussians and cameras in float64"
    from lucidteach.splat.camera import Camera
    g = torch.Generator().manual_seed(seed)
    r = lambda *s: torch.rand(*s, generator=g, dtype=torch.float64)
    cam = Camera.orbit(torch.tensor([20., 140.])[:C], 15., 2.5, size=64, fov_deg=50)
    q, s = r(N, 4) - .5, .02 + .1*r(N, 3)
    colors = r(N, 3) if sh_degree is None else (r(N, (sh_degree + 1)**2, 3) - .5)*.6
    tensors = dict(means=r(N, 3)*1.4 - .7, opacities=.05 + .9*r(N), colors=colors) | dict(quats=q, scales=s)
    if covars:
        w = q/q.norm(dim=-1, keepdim=True)
        a, b, c, d = w.unbind(-1)
        R = torch.stack([1-2*(c*c+d*d), 2*(b*c-a*d), 2*(b*d+a*c), 2*(b*c+a*d), 1-2*(b*b+d*d), 2*(c*d-a*b), 2*(b*d-a*c), 2*(c*d+a*b), 1-2*(b*b+c*c)], -1).view(N, 3, 3)
        M = R*s[:, None]
        tensors |= dict(covars=M @ M.mT, quats=None, scales=None)
    return tensors, cam.viewmats.double(), cam.Ks.double(), 64, 64

def rendered(device, dtype, backend, tensors, viewmats, Ks, width, height, **kw):
    "Render, alpha and the gradient of every input under one random weighting"
    from lucidteach import rasterization
    inputs = {k: None if v is None else v.detach().clone().to(device, dtype).requires_grad_() for k, v in tensors.items()}
    bg = kw.pop("backgrounds", None)
    out, alpha, meta = rasterization(viewmats=viewmats.to(device, dtype), Ks=Ks.to(device, dtype), width=width, height=height, backend=backend,
                                     backgrounds=None if bg is None else bg.to(device, dtype), **inputs, **kw)
    g = torch.Generator().manual_seed(1)
    w, v = (torch.randn(t.shape, generator=g, dtype=torch.float64).to(device, dtype) for t in (out, alpha))
    ((out*w).sum() + (alpha*v).sum()).backward()
    return dict(render=out, alpha=alpha, **{f"d {k}": t.grad for k, t in inputs.items() if t is not None and t.grad is not None})

CASES = [dict(render_mode=m, rasterize_mode=r, packed=p) for m, r, p in itertools.product(("RGB", "D", "ED", "RGB+D", "RGB+ED"), ("classic", "antialiased"), (True, False))]
CASES += [dict(sh_degree=d) for d in (0, 1, 2, 3)] + [dict(covars=True), dict(backgrounds=torch.tensor([[.2, .5, .9], [1., 1., 1.]]))]

@pytest.mark.parametrize("case", CASES, ids=lambda c: " ".join(str(v) if k != "backgrounds" else k for k, v in c.items()))
def test_gsplat_is_the_reference(case):
    case = dict(case)
    parts = scene(sh_degree=case.get("sh_degree"), covars=case.pop("covars", False))
    ours, theirs = rendered("cpu", torch.float64, "torch", *parts, **case), rendered("cuda", torch.float32, "gsplat", *parts, **case)
    for k, want in ours.items():
        got = theirs[k].detach().double().cpu()
        if k == "d covars": want, got = want + want.mT, got + got.mT          # gsplat reads the upper triangle only
        error = ((got - want).norm()/want.norm().clamp_min(1e-12)).item()
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
