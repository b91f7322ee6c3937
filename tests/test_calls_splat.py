"Wrong calls of cameras, Gaussians, their files and their strategies: the answer names the value, what is allowed, the nearest option"
import lucidteach     # before torch
import gzip, math, struct, subprocess, sys
import numpy as np, pytest, torch
from lucidteach.splat.algebra import covariance, logit, quat_multiply, rotation_matrix, sh_basis, sh_rotation
from lucidteach.splat.camera import Camera, LucidCameras, evaluation_cameras, intrinsics, look_at, orbit_centers, spread
from lucidteach.splat.files import file_format, from_ply, from_sog, to_ply
from lucidteach.splat.gaussians import Gaussians, knn_dist2
from lucidteach.splat.mcmc import MCMC, add, add_noise, relocate, relocation
from lucidteach.splat.strategy import Density, clone, prune, reset_opacity, split

EYE, POINTS, CAM = torch.tensor([0., 3, 0]), torch.rand(5, 3), Camera.orbit([0., 90], size=8)
G = Gaussians.ball(5, radius=.5)
def edit(f, *a, **kw):
    p = Gaussians.ball(5).params()
    return f(p, {k: torch.optim.Adam([v]) for k, v in p.items()}, {}, *a, **kw)

CALLS = {
    # algebra
    "rotation_matrix of an array": (lambda: rotation_matrix(np.eye(4)), ValueError, r"quats must be a float tensor \[..., 4\], got float64 \[4, 4\]: torch.as_tensor"),
    "rotation_matrix of 3 numbers": (lambda: rotation_matrix(torch.ones(3)), ValueError, r"quats .* got float32 \[3\]"),
    "rotation_matrix of a list": (lambda: rotation_matrix([1, 0, 0, 0]), ValueError, r"torch.as_tensor"),
    "covariance of whole numbers": (lambda: covariance(torch.ones(4), torch.ones(3, dtype=torch.long)), ValueError, r"scales .* got int64 \[3\]"),
    "quat_multiply(None)": (lambda: quat_multiply(None, torch.ones(4)), ValueError, "a must be a float tensor .* got None"),
    "logit of a word": (lambda: logit("half"), ValueError, "p must be an opacity, strictly between 0 and 1, got 'half'"),
    "logit(1)": (lambda: logit(1), ValueError, "strictly between 0 and 1, got 1"),
    "degree 4": (lambda: sh_basis(POINTS, 4), ValueError, "degree must be an SH degree: 0, 1, 2 or 3, got 4"),
    "a whole degree": (lambda: sh_rotation(torch.eye(3), 1.5), ValueError, "degree .* got 1.5"),
    "misspelt": (lambda: sh_basis(POINTS, degre=2), TypeError, "did you mean 'degree'"),
    # cameras
    "orbit of a word": (lambda: Camera.orbit("north"), ValueError, "azimuth must be a finite number, or several, got 'north'"),
    "orbit(None)": (lambda: Camera.orbit(None), ValueError, "azimuth .* got None"),
    "orbit(nan)": (lambda: Camera.orbit(math.nan), ValueError, "azimuth must be a finite number"),
    "orbit()": (lambda: Camera.orbit(), TypeError, r"orbit\(\): missing a required argument: 'azimuth'"),
    "elevation 100": (lambda: Camera.orbit(0, 100), ValueError, "between -90 and 90"),
    "elevation of a word": (lambda: Camera.orbit(0, "high"), ValueError, "elevation .* got 'high'"),
    "radius -1": (lambda: Camera.orbit(0, 0, -1), ValueError, "radius must be a distance above 0, or several, got -1"),
    "radius 0": (lambda: Camera.orbit(0, 0, 0), ValueError, "radius .* got 0"),
    "radius of a word": (lambda: Camera.orbit(0, 0, "far"), ValueError, "radius .* got 'far'"),
    "target of 2": (lambda: Camera.orbit(0, target=(0, 0)), ValueError, r"target must be a point \(x, y, z\).*got \(0, 0\)"),
    "target of words": (lambda: Camera.orbit(0, target="mug"), ValueError, "target .* got 'mug'"),
    "size 64.5": (lambda: Camera.orbit(0, size=64.5), ValueError, "size must be a whole number of pixels, 1 to 65,536.*got 64.5"),
    "size of a word": (lambda: Camera.orbit(0, size="64"), ValueError, "size .* got '64'"),
    "size 0": (lambda: Camera.orbit(0, size=0), ValueError, "size .* got 0"),
    "size 10**9": (lambda: Camera.orbit(0, size=10**9), ValueError, "size .* got 1000000000"),
    "three sizes": (lambda: Camera.orbit(0, size=(8, 8, 3)), ValueError, r"size .* got \(8, 8, 3\)"),
    "fov of a word": (lambda: Camera.orbit(0, fov_deg="wide"), ValueError, "fov_deg .* got 'wide'"),
    "fov -5": (lambda: Camera.orbit(0, fov_deg=-5), ValueError, "between 0 and 180 degrees"),
    "fov in degrees as radians": (lambda: Camera.orbit(0, fov_rad=40), ValueError, "were degrees passed"),
    "fov twice": (lambda: Camera.orbit(0, fov_deg=40, fov_rad=.7), ValueError, "once, by name"),
    "azimut": (lambda: Camera.orbit(azimut=3), TypeError, "did you mean 'azimuth'"),
    "fov": (lambda: Camera.orbit(0, fov=40), TypeError, "did you mean 'fov_"),
    "look_at(None)": (lambda: Camera.look_at(None, fov_deg=40), ValueError, "eye .* got None"),
    "look_at without fov": (lambda: Camera.look_at((0, 3, 0)), ValueError, "once, by name"),
    "look_at of numbers": (lambda: look_at((0, 3, 0), POINTS[0], POINTS[1]), ValueError, r"eye must be a float tensor \[..., 3\]"),
    "up along the view": (lambda: look_at(EYE, torch.zeros(3), EYE), ValueError, "no unique view"),
    "intrinsics of words": (lambda: intrinsics("64", 64, fov_deg=40), ValueError, "width must be a whole number of pixels"),
    "orbit_centers(None)": (lambda: orbit_centers(0, None, 3), ValueError, "elevation .* got None"),
    "Camera(1, 2, 3, 4)": (lambda: Camera(1, 2, 3, 4), ValueError, r"viewmats must be a float tensor \[B, 4, 4\].*got 1"),
    "Camera of one matrix": (lambda: Camera(torch.eye(4), torch.eye(3), 8, 8), ValueError, r"got float32 \[4, 4\]"),
    "2 poses, 1 lens": (lambda: Camera(CAM.viewmats, CAM.Ks[:1], 8, 8), ValueError, r"Ks .* got float32 \[1, 3, 3\] \(where B = 2\)"),
    "Camera of NaN": (lambda: Camera(CAM.viewmats*math.nan, CAM.Ks, 8, 8), ValueError, "NaN or infinit"),
    "width 8.5": (lambda: Camera(CAM.viewmats, CAM.Ks, 8.5, 8), ValueError, "width .* got 8.5"),
    "a scaled pose": (lambda: Camera(2*CAM.viewmats, CAM.Ks, 8, 8), ValueError, "want a rotation"),
    "from_opengl of [3, 3]": (lambda: Camera.from_opengl(torch.eye(3), fov_deg=40), ValueError, r"c2w must be a matrix \[4, 4\].*got float32 \[3, 3\]"),
    "from_opengl of a word": (lambda: Camera.from_opengl("pose.json", fov_deg=40), ValueError, "c2w .* got 'pose.json'"),
    "from_world(3)": (lambda: Camera.from_world(3), ValueError, "a camera of lucidteach.prior.world.*got 3"),
    "cat of nothing": (lambda: Camera.cat([]), ValueError, r"cams must be a list of one or more cameras, got \[\]"),
    "cat of a camera": (lambda: Camera.cat(CAM), ValueError, "cams must be a list"),
    "cat of sizes": (lambda: Camera.cat([CAM, CAM.resized(9)]), ValueError, "call .resized first"),
    "resized(-8)": (lambda: CAM.resized(-8), ValueError, "size .* got -8"),
    "camera 3 of 2": (lambda: CAM[3], IndexError, "there are 2"),
    "LucidCameras(radius)": (lambda: LucidCameras(radius=5), ValueError, r"radius is a tuple of 2, got 5"),
    "LucidCameras(polar)": (lambda: LucidCameras(polar=("a", "b")), ValueError, r"polar\[0\] must be a number above 0, got 'a'"),
    "LucidCameras(size)": (lambda: LucidCameras(size="big"), ValueError, "size must be a whole number of pixels"),
    "LucidCameras(every)": (lambda: LucidCameras(every=0), ValueError, "every must be a whole number, 1 or more, got 0"),
    "LucidCameras(gama)": (lambda: LucidCameras(gama=1.5), TypeError, "did you mean 'gamma'"),
    "draw(-1)": (lambda: LucidCameras(size=8).draw(-1), ValueError, "step must be a whole number, 0 or more, got -1"),
    "draw with a seed": (lambda: LucidCameras(size=8).draw(0, generator=0), ValueError, "generator must be a torch.Generator, or None, got 0"),
    "stream(0)": (lambda: LucidCameras(size=8).stream(0), ValueError, "batch must be a whole number, 1 or more, got 0"),
    "spread(2.5)": (lambda: spread(2.5, 0, 1), ValueError, "n must be a whole number"),
    "evaluation_cameras('8')": (lambda: evaluation_cameras("8"), ValueError, "n must be a whole number, 1 or more, got '8'"),
    # Gaussians
    "Gaussians of lists": (lambda: Gaussians([[0, 0, 0]], *[None]*4), ValueError, r"means must be a float tensor \[N, 3\]"),
    "5 places, 4 rotations": (lambda: Gaussians(G.means, G.log_scales, G.quats[:4], G.logits, G.sh), ValueError, r"quats .* got float32 \[4, 4\] \(where N = 5\)"),
    "2 harmonics": (lambda: Gaussians(G.means, G.log_scales, G.quats, G.logits, G.sh.repeat(1, 2, 1)), ValueError, "wanted 1, 4, 9 or 16"),
    "ball('many')": (lambda: Gaussians.ball("many"), ValueError, "n must be a whole number, 1 to 10,000,000, got 'many'"),
    "ball(0)": (lambda: Gaussians.ball(0), ValueError, "n .* got 0"),
    "ball(10**9)": (lambda: Gaussians.ball(10**9), ValueError, "n must be a whole number, 1 to 10,000,000"),
    "ball, radius -1": (lambda: Gaussians.ball(5, radius=-1), ValueError, "radius must be a number, 0 or more, or one for each axis, got -1"),
    "ball, radius of a word": (lambda: Gaussians.ball(5, radius="big"), ValueError, "radius .* got 'big'"),
    "ball, center of 2": (lambda: Gaussians.ball(5, center=(0, 0)), ValueError, "center must be a point"),
    "ball, seed None": (lambda: Gaussians.ball(5, seed=None), ValueError, "seed must be a whole number, 0 or more, got None"),
    "ball, radios": (lambda: Gaussians.ball(5, radios=1), TypeError, "did you mean 'radius'"),
    "ball, colour of a word": (lambda: Gaussians.ball(5, rgb="red"), ValueError, "rgb must be a grey, a colour .* got 'red'"),
    "ball, colours of 4": (lambda: Gaussians.ball(5, rgb=torch.rand(4, 3)), ValueError, r"rgb of shape \[4, 3\] for 5 points"),
    "ball, opacity 1": (lambda: Gaussians.ball(5, opacity=1), ValueError, "strictly between 0 and 1, got 1"),
    "primitive('tours')": (lambda: Gaussians.primitive("tours"), ValueError, "no primitive 'tours'; did you mean 'torus'"),
    "primitive(3)": (lambda: Gaussians.primitive(3), ValueError, "name must be of type str, got 3"),
    "from_points(None)": (lambda: Gaussians.from_points(None), ValueError, r"points must be points \[N, 3\], got None"),
    "from_points of [5, 2]": (lambda: Gaussians.from_points(POINTS[:, :2]), ValueError, r"points must be points \[N, 3\], got float32 \[5, 2\]"),
    "from_points of words": (lambda: Gaussians.from_points("points.ply"), ValueError, "got 'points.ply'"),
    "from_points with NaN": (lambda: Gaussians.from_points(POINTS*math.nan), ValueError, "5 of 5 points are not finite"),
    "from_points, degree 4": (lambda: Gaussians.from_points(POINTS, sh_degree=4), ValueError, "sh_degree must be an SH degree"),
    "from_points, scale": (lambda: Gaussians.from_points(POINTS, scale="s"), ValueError, "scale must be a positive size, got 's'"),
    "from_points, opacty": (lambda: Gaussians.from_points(POINTS, opacty=.5), TypeError, "did you mean 'opacity'"),
    "knn_dist2(k)": (lambda: knn_dist2(POINTS, 0), ValueError, "k must be a whole number, 1 or more, got 0"),
    "knn_dist2 of an array": (lambda: knn_dist2(np.zeros((5, 3))), ValueError, "torch.as_tensor"),
    "cat of nothing ": (lambda: Gaussians.cat([]), ValueError, "gs must be a list of one or more Gaussians"),
    "cat of words": (lambda: Gaussians.cat(["a.ply", "b.ply"]), ValueError, "a list of one or more Gaussians, got"),
    "cat of a scene": (lambda: Gaussians.cat(G), ValueError, "a list of one or more Gaussians"),
    "with_degree(4)": (lambda: G.with_degree(4), ValueError, "degree must be an SH degree"),
    "rotated by 3": (lambda: G.rotated((0, 0, 1)), ValueError, r"q must be a quaternion \(w, x, y, z\), not zero, got \(0, 0, 1\)"),
    "rotated by nothing": (lambda: G.rotated((0, 0, 0, 0)), ValueError, "q must be a quaternion"),
    "rotated by a word": (lambda: G.rotated("up"), ValueError, "q .* got 'up'"),
    "from_params(None)": (lambda: Gaussians.from_params(None), ValueError, "p must be a dictionary of means, .* got None"),
    "from_params of some": (lambda: Gaussians.from_params(dict(means=1)), ValueError, r"got \['means'\]"),
    # files
    "load(None)": (lambda: Gaussians.load(None), ValueError, "path must be the name of a file, got None"),
    "load(3)": (lambda: Gaussians.load(3), ValueError, "path must be the name of a file, got 3"),
    "load without an ending": (lambda: Gaussians.load("scene"), ValueError, "unknown ending; choose one of .compressed.ply, .ply"),
    "load of another ending": (lambda: Gaussians.load("scene.splatt"), ValueError, "unknown ending; did you mean 'splat'"),
    "load from no folder": (lambda: Gaussians.load("/nowhere/a.ply"), FileNotFoundError, "no file /nowhere/a.ply: there is no folder /nowhere"),
    "load, up": (lambda: Gaussians.load("a.ply", up="x"), ValueError, "up must be one of 'z', 'y', '-y', got 'x'"),
    "load, up of a list": (lambda: Gaussians.load("a.ply", up=["y"]), ValueError, r"up must be one of 'z', 'y', '-y', got \['y'\]"),
    "save(None)": (lambda: G.save(None), ValueError, "path must be the name of a file"),
    "save to another ending": (lambda: G.save("a.obj"), ValueError, "unknown ending"),
    "save, up": (lambda: G.save("a.ply", up=None), ValueError, "up must be one of .* got None"),
    "save, normals": (lambda: G.save("a.ply", normals="no"), ValueError, "normals must be of type bool, got 'no'"),
    "save, normal": (lambda: G.save("a.ply", normal=False), TypeError, "did you mean 'normals'"),
    "to_ply of a tensor": (lambda: to_ply(G.means), ValueError, "g must be of type Gaussians, got float32"),
    "from_ply of a name": (lambda: from_ply("a.ply"), ValueError, "data must be of type bytes, got 'a.ply'"),
    "from_sog(None)": (lambda: from_sog(None), ValueError, "data must be of type bytes, got None"),
    "file_format(None)": (lambda: file_format(None), ValueError, "path must be the name of a file"),
    # strategies
    "Density(refine_every)": (lambda: Density(refine_every="often"), ValueError, "refine_every must be a whole number, 1 or more, got 'often'"),
    "Density(cap)": (lambda: Density(cap=2.5), ValueError, "cap must be a whole number, 0 or more or None, got 2.5"),
    "Density(absgrad)": (lambda: Density(absgrad=1), ValueError, "absgrad must be of type bool, got 1"),
    "Density(nan)": (lambda: Density(grow_grad2d=math.nan), ValueError, "grow_grad2d must be a number, 0 or more, got nan"),
    "Density(prune_opacity)": (lambda: Density(prune_opacity=.1), TypeError, "did you mean 'prune_opa'"),
    "scene_scale 0": (lambda: Density().initialize_state(0), ValueError, "scene_scale must be a number above 0, got 0"),
    "MCMC(cap_max)": (lambda: MCMC(cap_max=-1), ValueError, "cap_max must be a whole number, 1 or more, got -1"),
    "MCMC(cap)": (lambda: MCMC(cap=10), TypeError, "did you mean 'cap_max'"),
    "clone by rows": (lambda: edit(clone, [1, 2]), ValueError, r"mask must be a bool tensor \[N\], got \[1, 2\]"),
    "clone by a short mask": (lambda: edit(clone, torch.ones(4, dtype=torch.bool)), ValueError, "mask has 4 rows, and there are 5 Gaussians"),
    "split by numbers": (lambda: edit(split, torch.ones(5)), ValueError, r"mask must be a bool tensor \[N\], got float32 \[5\]"),
    "split, seed": (lambda: edit(split, torch.ones(5, dtype=torch.bool), generator=3), ValueError, "generator must be a torch.Generator"),
    "prune(None)": (lambda: edit(prune, None), ValueError, "mask .* got None"),
    "prune of a scene": (lambda: prune(G, {}, {}, torch.ones(5, dtype=torch.bool)), ValueError, "params must be of type dict or of type ParameterDict"),
    "reset_opacity(0)": (lambda: edit(reset_opacity, 0), ValueError, "value must be an opacity, strictly between 0 and 1, got 0"),
    "relocation of a list": (lambda: relocation([.5], torch.ones(1, 3), torch.tensor([2])), ValueError, r"opacities must be a float tensor \[N\], got \[0.5\]"),
    "relocate, all dead": (lambda: edit(relocate, torch.ones(5, dtype=torch.bool)), ValueError, "all 5 Gaussians are dead"),
    "add(-1)": (lambda: edit(add, -1), ValueError, "n must be a whole number, 0 or more, got -1"),
    "add_noise('much')": (lambda: add_noise(G.params(), "much"), ValueError, "scale must be a number, 0 or more, got 'much'"),
}

@pytest.mark.parametrize("call, error, says", CALLS.values(), ids=CALLS)
def test_wrong_calls_are_answered(call, error, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=says): call()
    assert not list(tmp_path.iterdir())                                     # before any work

def test_a_missing_file_is_told_beside_what_is_there(tmp_path):
    G.save(tmp_path/"mug.ply"); G.save(tmp_path/"house.ply")
    with pytest.raises(FileNotFoundError, match="did you mean 'mug.ply'.* holds house.ply, mug.ply"): Gaussians.load(tmp_path/"mugg.ply")
    (tmp_path/"a.ply").mkdir()
    with pytest.raises(FileNotFoundError, match="is a folder"): Gaussians.load(tmp_path/"a.ply")

def test_what_was_right_stays_right():
    "Forms that a strict check could refuse by mistake"
    for azimuth in (30, 30., np.float32(30), np.array([30.]), torch.tensor(30), [30], (30,)): assert len(Camera.orbit(azimuth, size=np.int64(8))) == 1
    assert len(Camera.orbit([0, 90], [0, 10], [2, 3.], target=np.zeros(3), size=[8, 6])) == 2
    assert len(Gaussians.from_points([[0, 0, 0], [1, 1, 1]], rgb=[1, 0, 0])) == 2 and len(Gaussians.from_points(np.random.rand(4, 3), np.random.rand(4, 3))) == 4
    assert len(Gaussians.cat((G, G[:0]))) == 5 and G.rotated([1, 0, 0, 0]).sh_degree == 0 and LucidCameras(polar=[45, 90]).polar == (45, 90)
    assert len(Gaussians.from_params(dict(G.params().items()))) == 5 and Density(cap=None).cap is None

def test_gaussians_are_whole_by_every_door():
    "load, save and render live in other modules than the class"
    for door in ("lucidteach", "lucidteach.splat.gaussians"):
        subprocess.run([sys.executable, "-c", f"from {door} import Gaussians; Gaussians.load, Gaussians.save, Gaussians.render"], check=True)

# ---- what comes out of a .spz

def spz(version=3, alpha=(0, 128, 255), place=None):
    "Three Gaussians of degree 0, written from the format's description"
    places = struct.pack("<9e", *place) if version == 1 else bytes(27)
    rotations = {1: bytes([127]*9), 2: bytes([127]*9), 3: bytes([0, 0, 0, 192]*3)}[version]
    return gzip.compress(struct.pack("<4sIIBBBB", b"NGSP", version, 3, 0, 12, 0, 0) + places + bytes(alpha) + bytes([127]*9) + bytes([80]*9) + rotations)

@pytest.mark.parametrize("version", [1, 2, 3])
def test_spz_opacities_of_0_and_1(version, tmp_path):
    "Eight bits hold both, whose logits are infinite: read as the largest finite ones, which are drawn the same"
    pytest.importorskip("gaussforge")
    (tmp_path/"a.spz").write_bytes(spz(version, place=range(9)))
    g = Gaussians.load(tmp_path/"a.spz")
    assert g.logits.tolist()[0] == -10 and g.logits.tolist()[2] == 10 and abs(g.opacities[1] - 128/255) < 1e-3

@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_spz_places_that_are_no_numbers(bad, tmp_path):
    "Version 1 keeps half-precision numbers, which may be NaN"
    pytest.importorskip("gaussforge")
    (tmp_path/"a.spz").write_bytes(spz(1, place=[0, 0, 0, 0, bad, 0, 0, 0, 0]))
    with pytest.raises(ValueError, match=r"a.spz: row 1, column '[xyz]' holds -?(nan|inf)"): Gaussians.load(tmp_path/"a.spz")

def test_reading_prints_nothing(tmp_path):
    "Standard output belongs to the program that reads; what it prints itself before and after is still there"
    pytest.importorskip("gaussforge")
    G.save(tmp_path/"a.spz"); G.save(tmp_path/"a.ksplat")
    code = "import sys; from lucidteach import Gaussians; print('before'); [Gaussians.load(f) for f in sys.argv[1:]]; print('after')"
    out = subprocess.run([sys.executable, "-c", code, tmp_path/"a.spz", tmp_path/"a.ksplat"], capture_output=True, text=True, check=True)
    assert out.stdout == "before\nafter\n"
