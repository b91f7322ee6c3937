"The radiance field: haze so thin that float32 cannot tell its transmittance from 1, pictures in pieces, and what is refused"
import lucidteach     # before torch
import pytest, torch
from lucidteach.scene.field import Field, rays, span
from lucidteach.splat.camera import Camera

torch.set_num_threads(1)

@pytest.mark.parametrize('density', [1e-3, 1e-6, 1e-9, 1e-14])
def test_thin_haze_is_known_in_closed_form(density):
    "Of one density everywhere: alpha is the optical depth, and the mean depth is the middle of the way through the cube, both up to the square of the first"
    f, cam = Field((4,), peak=density, floor=density), Camera.orbit(30, 20, 3., size=24, fov_deg=60)
    o, d = (v[0].double() for v in rays(cam)); start, stop = span(o, d, 1.)
    ends = {k: torch.sub(*span(o, d, 1 + k)[::-1]) > 0 for k in (-2e-6, 2e-6)}       # an edge within 2e-6, some 30 roundings, is met or missed as the processor rounds
    through, missed = ends[-2e-6], ~ends[2e-6]
    out = f.render(cam); alpha, depth = (v.detach().double().flatten() for v in (out.alpha, out.depth))
    assert 100 < through.sum() < 24*24 and (through | missed).sum() > 24*24 - 3 and (alpha[missed] == 0).all() and (depth[missed] == 0).all()
    optical, middle = density*(stop - start)*d.norm(dim=-1), (start + stop)/2
    # Where a ray enters and leaves has three roundings each (extent - o, 1/d, their product), so the way between them, be it ever so short, is off by up to 3 u (start + stop);
    # the sum over 48 bins, the norm, exp and expm1 add at most 128 roundings of the result; what the closed form leaves out is at most 2 density of it
    u = 2**-24
    bound = density*d.norm(dim=-1)*3*u*(start + stop) + optical*(2*density + 128*u)
    assert ((alpha - optical).abs() <= bound)[~missed].all(), ((alpha - optical).abs()/bound)[~missed].max()
    torch.testing.assert_close(depth[through], middle[through], rtol=2*density + 128*u, atol=0)

def test_depth_of_faint_rays_and_its_gradient():
    "A ball with next to nothing around it, against float64"
    cam, ends = Camera.orbit(0, 0, 3., size=32, fov_deg=55), []
    for dtype in (torch.float32, torch.float64):
        f = Field((4,), floor=1e-9).to(dtype); out = f.render(cam); out.depth.sum().backward()
        ends.append([v.detach().double() for v in (out.alpha, out.depth, f.last.bias.grad)])
    for a, b in zip(*ends): torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-12)
    assert 2 < ends[0][1][ends[0][1] > 0].min() and ends[0][1].max() < 4

@pytest.mark.parametrize('random', [False, True])
def test_pieces_are_the_whole(random):
    "The same picture and the same gradients, also where the places are drawn; and the way back remembers a small part of it"
    cam, ends, sizes = Camera.orbit([0, 120], [20, -30], 3., size=(14, 10), fov_deg=50), [], []
    for chunk in (37, 10**6):
        f, size = Field((4, 8), samples=9).double(), [0]
        with torch.no_grad(): f.last.weight.normal_(generator=torch.Generator().manual_seed(1))
        def pack(x): size[0] += x.nbytes; return x
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            out = f.render(cam, (.2, .9, .4), chunk=chunk, generator=torch.Generator().manual_seed(2) if random else None)
        torch.cat(out[:3], 1).square().sum().backward()
        ends.append([*out[:3], *(p.grad for p in f.parameters())]); sizes.append(size[0])
    for a, b in zip(*ends): torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)
    assert sizes[0] < .2*sizes[1]

@pytest.mark.parametrize('kw', [dict(extent=float('inf')), dict(peak=float('nan')), dict(radius=-1), dict(samples=2.5), dict(channels=1.5), dict(hidden=0), dict(resolutions=16), dict(resolutions=()), dict(resolutions=(8, 1))])
def test_no_such_field(kw):
    (name, v), = kw.items()
    with pytest.raises(ValueError, match=rf'{name} .*{v[-1] if isinstance(v, tuple) and v else ""}'): Field(**kw)

@pytest.mark.parametrize('kw, says', [(dict(samples=0), 'samples must .* got 0'), (dict(samples=2.5), 'samples must .* got 2.5'), (dict(chunk=0), 'chunk must .* got 0'), (dict(background=255.), 'background 255'),
    (dict(background=(1, 2)), r'background \(1, 2\)'), (dict(background=torch.ones(4, 3)), r'\[2,3\]'), (dict(background=(0., float('nan'), 0.)), 'nan')])
def test_no_such_picture(kw, says):
    with pytest.raises(ValueError, match=says): Field((4,)).render(Camera.orbit([0, 90], 0, 3., size=4, fov_deg=40), **kw)

@pytest.mark.parametrize('background', [None, 1, .5, (0, 1, 0), torch.ones(1, 3), torch.eye(3)[:2]])
def test_backgrounds(background):
    "Behind nothing stands the background, one for all or one a view"
    away = Camera.look_at([[0., 5, 0], [0., 6, 0]], (0., 9, 0), size=3, fov_deg=40)
    expected = torch.as_tensor(0 if background is None else background).float().expand(2, 3)
    assert torch.equal(Field((4,)).render(away, background).rgb, expected[..., None, None].expand(2, 3, 3, 3))
