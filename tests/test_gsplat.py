"gsplat's own Python in every render mode, with slow plain torch in place of its CUDA kernels, against ours; with the kernels: test_cuda.py"
import itertools
from types import SimpleNamespace
import pytest, torch

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

MODES, BACKGROUNDS = ("RGB", "D", "ED", "RGB+D", "RGB+ED"), torch.tensor([[.2, .5, .9], [1., 1., 1.]])
CASES = [dict(render_mode=m, rasterize_mode=r, packed=p) for m, r, p in itertools.product(MODES, ("classic", "antialiased"), (True, False))]
CASES += [dict(render_mode=m, packed=p, backgrounds=BACKGROUNDS) for m, p in itertools.product(MODES, (True, False))]      # one for each camera
CASES += [dict(sh_degree=d) for d in (0, 1, 2, 3)] + [dict(covars=True)]

def differences(ours, theirs):
    "Relative error of each picture and gradient"
    out = {}
    for k, want in ours.items():
        want, got = want.detach().double().cpu(), theirs[k].detach().double().cpu()
        if k == "d covars": want, got = want + want.mT, got + got.mT          # gsplat reads the upper triangle only
        out[k] = ((got - want).norm()/want.norm().clamp_min(1e-12)).item()
    return out

def name(case): return " ".join(str(v) if k != "backgrounds" else k for k, v in case.items())

# what gsplat's kernels do, one step after the other

def projection(means, covars, quats, scales, viewmats, Ks, width, height, eps2d, near, far, clip, calc_compensations, camera_model, opacities):
    from gsplat.cuda._torch_impl import _fully_fused_projection, _quat_scale_to_covar_preci
    S = _quat_scale_to_covar_preci(quats, scales, True, False)[0] if covars is None else covars[..., [0, 1, 2, 1, 3, 4, 2, 4, 5]].unflatten(-1, (3, 3))
    return _fully_fused_projection(means, S, viewmats, Ks, width, height, eps2d, near, far, calc_compensations, camera_model)

def packed_projection(*args):
    radii, *rest = projection(*args[:12], *args[13:])                         # without sparse_grad
    camera, gaussian = (radii > 0).all(-1).nonzero(as_tuple=True)
    return torch.zeros_like(camera), camera, gaussian, *(t if t is None else t[camera, gaussian] for t in (radii, *rest))

def intersect_tile(means2d, radii, depths, image_ids, gaussian_ids, images, *_):
    "All that is seen, by image and depth; every tile gets the list of its image"
    radii, depths = radii.view(-1, 2), depths.flatten()
    if image_ids is None: image_ids = torch.arange(images).repeat_interleave(len(depths)//images)
    ids = sorted((radii > 0).all(-1).nonzero()[:, 0].tolist(), key=lambda i: (image_ids[i].item(), depths[i].item()))
    return (radii > 0).all(-1).int(), image_ids[ids], torch.tensor(ids)

def intersect_offset(isect_ids, images, tile_width, tile_height):
    return torch.searchsorted(isect_ids, torch.arange(images))[:, None, None].expand(images, tile_height, tile_width)

def rasterize(means2d, conics, colors, opacities, backgrounds, masks, width, height, tile_size, isect_offsets, flatten_ids, absgrad):
    "One splat after the other, front to back"
    m, Q, c, o = means2d.reshape(-1, 2), conics.reshape(-1, 3), colors.reshape(-1, colors.shape[-1]), opacities.flatten()
    y, x = torch.meshgrid(torch.arange(height, dtype=m.dtype) + .5, torch.arange(width, dtype=m.dtype) + .5, indexing="ij")
    first = isect_offsets.flatten(0, -3)[:, 0, 0].tolist() + [len(flatten_ids)]
    pictures, alphas = [], []
    for i, (begin, end) in enumerate(zip(first, first[1:])):
        T, out, open_ = torch.ones(height, width, dtype=m.dtype), torch.zeros(height, width, c.shape[-1], dtype=m.dtype), torch.ones(height, width, dtype=torch.bool)
        for n in flatten_ids[begin:end].tolist():
            dx, dy = x - m[n, 0], y - m[n, 1]
            alpha = (o[n]*torch.exp(-.5*(Q[n, 0]*dx**2 + Q[n, 2]*dy**2) - Q[n, 1]*dx*dy)).clamp_max(.999)
            alpha = torch.where(open_ & (alpha >= 1/255), alpha, 0)
            open_ = open_ & (T*(1 - alpha) > 1e-4)                            # what would end the pixel is not drawn either
            alpha = torch.where(open_, alpha, 0)
            out, T = out + (alpha*T)[..., None]*c[n], T*(1 - alpha)
        pictures.append(out if backgrounds is None else out + T[..., None]*backgrounds.reshape(-1, c.shape[-1])[i]); alphas.append(1 - T[..., None])
    return tuple(torch.stack(t).unflatten(0, isect_offsets.shape[:-2]) for t in (pictures, alphas))

@pytest.fixture
def gsplat_on_the_cpu(monkeypatch):
    "gsplat with the above for its CUDA kernels; its checks, shapes and modes stay its own"
    import gsplat.cuda._wrapper as W
    from gsplat.cuda._torch_impl import _spherical_harmonics
    kernel = lambda f: SimpleNamespace(apply=f)
    monkeypatch.setattr(W, "_FullyFusedProjection", kernel(projection))
    monkeypatch.setattr(W, "_FullyFusedProjectionPacked", kernel(packed_projection))
    monkeypatch.setattr(W, "_RasterizeToPixels", kernel(rasterize))
    monkeypatch.setattr(W, "_SphericalHarmonics", kernel(lambda degree, dirs, coeffs, masks: _spherical_harmonics(degree, torch.nn.functional.normalize(dirs, dim=-1), coeffs)))
    monkeypatch.setattr(W, "_make_lazy_cuda_func", lambda name: dict(intersect_tile=intersect_tile, intersect_offset=intersect_offset)[name])

@pytest.mark.parametrize("case", CASES, ids=name)
@pytest.mark.parametrize("backend, dtype, value, slope", [("torch", torch.float64, 1e-12, 1e-10), ("numba", torch.float32, 1e-5, 1e-4)], ids=["torch", "numba"])
def test_the_modes_are_gsplats(gsplat_on_the_cpu, monkeypatch, case, backend, dtype, value, slope):
    from lucidteach.splat import rasterize as R
    case = dict(case)
    parts = scene(N=150, sh_degree=case.get("sh_degree"), covars=case.pop("covars", False))
    ours = rendered("cpu", dtype, backend, *parts, **case)
    monkeypatch.setattr(R, "choose_backend", lambda means, backend: (backend, "a test"))       # CPU tensors would be refused
    theirs = rendered("cpu", torch.float64, "gsplat", *parts, **case)
    # float64 on both sides: 150 splats, 1e-16 for each of their roundings; numba in float32 with an e^x good to 2e-6, gradients as in test_splat.check_agreement
    for k, error in differences(ours, theirs).items(): assert error < (slope if k.startswith("d ") else value), (case, k, error)
