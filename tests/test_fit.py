"Fitting: a process killed in the middle and taken up again, densification against gsplat's on random scenes, folders that others write"
import lucidteach     # before torch
import json, math, os, signal, struct, subprocess, sys
import numpy as np, pytest, torch
from PIL import Image
from hypothesis import HealthCheck, given, settings, strategies as st
from lucidteach.prior import world
from lucidteach.scene.field import Field
from lucidteach.splat.camera import Camera
from lucidteach.splat.fit import PAPER, Posed, Recipe, evaluate, fit, fitted, load_fit, means_rate, picks, spiral, ssim
from lucidteach.splat.captures import load_colmap, load_transforms
from lucidteach.splat.gaussians import Gaussians
from lucidteach.splat.strategy import Density, clone, prune, split
from lucidteach.splat.mcmc import MCMC, relocation

torch.set_num_threads(1)
quiet = dict(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)

@pytest.fixture(scope='module')
def views(): return Posed.from_world(world.Thing('mug', 'red'), spiral(6), 32, 200)

RUN = '''
import sys, time, torch
from lucidteach.prior import world
from lucidteach.splat.fit import Posed, Recipe, fit, spiral
from lucidteach.splat.gaussians import Gaussians
from lucidteach.splat.strategy import MCMC
torch.set_num_threads(1)
views = Posed.from_world(world.Thing('mug', 'red'), spiral(6), 32, 200)
strategy = MCMC(cap_max=400, refine_start_iter=5, refine_every=5) if sys.argv[2] == 'mcmc' else 'auto'
for s in fit(views, Gaussians.ball(200, radius=.8, sh_degree=1), Recipe(steps=60, sh_every=20, batch=2), strategy, checkpoint=sys.argv[1], save_every=7):
    print('step', s.step, flush=True); time.sleep(.05)
'''

def start(file, kind, tmp_path):
    script = tmp_path/'run.py'; script.write_text(RUN)
    return subprocess.Popen([sys.executable, script, file, kind], stdout=subprocess.PIPE, text=True, env=os.environ | dict(OMP_NUM_THREADS='1', NUMBA_NUM_THREADS='1'))

def steps(p): return [int(l.split()[1]) for l in p.stdout if l.startswith('step ')]

def head(file):
    from safetensors import safe_open
    with safe_open(file, 'pt') as f: return f.metadata()

@pytest.mark.parametrize('kind', ['density', 'mcmc'])
def test_killed_and_resumed(tmp_path, kind):
    "SIGKILL after step 33, when the set has been edited: the second process ends with the numbers of one that was left in peace"
    a, b = tmp_path/'whole.safetensors', tmp_path/'killed.safetensors'
    p = start(a, kind, tmp_path); assert steps(p)[-1] == 60 and p.wait(60) == 0
    p = start(b, kind, tmp_path)
    for line in p.stdout:
        if line.strip() == 'step 33': p.send_signal(signal.SIGKILL); break
    assert p.wait(60) == -signal.SIGKILL and json.loads(head(b)['fit'])['step'] == 28
    p = start(b, kind, tmp_path); assert steps(p) == list(range(29, 61)) and p.wait(60) == 0
    x, y = (load_fit(f, Recipe(steps=60, sh_every=20, batch=2), head(f)['run']) for f in (a, b))
    assert len(x.params['means']) != 200 and x.step == y.step == 60 and x.loss == y.loss
    for k in x.params:
        assert torch.equal(x.params[k], y.params[k]), k
        for m, v in x.optimizers[k].state[x.params[k]].items(): assert torch.equal(v, y.optimizers[k].state[y.params[k]][m]), (k, m)

KILLER = '''
import lucidteach, json, os, random, signal, sys, time
from pathlib import Path
import torch
from safetensors import safe_open
from lucidteach.prior import world
from lucidteach.splat.fit import Posed, Recipe, fit, load_fit, spiral
from lucidteach.splat.gaussians import Gaussians
torch.set_num_threads(1)
views, start, recipe = Posed.from_world(world.Thing('mug', 'red'), spiral(6), 32, 200), Gaussians.ball(200, radius=.8, sh_degree=1), Recipe(steps=60, sh_every=20, batch=2)
def begun(file):
    r, w = os.pipe()
    if pid := os.fork(): os.close(w); return pid, os.fdopen(r)
    for s in fit(views, start, recipe, checkpoint=file, save_every=7): os.write(w, b'%d ' % s.step)
    os._exit(0)
def ended(pid, said):
    "The last step that was heard of, and whether it was the end"
    steps = said.read().split(); return int(steps[-1]) if steps else 0, os.waitpid(pid, 0)[1] == 0
def same(*files):
    (a, x), (b, y) = map(read, files)
    return a == b and x.keys() == y.keys() and all(torch.equal(v, y[k]) for k, v in x.items())
def read(file):
    with safe_open(file, 'pt') as f: return f.metadata(), {k: f.get_tensor(k) for k in f.keys()}
folder, dice, kills, runs = Path(sys.argv[1]), random.Random(int(sys.argv[3])), 0, 0
whole = folder/'whole'; assert ended(*begun(whole)) == (60, True)
t = time.perf_counter(); ended(*begun(folder/'timed')); t = time.perf_counter() - t
while kills < int(sys.argv[2]):
    file, done = folder/str(runs), False
    while not done:
        pid, said = begun(file); time.sleep(dice.uniform(0, t)); os.kill(pid, signal.SIGKILL)
        step, done = ended(pid, said); kills += not done
        if not file.exists(): assert step < 7, step; continue
        assert load_fit(file, recipe, read(file)[0]['run']).step >= step//7*7, step           # what was promised is there
        assert not done or same(file, whole)
    runs += 1
print(kills, runs, sorted(p.name for p in folder.iterdir() if p.name.endswith('.part')))
'''

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
def test_killed_at_drawn_moments(tmp_path):
    "SIGKILL at moments drawn over the length of a run, again and again until it ends: its last checkpoint has every number of one that was left in peace. FIT_KILLS: how many"
    script = tmp_path/'killer.py'; script.write_text(KILLER); (tmp_path/'runs').mkdir()
    p = subprocess.run([sys.executable, script, tmp_path/'runs', os.environ.get('FIT_KILLS', '3'), '0'], capture_output=True, text=True, env=os.environ | dict(OMP_NUM_THREADS='1', NUMBA_NUM_THREADS='1'))
    assert p.returncode == 0, p.stderr
    print(p.stdout)

def test_all_pruned_is_said(tmp_path, views):
    "A strategy that prunes everything ends the run, and the checkpoint before it stays"
    f, recipe = tmp_path/'c.safetensors', Recipe(steps=8)
    strategy = Density(prune_opa=2., refine_start_iter=3, refine_every=4, refine_stop_iter=8)
    with pytest.raises(RuntimeError, match='step 5 of 8.*prune_opa.*c.safetensors'): fitted(views, Gaussians.ball(100, radius=.8), recipe, strategy, mode='quiet', checkpoint=f, save_every=2)
    assert json.loads(head(f)['fit'])['step'] == 4 and len(load_fit(f, recipe, head(f)['run'])) == 100

def test_checkpoint_refuses_others(tmp_path, views):
    f, r = tmp_path/'c.safetensors', Recipe(steps=8)
    start = Gaussians.ball(100, radius=.8)
    for s in fit(views, start, r, checkpoint=f, save_every=4): pass
    assert f.read_bytes()[8:9] == b'{' and sorted(p.name for p in tmp_path.iterdir()) == [f.name]
    assert [s.step for s in fit(views, start, r, checkpoint=f)] == []                       # finished: nothing left to do
    assert torch.equal(fitted(views, start, r, checkpoint=f, mode='quiet').means, s.params['means'])
    for kw in (dict(recipe=Recipe(steps=9)), dict(strategy=None), dict(views=views[:3]), dict(start=None), dict(start=Gaussians.ball(100, radius=.8, seed=1)), dict(eps2d=.1),
               dict(views=Posed(views.images.flip(-1), views.camera)), dict(start=Field(resolutions=(8,), samples=4), strategy=None)):
        with pytest.raises(ValueError, match='another run'): fit(**(dict(views=views, start=start, recipe=r, checkpoint=f) | kw))
    f.write_text('nonsense')
    with pytest.raises(ValueError, match='cannot be read'): fit(views, start, r, checkpoint=f)

def test_resumed_with_a_generator(tmp_path, views):
    "Places drawn at random along the rays: a run cut after step 7 and taken up from the checkpoint of step 5 ends with the numbers of one that was left in peace, whatever generator of that seed it is given"
    def go(generator, steps=12, **kw):
        for s in fit(views, Field((4, 8), samples=6), Recipe(steps=12), save_every=5, generator=generator, **kw):
            if s.step == steps: return s
    new = lambda seed=0: torch.Generator().manual_seed(seed)
    whole, end = go(g := new()), g.get_state()
    advanced = new(); torch.rand(3, generator=advanced)
    for i, given in enumerate((new(), advanced, None)):
        f = tmp_path/f'{i}.safetensors'; go(first := new(), 7, checkpoint=f)
        with pytest.raises(ValueError, match='another run.*render'): go(new(1), checkpoint=f)
        s = go(given := first if given is None else given, checkpoint=f)                    # None: the very object, as the cut run left it
        assert s.loss == whole.loss and torch.equal(given.get_state(), end)
        for k, v in whole.params.items():
            assert torch.equal(v, s.params[k]), k
            for m, x in whole.optimizers[k].state[v].items(): assert torch.equal(x, s.optimizers[k].state[s.params[k]][m]), (k, m)

@pytest.mark.parametrize('kw, says', [(dict(strategy='foo'), 'foo'), (dict(save_every=0), 'save_every'), (dict(checkpoint='nowhere/c.safetensors'), 'nowhere'), (dict(start=Gaussians.ball(3)[:0]), 'no Gaussians')])
def test_what_cannot_be_fitted_is_said(views, kw, says):
    for f in (fit, fitted):
        with pytest.raises((ValueError, FileNotFoundError), match=says): f(**(dict(views=views) | kw))

def test_a_run_repeats(views):
    a, b = (fitted(views, Gaussians.ball(150, radius=.8), Recipe(steps=30, seed=3), mode='quiet') for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(vars(a).values(), vars(b).values())) and len(a) != 150

@pytest.fixture(scope='module')
def teddy():
    thing = world.Thing('teddy', 'brown')
    return thing, fitted(Posed.from_world(thing, spiral(20), 64, 0), Gaussians.ball(1000, radius=.8), Recipe(steps=500), mode='quiet')

def test_quality_at_64(teddy):
    thing, g = teddy
    # 500 steps of float32 end elsewhere on every processor, but at about the same quality: 35.3 dB on those that were tried, and 30 is asked
    assert evaluate(g, Posed.from_world(thing, spiral(5, turn=40., low=-5, high=60), 64, 0))['psnr'] > 30 and len(g) <= 6000

def test_depth_of_a_fit_is_the_true_depth(teddy):
    "Not only the pictures are right: the surface is where it is"
    thing, g = teddy
    c = world.Camera(20., 20.); true = world.render(thing, c, 64, 4)
    out = g.render(Camera.from_world(c, 64), background=(1, 1, 1))
    solid = torch.from_numpy(true.alpha) > .99
    assert (out.depth[0, 0] - torch.from_numpy(true.depth))[solid].abs().median() < .05    # .034 on those processors
    assert (out.alpha[0, 0] - torch.from_numpy(true.alpha)).abs().mean() < .03

# strategy

@settings(max_examples=30, **quiet)
@given(st.floats(.001, .999), st.integers(1, 51), st.floats(.01, 10))
def test_relocation_keeps_centre_and_integral(o, n, sigma):
    new, s = relocation(torch.tensor([o], dtype=torch.float64), torch.full((1, 3), sigma, dtype=torch.float64), torch.tensor([n]))
    x = torch.linspace(-8*sigma, 8*sigma, 8001, dtype=torch.float64)
    profile = 1 - (1 - new*torch.exp(-x*x/(2*s[0, 0]**2)))**n
    # float64; the alternating terms of the formula, C(n,k) o'^k, sum to (1+o')^n < 500 at most, which costs 3 digits of 16; the trapezoid over 8 deviations is exact to 1e-12
    assert abs(profile[4000] - o) < 1e-9 and abs(torch.trapezoid(profile, x)/(o*sigma*math.sqrt(2*math.pi)) - 1) < 1e-5

def scene(n, seed):
    g = torch.Generator().manual_seed(seed); r = lambda *s: torch.randn(*s, generator=g)
    p = Gaussians(r(n, 3), r(n, 3) - 3, r(n, 4), r(n)*3, r(n, 4, 3)).params(); o = {k: torch.optim.Adam([v], lr=.1) for k, v in p.items()}
    sum((v*r(*v.shape)).sum() for v in p.values()).backward()
    for a in o.values(): a.step(); a.zero_grad()
    return p, o, dict(grad2d=torch.rand(n, generator=g)*1e-3, count=torch.full((n,), 2.), scene_scale=1.)

@settings(max_examples=25, **quiet)
@given(st.integers(1, 40), st.integers(0, 10**6), st.sampled_from([50, 700]), st.booleans())
def test_growing_and_pruning_equal_gsplat(n, seed, step, revised):
    "gsplat's decisions and deeds, before and after the step from which large ones are pruned"
    from gsplat import DefaultStrategy
    kw = dict(grow_scale3d=.05, prune_scale3d=.4, reset_every=600, revised_opacity=revised)
    (p, o, s), (P, O, S) = scene(n, seed), scene(n, seed)
    r = Density(**kw).refine(p, o, s, step, torch.Generator().manual_seed(1))
    torch.manual_seed(1); theirs = DefaultStrategy(**kw); grown = theirs._grow_gs(P, O, S, step); gone = theirs._prune_gs(P, O, S, step)
    assert grown == (r.counts()['cloned'], r.counts()['split']) and gone == r.counts()['pruned'] and len(p['means']) == r.counts()['after']
    for k in p:
        torch.testing.assert_close(p[k], P[k], atol=1e-5, rtol=1e-5)                  # the same operations; only R S xi is summed in another order: a few roundings of 6e-8 of |R S xi| < 10
        for m, v in o[k].state[p[k]].items(): assert torch.equal(v, O[k].state[P[k]][m]), (k, m)

def test_edits_of_nothing_and_of_everything():
    for f, n in ((clone, 14), (split, 14), (prune, 0)):
        p, o, s = scene(7, 0); f(p, o, s, torch.ones(7, dtype=torch.bool)); assert len(p['means']) == len(s['count']) == n
        p, o, s = scene(7, 0); q = {k: v.detach().clone() for k, v in p.items()}; f(p, o, s, torch.zeros(7, dtype=torch.bool))
        assert all(torch.equal(p[k], q[k]) for k in p)

def test_cap_holds(views):
    for s in fit(views, Gaussians.ball(100, radius=.8), Recipe(steps=60), Density(refine_start_iter=2, refine_every=3, grow_grad2d=1e-7, cap=250)): assert len(s.params['means']) <= 250
    assert len(s.params['means']) > 200
    for s in fit(views, Gaussians.ball(100, radius=.8), Recipe(steps=60), MCMC(cap_max=150, refine_start_iter=2, refine_every=3)): assert len(s.params['means']) <= 150
    assert len(s.params['means']) == 150

def test_cap_of_a_larger_start(views):
    "Nothing is taken away from a start that has more"
    for s in fit(views, Gaussians.ball(200, radius=.8), Recipe(steps=20), Density(refine_start_iter=2, refine_every=3, grow_grad2d=1e-7, prune_opa=1e-9, cap=60)): pass
    assert len(s) == 200

def test_resets_need_an_opacity(views):
    with pytest.raises(ValueError, match='prune_opa = 0.*reset=False'): Density(prune_opa=0)
    for s in fit(views, Gaussians.ball(50, radius=.8), Recipe(steps=8), Density(prune_opa=0., reset=False, grow_grad2d=1., prune_scale3d=9., refine_start_iter=2, refine_every=2, reset_every=4)): pass
    assert len(s) == 50

def test_mcmc_shakes_to_the_end(views, monkeypatch):
    "After refine_stop_iter nothing is moved or added, but the noise goes on, as in gsplat's MCMCStrategy"
    from lucidteach.splat import mcmc
    shaken, real = [], mcmc.add_noise
    monkeypatch.setattr(mcmc, 'add_noise', lambda *a: (shaken.append(1), real(*a)))
    for s in fit(views, Gaussians.ball(50, radius=.8), Recipe(steps=12), MCMC(cap_max=500, refine_start_iter=1, refine_every=2, refine_stop_iter=5)): n = len(s) if s.step == 5 else n if s.step > 5 else 0
    assert len(shaken) == 12 and len(s) == n > 50

def test_gsplat_strategy_unpacked(views):
    "gsplat's DefaultStrategy decides the same from packed and unpacked renders"
    strategy = pytest.importorskip('gsplat.strategy'); ends = []
    for packed in (True, False):
        for s in fit(views, Gaussians.ball(60, radius=.8), Recipe(steps=9), strategy.DefaultStrategy(refine_start_iter=2, refine_every=50, verbose=False), packed=packed): pass
        ends.append(s.counts['grad2d'])
    assert ends[0].max() > 0 and (ends[0] - ends[1]).abs().max() < 1e-4*ends[0].max()   # nine steps of float32 whose sums may be taken in another order

def test_cameras_in_one_place(views):
    "Turning on the spot: the positions learn at the scale of the Gaussians, and without them that is said"
    cam = Camera.look_at([0., 0, 1], [[1., 0, 1], [0, 1, 1], [-1, 1, 1.2]], size=16, fov_deg=60)
    here = Posed(torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)), cam)
    start = Gaussians.from_points(torch.tensor([0., 0, 1]) + 2*torch.nn.functional.normalize(torch.randn(80, 3, generator=torch.Generator().manual_seed(0)), dim=1), scale=.2)
    for s in fit(here, start, Recipe(steps=3), None): pass
    assert abs(s.extent - 2) < 1e-4 and (s.params['means'] - start.means).abs().max() > 1e-4
    with pytest.raises(ValueError, match='all stand at.*pass `start`'): fit(here)

# loss and schedule

def test_ssim_after_inference_mode():
    x = torch.rand(1, 3, 37, 41, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(): a = ssim(x, x*.5)
    b = ssim(y := (x*.5).requires_grad_(), x); b.backward()
    assert abs(a - b) < 1e-6 and y.grad.isfinite().all()                               # a mean of float32 numbers below 1: some roundings of 6e-8


def test_ssim_by_loops():
    "Window by window, in numpy"
    x, y = np.random.default_rng(0).random((2, 14, 17))
    w = np.exp(-np.arange(-5, 6)**2/4.5); w = np.outer(w, w)/w.sum()**2
    X, Y = (np.pad(a, 5) for a in (x, y)); total = 0
    for i in range(14):
        for j in range(17):
            a, b = X[i:i + 11, j:j + 11], Y[i:i + 11, j:j + 11]; ma, mb = (w*a).sum(), (w*b).sum()
            total += (2*ma*mb + 1e-4)*(2*((w*a*b).sum() - ma*mb) + 9e-4)/((ma**2 + mb**2 + 1e-4)*((w*a*a).sum() - ma**2 + (w*b*b).sum() - mb**2 + 9e-4))
    assert abs(ssim(torch.tensor(x), torch.tensor(y)).item() - total/14/17) < 1e-9     # float64; a variance of 0.1 less its rounding over a constant of 9e-4: 1e-12

def test_exponential_schedule():
    "torch's own scheduler, set as in gsplat's trainer"
    o = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=1.6e-4*2.); sched = torch.optim.lr_scheduler.ExponentialLR(o, .01**(1/30_000))
    for step in range(50): assert abs(o.param_groups[0]['lr']/means_rate(PAPER, 2., step) - 1) < 1e-9; o.step(); sched.step()

def test_every_picture_once_a_round():
    seen = [i for step in range(14) for i in picks(7, Recipe(batch=4), step)]
    for k in range(8): assert sorted(seen[7*k:7*k + 7]) == list(range(7))

# folders

def save_png(x, path): path.parent.mkdir(parents=True, exist_ok=True); Image.fromarray((x*255).round().byte().permute(1, 2, 0).numpy()).save(path)

def quat_of(R):
    "(w, x, y, z): of the sixteen products q_i q_j that a rotation matrix holds, the row of the largest square"
    R = R.double().numpy(); t = np.trace(R); Q = np.empty((4, 4)); Q[0, 0] = 1 + t
    Q[0, 1:] = Q[1:, 0] = R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]
    Q[1:, 1:] = R + R.T + np.eye(3)*(1 - t)
    q = Q[np.argmax(np.diag(Q))]
    return (q/np.linalg.norm(q)).tolist()

MODELS = {'SIMPLE_PINHOLE': (0, lambda f, c: (f, c, c)), 'PINHOLE': (1, lambda f, c: (f, f, c, c)), 'SIMPLE_RADIAL': (2, lambda f, c: (f, c, c, 0.)), 'OPENCV': (4, lambda f, c: (f, f, c, c, 0., 0., 0., 0.))}

def colmap_bin(folder, views, model='PINHOLE', k1=0.):
    m = folder/'sparse'/'0'; m.mkdir(parents=True, exist_ok=True); c = views.camera; number, params = MODELS[model]
    p = list(params(float(c.Ks[0, 0, 0]), c.width/2)); p[-1] += k1
    (m/'cameras.bin').write_bytes(struct.pack('<QiiQQ', 1, 1, number, c.width, c.height) + struct.pack(f'<{len(p)}d', *p))
    out = struct.pack('<Q', len(views))
    for i in reversed(range(len(views))):                                  # COLMAP's order is none
        V = c.viewmats[i]; out += struct.pack('<i7di', i + 1, *quat_of(V[:3, :3]), *V[:3, 3].tolist(), 1) + f'{i:03}.png'.encode() + b'\0'
        out += struct.pack('<Q', 2) + struct.pack('<ddq', 1, 2, -1)*2
    (m/'images.bin').write_bytes(out)
    pts = struct.pack('<Q', len(views.points))
    for i, (x, rgb) in enumerate(zip(views.points.tolist(), (views.colors*255).round().int().tolist())): pts += struct.pack('<Q3d3BdQ', i, *x, *rgb, .5, 2) + struct.pack('<4i', 1, 2, 3, 4)
    (m/'points3D.bin').write_bytes(pts)
    for i, x in enumerate(views.images): save_png(x, folder/'images'/f'{i:03}.png')
    return m

@pytest.mark.parametrize('model', MODELS)
def test_colmap_binary(tmp_path, views, model):
    colmap_bin(tmp_path, views, model); back = load_colmap(tmp_path)
    # A pose through a quaternion and back, some ten roundings of 2e-7; a picture of 8 bits is right to half a step
    torch.testing.assert_close(back.camera.viewmats, views.camera.viewmats, atol=1e-5, rtol=0); torch.testing.assert_close(back.camera.Ks, views.camera.Ks)
    torch.testing.assert_close(back.images, views.images, atol=.51/255, rtol=0); torch.testing.assert_close(back.points, views.points, atol=1e-6, rtol=0)
    torch.testing.assert_close(back.colors, views.colors, atol=.51/255, rtol=0); assert back.names[0] == '000.png'

def test_colmap_text_equals_binary(tmp_path, views):
    "Text as COLMAP writes it: comments, an empty key-point line, a name with a space"
    a, b = tmp_path/'a', tmp_path/'b'; colmap_bin(a, views); (b/'sparse').mkdir(parents=True); c = views.camera; f = float(c.Ks[0, 0, 0])
    (b/'sparse/cameras.txt').write_text(f'# Camera list\n#   CAMERA_ID, MODEL\n1 PINHOLE {c.width} {c.height} {f!r} {f!r} {c.width/2} {c.height/2}\n')
    rows = '# Image list\n'
    for i, V in enumerate(c.viewmats): rows += f"{i + 1} {' '.join(repr(float(v)) for v in [*quat_of(V[:3, :3]), *V[:3, 3].tolist()])} 1 pic {i}.png\n" + ('' if i % 2 else '1.5 2.5 -1 3 4 7') + '\n'; save_png(views.images[i], b/'images'/f'pic {i}.png')
    (b/'sparse/images.txt').write_text(rows); (b/'sparse/points3D.txt').write_text('# nothing\n')
    x, y = load_colmap(a), load_colmap(b)
    torch.testing.assert_close(x.camera.viewmats, y.camera.viewmats); torch.testing.assert_close(x.camera.Ks, y.camera.Ks); assert torch.equal(x.images, y.images) and len(y.points) == 0 and y.names[1] == 'pic 1.png'

def test_colmap_broken(tmp_path, views):
    m = colmap_bin(tmp_path, views); good = {f: f.read_bytes() for f in m.iterdir()}
    for f in good:
        for n in (0, 4, 9, len(good[f])//2, len(good[f]) - 1):
            f.write_bytes(good[f][:n])
            with pytest.raises(ValueError, match='ends too early'): load_colmap(tmp_path)
        f.write_bytes(struct.pack('<Q', 2**62) + good[f][8:])                        # promises more than there is
        with pytest.raises(ValueError): load_colmap(tmp_path)
        f.write_bytes(good[f])
    (tmp_path/'images'/'002.png').unlink()
    with pytest.raises(ValueError, match='no picture .*002.png'): load_colmap(tmp_path)
    colmap_bin(tmp_path, views, 'OPENCV', k1=.1)
    with pytest.raises(ValueError, match='image_undistorter'): load_colmap(tmp_path)
    with pytest.raises(ValueError, match='no COLMAP model'): load_colmap(tmp_path/'images')

def test_colmap_text_broken(tmp_path, views):
    m = colmap_bin(tmp_path, views); load_colmap(tmp_path)
    for f in m.iterdir(): f.unlink()
    (m/'images.txt').write_text('1 1 0 0 0 0 0 0 1 000.png\n\n')
    for camera, points, says in (('1 PINHOLE 0 0 40 40 16 16', '', '0 x 0 pixels'), ('1 PINHOLE 32 32 -40 40 16 16', '', 'must be positive'), ('1 PINHOLE 32 32 40 40 16 16', '1 .1 .2 .3 9 9', 'points3D.txt.*too short')):
        (m/'cameras.txt').write_text(camera + '\n'); (m/'points3D.txt').write_text('7 .1 .2 .3 9 9 9 .5\n' + points + '\n')
        with pytest.raises(ValueError, match=says): load_colmap(tmp_path)

def test_colmap_smaller_pictures(tmp_path, views):
    "Pictures at half size beside intrinsics of the full size, as in images_2"
    colmap_bin(tmp_path, views)
    for i, x in enumerate(views.images): save_png(torch.nn.functional.avg_pool2d(x, 2), tmp_path/'images_2'/f'{i:03}.png')
    torch.testing.assert_close(load_colmap(tmp_path, 'images_2').camera.Ks, views.camera.resized(16).Ks)

def blender(folder, views, mode='RGB', **extra):
    angle = 2*math.atan(views.camera.width/2/float(views.camera.Ks[0, 0, 0])); frames = []; flip = torch.diag(torch.tensor([1., -1, -1, 1])).double()
    for i, x in enumerate(views.images):
        save_png(x, folder/'train'/f'r_{i}.png'); Image.open(folder/'train'/f'r_{i}.png').convert(mode).save(folder/'train'/f'r_{i}.png')
        frames.append(dict(file_path=f'./train/r_{i}', rotation=.01, transform_matrix=(torch.linalg.inv(views.camera.viewmats[i].double()) @ flip).tolist()))
    d = dict(camera_angle_x=angle, frames=frames) | extra
    (folder/'transforms_train.json').write_text(json.dumps(d)); return d

def test_transforms(tmp_path, views):
    blender(tmp_path, views); back = load_transforms(tmp_path)
    torch.testing.assert_close(back.camera.viewmats, views.camera.viewmats, atol=1e-5, rtol=0); torch.testing.assert_close(back.camera.Ks, views.camera.Ks)
    torch.testing.assert_close(back.images, views.images, atol=.51/255, rtol=0)

def test_transforms_transparency_and_own_intrinsics(tmp_path, views):
    blender(tmp_path, views, 'RGBA', fl_x=40., fl_y=44., cx=15., cy=17., w=32, h=32)
    Image.fromarray(np.full((32, 32, 4), (255, 0, 0, 51), np.uint8)).save(tmp_path/'train'/'r_0.png')
    back = load_transforms(tmp_path, background=(0., 0., 1.))
    torch.testing.assert_close(back.images[0, :, 5, 5], torch.tensor([.2, 0, .8])); assert back.camera.Ks[0].tolist() == [[40, 0, 15], [0, 44, 17], [0, 0, 1]]
    assert load_transforms(tmp_path, size=16).camera.Ks[0].tolist() == [[20, 0, 7.5], [0, 22, 8.5], [0, 0, 1]]

EYE = np.eye(4).tolist()
@pytest.mark.parametrize('change, says', [(dict(frames=[]), 'no frames'), (dict(k1=.1), 'distortion'), (dict(camera_angle_x='wide'), 'camera_angle_x'),
    (dict(frames=[dict(file_path='train/r_0')]), 'transform_matrix'), (dict(frames=[dict(file_path='../../x', transform_matrix=EYE)]), 'outside'),
    (dict(frames=[dict(file_path='train/none', transform_matrix=EYE)]), 'no picture'), (dict(frames=[dict(file_path='train/r_0', transform_matrix=[[1, 2]])]), r'\[4, 4\]'),
    (dict(camera_model='OPENCV_FISHEYE'), 'no pinhole'), (dict(is_fisheye=True), 'no pinhole'), (dict(fl_x=-5.), 'positive pixels'), (dict(camera_angle_x=80.), 'radians'), (dict(camera_angle_x=0), 'radians'),
    (dict(fl_x=30., w=0), 'positive pixels'), (dict(frames=[dict(file_path='train/r_0', transform_matrix=np.zeros((4, 4)).tolist())]), 'singular')])
def test_transforms_broken(tmp_path, views, change, says):
    d = blender(tmp_path, views) | change
    (tmp_path/'transforms_train.json').write_text(json.dumps(d))
    with pytest.raises(ValueError, match=says): load_transforms(tmp_path)

def test_transforms_two_angles_and_deep_pictures(tmp_path, views):
    "camera_angle_y is the vertical field of view; 16-bit grey is divided by 65535"
    blender(tmp_path, views, camera_angle_y=.6)
    for i in range(6): Image.fromarray(np.full((32, 32), 30000, np.uint16)).save(tmp_path/'train'/f'r_{i}.png')
    back = load_transforms(tmp_path)
    assert abs(math.tan(.3)*float(back.camera.Ks[0, 1, 1]) - 16) < 1e-4 and back.camera.Ks[0, 0, 0] == views.camera.Ks[0, 0, 0]
    assert (back.images - 30000/65535).abs().max() < 1/255

def test_splits_of_one_transforms_json(tmp_path, views):
    d = blender(tmp_path, views); (tmp_path/'transforms_train.json').rename(tmp_path/'transforms.json')
    assert len(load_transforms(tmp_path)) == 6
    for split in ('test', 'nonsense'):
        with pytest.raises(ValueError, match=f"tells no {split}_filenames.*split='train'"): load_transforms(tmp_path, split)
    (tmp_path/'transforms.json').write_text(json.dumps(d | dict(test_filenames=['./train/r_2', './train/r_4'], val_filenames=[])))
    assert load_transforms(tmp_path, 'test').names == ['./train/r_2', './train/r_4']
    with pytest.raises(ValueError, match="no frames of the split 'val'"): load_transforms(tmp_path, 'val')

def test_transforms_mixed_sizes_and_no_json(tmp_path, views):
    blender(tmp_path, views); Image.new('RGB', (30, 32)).save(tmp_path/'train'/'r_1.png')
    with pytest.raises(ValueError, match='different sizes'): load_transforms(tmp_path)
    (tmp_path/'transforms_train.json').write_text('{')
    with pytest.raises(ValueError, match='no JSON'): load_transforms(tmp_path)
