"Wrong calls of the toy world and of latent priors: each is answered with the value, what is allowed and the nearest option, before any work"
import numpy as np
import pytest, torch

from lucidteach.prior import checkpoints, latent, objects, truth, words, world
from lucidteach.prior.cond import Cond

BIG = 10**9
rng, thing, camera = np.random.default_rng(0), world.Thing("mug"), world.Camera()
white = np.ones((3, 64, 64), np.float32)

# name, call, error, words of the answer
WORLD = [
    ("camera: a word for a number", lambda: world.Camera("left"), ValueError, "azimuth must be a finite number, got 'left'"),
    ("camera: no field of view", lambda: world.Camera(fov=0.), ValueError, "0 < fov < 180, got 0.0"),
    ("camera: a field of view of 180", lambda: world.Camera(fov=180), ValueError, "0 < fov < 180, got 180"),
    ("camera: behind itself", lambda: world.Camera(radius=-1.), ValueError, "radius must be a number above 0, got -1.0"),
    ("camera: NaN", lambda: world.Camera(elevation=float("nan")), ValueError, "elevation must be a finite number"),
    ("camera: None", lambda: world.Camera(None), ValueError, "azimuth must be a finite number, got None"),
    ("camera: a target of two numbers", lambda: world.Camera(target=(0., 0.)), ValueError, "target is a tuple of 3"),
    ("camera: a name", lambda: world.Camera(elevaton=3), TypeError, "did you mean 'elevation'"),
    ("view_of: a word", lambda: world.view_of("front", 0), ValueError, "azimuth must be a finite number, got 'front'"),
    ("render: a prompt for a thing", lambda: world.render("a red mug", camera), ValueError, "thing must be of type Thing, got 'a red mug'"),
    ("render: None", lambda: world.render(None, camera), ValueError, "thing must be of type Thing, got None"),
    ("render: a number for a camera", lambda: world.render(thing, 20), ValueError, "camera must be of type Camera, got 20"),
    ("render: no size", lambda: world.render(thing, camera, 0), ValueError, "1 to 16384"),
    ("render: a word for a size", lambda: world.render(thing, camera, "64"), ValueError, "a whole number of pixels"),
    ("render: half a pixel", lambda: world.render(thing, camera, 64.5), ValueError, "got 64.5"),
    ("render: a huge size", lambda: world.render(thing, camera, BIG), ValueError, "1 to 16384"),
    ("render: three sizes", lambda: world.render(thing, camera, (64, 64, 3)), ValueError, "size must be"),
    ("render: many rays", lambda: world.render(thing, camera, 64, BIG), ValueError, "supersample must be a whole number, 1 to 64"),
    ("render: a seed for a generator", lambda: world.render(thing, camera, rng=0), ValueError, "rng must be of type Generator or None, got 0"),
    ("render: a name", lambda: world.render(thing, camera, sise=64), TypeError, "did you mean 'size'?"),
    ("render: a colour", lambda: world.render(world.Thing("mug", "redd"), camera), ValueError, "did you mean red"),
    ("render: no colour", lambda: world.render(world.Thing("mug", None), camera), ValueError, "unknown colour None: choose one of red"),
    ("render: a pattern", lambda: world.render(world.Thing("mug", pattern="stripy"), camera), ValueError, "did you mean striped"),
    ("render: a background", lambda: world.render(world.Thing("mug", background=(1, 1, 1)), camera), ValueError, "unknown background (1, 1, 1)"),
    ("render: a kind", lambda: world.render(world.Thing("mug", kind="dept"), camera), ValueError, "did you mean depth"),
    ("render: a corruption", lambda: world.render(world.Thing("mug", corruption="blury"), camera), ValueError, "did you mean blurry"),
    ("parts: a category", lambda: world.parts_of(world.Thing("mugg")), ValueError, "did you mean mug"),
    ("parts: no category", lambda: world.parts_of(world.Thing(None)), ValueError, "unknown category None"),
    ("parts: one parameter of three", lambda: world.parts_of(world.Thing("mug", params=(.5,))), ValueError, "3 parameters"),
    ("parts: a word for a parameter", lambda: world.parts_of(world.Thing("mug", params=(.5, "wide", .5))), ValueError, "mug's tall must be a finite number, got 'wide'"),
    ("distance: points in a plane", lambda: world.distance(thing, np.zeros((2, 2))), ValueError, "[N,3], got (2, 2)"),
    ("distance: a word", lambda: world.distance(thing, "here"), ValueError, "points must be numbers [N,3], got 'here'"),
    ("distance: None", lambda: world.distance(thing, None), ValueError, "[N,3]"),
    ("corrupt: a name", lambda: world.corrupt(white, "wobbly"), ValueError, "unknown corruption 'wobbly'"),
    ("corrupt: no picture", lambda: world.corrupt(7, "dull"), ValueError, "image must be of type ndarray, got 7"),
    ("corrupt: a grey picture", lambda: world.corrupt(white[0], "dull"), ValueError, "image must be [3,H,W], got (64, 64)"),
    ("disparity: an angle", lambda: world.disparity(white[0], white[0], 0), ValueError, "0 < fov < 180"),
    ("palette: a colour", lambda: world.palette("teal"), ValueError, "unknown colour 'teal'"),
    ("sample_camera: a seed", lambda: world.sample_camera(7), ValueError, "rng must be of type Generator, got 7"),
    ("sample_camera: a number for a range", lambda: world.sample_camera(rng, azimuth=30.), ValueError, "azimuth is a tuple of 2"),
    ("sample_camera: a share of 2", lambda: world.sample_camera(rng, front_bias=2), ValueError, "front_bias must be a share within 0..1, got 2"),
    ("sample_camera: a name", lambda: world.sample_camera(rng, frontbias=.5), TypeError, "did you mean 'front_bias'?"),
    ("sample_thing: a seed", lambda: world.sample_thing(0), ValueError, "rng must be of type Generator, got 0"),
    ("sample_thing: a category", lambda: world.sample_thing(rng, categories=["mugg"]), ValueError, "did you mean mug"),
    ("sample_thing: one name for a list", lambda: world.sample_thing(rng, categories="mug"), ValueError, "categories must be"),
    ("sample_thing: a share below 0", lambda: world.sample_thing(rng, depth=-.1), ValueError, "depth must be a share within 0..1"),
    ("joints: beyond the joint", lambda: objects.joints(arm_l=2), ValueError, "arm_l must be a share within 0..1, got 2"),
]
WORDS = [
    ("parse: a number", lambda: words.parse(5), ValueError, "a prompt is a str, got int: 5"),
    ("parse: None", lambda: words.parse(None), ValueError, "a prompt is a str, got NoneType"),
    ("parse: an array", lambda: words.parse(white), ValueError, "a prompt is a str, got ndarray: float32 [3, 64, 64]"),
    ("parse: a list", lambda: words.parse(["a red mug"]), ValueError, "a prompt is a str, got list"),
    ("caption: a prompt", lambda: words.caption("a red mug", camera), ValueError, "thing must be of type Thing"),
    ("caption: a view", lambda: words.caption(thing, "front view"), ValueError, "camera must be of type Camera, got 'front view'"),
    ("caption: a seed", lambda: words.caption(thing, camera, 0), ValueError, "rng must be of type Generator or None"),
    ("sample: a word", lambda: words.sample("many", 0), ValueError, "a number of pictures, 0 to 1,000,000, got 'many'"),
    ("sample: too many", lambda: words.sample(BIG, 0), ValueError, "0 to 1,000,000"),
    ("sample: fewer than none", lambda: words.sample(-1, 0), ValueError, "got -1"),
    ("sample: a word for a seed", lambda: words.sample(1, "now"), ValueError, "seed must be"),
    ("sample: a setting", lambda: words.sample(1, 0, breath=1.), TypeError, "did you mean 'breadth'?"),
    ("sample: a camera's setting", lambda: words.sample(1, 0, camera=dict(azimut=(0, 1))), TypeError, "did you mean 'azimuth'?"),
    ("sample: a camera for its ranges", lambda: words.sample(1, 0, camera=camera), ValueError, "camera must be"),
]
TRUTH = [
    ("nearest_truth: a number", lambda: truth.nearest_truth(5, "a red mug"), ValueError, "image 5: give [3,H,W] with H = W, a multiple of 32"),
    ("nearest_truth: a file name", lambda: truth.nearest_truth("mug.png", "a red mug"), ValueError, "image must be an array of numbers, got 'mug.png'"),
    ("nearest_truth: None", lambda: truth.nearest_truth(None, "a red mug"), ValueError, "image None: give [3,H,W]"),
    ("nearest_truth: no square", lambda: truth.nearest_truth(np.zeros((3, 64, 60)), "a red mug"), ValueError, "image of shape (3, 64, 60): give [3,H,W]"),
    ("nearest_truth: bytes", lambda: truth.nearest_truth(255*white, "a red mug"), ValueError, "give [0,1]"),
    ("nearest_truth: NaN", lambda: truth.nearest_truth(np.nan*white, "a red mug"), ValueError, "give [0,1]"),
    ("nearest_truth: no prompt", lambda: truth.nearest_truth(white, 5), ValueError, "a prompt is a str, got int: 5"),
    ("nearest_truth: no object", lambda: truth.nearest_truth(white, "blurry"), ValueError, "names no object"),
    ("nearest_truth: a number for a camera", lambda: truth.nearest_truth(white, "a red mug", 30), ValueError, "camera must be of type Camera or None, got 30"),
    ("nearest_truth: no guess", lambda: truth.nearest_truth(white, "a red mug", starts=0), ValueError, "starts must be a whole number, 1 or more, got 0"),
    ("nearest_truth: a name", lambda: truth.nearest_truth(white, "a red mug", start=5), TypeError, "did you mean 'starts'?"),
    ("psnr: two sizes", lambda: truth.psnr(white, white[:, :32]), ValueError, "[3, 64, 64] and [3, 32, 64]"),
    ("psnr: a word", lambda: truth.psnr(white, "white"), ValueError, "b must be an array of numbers, got 'white'"),
    ("baselines: a colour", lambda: truth.baselines(white, "whit"), ValueError, "did you mean white"),
]
AUTOENCODER = [
    ("autoencoder: a word", lambda: latent.LinearAutoencoder("x"), ValueError, "patch must be a power of two, 1 to 64, got 'x'"),
    ("autoencoder: a patch of 3", lambda: latent.LinearAutoencoder(3), ValueError, "a power of two, 1 to 64, got 3"),
    ("autoencoder: a huge patch", lambda: latent.LinearAutoencoder(BIG), ValueError, "1 to 64"),
    ("autoencoder: more directions than numbers", lambda: latent.LinearAutoencoder(4, 100), ValueError, "latent_channels is 100; a patch has 48 numbers"),
    ("autoencoder: no channels", lambda: latent.LinearAutoencoder(latent_channels=0), ValueError, "latent_channels must be a whole number, 1 or more, got 0"),
    ("autoencoder: a name", lambda: latent.LinearAutoencoder(pach=4), TypeError, "did you mean 'patch'?"),
    ("fit: an array", lambda: latent.fit_autoencoder(white[None]), ValueError, "torch.as_tensor(...) makes a tensor of it"),
    ("fit: one picture", lambda: latent.fit_autoencoder(torch.zeros(3, 64, 64)), ValueError, "a float tensor [N, 3, H, W]"),
    ("fit: bytes", lambda: latent.fit_autoencoder(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)), ValueError, "got uint8 [2, 3, 64, 64]"),
    ("to_eps: a kind", lambda: latent.to_eps(torch.zeros(1), torch.zeros(1), torch.ones(()), "v_predicton"), ValueError, "did you mean 'v_prediction'?"),
    ("to_eps: None", lambda: latent.to_eps(torch.zeros(1), torch.zeros(1), torch.ones(()), None), ValueError, "unknown prediction type None"),
    ("prior: no pipeline", lambda: latent.LatentPrior(5), ValueError, "pipe must be a pipeline of Stable Diffusion or XL, got 5"),
    ("prior: the name of one", lambda: latent.LatentPrior("toy"), ValueError, "got 'toy': load_prior?"),
]
LOAD = [
    ("load: a dtype in words", lambda: checkpoints.load_prior(dtype="float16"), ValueError, "got 'float16': did you mean torch.float16?"),
    ("load: a dtype of another library", lambda: checkpoints.load_prior(dtype=np.float32), ValueError, "dtype must be a torch.dtype of floats such as torch.float32, or None"),
    ("load: whole numbers", lambda: checkpoints.load_prior(dtype=torch.int64), ValueError, "got torch.int64, whole numbers"),
    ("load: half precision on a CPU", lambda: checkpoints.load_prior(device="cpu", dtype=torch.float16), ValueError, "use dtype=torch.float32"),
    ("load: a device", lambda: checkpoints.load_prior(device="gpu9"), ValueError, "device 'gpu9' is not here; there are auto"),
    ("load: a device's number", lambda: checkpoints.load_prior(device="cpu:x"), ValueError, "device 'cpu:x' is no device; there are auto"),
    ("load: a number for a device", lambda: checkpoints.load_prior(device=-1), ValueError, "device '-1' is not here"),
    ("load: a number", lambda: checkpoints.load_prior(5), ValueError, "no prior is named (got 5): give 'toy'"),
    ("load: None", lambda: checkpoints.load_prior(None), ValueError, "no prior is named (got None)"),
    ("load: an array", lambda: checkpoints.load_prior(white), ValueError, "no prior is named (got float32 [3, 64, 64])"),
    ("load: a name", lambda: checkpoints.load_prior("toyy"), FileNotFoundError, "did you mean 'toy'?"),
    ("load: a file that is not there", lambda: checkpoints.load_prior("gone.safetensors", device="cpu"), FileNotFoundError, "there is no file gone.safetensors"),
    ("load: a pickle", lambda: checkpoints.load_prior("model.ckpt", device="cpu"), ValueError, "only .safetensors is read"),
    ("load: a keyword", lambda: checkpoints.load_prior(dtpye=torch.float32), TypeError, "did you mean dtype"),
    ("load: a prediction type", lambda: checkpoints.load_prior(prediction_type="v"), ValueError, "unknown prediction type 'v'"),
    ("load: a configuration", lambda: checkpoints.load_prior("a.safetensors", device="cpu", config=5), ValueError, "config must be a folder or a hub id, got 5"),
    ("load: a configuration for a folder", lambda: checkpoints.load_prior("toy", config="x"), ValueError, "config= is for a single .safetensors file"),
    ("load: a LoRA's number", lambda: checkpoints.load_prior(lora=7), TypeError, "lora=7: give a file"),
    ("load: the ideal prior on a GPU", lambda: checkpoints.load_prior("ideal", device="cuda"), ValueError, "computes on the CPU"),
    ("load: the ideal prior's option", lambda: checkpoints.load_prior("ideal", rendres=4), TypeError, "it takes"),
    ("missing_files: a number", lambda: checkpoints.missing_files(5), ValueError, "folder must be of type str or of type Path, got 5"),
    ("look_inside: a number", lambda: checkpoints.look_inside(5), ValueError, "path must be of type str or of type Path, got 5"),
]

@pytest.mark.parametrize("call, error, says", [pytest.param(*row[1:], id=row[0]) for row in WORLD + WORDS + TRUTH + AUTOENCODER + LOAD])
def test_a_wrong_call_is_answered(call, error, says, monkeypatch):
    "And nothing is drawn, loaded or asked for meanwhile"
    monkeypatch.setattr(world, "_draw", lambda *a: pytest.fail("a picture was drawn"))
    monkeypatch.setattr(checkpoints, "_load_folder", lambda *a, **k: pytest.fail("a folder was loaded"))
    with pytest.raises(error) as e: call()
    assert says in str(e.value), str(e.value)

@pytest.fixture(scope="module")
def toy(): return checkpoints.load_prior("toy", device="cpu")

x, image = torch.zeros(2, 16, 16, 16), torch.zeros(1, 3, 64, 64)
ASKED = [
    ("embed: a number", lambda p: p.embed(5), TypeError, "texts must be a str or a non-empty list of str, got 5"),
    ("embed: None", lambda p: p.embed(None), TypeError, "got None"),
    ("embed: none", lambda p: p.embed([]), TypeError, "non-empty"),
    ("embed: numbers", lambda p: p.embed([1, 2]), TypeError, "got [1, 2]"),
    ("embed: a tensor", lambda p: p.embed(x), TypeError, "got float32 [2, 16, 16, 16]"),
    ("words_read: a number", lambda p: p.words_read(5), TypeError, "text must be a str, got 5"),
    ("encode: an array", lambda p: p.encode(np.zeros((1, 3, 64, 64))), ValueError, "got float64 [1, 3, 64, 64]: torch.as_tensor(...)"),
    ("encode: None", lambda p: p.encode(None), ValueError, "images must be a tensor of floats [B,3,H,W] in [0,1], got None"),
    ("encode: one picture", lambda p: p.encode(image[0]), ValueError, "[B,3,H,W] in [0,1], got torch.float32 (3, 64, 64)"),
    ("encode: bytes", lambda p: p.encode(image.byte()), ValueError, "images.float() / 255"),
    ("encode: 0 to 255", lambda p: p.encode(image + 255), ValueError, "values up to 255 in size: divide by 255?"),
    ("encode: odd sides", lambda p: p.encode(image[..., :63]), ValueError, "multiples of 4, got (1, 3, 64, 63)"),
    ("encode: a seed", lambda p: p.encode(image, sample=True, generator=0), ValueError, "generator must be of type Generator or None, got 0"),
    ("decode: an array", lambda p: p.decode(x.numpy()), ValueError, "latents must be a tensor of floats [B,16,h,w], got float32 [2, 16, 16, 16]"),
    ("decode: a picture", lambda p: p.decode(image), ValueError, "latents must be floats [B,16,h,w], got torch.float32 (1, 3, 64, 64)"),
    ("decode: whole numbers", lambda p: p.decode(x.long()), ValueError, "got torch.int64"),
    ("eps: a picture", lambda p: p.eps(image, 5, p.embed("a")), ValueError, "x_t must be [B,16,h,w], got (1, 3, 64, 64)"),
    ("eps: one sample without its batch", lambda p: p.eps(x[0], 5, p.embed("a")), ValueError, "x_t must be [B,16,h,w], got (16, 16, 16)"),
    ("eps: a number", lambda p: p.eps(torch.tensor(1.), 5, p.embed("a")), ValueError, "x_t must be [B,16,h,w], got ()"),
    ("eps: an array", lambda p: p.eps(x.numpy(), 5, p.embed("a")), ValueError, "x_t must be a tensor of floats [B,16,h,w], got float32"),
    ("eps: None", lambda p: p.eps(None, 5, p.embed("a")), ValueError, "x_t must be a tensor of floats"),
    ("eps: whole numbers", lambda p: p.eps(x.long(), 5, p.embed(["a", "b"])), ValueError, "x_t must be floats [B,16,h,w], got torch.int64"),
    ("eps: a text", lambda p: p.eps(x, 5, "a red mug"), TypeError, "cond must be a Cond (prior.embed makes one), got str"),
    ("eps: one condition for two", lambda p: p.eps(x, 5, p.embed("a")), ValueError, "1 conditions for 2 samples"),
    ("eps: another model's condition", lambda p: p.eps(x, 5, Cond(torch.zeros(2, 12, 16))), ValueError, "cond is of another model"),
    ("eps: three times for two", lambda p: p.eps(x, torch.tensor([1, 2, 3]), p.embed(["a", "b"])), ValueError, "3 times for 2 samples"),
    ("eps: beyond the last time", lambda p: p.eps(x, 1000, p.embed(["a", "b"])), ValueError, "0..999"),
]

@pytest.mark.parametrize("call, error, says", [pytest.param(*row[1:], id=row[0]) for row in ASKED])
def test_a_prior_asked_wrongly(toy, call, error, says):
    "And the network is not called"
    before = toy.calls
    with pytest.raises(error) as e: call(toy)
    assert says in str(e.value) and toy.calls == before, str(e.value)
