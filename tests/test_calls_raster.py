"""Wrong calls of the rasterizer, of fitting and of folders of photographs: the answer names the value, what is allowed, the nearest option, before any work.

One table: what is called, how, and the words that must be in the answer."""
import lucidteach     # before torch
import json
import numpy as np, pytest, torch
from PIL import Image
from lucidteach.splat.camera import Camera
from lucidteach.splat.captures import load_colmap, load_transforms, read_colmap
from lucidteach.splat.fit import Posed, Recipe, evaluate, fit, fit_image, fitted, photo_loss, ssim
from lucidteach.splat.gaussians import Gaussians
from lucidteach.splat.rasterize import choose_backend, rasterization, render

N, nan, camera = 6, float('nan'), Camera.orbit(0, 0, 2, size=(8, 6), fov_deg=40)
GOOD = dict(means=torch.zeros(N, 3), quats=torch.ones(N, 4), scales=torch.ones(N, 3), opacities=torch.ones(N)/2, colors=torch.ones(N, 3), viewmats=camera.viewmats, Ks=camera.Ks, width=8, height=6)
ball, views = Gaussians.ball(5), Posed(torch.rand(1, 3, 6, 8), camera)
picture = torch.rand(3, 6, 8)

def rasterized(**kw): return rasterization(**(GOOD | kw))

RASTERIZER = [
    (dict(near_plane='x'), "near_plane must be of type float, got 'x'"), (dict(far_plane=None), 'far_plane'), (dict(eps2d='x'), "eps2d must be of type float, got 'x'"), (dict(eps2d=nan), 'eps2d=nan'),
    (dict(radius_clip=[1]), 'radius_clip'), (dict(near_plane=0), 'near_plane=0'), (dict(eps2d=-1.), 'not negative'), (dict(eps2d=True), 'eps2d'),
    (dict(width=10**9), 'up to 268,435,456 are drawn'), (dict(height=10**9), 'up to'), (dict(width='8'), 'whole numbers'), (dict(width=-8), 'at least 1'), (dict(width=8.), 'whole numbers'), (dict(height=True), 'whole numbers'), (dict(height=None), 'whole numbers'),
    *((dict([(k, GOOD[k].long())]), f'{k} is int64, wanted floating point: pass {k}.float()') for k in ('means', 'quats', 'scales', 'opacities', 'colors', 'viewmats', 'Ks')),
    *((dict([(k, GOOD[k].numpy())]), f'{k} is of type ndarray: wanted a tensor') for k in ('means', 'quats', 'opacities', 'colors', 'viewmats')),
    (dict(means=None), 'means is None'), (dict(opacities='x'), 'of type str'), (dict(covars='x', quats=None, scales=None), 'covars is of type str'), (dict(covars=torch.ones(N, 3, 3).long()), 'covars is int64'),
    (dict(means=torch.zeros(N, 2)), 'means has shape [6, 2], wanted [6, 3]'), (dict(viewmats=torch.eye(4)), 'one camera is [1, ...]'), (dict(colors=torch.ones(5, 3)), 'colors has shape [5, 3]'),
    (dict(backgrounds='white'), 'backgrounds is of type str'), (dict(backgrounds=(1, 1, 1)), 'backgrounds is of type tuple'), (dict(backgrounds=torch.ones(3)), 'backgrounds has shape [3], wanted [1, 3]'),
    (dict(render_mode='ED', backgrounds='white'), 'backgrounds is of type str'), (dict(render_mode='RGB+DE'), 'choose one of RGB, D, ED'), (dict(render_mode=5), 'choose one of RGB'), (dict(rasterize_mode='clasic'), "did you mean 'classic'?"),
    (dict(sh_degree='x'), "sh_degree=x"), (dict(sh_degree=1), 'sh_degree=1 with colors of shape [6, 3]'), (dict(backend='nubma'), "did you mean 'numba'?"), (dict(backend=5), "choose 'auto'"), (dict(backend='gsplat'), 'CUDA tensors'),
    (dict(tile_size=8), 'only 16'), (dict(bacgrounds=torch.ones(1, 3)), "did you mean 'backgrounds'?"), (dict(near=1.), "'near'"), (dict(camera_model='fisheye'), 'only supported by'), (dict(radial_coeffs=torch.zeros(1, 6)), 'radial_coeffs'),
    (dict(opacities=3*torch.ones(N)), 'torch.sigmoid'), (dict(quats=torch.zeros(N, 4)), 'zero quaternion'), (dict(means=torch.full((N, 3), nan)), 'means holds nan'),
]

OTHERS = [
    (render, (None, camera), 'gaussians is a NoneType'), (render, (ball, None), 'give a Camera'), (render, (ball, 'front'), 'camera is a str'), (render, (ball, camera, 'white'), 'three numbers'), (render, (ball, camera, object()), 'three numbers'),
    (render, (ball, camera, (255, 0, 0)), 'divide bytes'), (render, (ball, camera, (1., 1.)), 'one colour [3]'), (choose_backend, (torch.ones(1), 'numbaa'), "did you mean 'numba'?"),
    (fit_image, ('nofile.png',), "image must be a float tensor [3, H, W] without NaN or infinity, got 'nofile.png'"), (fit_image, (5,), 'got 5'), (fit_image, (picture[None],), '[1, 3, 6, 8]'), (fit_image, (picture.numpy(),), 'torch.as_tensor'),
    (fit_image, (picture*nan,), 'NaN'), (fit_image, (picture, 0), 'n must be a whole number, 1 or more, got 0'), (fit_image, (picture, 5, '7'), "steps must be a whole number, 1 or more, got '7'"), (fit_image, (picture*255,), 'divide bytes by 255'),
    (evaluate, ('scene.ply', views), 'scene is a str'), (evaluate, (None, views), 'scene is a NoneType'), (evaluate, (ball, picture), 'views is a Tensor'), (evaluate, (ball[:0], views), 'no Gaussians'),
    (fit, (picture,), 'views is a Tensor'), (fit, ('folder',), 'load_colmap'), (fit, (views, 'ball'), 'start is a str'), (fit, (views, ball, {}), 'recipe is a dict'), (fit, (views, ball, Recipe(), 'densty'), "unknown strategy 'densty'"),
    (fit, (views, ball, Recipe(), 5), 'unknown strategy 5'), (fit, (views, ball, Recipe(), None, 5), 'checkpoint must be'), (fit, (views, ball, Recipe(), None, None, '9'), "save_every must be a whole number, 1 or more, got '9'"), (fitted, (views, ball, Recipe(), None, 'auto', 'none/x'), 'no folder none'),
    (ssim, ('x', picture), "x must be a float tensor"), (ssim, (picture, picture.numpy()), 'y must be'), (photo_loss, (picture, picture[:, 1:]), 'different shapes'), (photo_loss, (picture.long(), picture), 'x must be a float tensor'),
    (Posed, (picture, camera), 'do not fit'), (Posed, ('x', camera), 'images is a str'), (Posed, (picture[None], 5), 'camera is a int'), (Posed, (picture[None]*255, camera), 'divide bytes'),
    (load_transforms, ('nowhere',), 'neither transforms_train.json nor'), (load_transforms, (5,), 'folder must be the path of a folder, got 5'), (load_transforms, ('x', 'train', 'white'), 'background'), (load_transforms, ('x', 'train', (1., 1., 1.), 0), 'size must be a whole number, 1 or more or None, got 0'),
    (load_transforms, ('x', 'train', (1., 1., 1.), 'x'), "got 'x'"), (load_transforms, ('x', 5), 'split must be of type str, got 5'), (load_colmap, ('nowhere',), 'no COLMAP model'), (load_colmap, (None,), 'folder must be'), (load_colmap, ('x', 5), 'images must be'),
    (load_colmap, ('x', 'images', (1., 1., 1.), 10.5), 'size must be'), (read_colmap, (5,), 'folder must be'),
]

RECIPES = [(dict(steps='7'), "steps must be a whole number, 1 or more, got '7'"), (dict(steps=0), 'got 0'), (dict(foo=0), "no setting 'foo'"), (dict(stesp=5), "did you mean 'steps'?"), (dict(batch=1.5), 'batch'), (dict(means='fast'), 'means'), (dict(means=-1.), 'means'),
    (dict(scales=nan), 'scales'), (dict(ssim=2), 'ssim must be a share within 0..1'), (dict(opacity_reg=-1), 'opacity_reg'), (dict(sh_every=0), 'sh_every'), (dict(background='white'), 'background is a tuple of 3'), (dict(background=(255, 0, 0)), 'background[0]'), (dict(seed=None), 'seed')]

def answer(f, *args, **kw):
    with pytest.raises((ValueError, TypeError, NotImplementedError, RuntimeError, FileNotFoundError)) as e: f(*args, **kw)
    assert '\n' not in str(e.value) and len(str(e.value)) < 500
    return str(e.value)

@pytest.mark.parametrize('kw, says', RASTERIZER, ids=lambda v: v[:30] if isinstance(v, str) else '-'.join(v))
def test_rasterization(kw, says): assert says in answer(rasterized, **kw)

@pytest.mark.parametrize('f, args, says', OTHERS, ids=lambda v: getattr(v, '__name__', v if isinstance(v, str) else ''))
def test_others(f, args, says): assert says in answer(f, *args)

@pytest.mark.parametrize('kw, says', RECIPES, ids=lambda v: v[:30] if isinstance(v, str) else '-'.join(v))
def test_recipe(kw, says): assert says in answer(Recipe, **kw)

def test_what_is_right_is_taken():
    "Numbers of numpy and of torch, whole numbers for fractions, an integer of numpy for a size"
    same = rasterized()[0]
    for kw in (dict(near_plane=np.float32(.01)), dict(eps2d=torch.tensor(.3)), dict(radius_clip=0), dict(width=np.int64(8)), dict(sh_degree=None)): assert (rasterized(**kw)[0] - same).abs().max() < 1e-6
    assert Recipe(steps=np.int64(5), background=[1, 1, 1]).background == (1, 1, 1)

@pytest.mark.parametrize('lone', ['w', 'h'])
def test_a_width_needs_a_height(tmp_path, lone):
    "Of one alone the shape of the camera's picture would be guessed"
    Image.new('RGB', (8, 6)).save(tmp_path/'a.png')
    frame = dict(file_path='a.png', transform_matrix=np.eye(4).tolist())
    scene = dict(fl_x=9., w=16, h=12, frames=[frame])
    (tmp_path/'transforms.json').write_text(json.dumps(scene)); assert load_transforms(tmp_path).camera.Ks[0, 0, 0] == 4.5
    (tmp_path/'transforms.json').write_text(json.dumps({k: v for k, v in scene.items() if k not in ('w', 'h') or k == lone}))
    assert 'give both, or neither' in answer(load_transforms, tmp_path)

def test_a_picture_listed_twice(tmp_path):
    (tmp_path/'sparse').mkdir(); (tmp_path/'images').mkdir(); Image.new('RGB', (8, 6)).save(tmp_path/'images'/'a.png')
    (tmp_path/'sparse'/'cameras.txt').write_text('1 PINHOLE 8 6 9 9 4 3\n')
    line = '{} 1 0 0 0 0 0 3 1 a.png\n\n'
    (tmp_path/'sparse'/'images.txt').write_text(line.format(1)); assert len(load_colmap(tmp_path)) == 1
    (tmp_path/'sparse'/'images.txt').write_text(line.format(1) + line.format(2))
    assert "picture 'a.png' is listed twice" in answer(load_colmap, tmp_path)
