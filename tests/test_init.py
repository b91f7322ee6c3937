"Where a scene begins: what a notebook cell cannot show - Shap-E through diffusers' own pipeline, broken files, the shipped point model"
import struct
import numpy as np, pytest, torch
from PIL import Image
from lucidteach.scene import points, start
from lucidteach.scene.meshes import Mesh, read_mesh
from lucidteach.scene.points import linear_to_srgb, points_from_text
from lucidteach.scene.sources import initial_gaussians
from lucidteach.splat.gaussians import Gaussians

def corner(e):
    "The two corners (as bits x + 2y + 4z) that edge e of a cube joins, in the order of diffusers' marching cubes: 4 along x, 4 along y, 4 along z"
    axis, a, b = e//4, e & 1, e >> 1 & 1
    others = [k for k in range(3) if k != axis]
    low = a << others[0] | b << others[1]
    return low, low | 1 << axis

def fan_tables():
    "Marching cubes for tests: in every cube a fan of triangles over the edges that change sign"
    cases, masks = torch.zeros(256, 5, 3, dtype=torch.long), torch.zeros(256, 5, dtype=torch.bool)
    for bits in range(256):
        crossed = [e for e in range(12) if (bits >> corner(e)[0] & 1) != (bits >> corner(e)[1] & 1)]
        for k in range(min(5, len(crossed) - 2)): cases[bits, k], masks[bits, k] = torch.tensor([crossed[0], crossed[k + 1], crossed[k + 2]]), True
    return cases, masks

@pytest.fixture(scope='module')
def shape_pipe():
    "A ShapEPipeline with random weights, a few thousand parameters"
    from diffusers import HeunDiscreteScheduler, PriorTransformer, ShapEPipeline
    from diffusers.pipelines.shap_e import ShapERenderer
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection
    from lucidteach.prior.train import make_tokenizer, world_words
    torch.manual_seed(0)
    tokenizer = make_tokenizer(world_words())
    text = CLIPTextModelWithProjection(CLIPTextConfig(vocab_size=len(tokenizer), hidden_size=16, projection_dim=16, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id))
    prior = PriorTransformer(num_attention_heads=2, attention_head_dim=16, embedding_dim=32, num_embeddings=32, embedding_proj_dim=16, time_embed_dim=64, num_layers=1, clip_embed_dim=64,
        additional_embeddings=0, time_embed_act_fn='gelu', norm_in_type='layer', encoder_hid_proj_type=None, added_emb_type=None)
    renderer = ShapERenderer(param_shapes=((8, 93), (8, 8), (8, 8), (8, 8)), d_latent=32, d_hidden=8, n_output=12)
    renderer.mesh_decoder.cases, renderer.mesh_decoder.masks = fan_tables()
    scheduler = HeunDiscreteScheduler(beta_schedule='exp', num_train_timesteps=1024, prediction_type='sample', use_karras_sigmas=True, clip_sample=True, clip_sample_range=1.)
    return ShapEPipeline(prior=prior.eval(), text_encoder=text.eval(), tokenizer=tokenizer, scheduler=scheduler, shap_e_renderer=renderer.eval())

def small_grid(pipe, monkeypatch, size=24):
    "The pipeline decodes on a grid of 128^3; a coarser one will do here"
    decode = type(pipe.shap_e_renderer).decode_to_mesh
    monkeypatch.setattr(pipe.shap_e_renderer, 'decode_to_mesh', lambda latents, device: decode(pipe.shap_e_renderer, latents, device, grid_size=size))

def test_shap_e_gives_points_of_its_mesh(shape_pipe, monkeypatch):
    small_grid(shape_pipe, monkeypatch)
    p, c = points_from_text('a red mug', model=shape_pipe, n=500, seed=3, steps=2)
    assert p.shape == c.shape == (500, 3) and p.norm(dim=1).max() <= .9 + 1e-5
    assert torch.equal(p, points_from_text('a red mug', model=shape_pipe, n=500, seed=3, steps=2)[0])
    with torch.no_grad(): mesh = shape_pipe('a red mug', generator=torch.Generator().manual_seed(3), guidance_scale=15., num_inference_steps=2, output_type='mesh').images[0]
    v = mesh.verts - (mesh.verts.amax(0) + mesh.verts.amin(0))/2
    scale = (p - p.mean(0)).norm(dim=1).max()/(v - v.mean(0)).norm(dim=1).max()
    assert torch.cdist(p, v*scale).min(1).values.max() < 3*2/23*scale          # within a cell or two of a corner of the mesh
    rgb = linear_to_srgb(torch.stack([mesh.vertex_channels[k] for k in 'RGB'], 1))
    assert (c >= rgb.amin(0) - 1e-4).all() and (c <= rgb.amax(0) + 1e-4).all()
    g = initial_gaussians('text', 200, prompt='a red mug', model=shape_pipe)
    assert isinstance(g, Gaussians) and len(g) == 200

def test_shap_e_from_a_folder(shape_pipe, monkeypatch, tmp_path):
    shape_pipe.save_pretrained(tmp_path/'shape')
    pipe = points.load_shape(tmp_path/'shape')
    for a, b in zip(shape_pipe.prior.parameters(), pipe.prior.parameters()): assert torch.equal(a, b)
    small_grid(pipe, monkeypatch)
    p, c = points_from_text('a mug', model=pipe, n=50, steps=2)
    assert p.shape == c.shape == (50, 3) and p.isfinite().all() and 0 <= c.min() <= c.max() <= 1

def test_an_empty_mesh_is_said(shape_pipe, monkeypatch):
    small_grid(shape_pipe, monkeypatch)
    monkeypatch.setattr(shape_pipe.shap_e_renderer.mesh_decoder, 'masks', torch.zeros(256, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match='another seed'): points_from_text('a red mug', model=shape_pipe, n=50, steps=2)

def test_no_model_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match='model_index.json'): points_from_text('a mug', model=tmp_path)
    with pytest.raises(FileNotFoundError, match='openai/shap-e'): points_from_text('a mug', model=str(tmp_path/'nowhere'))

def test_the_shipped_model_draws_what_is_asked():
    "A drawn cloud is nearer to true clouds of its own category than to those of the others"
    from lucidteach.judge.metrics import chamfer
    from lucidteach.prior.world import CATEGORIES, Thing
    folder = points.TOY_POINTS
    assert sum(f.stat().st_size for f in folder.iterdir()) < 8e6
    true = {c: start.true_points(Thing(c), 512)[0] for c in ('guitar', 'bottle', 'table', 'plane', 'castle', 'duck')}
    for c in ('guitar', 'bottle', 'table', 'plane'):
        p, colours = points_from_text(f'a red {c}', n=512, seed=0, steps=20)
        assert min(true, key=lambda k: chamfer(p, true[k])) == c
        assert p.isfinite().all() and 0 <= colours.min() <= colours.max() <= 1

def test_more_points_than_the_model_draws():
    p, c = points_from_text('a green cactus', n=1500, seed=0, steps=5)
    assert p.shape == c.shape == (1500, 3)

@pytest.mark.parametrize('prompt, says', [('', 'say what to draw'), ('a blurry photo', 'no object'), ('a red mog', 'mug')])
def test_prompts_that_name_nothing(prompt, says):
    with pytest.raises(ValueError, match=says): points_from_text(prompt)

@pytest.mark.parametrize('data, says', [
    (b'ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\nend_header\n0 0 0 1 1', 'cut off'),
    (b'ply\nformat binary_little_endian 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty half z\nend_header\n', 'half'),
    (b'ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n0', 'x, y, z'),
    (b'ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\nend_header\nnan 0 0', 'NaN'),
    (b'not a ply', 'not a PLY')])
def test_broken_ply_files_are_said(data, says, tmp_path):
    (tmp_path/'a.ply').write_bytes(data)
    with pytest.raises(ValueError, match=f'a.ply: .*{says}'): read_mesh(tmp_path/'a.ply')

@pytest.mark.parametrize('text, says', [('f 1 2 3', 'no points'), ('v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9', 'index 8'), ('v 0 0\n', '.'), ('v a b c\n', 'could not be read'), ('v 1 2 3\nv 1 2 3\n', 'in one place'), ('v nan 0 0\nv 1 2 3\n', 'NaN')])
def test_broken_obj_files_are_said(text, says, tmp_path):
    (tmp_path/'a.obj').write_text(text)
    with pytest.raises(ValueError, match=f'a.obj: .*{says}'): read_mesh(tmp_path/'a.obj')

def test_an_obj_as_programs_write_it(tmp_path):
    "Byte order mark, CRLF, a line that goes on, corners counted from the end, texture and normal indices, faces of two corners"
    (tmp_path/'a.obj').write_bytes('\ufeffv\t0 0 0\r\n  v 1 0 0\r\nv 1 1 0\r\nv 0 1 0\r\nvt 0 0\r\nf 1/1 2/1 \\\r\n 3/1\r\nf -4 -2 -1\r\n'.encode())
    m = read_mesh(tmp_path/'a.obj')
    assert m.points.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]] and sorted(map(sorted, m.triangles.tolist())) == [[0, 1, 2], [0, 2, 3]]

@pytest.mark.parametrize('kind, up', [('obj', 'z'), ('off', 'z'), ('stl', 'z'), ('glb', 'y')])
def test_formats_by_trimesh_itself(tmp_path, kind, up):
    "A box comes back with its corners, glTF with its up axis turned to ours, and with the colours that the format keeps"
    import trimesh
    box = trimesh.creation.box((1, 2, 3)); box.visual.vertex_colors = [[10*i, 0, 51, 255] for i in range(8)]
    box.export(tmp_path/f'a.{kind}')
    m, want = read_mesh(tmp_path/f'a.{kind}'), torch.tensor(box.vertices).float()
    if up == 'y': want = torch.stack([want[:, 0], -want[:, 2], want[:, 1]], 1)
    assert torch.equal(m.points[m.triangles].flatten(0, 1).unique(dim=0), want.unique(dim=0))
    if kind in ('obj', 'glb'): assert torch.equal(m.points, want) and torch.allclose(m.colours*255, torch.tensor([[10.*i, 0, 51] for i in range(8)]), atol=.51)

def test_colours_of_textures_and_materials(tmp_path):
    (tmp_path/'a.mtl').write_text('newmtl m\nmap_Kd a.png\n')
    Image.fromarray(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8)).save(tmp_path/'a.png')
    (tmp_path/'a.obj').write_text('mtllib a.mtl\nusemtl m\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt .1 .5\nvt .9 .5\nvt .1 .5\nf 1/1 2/2 3/3\n')
    m = read_mesh(tmp_path/'a.obj')
    assert m.colours.tolist() == [[1, 0, 0], [0, 0, 1], [1, 0, 0]]
    (tmp_path/'own.obj').write_text('v 0 0 0 1 0 0\nv 1 0 0 0 1 0\nv 0 1 0 0 0 1\nvt 0 0\nvt 1 0\nvt 0 1\nf 1/1 2/2 3/3\n')
    assert read_mesh(tmp_path/'own.obj').colours.tolist() == torch.eye(3).tolist()               # places in a texture, and no texture
    (tmp_path/'none.obj').write_text('v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nf 1/1 2/2 3/3\n')
    assert read_mesh(tmp_path/'none.obj').colours is None
    (tmp_path/'a.mtl').write_text('newmtl m\nKd 0 1 0\n')
    assert read_mesh(tmp_path/'a.obj').colours.tolist() == [[0, 1, 0]]*3

@pytest.mark.parametrize('where', [np.nan, np.inf])
def test_points_that_are_not_finite_are_refused(where):
    "Not a crash of the interpreter: the search for neighbours would run out of its array"
    p = np.random.default_rng(0).random((100, 3)); p[7, 1] = where
    for begin in (lambda: initial_gaussians(p, 200), lambda: initial_gaussians(Mesh(torch.tensor(p)), 50), lambda: Gaussians.from_points(torch.tensor(p))):
        with pytest.raises(ValueError, match='NaN|finite'): begin()
    for kw in (dict(radius=where), dict(fit=where), dict(spread=where, replicate=2)):
        with pytest.raises(ValueError): initial_gaussians('ball', 200, **kw)
    assert len(initial_gaussians(np.random.default_rng(0).random((100, 6)), 200)) == 200

def test_the_gaussians_of_a_scene_are_a_point_cloud_too(tmp_path):
    g = Gaussians.primitive('torus', 50, rgb=(.2, .4, .6))
    g.save(tmp_path/'scene.ply')
    m = read_mesh(tmp_path/'scene.ply')
    assert torch.allclose(m.points, g.means, atol=1e-6) and torch.allclose(m.colours, g.rgb, atol=1e-5)     # float32 through a file and, for colours, one multiplication and back
