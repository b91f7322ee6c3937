"Splatting: the fast kernels against the float64 reference on scenes nobody would draw by hand, and files nobody should trust"
import lucidteach     # before torch
import io, json, math, os, random, struct, subprocess, sys, zipfile
import numpy as np, pytest, torch
from PIL import Image
from hypothesis import HealthCheck, assume, given, settings, strategies as st
from lucidteach.splat.camera import Camera, LucidCameras
from lucidteach.splat.algebra import covariance, rotation_matrix
from lucidteach.splat.gaussians import Gaussians, knn_dist2
from lucidteach.splat.files import from_ply, to_ply
from lucidteach.splat.reference import ALPHA_MAX, ALPHA_MIN, T_MIN, conic, project
from lucidteach.splat.rasterize import rasterization, render
from lucidteach.splat.algebra import covariance, rotation_matrix
from lucidteach.splat.gaussians import Gaussians, knn_dist2
from lucidteach.splat.files import from_ply, to_ply
from lucidteach.splat.reference import ALPHA_MAX, ALPHA_MIN, T_MIN, conic, project
from lucidteach.splat.rasterize import rasterization, render

torch.set_num_threads(1)
KINDS = ('plain', 'plain', 'plain', 'zero scale', 'behind', 'off screen', 'invisible', 'opaque', 'huge', 'needle', 'near')
quiet = dict(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)

def scene(seed, kinds):
    "One Gaussian per kind, before a camera at z=-3 that looks along +z"
    r, n = np.random.default_rng(seed), len(kinds)
    means, scales, opacities = r.uniform(-.8, .8, (n, 3)), r.uniform(.05, .3, (n, 3)), r.uniform(.1, .95, n)
    for i, k in enumerate(kinds):
        if k == 'zero scale': scales[i] = 0
        if k == 'behind': means[i, 2] = -4
        if k == 'off screen': means[i, 0] = 9
        if k == 'invisible': opacities[i] = r.choice([0, 1/300])
        if k == 'opaque': opacities[i] = 1
        if k == 'huge': scales[i] = 3
        if k == 'needle': scales[i] = 1, .002, .002
        if k == 'near': means[i, 2] = -2.9 + .02*r.random()
    f = lambda a: torch.tensor(a, dtype=torch.float32)
    return [f(means), f(r.normal(size=(n, 4))), f(scales), f(opacities), f(r.normal(0, .4, (n, 16, 3)))]

def cameras(width, height, n=1):
    V = torch.eye(4).repeat(n, 1, 1); V[:, 2, 3] = 3; V[:, 0, 3] = torch.arange(n)*.2
    K = torch.tensor([[1.2*max(width, height), 0, width/2 + .3], [0, 1.1*max(width, height), height/2 - .2], [0, 0, 1.]]).repeat(n, 1, 1)
    return V, K

def doubtful(p, V, K, width, height, antialiased):
    "Pixels where float32 may fall on the other side of a threshold than float64: [C, H, W]"
    means2d, S, z, rho = project(p[0], covariance(p[1], p[2]), V, K, width, height)
    ys, xs = torch.meshgrid(torch.arange(height) + .5, torch.arange(width) + .5, indexing='ij')
    out = []
    for c in range(len(V)):
        k = z[c].argsort(); k = k[z[c][k] > .01]
        d = torch.stack([xs, ys], -1)[:, :, None] - means2d[c, k]
        A, B, C = conic(S[c, k]).unbind(-1)
        raw = p[3][k]*(rho[c, k] if antialiased else 1)*torch.exp(-(.5*(A*d[..., 0]**2 + C*d[..., 1]**2) + B*d[..., 0]*d[..., 1]))
        a = torch.where(raw >= ALPHA_MIN, raw.clamp_max(ALPHA_MAX), 0)
        T = torch.cumprod(1 - a, -1)
        out.append((((raw/ALPHA_MIN - 1).abs() < 2e-3) | ((raw - ALPHA_MAX).abs() < 1e-4) | ((T/T_MIN - 1).abs() < .02)).any(-1))
    return torch.stack(out)

def both(p, V, K, width, height, **kw):
    "(image, alpha, gradients) of the numba kernels and of the float64 reference, with random image gradients at undoubtful pixels"
    sure = ~doubtful([t.double() for t in p], V.double(), K.double(), width, height, kw.get('rasterize_mode') == 'antialiased')[..., None]
    for backend, dtype in (('numba', torch.float32), ('torch', torch.float64)):
        leaves = [t.detach().clone().to(dtype).requires_grad_() for t in (*p, V)]
        bg = torch.full((len(V), 3), .4, dtype=dtype, requires_grad=True)
        image, alpha, meta = rasterization(*leaves[:5], leaves[5], K.to(dtype), width, height, sh_degree=3, backgrounds=bg, backend=backend, **kw)
        g = torch.randn(image.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)*sure
        h = torch.randn(alpha.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)*sure
        ((image*g).sum() + (alpha*h).sum()).backward()
        yield image.detach().double()*sure, alpha.detach().double()*sure, [t.grad.double() for t in (*leaves, bg)]

def check_agreement(p, V, K, width, height, **kw):
    z = p[0][:, 2].sort().values
    assume(len(z) < 2 or z.diff().min() > 1e-5)
    (image, alpha, grads), (image0, alpha0, grads0) = both(p, V, K, width, height, **kw)
    # The kernels' e^x is good to about 2e-6 (33_rasterize) and the weights of a pixel sum to at most 1: 1e-5 of the largest colour leaves room for the roundings of float32, 6e-8 each.
    # Gradients are sums of terms with the same error, some divided by 1 - alpha; each instruction set that was tried stays within a third of the bound below.
    assert (image - image0).abs().max() < 1e-5*max(1, image0.abs().max()), (image - image0).abs().max()
    assert (alpha - alpha0).abs().max() < 1e-5
    for name, a, b in zip(('means', 'quats', 'scales', 'opacities', 'sh', 'viewmats', 'backgrounds'), grads, grads0):
        assert a.isfinite().all(), name
        if b.numel(): assert (a - b).abs().max() <= 1e-4*b.abs().max() + 1e-6, (name, (a - b).abs().max(), b.abs().max())

@settings(max_examples=100, **quiet)
@given(seed=st.integers(0, 10**6), kinds=st.lists(st.sampled_from(KINDS), max_size=9), width=st.integers(1, 36), height=st.integers(1, 36), cams=st.integers(1, 2),
       packed=st.booleans(), mode=st.sampled_from(['RGB', 'RGB+D']), rasterize_mode=st.sampled_from(['classic', 'antialiased']))
def test_numba_is_the_reference(seed, kinds, width, height, cams, packed, mode, rasterize_mode):
    check_agreement(scene(seed, kinds), *cameras(width, height, cams), width, height, packed=packed, render_mode=mode, rasterize_mode=rasterize_mode)

@pytest.mark.parametrize('kinds', [[k] for k in dict.fromkeys(KINDS)] + [[]], ids=lambda k: k[0] if k else 'none')
@pytest.mark.parametrize('size', [(1, 1), (17, 33), (32, 16)], ids=str)
def test_degenerate_scenes(kinds, size): check_agreement(scene(3, kinds), *cameras(*size), *size)

def test_many_behind_each_other():
    "Opaque stacks: the early stop, and the transmittance threshold"
    p = scene(0, ['opaque']*40 + ['plain']*200)
    p[0][:, 2] = torch.linspace(-.8, .8, 240)[torch.randperm(240, generator=torch.Generator().manual_seed(0))]      # no two at one depth
    check_agreement(p, *cameras(48, 40), 48, 40)

def test_batches_and_per_camera_colors():
    "Leading batch dimensions and [C, N, D] colours equal separate calls"
    p, (V, K) = [torch.stack([a, b]) for a, b in zip(scene(1, ['plain']*6), scene(2, ['plain']*6))], cameras(20, 12, 3)
    colors = torch.rand(2, 3, 6, 7)                                                    # seven channels: two passes of four
    image, alpha, meta = rasterization(*p[:4], colors, V.expand(2, 3, 4, 4), K.expand(2, 3, 3, 3), 20, 12)
    assert image.shape == (2, 3, 12, 20, 7) and meta['n_batches'] == 2 and meta['n_cameras'] == 3
    for b in range(2):
        for c in range(3):
            one, al, _ = rasterization(*(t[b] for t in p[:4]), colors[b, c], V[c:c+1], K[c:c+1], 20, 12)
            assert torch.equal(image[b, c], one[0]) and torch.equal(alpha[b, c], al[0])

def test_given_covariances_equal_quats_and_scales():
    p, (V, K) = scene(4, ['plain']*8), cameras(24, 24)
    S = covariance(p[1].double(), p[2].double()).float().requires_grad_()
    a, _, _ = rasterization(*p[:4], p[4][:, 0], V, K, 24, 24)
    b, _, _ = rasterization(p[0], None, None, p[3], p[4][:, 0], V, K, 24, 24, covars=S)
    assert (a - b).abs().max() < 1e-5                                                  # covariances in float32 here, in float64 there: 6e-8 of them, ten times that in a pixel
    g = torch.autograd.grad(b.square().sum(), S)[0]
    S64 = S.detach().double().requires_grad_()
    c, _, _ = rasterization(p[0].double(), None, None, p[3].double(), p[4][:, 0].double(), V.double(), K.double(), 24, 24, covars=S64)
    h = torch.autograd.grad(c.square().sum(), S64)[0]
    sym = lambda m: (m + m.mT)/2
    assert (sym(g) - sym(h)).abs().max() < 1e-4*h.abs().max()                          # 2e-6 of the kernels' e^x and float32, as in check_agreement

def test_absgrad_by_finite_pixels():
    "|d/du| summed over pixels = the sum over pixels of each pixel's own gradient, taken one at a time"
    p, (V, K) = scene(5, ['plain']*4), cameras(9, 7)
    p[0].requires_grad_()
    image, _, meta = rasterization(*p[:4], p[4][:, 0].abs(), V, K, 9, 7, packed=False, absgrad=True)
    total = sum(torch.autograd.grad(image[0, y, x].sum(), meta['means2d'], retain_graph=True)[0].abs() for y in range(7) for x in range(9))
    torch.autograd.grad(image.sum(), meta['means2d'])
    assert (meta['means2d'].absgrad - total).abs().max() < 1e-4*total.max()            # the same numbers of float32 added in another order: 63 pixels, 63 roundings of 6e-8

@pytest.mark.parametrize('packed', [True, False])
@pytest.mark.parametrize('leaf, sh_degree', [(0, None), (0, 3), (4, 3)])
def test_radii_changed_in_place_are_an_error(packed, leaf, sh_degree):
    "As a change of means2d or conics is; no gradient, of the centres or of the colours, is quietly 0"
    p, (V, K) = scene(5, ['plain']*4), cameras(24, 20)
    p[leaf].requires_grad_()
    image, _, meta = rasterization(*p[:4], p[4][:, 0] if sh_degree is None else p[4], V, K, 24, 20, sh_degree=sh_degree, packed=packed)
    meta['radii'].zero_()
    with pytest.raises(RuntimeError, match='inplace operation'): image.sum().backward()

def test_finite_differences():
    p, (V, K) = [t.double() for t in scene(6, ['plain']*5)], cameras(16, 16)
    G = torch.randn(1, 16, 16, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)*~doubtful(p, V.double(), K.double(), 16, 16, False)[..., None]
    f32 = [t.float().requires_grad_() for t in p]
    (rasterization(*f32, V, K, 16, 16, sh_degree=3)[0]*G.float()).sum().backward()
    loss = lambda q: (rasterization(*q, V.double(), K.double(), 16, 16, sh_degree=3)[0]*G).sum()
    for k in range(5):
        for i in range(0, p[k].numel(), max(1, p[k].numel()//5)):
            e = torch.zeros_like(p[k]).flatten(); e[i] = 1e-6; e = e.view_as(p[k])
            fd = (loss([*p[:k], p[k] + e, *p[k+1:]]) - loss([*p[:k], p[k] - e, *p[k+1:]]))/2e-6
            assert abs(fd - f32[k].grad.flatten()[i]) < 1e-3*f32[k].grad.abs().max() + 1e-5, (k, i)     # float32 and its e^x, 1e-4; what a pixel at a threshold adds is left out by `doubtful`

def test_bitwise_repeats():
    p, (V, K) = scene(7, ['plain']*300), cameras(64, 50, 2)
    def run():
        q = [t.clone().requires_grad_() for t in p]
        image, alpha, _ = rasterization(*q, V, K, 64, 50, sh_degree=3)
        (image.square().sum() + alpha.sum()).backward()
        return [image.detach(), alpha.detach(), *(t.grad for t in q)]
    first = run()
    for _ in range(3): assert all(torch.equal(a, b) for a, b in zip(first, run()))

@pytest.mark.parametrize('name', ['means', 'quats', 'scales', 'opacities', 'colors', 'viewmats', 'Ks'])
def test_nan_is_named(name):
    V, K = cameras(8, 8)
    args = dict(zip(('means', 'quats', 'scales', 'opacities', 'colors', 'viewmats', 'Ks'), (*scene(8, ['plain']*5), V, K)))
    args[name] = args[name].clone(); args[name].view(-1)[-1] = float('nan')
    with pytest.raises(ValueError, match=f'{name} holds nan.*row {len(args[name]) - 1} of'): rasterization(**args, width=8, height=8, sh_degree=3)

# ---- what the caller may do

def small(**kw):
    p, (V, K) = scene(5, ['plain']*6), cameras(24, 20)
    return dict(zip(('means', 'quats', 'scales', 'opacities', 'colors', 'viewmats', 'Ks'), (*p[:4], p[4][:, 0].abs(), V, K)), width=24, height=20) | kw

@pytest.mark.parametrize('change', [lambda x: x.mul_(3), lambda x: x.clamp_(max=.1), lambda x: x.data.zero_(), lambda x: x.detach().numpy().fill(7)], ids=['mul', 'clamp', 'data', 'numpy'])
def test_a_render_may_be_changed_in_place(change):
    "The gradient is that of torch's own blending, of which autograd keeps everything"
    def grads(backend, dtype):
        d = {k: v.to(dtype) if torch.is_tensor(v) else v for k, v in small().items()}
        leaves = [d[k].requires_grad_() for k in ('means', 'opacities')]
        image = rasterization(**d, backend=backend)[0]
        loss = (image*torch.linspace(0, 1, image.numel(), dtype=dtype).view_as(image)).sum()
        if backend == 'numba': change(image.detach())
        return torch.autograd.grad(loss, leaves)
    for a, b in zip(grads('numba', torch.float32), grads('torch', torch.float64)): assert (a - b).abs().max() < 1e-4*b.abs().max()      # as in check_agreement

def test_blending_over_a_background_in_place():
    "The line of gsplat-style code: colors += background (1 - alphas)"
    grads = []
    for inside in (True, False):
        d = small(); d['opacities'].requires_grad_(); d['means'].requires_grad_()
        image, alpha, _ = rasterization(**d, backgrounds=torch.full((1, 3), .7) if inside else None)
        if not inside: image += .7*(1 - alpha)
        image.square().sum().backward(); grads.append((d['opacities'].grad, d['means'].grad))
    for a, b in zip(*grads): assert (a - b).abs().max() < 1e-4*b.abs().max()           # float32 in another order: 480 pixels, 480 roundings of 6e-8, at most 3e-5

def test_second_derivatives_are_refused():
    d = small(); d['opacities'] = (z := torch.full((6,), .3, requires_grad=True)).sigmoid()
    g, = torch.autograd.grad(rasterization(**d)[0].square().sum(), z, create_graph=True)
    with pytest.raises(RuntimeError, match="backend='torch'"): torch.autograd.grad(g.square().sum(), z)

@pytest.mark.parametrize('mode', ['classic', 'antialiased'])
def test_intrinsics_by_finite_differences(mode):
    "fx, fy, cx, cy, with one Gaussian so far out that its slope is clamped"
    d = small(rasterize_mode=mode, render_mode='RGB+D'); d['means'][0] = torch.tensor([2.6, 1.9, -.8]); d['scales'][0] = 1.2
    d64 = {k: v.double() if torch.is_tensor(v) else v for k, v in d.items()}
    weight = torch.randn(1, 20, 24, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight = weight*~doubtful([d64[k] for k in ('means', 'quats', 'scales', 'opacities')], d64['viewmats'], d64['Ks'], 24, 20, mode == 'antialiased')[..., None]
    K = d['Ks'].requires_grad_(); (rasterization(**d)[0]*weight.float()).sum().backward()
    loss = lambda K: (rasterization(**d64 | dict(Ks=K))[0]*weight).sum()
    for i, j in ((0, 0), (0, 2), (1, 1), (1, 2)):
        e = torch.zeros_like(d64['Ks']); e[0, i, j] = 1e-6
        assert abs((loss(d64['Ks'] + e) - loss(d64['Ks'] - e))/2e-6 - K.grad[0, i, j]) < 1e-3*K.grad.abs().max(), (i, j)     # as in test_finite_differences

@pytest.mark.parametrize('backend, dtype', [('numba', torch.float32), ('torch', torch.float64)])
def test_gradients_beside_the_camera(backend, dtype):
    "A Gaussian in the plane of the camera, or in its eye, changes no gradient"
    def grads(places):
        d = {k: v.to(dtype) if torch.is_tensor(v) else v for k, v in small(backend=backend).items()}
        for i, at in enumerate(places): d['means'][i] = torch.tensor(at, dtype=dtype); d['opacities'][i] = d['opacities'][i] if places[i][2] == -3 else 0
        leaves = [d[k].requires_grad_() for k in ('means', 'quats', 'scales', 'colors', 'viewmats', 'Ks')]
        return torch.autograd.grad(rasterization(**d, rasterize_mode='antialiased')[0].square().sum(), leaves)
    beside, away = grads([(0., 0., -3.), (1., .5, -3.)]), grads([(0., 0., -9.), (1., .5, -9.)])
    for a, b in zip(beside, away): assert torch.equal(a, b)

def test_view_matrices_that_are_no_rotations():
    "2R | 2t sees the same colours from the same place, as gsplat's torch.inverse says; one without an inverse is refused"
    p, (V, K) = scene(5, ['plain']*6), cameras(24, 20)
    half = V.clone(); half[:, :3] *= 2
    for dtype in (torch.float32, torch.float64):
        draw = lambda V: rasterization(*(t.to(dtype) for t in (*p, V, K)), 24, 20, sh_degree=3)[0]
        assert (draw(V) - draw(half)).abs().max() < 1e-5                              # a factor of 2 is exact; the inverse is not, a few roundings of 6e-8 in the directions
        with pytest.raises(ValueError, match='viewmats, row .0.*no inverse'): draw(V*0)

@pytest.mark.parametrize('backend', ['numba', 'torch'])
def test_harmonics_of_degree_4_are_gsplats_alone(backend):
    p, (V, K) = scene(5, ['plain']*6), cameras(24, 20)
    with pytest.raises(NotImplementedError, match='degrees 0 to 3'): rasterization(*p[:4], torch.zeros(6, 25, 3), V, K, 24, 20, sh_degree=4, backend=backend)
    for bad in (5, -1, 2.5):
        with pytest.raises(ValueError, match='degree 0 to 3'): rasterization(*p[:4], torch.zeros(6, 36, 3), V, K, 24, 20, sh_degree=bad, backend=backend)

@pytest.mark.parametrize('wrong, says', [(dict(viewmats=torch.eye(4)), r'viewmats has shape \[4, 4\].*\[1, ...\]'), (dict(Ks=torch.eye(3)), 'Ks has shape'), (dict(quats=None), 'quats is None'),
    (dict(scales=None), 'scales is None'), (dict(colors=np.zeros((6, 3))), 'colors is of type ndarray'), (dict(means=None), 'means is None'), (dict(opacities=torch.ones(())), 'opacities has shape'),
    (dict(means=torch.zeros(6, 3).bfloat16()), 'means is bfloat16'), (dict(viewmats=torch.zeros(0, 4, 4), Ks=torch.zeros(0, 3, 3)), 'no camera'), (dict(width=40.), 'whole numbers'),
    (dict(eps2d=float('nan')), 'eps2d=nan'), (dict(eps2d=-1.), 'eps2d=-1'), (dict(radius_clip=float('nan')), 'radius_clip=nan'), (dict(far_plane=float('nan')), 'far_plane=nan'),
    (dict(Ks=torch.tensor([[[0., 0, 12], [0, 24, 10], [0, 0, 1]]])), r'Ks, row \[0\]: a focal length'), (dict(Ks=torch.tensor([[[24., 0, 12], [0, -24, 10], [0, 0, 1]]])), 'focal length')], ids=str)
def test_bad_input_is_a_valueerror(wrong, says):
    with pytest.raises(ValueError, match=says): rasterization(**small(**wrong))

def test_a_forked_process_is_told():
    "GNU OpenMP would end it without a word"
    if sys.platform != 'linux': pytest.skip('fork')
    code = """import lucidteach, os; from lucidteach import Camera, Gaussians; import numba
g, c = Gaussians.ball(9), Camera.orbit(0, 0, 2, size=8, fov_deg=40); g.render(c)
if numba.threading_layer() != 'omp': print('spawn'); raise SystemExit
if (pid := os.fork()) == 0:
    try: g.render(c)
    except RuntimeError as e: print(e, flush=True)
    os._exit(0)
print(os.waitpid(pid, 0)[1])"""
    out = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True).stdout
    assert 'spawn' in out and out.split()[-1] in ('0', 'spawn'), out

# ---- files

def ply(degree=3, n=6, **kw): return to_ply(Gaussians.primitive('torus', n, sh_degree=degree), **kw)

def slow_reader(data):
    "A PLY reader in plain struct, written from the format's description: {column: values}"
    head, body = data.split(b'end_header\n', 1)
    names = [l.split()[2].decode() for l in head.split(b'\n') if l.startswith(b'property')]
    n = int(head.split(b'element vertex ')[1].split()[0])
    rows = [struct.unpack_from(f'<{len(names)}f', body, 4*len(names)*i) for i in range(n)]
    return {c: [r[k] for r in rows] for k, c in enumerate(names)}

@pytest.mark.parametrize('normals', [True, False])
@pytest.mark.parametrize('degree', [0, 1, 2, 3])
def test_ply_by_a_slow_reader(degree, normals):
    g = Gaussians.primitive('torus', 6, sh_degree=degree); g.sh.normal_(generator=torch.Generator().manual_seed(0))
    cols, K = slow_reader(to_ply(g, normals)), (degree + 1)**2
    assert cols['x'] == g.means[:, 0].tolist() and cols['opacity'] == g.logits.tolist() and cols['rot_3'] == g.quats[:, 3].tolist() and ('nx' in cols) == normals
    for channel in range(3):
        for k in range(1, K): assert cols[f'f_rest_{channel*(K - 1) + k - 1}'] == g.sh[:, k, channel].tolist()

@settings(max_examples=300, **quiet)
@given(data=st.data())
def test_broken_ply_never_crashes(data):
    "Cut, flipped or overwritten bytes: a scene or a ValueError, nothing else"
    b = bytearray(ply(data.draw(st.sampled_from([0, 3])), normals=data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(b) - 1))
        match data.draw(st.sampled_from(['cut', 'byte', 'insert', 'digit'])):
            case 'cut': b = b[:at + 1]
            case 'byte': b[at] = data.draw(st.integers(0, 255))
            case 'insert': b[at:at] = data.draw(st.binary(max_size=8))
            case 'digit': b[min(at, 60)] = ord('9')
    try: assert isinstance(from_ply(bytes(b)), Gaussians)
    except ValueError as e: assert str(e)

@settings(max_examples=50, **quiet)
@given(st.binary(max_size=300))
def test_noise_is_no_ply(noise):
    for head in (b'', b'ply\n', b'ply\nformat binary_little_endian 1.0\nelement vertex 3\n'):
        with pytest.raises(ValueError): from_ply(head + noise)

def test_unwritable_place_keeps_the_old_file(tmp_path, monkeypatch):
    g = Gaussians.ball(5); path = g.save(tmp_path/'a.ply'); old = path.read_bytes()
    monkeypatch.setattr(os, 'replace', lambda *a: (_ for _ in ()).throw(OSError('disk full')))
    with pytest.raises(OSError): Gaussians.ball(9).save(path)
    assert path.read_bytes() == old and list(tmp_path.iterdir()) == [path]

@pytest.mark.parametrize('name', ['a.splat', 'a.ksplat', 'a.spz', 'a.sog', 'a.compressed.ply'])
def test_cut_foreign_files(tmp_path, name):
    pytest.importorskip('gaussforge')
    data = Gaussians.primitive('torus', 40).save(tmp_path/name).read_bytes()
    for n in (0, 1, 20):
        (tmp_path/name).write_bytes(data[:n])
        with pytest.raises(ValueError, match=name): Gaussians.load(tmp_path/name)

@pytest.mark.parametrize('kind', ['splat', 'ksplat', 'spz', 'sog', 'compressed.ply'])
def test_rotations_of_any_length_in_every_format(tmp_path, kind):
    "Quaternions of length 1.3 and .2 come back as the rotations they are"
    pytest.importorskip('gaussforge')
    g = Gaussians.primitive('torus', 60, scale=.1, seed=1); q = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    g.quats = q*(torch.arange(60) % 2*1.1 + .2)[:, None]/q.norm(dim=1, keepdim=True); g.log_scales = torch.log(.1*torch.tensor([1., 2, 3])).repeat(60, 1)
    b = Gaussians.load(g.save(tmp_path/f'a.{kind}')); i = torch.cdist(g.means, b.means).argmin(1)
    turn = (rotation_matrix(g.quats).mT @ rotation_matrix(b.quats[i])).diagonal(dim1=1, dim2=2).sum(1)
    assert torch.rad2deg(((turn - 1)/2).clamp(-1, 1).acos()).max() < 3

def test_sog_rotations_by_its_own_format(tmp_path):
    "Decoded from the picture by the format's description: the largest of four entries is left out"
    pytest.importorskip('gaussforge')
    g = Gaussians.from_points(torch.zeros(4, 3), scale=.1); g.quats = 3*torch.tensor([[.6, .5, -.4, .48], [.1, .9, .3, -.3], [.2, -.1, .8, .5], [.3, .1, .2, .92]])
    z = zipfile.ZipFile(g.save(tmp_path/'a.sog')); quats = json.loads(z.read('meta.json'))['quats']['files'][0]
    rows, found = np.asarray(Image.open(io.BytesIO(z.read(quats))).convert('RGBA')).reshape(-1, 4)[:4].astype(float), []
    for *abc, kind in rows:
        three = list((np.array(abc)/255 - .5)*math.sqrt(2)); three.insert(int(kind) - 252, math.sqrt(max(0, 1 - sum(v*v for v in three)))); found.append(three)
    agree = (torch.nn.functional.normalize(g.quats, dim=1) @ torch.tensor(found).float().T).abs().amax(1)
    assert (agree > .999).all(), agree

@pytest.mark.parametrize('field, value, says', [('means', math.nan, "row 1, column 'x' holds nan"), ('logits', math.nan, "row 1, column 'opacity' holds nan"), ('log_scales', -math.inf, "row 1, column 'scale_0' holds -inf"), ('quats', 0., 'row 1 has a zero quaternion')])
def test_save_refuses_what_load_refuses(tmp_path, field, value, says):
    path = Gaussians.ball(3).save(tmp_path/'a.ply'); old, g = path.read_bytes(), Gaussians.ball(3)
    getattr(g, field)[1] = value
    with pytest.raises(ValueError, match=says): g.save(path)
    assert path.read_bytes() == old and list(tmp_path.iterdir()) == [path]

def test_spz_has_an_edge(tmp_path):
    pytest.importorskip('gaussforge')
    g = Gaussians.from_points([[2047., -2047, 0], [0, 0, 0]], scale=.1)
    assert (Gaussians.load(g.save(tmp_path/'a.spz')).means - g.means).abs().max() < 1e-3
    g.means[1, 2] = -2100.
    with pytest.raises(ValueError, match=r'Gaussian 1 lies at .*-2100.*save as .ply'): g.save(tmp_path/'b.spz')
    assert not (tmp_path/'b.spz').exists()

def test_the_umask_is_kept(tmp_path):
    old = os.umask(0o077)
    try: assert Gaussians.ball(3).save(tmp_path/'a.ply').stat().st_mode & 0o777 == 0o600
    finally: os.umask(old)
    assert os.umask(old) == old

@pytest.mark.parametrize('kw, says', [(dict(scale=0.), 'a positive size'), (dict(scale=-1.), 'a positive size'), (dict(scale=math.nan), 'a positive size'), (dict(k=0), 'k must be a whole number, 1 or more, got 0')], ids=str)
def test_points_want_a_size(kw, says):
    with pytest.raises(ValueError, match=says): Gaussians.from_points(torch.rand(5, 3), **kw)

LOAD = """import sys, resource; resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
from lucidteach.splat.gaussians import Gaussians
for p in sys.argv[1:]:
    try: Gaussians.load(p); print('@', p, 'scene', flush=True)
    except ValueError: print('@', p, 'ValueError', flush=True)"""

@pytest.mark.parametrize('kind', ['ksplat', 'sog', 'compressed.ply', 'spz', 'splat'])
def test_corrupt_foreign_files_never_end_the_process(tmp_path, kind):
    "The headers' numbers are the dangerous ones: each byte of theirs, a few anywhere, and the counts that were found to crash gaussforge"
    pytest.importorskip('gaussforge')
    g = Gaussians.primitive('torus', 500, sh_degree=3); g.sh.normal_(generator=torch.Generator().manual_seed(0))
    data, r, files = g.save(tmp_path/f'a.{kind}').read_bytes(), random.Random(0), []
    places = [*range(48), *(range(4096, 4144) if kind == 'ksplat' else ()), *(r.randrange(len(data)) for _ in range(100))]
    broken = [data[:k] + bytes([data[k] ^ r.randrange(1, 256)]) + data[k + 1:] for k in places]
    if kind == 'ksplat': broken += [data[:k] + struct.pack('<I', v) + data[k + 4:] for k in (4, 16, 20, 4096, 4100, 4104, 4108, 4128, 4132, 4136) for v in (501, 2**31 - 1, 2**32 - 1)]
    if kind == 'sog':
        z = zipfile.ZipFile(io.BytesIO(data)); parts = {k: z.read(k) for k in z.namelist()}; meta = json.loads(parts['meta.json'])
        for change in (dict(count=10**7), dict(count=-1), dict(count='many'), dict(scales=meta['scales'] | dict(codebook=[0.])), dict(shN=meta['shN'] | dict(count=10**6)), dict(quats=dict(files=[])), dict(means=None)):
            with zipfile.ZipFile(out := io.BytesIO(), 'w') as z:
                for k, v in (parts | {'meta.json': json.dumps(meta | change)}).items(): z.writestr(k, v)
            broken.append(out.getvalue())
    for i, b in enumerate(broken): files.append(tmp_path/f'{i}.{kind}'); files[-1].write_bytes(b)
    out = subprocess.run([sys.executable, '-c', LOAD, *files], capture_output=True, text=True)
    assert out.returncode == 0 and out.stdout.count('@ ') == len(files), (out.returncode, out.stdout[-200:], out.stderr[-400:])

# ---- cameras

@settings(max_examples=50, **quiet)
@given(az=st.floats(-400, 400), el=st.floats(-90, 90), r=st.floats(.1, 50), fov=st.floats(1, 170))
def test_orbit_sees_its_target_in_the_middle(az, el, r, fov):
    c = Camera.orbit(az, el, r, target=(.3, -.2, .1), size=(30, 20), fov_deg=fov)
    p = c.viewmats[0].double() @ torch.tensor([.3, -.2, .1, 1], dtype=torch.float64)
    # A view matrix of float32, whose entries have some ten roundings of 6e-8: 1e-6 of the distance at most, and 1e-6 of a rotation
    assert abs(p[0]) < 1e-5*r + 1e-6 and abs(p[1]) < 1e-5*r + 1e-6 and abs(p[2] - r) < 1e-5*r + 1e-6
    R = c.viewmats[0, :3, :3]
    assert (R @ R.T - torch.eye(3)).abs().max() < 1e-5 and abs(torch.det(R) - 1) < 1e-5

def test_random_cameras_repeat():
    a, b = (LucidCameras(size=8).draw(600, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(a.camera.viewmats, b.camera.viewmats) and torch.equal(a.camera.Ks, b.camera.Ks)

def test_random_cameras_are_drawn_as_they_say():
    "Kolmogorov-Smirnov: how far the distribution of 40000 draws lies from the intended one; a right sampler gets beyond 2.7/sqrt(n) once in a million"
    n, c = 40_000, LucidCameras(gamma=1.5, size=8)
    v, p = c.draw(0, n, torch.Generator().manual_seed(0)), torch.arange(1, n + 1, dtype=torch.float64)/n
    normal = lambda s: lambda x: (1 + torch.erf(x/s/2**.5))/2
    def crowded(lo, hi, gamma): return lambda x: .5 + .5*(u := (2*x - lo - hi)/(hi - lo)).sign()*u.abs()**(1/gamma)
    R, center, back = v.camera.viewmats[:, :3, :3].double(), v.camera.centers.double(), -v.camera.viewmats[:, 2, :3].double()
    az, el = torch.deg2rad(v.azimuth.double()), torch.deg2rad(v.elevation.double())
    shake = center - v.radius.double()[:, None]*torch.stack([el.cos()*az.sin(), el.cos()*az.cos(), el.sin()], 1)
    level = torch.nn.functional.normalize(torch.linalg.cross(torch.tensor([0., 0, 1]).double().expand(n, 3), back), dim=1)
    roll = torch.atan2(-(R[:, 1]*level).sum(1), (R[:, 0]*level).sum(1))                 # of the image's up against the vertical
    drawn = dict(azimuth=(v.azimuth, crowded(-180, 180, 1.5)), polar=(90 - v.elevation, crowded(45, 105, 1.5)), radius=(v.radius, crowded(5.2, 5.5, 1)), up=(roll, normal(.01)))
    for i in range(3): drawn[f'center {i}'] = shake[:, i], lambda x: ((x + .025)/.05).clamp(0, 1)
    for i in range(2): drawn[f'target {i}'] = v.camera.viewmats[:, i, 3], normal(.05)   # the origin stands beside the point looked at
    for name, (x, cdf) in drawn.items(): assert (cdf(x.double().sort().values) - p).abs().max() < 2.7/n**.5, name

def test_loops_over_cameras_and_scenes_end():
    cam, g = Camera.orbit([0., 30, 60], 10, 2, size=8, fov_deg=40), Gaussians.ball(4)
    assert [c.viewmats[0].tolist() for c in cam] == cam.viewmats.tolist() and [x.means[0].tolist() for x in g] == g.means.tolist()
    for i in (1, np.int64(1), torch.tensor(1), -2): assert torch.equal(cam[i].viewmats, cam.viewmats[1:2])
    for i in (3, -4):
        with pytest.raises(IndexError, match='there are 3'): cam[i]
    views = LucidCameras(size=8).draw(0, n=3)
    assert [float(v.azimuth[0]) for v in views] == views.azimuth.tolist()

@pytest.mark.parametrize('M', [torch.zeros(4, 4), torch.diag(torch.tensor([-1., 1, 1, 1])), torch.diag(torch.tensor([1., 2, 1, 1]))], ids=['zero', 'mirrored', 'stretched'])
def test_a_camera_is_a_rotation(M):
    with pytest.raises(ValueError, match='singular, skewed or mirrored'): Camera.from_opengl(M, fov_deg=40)
    with pytest.raises(ValueError, match='want a rotation'): Camera(M[None], torch.eye(3)[None], 8, 8)

def test_a_scaled_pose_gives_the_same_picture():
    "Pixels of points by the inverse of the scaled matrix itself"
    c, g = Camera.orbit(30, 20, 3, size=24, fov_deg=40), Gaussians.ball(20)
    M = c.opengl()[0].double(); M[:3, :3] *= 2.5
    s = Camera.from_opengl(M, size=24, fov_deg=40)
    # Poses of float32, three units away: ten roundings of 2e-7; a pixel changes by its slope, below 1 a pixel, times the shift, 30 px of focal length times 2e-6
    assert (s.centers - c.centers).abs().max() < 1e-5 and (g.render(s).rgb - g.render(c).rgb).abs().max() < 1e-4
    x = torch.cat([g.means, torch.ones(20, 1)], 1).double() @ torch.linalg.inv(M @ torch.diag(torch.tensor([1., -1, -1, 1])).double()).T
    y = torch.cat([g.means, torch.ones(20, 1)], 1) @ s.viewmats[0].T
    assert (x[:, :2]/x[:, 2:3] - y[:, :2]/y[:, 2:3]).abs().max() < 1e-5

def test_neighbours_on_a_wall():
    "By all distances; and a wall x = const takes no longer than the same points on z = const"
    import time
    p = torch.rand(400, 3, generator=torch.Generator().manual_seed(0)); p[:, 0] = 3
    d = torch.cdist(p.double(), p.double()).square(); slow = d.sort(1).values[:, 1:4].mean(1)
    assert (knn_dist2(p) - slow).abs().max() < 1e-9                                    # float64: 1e-16 of distances below 1
    def seconds(axis): q = torch.rand(20_000, 3, generator=torch.Generator().manual_seed(1)); q[:, axis] = 3; q[0, axis] = 1e6; t = time.process_time(); knn_dist2(q); return time.process_time() - t
    assert seconds(0) < 5*seconds(2) + .1

@pytest.mark.parametrize('n', [2, 3, 5, 100])
def test_a_torus_has_as_many_as_asked(n): assert all(len(Gaussians.primitive('torus', n, seed=s)) == n for s in range(30))

@pytest.mark.parametrize("first, spins", [("torch", True), ("lucidteach", False)])
def test_threads_are_left_as_they_were(first, spins):
    "numba's first threads do not change torch's number, and who loads torch too early is told"
    code = f"""import {first}, torch, warnings; from lucidteach import Camera, Gaussians
torch.set_num_threads(3)
with warnings.catch_warnings(record=True) as said: warnings.simplefilter('always'); Gaussians.ball(9).render(Camera.orbit(0, 0, 2, size=8, fov_deg=40))
print(torch.get_num_threads(), any('Import lucidteach first' in str(w.message) for w in said))"""
    env = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert out.split()[-2:] == ["3", str(spins)], out

def test_cameras_under_autocast():
    with torch.autocast('cpu', torch.bfloat16): assert len(Camera.orbit(torch.arange(52.)*7, 20., 2.5, size=8, fov_deg=50)) == 52
