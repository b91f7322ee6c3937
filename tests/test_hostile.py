"""Files that somebody made to harm, or that are broken in ways that used to hurt: code in a checkpoint, counts without data, pictures that are not their camera's.

Each test holds the right value of a fault that was found; `tests/fuzz` looks for more."""
import lucidteach     # before torch
import gzip, io, json, math, os, re, struct, subprocess, sys, warnings, zipfile, zlib
from pathlib import Path
import numpy as np, pytest, torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file

sys.path.insert(0, str(Path(__file__).parent))
from bench.bench_sd import build
from lucidteach.scene.meshes import read_mesh, usable, Mesh
from lucidteach.scene.points import load_points, load_shape
from lucidteach.prior import checkpoints, world
from lucidteach.prior.words import _background, parse
from lucidteach.run.files import parse_json, write_file
from lucidteach.prior.guidance import view_cond, with_view
from lucidteach.prior.latent import quiet
from lucidteach.prior.checkpoints import load_prior
from lucidteach.splat import files
from lucidteach.splat.camera import Camera
from lucidteach.splat.fit import Posed, Recipe, fit, save_fit
from lucidteach.splat.captures import load_colmap, load_transforms
from lucidteach.splat.gaussians import Gaussians
from lucidteach.splat.files import from_ply, from_sog, to_ply
from lucidteach.splat.fit import Posed, Recipe, fit, save_fit
from lucidteach.splat.captures import load_colmap, load_transforms
from lucidteach.splat.gaussians import Gaussians
from lucidteach.splat.files import from_ply, from_sog, to_ply

DEEP = "["*100_000 + "]"*100_000

# ---------------------------------------------------------------- checkpoints of diffusers

@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sd")/"m"
    with quiet(): build("sd15").save_pretrained(folder)
    return folder

@pytest.fixture
def copy(model, tmp_path):
    "A copy of which single files may be exchanged: the others are links"
    for f in model.rglob("*"):
        if f.is_file(): (tmp_path/f.relative_to(model)).parent.mkdir(parents=True, exist_ok=True); os.link(f, tmp_path/f.relative_to(model))
    return tmp_path

def put(file, data):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    file.write_text(data if isinstance(data, str) else json.dumps(data))

def index(folder, **changes): put(folder/"model_index.json", json.loads((folder/"model_index.json").read_text()) | changes)

@pytest.mark.parametrize("part, what, file", [("unet", ["evil", "Net"], "evil.py"), ("scheduler", ["evil", "Net"], "evil.py"), ("tokenizer", ["evil", "Net"], "evil.py"), ("text_encoder", ["evil", "Net"], "evil.py"),
    ("safety_checker", ["evil", "Net"], "evil.py"), ("extra", ["evil", "Net"], "evil.py"), ("unet", ["diffusers", "UNet2DConditionModel"], "diffusers.py"), ("vae", ["diffusers", "AutoencoderKL"], "diffusers.py"),
    ("unet", ["diffusers", "DiffusionPipeline"], "unet/evil.py"), ("text_encoder", ["transformers", "AutoModel"], "evil.py"), ("unet", ["os", "system"], "evil.py")])
def test_no_code_of_a_checkpoint_runs(copy, part, what, file):
    "Named by the index, under a library's own name, or in a pipeline within; whatever the version of diffusers does with it"
    ran, code = copy/"ran", "import pathlib; pathlib.Path({!r}).write_text('x')\nclass Net: pass\nclass UNet2DConditionModel: pass\nclass AutoencoderKL: pass"
    put(copy/part/file, code.format(str(ran)))
    if "/" in file: put(copy/part/"model_index.json", dict(_class_name="StableDiffusionPipeline", unet=["evil", "Net"])); put(copy/part/"unet"/"config.json", "{}")
    index(copy, **{part: what})
    with pytest.raises(ValueError, match="names code|is code in a checkpoint|which is no"): load_prior(copy, device="cpu")
    assert not ran.exists()

def test_a_shape_model_follows_the_same_rule(tmp_path):
    ran = tmp_path/"ran"
    put(tmp_path/"prior"/"evil.py", f"open({str(ran)!r}, 'w')\nclass Net: pass")
    put(tmp_path/"model_index.json", dict(_class_name="ShapEPipeline", prior=["evil", "Net"]))
    with pytest.raises(ValueError, match="names code of 'evil'"): load_shape(tmp_path)
    assert not ran.exists()

@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_pickle_is_refused_with_its_reason(copy, part):
    "One rule for all parts, though diffusers would open each of them"
    f, = (copy/part).glob("*.safetensors")
    name = "pytorch_model.bin" if part == "text_encoder" else f.with_suffix(".bin").name
    torch.save(load_file(f), copy/part/name); f.unlink()
    with pytest.raises(ValueError, match=f"{name}, a pickle, which can run any code"): load_prior(copy, device="cpu")

@pytest.mark.parametrize("file, change, says", [
    ("model_index.json", "[]", "holds a list, where a dict"), ("model_index.json", DEEP, "nested too deep"), ("unet/config.json", DEEP, "nested too deep"), ("model_index.json", dict(_class_name=["x", "y"]), "_class_name is"),
    ("model_index.json", dict(_class_name=7), "_class_name is 7"), ("model_index.json", dict(unet="x"), "unet is 'x'"), ("model_index.json", dict(scheduler=[1, 2]), "scheduler is"), ("scheduler/scheduler_config.json", "[1]", "holds a list"),
    ("scheduler/scheduler_config.json", dict(num_train_timesteps=10**9), "num_train_timesteps is 1000000000"), ("scheduler/scheduler_config.json", dict(num_train_timesteps="many"), "num_train_timesteps is 'many'"),
    ("unet/config.json", dict(block_out_channels=[10**9]*4), "more than its"), ("unet/config.json", dict(block_out_channels=[4000]*4), "asks for .* weights; the files beside it hold"), ("unet/config.json", dict(layers_per_block=10**6), "layers"),
    ("text_encoder/config.json", dict(num_hidden_layers=5000), "5,000 layers"), ("text_encoder/config.json", dict(hidden_size=8192, intermediate_size=8192), "asks for .* weights"), ("unet/config.json", dict(in_channels="x"), "unet/config.json|cannot be a prior"),
    ("text_encoder/config.json", dict(auto_map={"AutoModel": "evil.Net"}), "names code of its own"), ("unet/config.json", '{"sample_size": ' + "9"*400 + "}", "400 digits")])
def test_what_a_configuration_may_not_ask_for(copy, file, change, says):
    put(copy/file, change if isinstance(change, str) else json.loads((copy/file).read_text()) | change)
    with pytest.raises(ValueError, match=says): load_prior(copy, device="cpu")

def test_the_configuration_of_a_single_file_asks_for_no_more_than_the_file_holds(copy, tmp_path):
    single = tmp_path/"one.safetensors"
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(8, 4, 3, 3), "cond_stage_model.transformer.x": torch.zeros(9)}, single)
    for file, change, says in (("unet/config.json", dict(layers_per_block=10**6), "layers"), ("text_encoder/config.json", dict(hidden_size=8192, intermediate_size=8192), "asks for .* weights"), ("model_index.json", dict(unet=["evil", "Net"]), "names code of 'evil'"), ("model_index.json", "{}", "StableDiffusionPipeline")):
        old = (copy/file).read_text()
        put(copy/file, change if isinstance(change, str) else json.loads(old) | change)
        with pytest.raises((ValueError, FileNotFoundError), match=says): load_prior(single, config=copy, device="cpu")
        put(copy/file, old)

def test_shards_lie_beside_their_index(copy):
    f, = (copy/"unet").glob("*.safetensors")
    for shard, error in (("../../elsewhere.safetensors", ValueError), ("x.bin", ValueError), ("gone.safetensors", FileNotFoundError)):
        put(copy/"unet"/f"{f.stem}.safetensors.index.json", dict(weight_map={"conv_in.weight": shard}))
        with pytest.raises(error, match="beside it|lacks"): load_prior(copy, device="cpu")

@pytest.mark.parametrize("kw, error, says", [(dict(name=None), ValueError, "no prior is named .got None"), (dict(name=7), ValueError, "no prior is named"), (dict(name=["toy"]), ValueError, "no prior is named"), (dict(name="toyy"), FileNotFoundError, "did you mean 'toy'"), (dict(name="ideel-detail"), FileNotFoundError, "did you mean 'ideal-detail'"), (dict(name="a red mug"), FileNotFoundError, "owner/name"),
    (dict(name="x"*9999), FileNotFoundError, "no prior 'x"), (dict(lora_scale=1), TypeError, "lora={'style.safetensors': 1}"), (dict(trust_remote_code=True), TypeError, "run code"), (dict(custom_pipeline="x"), TypeError, "run code"),
    (dict(use_safetensors=False), ValueError, "pickle"), (dict(lora=7), TypeError, "lora=7"), (dict(lora={"a": "strong"}), ValueError, "strength of LoRA a"), (dict(lora={"a": math.nan}), ValueError, "finite"), (dict(lora="style.bin"), ValueError, "pickle"), (dict(lora="style.safetensor"), FileNotFoundError, "style.safetensor: no such file.*owner/name"), (dict(lora="style"), FileNotFoundError, "no such file")])
def test_wrong_calls_of_load_prior(kw, error, says, monkeypatch):
    "Answered at once: nobody is asked"
    for f in ("load_config", "download", "from_pretrained"): monkeypatch.setattr(checkpoints.DiffusionPipeline, f, lambda *a, **k: pytest.fail("asked"))
    monkeypatch.setattr(checkpoints, "snapshot_download", lambda *a, **k: pytest.fail("asked"))
    with pytest.raises(error, match=says): load_prior(**kw)

@pytest.mark.parametrize("form", ["peft", "diffusers", "processor"])
def test_a_lora_is_applied_whole_or_not_at_all(model, tmp_path, form):
    "A layer that does not exist is named; the same file without it loads"
    pytest.importorskip("peft")
    layer, wrong = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", "down_blocks.9.attentions.0.transformer_blocks.0.attn1.to_q"
    names = dict(peft=("{}.lora_A.weight", "{}.lora_B.weight"), diffusers=("{}.lora.down.weight", "{}.lora.up.weight"), processor=("{}_lora.down.weight", "{}_lora.up.weight"))[form]
    path = lambda k: k.replace(".to_q", ".processor.to_q") if form == "processor" else k
    with safe_open(next((model/"unet").glob("*.safetensors")), "pt") as f: out, inn = f.get_slice(f"{layer}.weight").get_shape()
    state = lambda *layers: {"unet." + n.format(path(k)): torch.ones(s) for k in layers for n, s in zip(names, ((2, inn), (out, 2)))}
    save_file(state(layer), tmp_path/"good.safetensors"); save_file(state(layer, wrong), tmp_path/"bad.safetensors")
    load_prior(model, device="cpu", lora=tmp_path/"good.safetensors")
    with pytest.raises(ValueError, match="1 of its 2 layers are not there: unet.down_blocks.9|does not fit this model.*down_blocks.9"): load_prior(model, device="cpu", lora=tmp_path/"bad.safetensors")

def test_a_lora_as_most_are_written(model, tmp_path):
    "kohya's names, with underscores and alphas, for all layers of UNet and text encoder: all are there; and with one more, that one is named"
    pytest.importorskip("peft")
    pipe, state = load_prior(model, device="cpu").pipe, {}
    for head, net in (("lora_unet_", pipe.unet), ("lora_te_text_model_", pipe.text_encoder)):
        for k, m in net.named_modules():
            if not isinstance(m, torch.nn.Linear) or head == "lora_unet_" and not re.search("attn|ff", k): continue
            name = head + k.removeprefix("text_model.").replace(".", "_")
            state |= {f"{name}.lora_down.weight": torch.ones(2, m.in_features), f"{name}.lora_up.weight": torch.ones(m.out_features, 2), f"{name}.alpha": torch.tensor(2.)}
    save_file(state, tmp_path/"all.safetensors")
    loaded = load_prior(model, device="cpu", lora=tmp_path/"all.safetensors").pipe
    assert sum("lora0" in getattr(m, "lora_A", ()) for net in (loaded.unet, loaded.text_encoder) for m in net.modules()) == len(state)/3 > 50
    first = next(iter(state)).split(".")[0]
    save_file(state | {k.replace("down_blocks_0", "down_blocks_7"): v.clone() for k, v in state.items() if k.startswith(first)}, tmp_path/"more.safetensors")
    with pytest.raises(ValueError, match=f"1 of its {len(state)//3 + 1} layers are not there: unet.down_blocks.7"): load_prior(model, device="cpu", lora=tmp_path/"more.safetensors")

# ---------------------------------------------------------------- words

def test_words_that_the_text_encoder_does_not_read_are_said(model):
    "The tokenizer's own count of the tokens is the reference"
    prior = load_prior(model, device="cpu")
    tok = prior.pipe.tokenizer
    for text in ("a b c", "a "*40, "abcdefgh ijklmnop qrstuv", "abcdefghijklmnopqrstuvwxyz", ""):
        words = text.split()
        n = max(k for k in range(len(words) + 1) if len(tok(" ".join(words[:k])).input_ids) <= 16)
        assert prior.words_read(text) == n
        with warnings.catch_warnings(record=True) as said: warnings.simplefilter("always"); prior.embed(text)
        assert [str(w.message) for w in said if "does not read" in str(w.message)] == ([f"the text encoder reads 16 tokens; of {text[:60]!r} it does not read the words {' '.join(words[n:])!r}"] if n < len(words) else [])

def test_the_view_keeps_its_room(model):
    "Without room front and back would embed alike; the embedding is that of the words that are left, view last"
    prior = load_prior(model, device="cpu")
    long = "a b x y z x y z x y z x y z"
    with pytest.warns(UserWarning, match="loses the words '.*x y z'"): text = with_view(prior, long, "f view")
    kept = text.removesuffix(", f view")
    assert text.endswith(", f view") and long.startswith(kept + " ") and prior.words_read(text) == len(text.split())
    longer = " ".join(long.split()[:len(kept.split()) + 1]) + ", f view"
    assert prior.words_read(longer) < len(longer.split())                              # not a word more would do
    assert with_view(prior, "a", "f view") == "a, f view"
    with warnings.catch_warnings(action="ignore"): front, back = (prior.embed(with_view(prior, "a "*40, v)).emb for v in ("a view", "b view"))
    with warnings.catch_warnings(action="ignore"): assert not torch.equal(front, back) and torch.equal(*(prior.embed("a "*40 + v).emb for v in ("a view", "b view")))

def test_view_words_of_a_long_prompt(monkeypatch):
    toy = load_prior("toy", device="cpu")
    with pytest.warns(UserWarning, match="loses the words"): c = view_cond(toy, "a " + "very "*60 + "red mug", [0., 180.])
    assert not torch.equal(c.emb[0], c.emb[1])

SLOW = [re.compile(p) for plain in [r"(?:an? |the )?(?:(?:plain|solid|pure|simple|clean|bright|light|dark|pale) )*"] for p in
        (rf"(?:\b(?:on|against|over|before|in front of) )?{plain}\b([a-z]+) (?:colou?red )?(?:background|backdrop)\b", rf"\b(?:on|against) {plain}([a-z]+)\b")]

def test_the_background_is_found_as_by_two_expressions():
    "The expressions that took a time quadratic in the prompt: where they read something, the same is read"
    rng, kept = np.random.default_rng(0), 0
    words = "a an the on against over before in front of plain light dark red black gray grey coloured colored background backdrop mug , 3d pale".split()
    for _ in range(4000):
        text = " ".join(rng.choice(words, rng.integers(1, 10)))
        m = SLOW[0].search(text) or SLOW[1].search(text)
        name = "white" if not m else {"grey": "gray", "plain": "white"}.get(m[1], m[1])
        if name not in world.BACKGROUNDS: continue
        kept += 1
        assert _background(text) == (name, text[:m.start()] + " , " + text[m.end():] if m else text), text
    assert kept > 1000

def test_a_long_prompt_is_read_in_proportion_to_its_length():
    "What is counted is the work, not the time: calls of Python functions, of which there are no more per word in a long prompt"
    def work(n):
        calls = 0
        def count(frame, event, arg):
            nonlocal calls
            calls += event in ("call", "c_call")
        sys.setprofile(count)
        try: parse("light dark "*n + "red mug on a light gray background")
        finally: sys.setprofile(None)
        return calls
    work(1)
    assert work(20_000) < 25*work(1000) + 1000
    assert parse("light "*24_000 + "red mug").color == "red"

# ---------------------------------------------------------------- JSON and files

@pytest.mark.parametrize("text, says", [(DEEP, "nested too deep"), ('{"a": ' + "9"*400 + "}", "400 digits"), ('{"a": 1e400}', "too large"), ("[]", "a list, where a dict"), ("{", "no JSON"), (b"\xff\xfe\xfd", "no JSON")])
def test_json(text, says):
    with pytest.raises(ValueError, match=f"a.json.*{says}"): parse_json(text, "a.json")

def test_a_planted_link_is_not_followed(tmp_path):
    "Neither the file's own name nor that of the file that is written first leads into another's"
    other = tmp_path/"other"; other.write_text("mine")
    (tmp_path/"a.ply").symlink_to(other); (tmp_path/f".fit.safetensors.{os.getpid()}.tmp").symlink_to(other)
    Gaussians.ball(3).save(tmp_path/"a.ply")
    g = Gaussians.ball(4)
    for s in fit(Posed(torch.full((1, 3, 8, 8), .5), Camera.orbit(0., size=8)), g, Recipe(steps=1), None, checkpoint=tmp_path/"fit.safetensors"): pass
    assert other.read_text() == "mine" and not (tmp_path/"a.ply").is_symlink() and (tmp_path/"fit.safetensors").stat().st_size > 1000

# ---------------------------------------------------------------- scenes

@pytest.fixture(scope="module")
def torus():
    g = Gaussians.primitive("torus", 200, sh_degree=2, seed=1)
    g.sh.normal_(generator=torch.Generator().manual_seed(0)); g.logits = torch.linspace(-6, 6, 200)
    g.quats = torch.randn(200, 4, generator=torch.Generator().manual_seed(1))
    return g

@pytest.mark.parametrize("degree", [0, 1, 2])
def test_sog_by_another_reader(torus, degree, tmp_path):
    "gaussforge reads the same numbers from a whole file"
    pytest.importorskip("gaussforge")
    data = torus.with_degree(degree).save(tmp_path/"a.sog").read_bytes()
    ours, theirs = from_sog(data), from_ply(files._foreign(data, "sog", "ply"))
    for k in ("means", "log_scales", "logits", "sh"): torch.testing.assert_close(getattr(ours, k), getattr(theirs, k), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.nn.functional.normalize(ours.quats, dim=1), torch.nn.functional.normalize(theirs.quats, dim=1), atol=1e-5, rtol=0)

def zipped(parts, **kw):
    with zipfile.ZipFile(out := io.BytesIO(), "w", **kw) as z:
        for k, v in parts.items(): z.writestr(k, v)
    return out.getvalue()

@pytest.fixture(scope="module")
def sog(torus, tmp_path_factory):
    pytest.importorskip("gaussforge")
    z = zipfile.ZipFile(torus.save(tmp_path_factory.mktemp("sog")/"a.sog"))
    return {k: z.read(k) for k in z.namelist()}

@pytest.mark.parametrize("change, says", [(lambda m: m["means"].pop("mins"), "mins"), (lambda m: m.update(count=10**9), "1,000,000,000"), (lambda m: m.update(count=-1), "-1 Gaussians"), (lambda m: m.update(count="x"), "'x' Gaussians"), (lambda m: m.update(count=100_000), "promises 100000 values"),
    (lambda m: m["scales"].update(codebook=[0.]), "256 numbers"), (lambda m: m["sh0"].update(codebook=[None]*256), "256 numbers"), (lambda m: m["shN"].update(bands=9), "bands"), (lambda m: m["shN"].update(count=2), "palette"), (lambda m: m.update(means=None), "NoneType"), (lambda m: m["quats"].update(files=["../x"]), "x")])
def test_damaged_sog_is_refused(sog, change, says):
    meta = json.loads(sog["meta.json"]); change(meta)
    with pytest.raises(ValueError, match=says): from_sog(zipped(sog | {"meta.json": json.dumps(meta)}))

def test_only_named_parts_of_a_sog_are_unpacked(sog, monkeypatch):
    "An extra entry of a gigabyte is never touched; a named part that unpacks to far more than the file is refused"
    read, real = [], zipfile.ZipFile.read
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda self, name, *a: (read.append(str(name)), real(self, name, *a))[1])
    extra = zipped(sog | {"bomb": bytes(50_000_000)}, compression=zipfile.ZIP_DEFLATED)
    assert len(from_sog(extra)) == 200 and "bomb" not in read and len(extra) < 2e6
    meta = json.loads(sog["meta.json"])
    with pytest.raises(ValueError, match="unpacks to"): from_sog(zipped(sog | {meta["means"]["files"][0]: bytes(50_000_000)}, compression=zipfile.ZIP_DEFLATED))
    for k in set(sog) - {"meta.json"}:
        with pytest.raises(ValueError): from_sog(zipped(sog | {k: sog[k][:len(sog[k])//2]}))

def test_a_small_spz_does_not_take_gigabytes(torus, tmp_path, monkeypatch):
    "The native reader is not asked"
    pytest.importorskip("gaussforge")
    raw = bytearray(gzip.decompress(torus.save(tmp_path/"a.spz").read_bytes()))
    assert len(Gaussians.load(tmp_path/"a.spz")) == 200
    monkeypatch.setattr(files, "_forge", lambda: pytest.fail("asked"))
    for count, says in ((50_000_000, "50,000,000"), (9_000_000, "too few"), (100, "too many"), (0, "promises 0")):
        raw[8:12] = struct.pack("<I", count)
        (tmp_path/"b.spz").write_bytes(gzip.compress(bytes(raw)))
        with pytest.raises(ValueError, match=f"b.spz.*{says}"): Gaussians.load(tmp_path/"b.spz")
    for data in (b"", b"\x1f\x8b", gzip.compress(b"NGSP")): 
        (tmp_path/"b.spz").write_bytes(data)
        with pytest.raises(ValueError, match="b.spz"): Gaussians.load(tmp_path/"b.spz")

@pytest.mark.parametrize("kind", ["ply", "compressed.ply", "splat", "ksplat", "spz", "sog"])
@pytest.mark.parametrize("opacity", [1e-7, .0019, .9981, .9999999])
def test_opacities_near_0_and_1_come_back(tmp_path, kind, opacity):
    pytest.importorskip("gaussforge")
    g = Gaussians.ball(9, opacity=opacity)
    back = Gaussians.load(g.save(tmp_path/f"a.{kind}"))
    assert back.logits.isfinite().all() and (back.opacities - opacity).abs().max() < 1/255 + 1e-4      # a step of the 8 bits that most formats have

@pytest.mark.parametrize("sign", [1, -1])
def test_infinite_opacity_is_drawn_as_0_or_1_and_nan_is_an_error(sign, tmp_path):
    "The picture is that of the largest, or smallest, opacity; and the viewer takes what the loader took"
    from lucidteach.viz.viewer import pack
    g = Gaussians.ball(5, scale=.3, rgb=(.9, .2, .1)); g.logits[2] = sign*math.inf
    data = to_ply(g); at = data.index(b"end_header\n") + 11
    raw = np.frombuffer(data, "<f4", offset=at).reshape(5, -1).copy(); column = re.findall(rb"property float (\w+)", data).index(b"opacity")
    raw[2, column] = sign*np.inf
    back = from_ply(data[:at] + raw.tobytes())
    assert back.logits.isfinite().all() and len(pack(back)) and abs(float(back.opacities[2]) - (sign > 0)) < 1e-4
    limit = g.detach(); limit.logits[2] = sign*80.
    cam = Camera.orbit(20., size=16)
    assert (back.render(cam).rgb - limit.render(cam).rgb).abs().max() < 1e-3
    raw[2, column] = np.nan
    with pytest.raises(ValueError, match="row 2, column 'opacity' holds nan"): from_ply(data[:at] + raw.tobytes())

# ---------------------------------------------------------------- meshes

HEAD = "ply\nformat {} 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\nelement face {}\nproperty list {} int vertex_indices\nend_header\n"
BODY = struct.pack("<9f", 0, 0, 0, 1, 0, 0, 0, 1, 0)

@pytest.mark.parametrize("data, says", [((HEAD.format("binary_little_endian", 1, "int").encode() + BODY + struct.pack("<i", -3) + bytes(12)), "list of -3"), ((HEAD.format("ascii", 1, "int") + "0 0 0 1 0 0 0 1 0\n-4 0 1 2\n").encode(), "list of -4"),
    ((HEAD.format("binary_little_endian", 10**12, "uchar").encode() + BODY), "cut off"), ((HEAD.format("binary_little_endian", 1, "int").encode() + BODY + struct.pack("<i", 2**31 - 1)), "cut off"), ((HEAD.format("binary_little_endian", "9"*40, "int").encode() + BODY), "rows of face")])
def test_lists_of_a_mesh(tmp_path, data, says):
    (tmp_path/"a.ply").write_bytes(data)
    with pytest.raises(ValueError, match=f"a.ply: .*{says}"): read_mesh(tmp_path/"a.ply")

def test_points_have_three_coordinates(tmp_path):
    (tmp_path/"a.obj").write_text("v 0 0\nv 1 0\nv 0 1\nf 1 2 3\n")
    with pytest.raises(ValueError, match="a.obj"): read_mesh(tmp_path/"a.obj")
    with pytest.raises(ValueError, match=r"shape \[4, 2\].*x, y and z"): usable(Mesh(torch.rand(4, 2)))

def test_a_mesh_reads_nothing_outside_of_its_folder(tmp_path):
    "A material's texture, and a glTF's buffer"
    (tmp_path/"in").mkdir(); Image.new("RGB", (2, 2), (255, 0, 0)).save(tmp_path/"secret.png")
    (tmp_path/"in"/"a.mtl").write_text("newmtl m\nmap_Kd ../secret.png\n")
    (tmp_path/"in"/"a.obj").write_text("mtllib a.mtl\nusemtl m\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nf 1/1 2/2 3/3\n")
    try: assert (c := read_mesh(tmp_path/"in"/"a.obj").colours) is None or c[0].tolist() != [1, 0, 0]
    except ValueError: pass
    (tmp_path/"secret.bin").write_bytes(BODY)
    (tmp_path/"in"/"a.gltf").write_text(json.dumps(dict(asset=dict(version="2.0"), scenes=[dict(nodes=[0])], nodes=[dict(mesh=0)], meshes=[dict(primitives=[dict(attributes=dict(POSITION=0))])],
        accessors=[dict(bufferView=0, componentType=5126, count=3, type="VEC3")], bufferViews=[dict(buffer=0, byteOffset=0, byteLength=36)], buffers=[dict(uri="../secret.bin", byteLength=36)])))
    with pytest.raises(ValueError, match="outside of its folder"): read_mesh(tmp_path/"in"/"a.gltf")

def test_a_point_model_is_no_larger_than_its_file(tmp_path):
    from lucidteach.scene.points import TOY_POINTS
    c = json.loads((TOY_POINTS/"config.json").read_text())
    (tmp_path/"model.safetensors").write_bytes((TOY_POINTS/"model.safetensors").read_bytes())
    for net in (dict(width=4096), dict(depth=10**9), "x", dict(width=-1), dict(color=1)):
        (tmp_path/"config.json").write_text(json.dumps(c | dict(net=net)))
        with pytest.raises(ValueError, match="config.json"): load_points.__wrapped__(tmp_path)

# ---------------------------------------------------------------- photographs

POSES = "1 0 0 0 0 0 3"
def colmap(folder, images, size=(8, 6), camera=(8, 6)):
    (folder/"sparse").mkdir(parents=True); (folder/"images").mkdir()
    (folder/"sparse"/"cameras.txt").write_text(f"# list\n1 PINHOLE {camera[0]} {camera[1]} 9 9 4 3\n"); (folder/"sparse"/"images.txt").write_text(images)
    for i in range(3): Image.new("RGB", size, (i*80, 0, 0)).save(folder/"images"/f"{i}.png")
    return folder

@pytest.mark.parametrize("text", ["{0}\n\n{1}\n\n{2}\n\n", "{0}\n{1}\n{2}\n", "# a\n\n{0}\n\n{1}\n\n{2}\n", "\n\n# a\n{0}\n1.5 2 -1\n{1}\n\n\n{2}", "# a\n{0}\n1.5 2 -1 3 4 7\n# b\n{1}\n{2}\n1 2 3\n"], ids=range(5))
def test_colmap_texts_as_programs_write_them(tmp_path, text):
    "With second lines, without any, with empty lines between and before: three pictures"
    rows = [f"{i + 1} {POSES} 1 {i}.png" for i in range(3)]
    assert load_colmap(colmap(tmp_path/"a", text.format(*rows))).names == ["0.png", "1.png", "2.png"]

def test_a_picture_is_its_cameras(tmp_path):
    "At any scale, with a pixel of rounding; a picture on its side and one that was cropped are refused, in both kinds of folder"
    rows = "".join(f"{i + 1} {POSES} 1 {i}.png\n\n" for i in range(3))
    K = load_colmap(colmap(tmp_path/"half", rows, (40, 30), (81, 60))).camera.Ks[0]
    assert abs(K[0, 0] - 9*40/81) < 1e-4 and abs(K[1, 1] - 9*30/60) < 1e-4
    for size, says in (((40, 30), "40 x 30 pixels, its camera 30 x 40.*on its side"), ((30, 30), "cropped")):
        with pytest.raises(ValueError, match=says): load_colmap(colmap(tmp_path/f"{size[1]}{size[0]}", rows, size, (30, 40)))
    frame = dict(file_path="images/0.png", transform_matrix=np.eye(4).tolist())
    for h, says in ((40, "on its side"), (25, "cropped")):
        (tmp_path/"half"/"transforms.json").write_text(json.dumps(dict(fl_x=50., w=40 if h == 25 else 30, h=h, frames=[frame])))
        with pytest.raises(ValueError, match=says): load_transforms(tmp_path/"half")

@pytest.mark.parametrize("text, says", [('{"frames": ["x"]}', "list of"), ("[]", "a list, where a dict"), (DEEP, "nested too deep"), ('{"frames": {}}', "list of"), ('{"camera_angle_x": 1, "frames": [{"file_path": ["x"], "transform_matrix": []}]}', "frame 0"), ('{"w": ' + "9"*400 + ', "frames": []}', "400 digits"),
    ('{"fl_x": 99999999999999999, "frames": [{"file_path": "x", "transform_matrix": [[1,0,0,0],[0,1,0,0],[0,0,1,0],[0,0,0,1]]}]}', "not a number"), ('{"frames": [{"file_path": "x\\u0000", "transform_matrix": [[1,0,0,0],[0,1,0,0],[0,0,1,0],[0,0,0,1]], "fl_x": 9}]}', "no name of a file"),
    ('{"frames": [{"file_path": "../x.png", "transform_matrix": [[1,0,0,0],[0,1,0,0],[0,0,1,0],[0,0,0,1]], "fl_x": 9}]}', "outside"), ('{"train_filenames": 3, "frames": [{}]}', "train_filenames is 3")])
def test_transforms(tmp_path, text, says):
    (tmp_path/"transforms.json").write_text(text)
    with pytest.raises(ValueError, match=says): load_transforms(tmp_path)

def test_a_picture_is_a_picture(tmp_path):
    "A PostScript program under a picture's name is not run; a picture of a trillion pixels is not unpacked"
    rows = f"1 {POSES} 1 0.png\n\n"
    folder = colmap(tmp_path/"a", rows)
    (folder/"images"/"0.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n%%EndComments\nshowpage\n")
    with pytest.raises(ValueError, match="no picture that can be read"): load_colmap(folder)
    chunk = lambda k, d: struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d))
    (folder/"images"/"0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 80_000, 60_000, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    with pytest.raises(ValueError, match="up to 100,000,000|no picture"): load_colmap(folder)

# ---------------------------------------------------------------- checkpoints of a fit

@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    "(arguments of fit, the file after three steps of six, its tensors, its header)"
    args = dict(views=Posed(torch.full((2, 3, 8, 8), .5), Camera.orbit([0., 90.], size=8)), start=Gaussians.ball(6, radius=.5, sh_degree=1), recipe=Recipe(steps=6))
    f = tmp_path_factory.mktemp("fit")/"fit.safetensors"
    for s in fit(**args, checkpoint=f, save_every=3):
        if s.step == 3: break
    with safe_open(f, "pt") as t: return args, f.read_bytes(), {k: t.get_tensor(k) for k in t.keys()}, t.metadata()

def heads(head):
    now = json.loads(head["fit"])
    yield from (head | dict(fit=json.dumps(now | {k: v})) for k, v in [("counts", {}), ("counts", {"scene_scale": "x"}), ("step", "x"), ("step", -1), ("step", 7), ("step", 10**17), ("step", None), ("step", True), ("counts", []), ("extent", 0), ("extent", "x"), ("loss", None), ("psnr", [])])
    yield from (head | dict(fit=json.dumps({j: v for j, v in now.items() if j != k})) for k in now)
    yield from (head | dict(fit=t) for t in ("[]", "{", DEEP, "7"))
    yield {k: v for k, v in head.items() if k != "fit"}

def test_incomplete_checkpoints_are_no_whole_ones(begun, tmp_path):
    "Each tensor gone, of another shape, type or name; each number of the header gone or wrong: the same answer"
    args, whole, tensors, head = begun
    (tmp_path/"c.safetensors").write_bytes(whole)
    assert [s.step for s in fit(**args, checkpoint=tmp_path/"c.safetensors")] == [4, 5, 6]
    broken = [(t, head) for k, v in tensors.items() for t in ({j: v for j, v in tensors.items() if j != k}, tensors | {k: v.flatten()[:-1].clone() if v.ndim else v.bool()}, {("x." + j if j == k else j): v for j, v in tensors.items()}, tensors | {k: v.long()})]
    broken += [(tensors | {"param.means": tensors["param.means"].long()}, head), (tensors | {"param.means": tensors["param.means"]*math.nan}, head), (tensors | {"param.extra": torch.zeros(6)}, head)]
    broken += [(tensors, h) for h in heads(head)]
    for t, h in broken:
        (tmp_path/"c.safetensors").write_bytes(save(t, h))
        with pytest.raises(ValueError, match="c.safetensors is no whole checkpoint.*delete it"): fit(**args, checkpoint=tmp_path/"c.safetensors")

def test_a_full_disk_names_the_file(begun, tmp_path, monkeypatch):
    "One error, no temporary file, the old checkpoint as it was"
    args, old = begun[:2]
    (tmp_path/"c.safetensors").write_bytes(old)
    class Full(io.RawIOBase):
        def __init__(self, fd): self.fd = fd
        def write(self, b): raise OSError(28, "No space left on device")
        def close(self): os.close(self.fd) if self.fd is not None else None; self.fd = None
    from lucidteach.prior import files
    monkeypatch.setattr(files.os, "fdopen", lambda fd, mode: Full(fd))
    with pytest.raises(OSError, match="c.safetensors could not be written .No space left on device"):
        for _ in fit(**args, checkpoint=tmp_path/"c.safetensors"): pass
    assert (tmp_path/"c.safetensors").read_bytes() == old and os.listdir(tmp_path) == ["c.safetensors"]

# ---------------------------------------------------------------- wrong calls

VIEWS = Posed(torch.full((1, 3, 8, 8), .5), Camera.orbit(0., size=8))

@pytest.mark.parametrize("call, error, says", [
    (lambda: fit(VIEWS, recipe={}), TypeError, "recipe is a dict: give a Recipe.*steps"), (lambda: fit(VIEWS, recipe=None), TypeError, "recipe is a NoneType"), (lambda: fit("folder"), TypeError, "views is a str: give a Posed"), (lambda: fit(VIEWS, start=3), TypeError, "start is a int"),
    (lambda: Gaussians.ball(3).render(None), TypeError, "camera is a NoneType: give a Camera"), (lambda: Gaussians.ball(3).render(VIEWS.camera, background="white"), ValueError, r"background='white': give three numbers"),
    (lambda: Gaussians.ball(3).render(VIEWS.camera, background=(1, 1)), ValueError, r"shape \[2\]"), (lambda: Gaussians.ball(3).render(VIEWS.camera, background=(255, 0, 0)), ValueError, r"divide bytes by 255"),
    (lambda: lucidteach.rasterization(*(torch.rand(2, n) for n in (3, 4, 3)), torch.rand(2), torch.rand(2, 3), **VIEWS.camera.args(), backgrounds=(1, 1, 1)), ValueError, r"backgrounds is of type tuple, wanted a tensor \[1, 3\]")])
def test_wrong_calls_are_answered(call, error, says):
    with pytest.raises(error, match=says): call()

def test_a_camera_needs_no_field_of_view():
    assert abs(float(Camera.orbit(30.).fov_deg[0]) - world.Camera().fov) < 1e-4
    with pytest.raises(ValueError, match="once"): Camera.orbit(30., fov_deg=40, fov_rad=.5)
