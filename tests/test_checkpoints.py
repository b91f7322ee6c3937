"""Real checkpoints in miniature: every family built with random weights, saved, loaded as a stranger would, and asked for one step of SDS and of ISM.

The reference is written out here from the papers' formulas on diffusers' bare modules; it uses nothing of lucidteach. Files, and what is refused, are in
test_checkpoints_files.py, LoRAs in test_checkpoints_lora.py."""
import json, subprocess, sys
import pytest, torch

from lucidteach.distill.methods import METHODS
from lucidteach.prior import checkpoints, latent
from lucidteach.prior.checkpoints import KNOWN, load_prior, missing_files
from lucidteach.prior.latent import LatentPrior, quiet
from tiny import F64, FAMILIES, build, changed, far, folders                # folders: a fixture

# ---------------------------------------------------------------- the straight-line reference
abar, product = [], 1.
for i in range(1000):
    product *= 1 - (.00085**.5 + (.012**.5 - .00085**.5)*i/999)**2
    abar.append(product)
gamma = [((1 - a)/a)**.5 for a in abar]

def encode_text(pipe, text, xl):
    "Rows for each token, and SDXL's added parts; SDXL's null prompt is zeros"
    ids = lambda tok: tok(text, padding="max_length", max_length=16, truncation=True, return_tensors="pt").input_ids
    if not xl: return pipe.text_encoder(ids(pipe.tokenizer))[0], None
    one = pipe.text_encoder(ids(pipe.tokenizer), output_hidden_states=True)
    two = pipe.text_encoder_2(ids(pipe.tokenizer_2), output_hidden_states=True)
    emb, pooled = torch.cat([one.hidden_states[-2], two.hidden_states[-2]], -1), two.text_embeds
    if text == "": emb, pooled = torch.zeros_like(emb), torch.zeros_like(pooled)
    return emb, dict(text_embeds=pooled, time_ids=torch.tensor([[64, 64, 0, 0, 64, 64]], dtype=emb.dtype))

def network(pipe, x, t, text):
    "The noise that the bare UNet sees, one sample after the other; t None is clean data, where it is asked at its first time"
    i, xl = t or 0, hasattr(pipe, "text_encoder_2")
    emb, more = encode_text(pipe, text, xl)
    out = torch.cat([pipe.unet(one, i, emb, added_cond_kwargs=more).sample for one in x.split(1)])
    return abar[i]**.5*out + (1 - abar[i])**.5*x if pipe.scheduler.config.prediction_type == "v_prediction" else out

def guided(pipe, x, t, text, g=7.5):
    null = network(pipe, x, t, "")
    return null + g*(network(pipe, x, t, text) - null)

def sds_reference(pipe, x, t, text, noise):
    x_t = abar[t]**.5*x + (1 - abar[t])**.5*noise
    return (1 - abar[t])*(guided(pipe, x_t, t, text) - noise)

def ism_reference(pipe, x, text):
    "t = 300, delta_T = 50, delta_S = 200: clean data -> 200 -> 250 -> 300; the target is the null prediction at 250"
    x_200 = abar[200]**.5*(x + gamma[200]*network(pipe, x, None, ""))
    x_250 = abar[250]**.5*(x_200/abar[200]**.5 + (gamma[250] - gamma[200])*network(pipe, x_200, 200, ""))
    target = network(pipe, x_250, 250, "")
    x_300 = abar[300]**.5*(x_250/abar[250]**.5 + (gamma[300] - gamma[250])*target)
    return gamma[300]*(guided(pipe, x_300, 300, text) - target)


# ---------------------------------------------------------------- every family
@pytest.mark.parametrize("family", FAMILIES)
def test_one_step_of_sds_and_ism(folders, family):
    prior = load_prior(folders/family, **F64)
    assert prior.prediction_type == ("v_prediction" if family == "sd21" else "epsilon")
    assert prior.latent_shape == (4, 8, 8) and prior.image_size == 64
    x, noise = torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad(): sds, ism = sds_reference(prior.pipe, x, 300, "a red mug", noise), ism_reference(prior.pipe, x, "a red mug")
    got = METHODS["sds"](prior, x, "a red mug", 300, noise=noise, weight="sigma2")
    assert far(got.grad, sds) < 1e-5 and got.calls == 4                 # 1e-5: diffusers rounds its abar to float32
    got = METHODS["ism"](prior, x, "a red mug", 300, delta_t=50, delta_s=200)
    assert far(got.grad, ism) < 1e-5 and got.calls == 2*(2 + 1 + 2)

@pytest.mark.parametrize("family", FAMILIES)
def test_autoencoder_and_its_gradient(folders, family):
    prior = load_prior(folders/family, **F64)
    image = torch.rand(1, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    scale = .13025 if family == "sdxl" else .18215
    moments = prior.pipe.vae.quant_conv(prior.pipe.vae.encoder(2*image - 1))
    # 1e-12 here and below: float64 in small networks, 1e-16 times some thousand roundings
    assert far(prior.encode(image), scale*moments[:, :4]) < 1e-12 and prior.encode(image).shape == (1, 4, 2, 2)
    weight = torch.randn(1, 4, 2, 2, dtype=torch.float64)
    grad, = torch.autograd.grad((prior.encode(image)*weight).sum(), image)
    d = torch.randn_like(image)
    with torch.no_grad(): numeric = ((prior.encode(image + 1e-5*d) - prior.encode(image - 1e-5*d))*weight).sum()/2e-5
    assert abs(numeric - (grad*d).sum()) < 1e-6*abs(numeric)             # float64: the step squared, 1e-10, and 1e-16 over the step, 1e-11
    z = torch.randn(1, 4, 2, 2, dtype=torch.float64)
    assert far(prior.decode(z), (prior.pipe.vae.decoder(prior.pipe.vae.post_quant_conv(z/scale))/2 + .5).clamp(0, 1)) < 1e-12

def test_null_prompt_of_sdxl_is_the_pipelines_own(folders):
    prior = load_prior(folders/"sdxl", **F64)
    emb, null, pooled, null_pooled = prior.pipe.encode_prompt("a cup", device="cpu", do_classifier_free_guidance=True)
    both = prior.embed(["a cup", ""])
    assert not null.any() and not both.emb[1].any() and not both.extra["text_embeds"][1].any()
    assert far(both.emb, torch.cat([emb, null])) < 1e-12 and far(both.extra["text_embeds"], torch.cat([pooled, null_pooled])) < 1e-12
    assert both.extra["time_ids"].tolist() == [[64, 64, 0, 0, 64, 64]]*2

@pytest.mark.parametrize("family", FAMILIES)
def test_samples_through_the_pipeline_and_what_it_offers(folders, family):
    "prior.pipe is diffusers' own: sampling, slicing, tiling, attention slicing"
    prior = load_prior(folders/family, device="cpu")
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    before = prior.encode(image), prior.eps(torch.ones(2, 4, 8, 8), 500, prior.embed(["a", "b"]))
    prior.pipe.vae.enable_slicing(); prior.pipe.enable_attention_slicing()
    after = prior.encode(image), prior.eps(torch.ones(2, 4, 8, 8), 500, prior.embed(["a", "b"]))
    assert all(far(b, a) < 1e-5 for a, b in zip(before, after))          # float32: other kernels for another number of samples
    out = prior.pipe("a cup", num_inference_steps=2, output_type="pt", generator=torch.Generator().manual_seed(0)).images
    assert out.shape == (1, 3, 64, 64) and out.isfinite().all()

@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_pipeline_that_offloads_is_left_to_do_so(folders, family):
    accelerate = pytest.importorskip("accelerate")
    plain = load_prior(folders/family, device="cpu")
    other = load_prior(folders/family, device="cpu").pipe
    for net in (other.unet, other.vae): accelerate.cpu_offload(net, torch.device("cpu"))
    assert next(other.unet.parameters()).device.type == "meta"           # the weights are elsewhere until called
    prior = LatentPrior(other)
    assert next(other.unet.parameters()).device.type == "meta"
    x, image = torch.ones(1, 4, 8, 8), torch.rand(1, 3, 64, 64, requires_grad=True)
    # float32 in networks of some thirty layers: 6e-8 each, the sums of a few hundred terms included 1e-6
    assert far(prior.eps(x, 500, plain.embed("a")), plain.eps(x, 500, plain.embed("a"))) < 1e-5
    assert far(prior.encode(image), plain.encode(image)) < 1e-5
    prior.encode(image).sum().backward(); assert image.grad.norm() > 0

def test_textual_inversion(folders):
    prior = load_prior(folders/"sd15", device="cpu")
    before = prior.embed("a mug")
    prior.pipe.load_textual_inversion({"<toy>": torch.full((16,), .3)}, token="<toy>")
    assert torch.equal(prior.embed("a mug").emb, before.emb) and far(prior.embed("a <toy>").emb, prior.embed("a").emb) > 1e-3
    assert prior.pipe.text_encoder.get_input_embeddings().weight[-1].allclose(torch.tensor(.3))

@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision(folders, family):
    "bfloat16 in the network, float32 outside"
    full, half = (load_prior(folders/family, device="cpu", dtype=d) for d in (torch.float32, torch.bfloat16))
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    e = half.eps(x, 300, half.embed(["a", "b"]))
    assert e.dtype == torch.float32 and next(half.pipe.unet.parameters()).dtype == torch.bfloat16 and .0001 < far(e, full.eps(x, 300, full.embed(["a", "b"]))) < .1

def test_float16_keeps_sdxls_autoencoder_in_float32(folders, monkeypatch):
    "What a GPU does by default, tried on the CPU; an autoencoder that needs no care (force_upcast false) goes to float16"
    for module in (latent, checkpoints): monkeypatch.setattr(module, "pick_device", lambda device="auto", dtype=None: (torch.device("cpu"), torch.float16))
    prior = load_prior(folders/"sdxl")
    assert prior.pipe.vae.dtype == torch.float32 and prior.pipe.unet.dtype == torch.float16
    x, image = torch.randn(1, 4, 8, 8), torch.rand(1, 3, 64, 64)
    assert prior.eps(x, 300, prior.embed("a")).isfinite().all() and prior.encode(image).dtype == torch.float32
    out = prior.pipe("a cup", num_inference_steps=2, output_type="pt").images
    assert out.isfinite().all()
    assert load_prior(folders/"sd15").pipe.vae.dtype == torch.float16

def test_xformers_is_not_needed(folders):
    code = f"import sys; sys.modules['xformers'] = None\nimport lucidteach as lt\nprint(lt.load_prior({str(folders/'sd15')!r}, device='cpu'))"
    r = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert r.returncode == 0 and "LatentPrior" in r.stdout, r.stderr[-2000:]

def test_known_sizes():
    "The table's weight counts against networks built by the published configurations, without memory (meta device)"
    for row, family in zip(KNOWN.values(), FAMILIES):
        with quiet(): pipe = build(family, tiny=False, device="meta")
        nets = [pipe.unet, pipe.vae, pipe.text_encoder, getattr(pipe, "text_encoder_2", None)]
        assert abs(sum(p.numel() for n in nets if n for p in n.parameters())/1e6 - row["millions"]) < .1, family
        assert pipe.unet.config.sample_size*8 == row["px"] and pipe.scheduler.config.prediction_type == row["predicts"]


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_latents_with_a_mean_and_a_deviation_as_in_the_pipeline(folders, tmp_path, family):
    "diffusers' own pipelines are the reference: XL's honours them, Stable Diffusion's does not"
    mean, std = [.3, -.2, .1, .5], [.7, 1.3, .9, 2.]
    prior = load_prior(changed(folders/family, tmp_path/"m", "vae/config.json", latents_mean=mean, latents_std=std), device="cpu")
    z, image = (prior.pipe("a cup", num_inference_steps=2, output_type=kind, generator=torch.Generator().manual_seed(0)).images for kind in ("latent", "pt"))
    assert far(prior.decode(z), image) < 1e-5
    x = torch.rand(1, 3, 64, 64)
    own, (m, s) = prior.pipe.vae.encode(2*x - 1).latent_dist.mode(), (torch.tensor(v).reshape(1, 4, 1, 1) for v in (mean, std))
    assert far(prior.encode(x), (own - m)*.13025/s if family == "sdxl" else own*.18215) < 1e-5

@pytest.mark.parametrize("sched", ["DDIMScheduler", "DDPMScheduler", "EulerDiscreteScheduler"])
def test_zero_terminal_snr(folders, tmp_path, sched):
    "Such a fine-tune loads with any scheduler, and the last time is finite wherever it is asked"
    file = "scheduler/scheduler_config.json"
    changed(folders/"sd21", tmp_path/"m", file, rescale_betas_zero_snr=True, _class_name=sched)
    index = json.loads((tmp_path/"m"/"model_index.json").read_text()) | dict(scheduler=["diffusers", sched])
    (tmp_path/"m"/"model_index.json").write_text(json.dumps(index))
    prior, x = load_prior(tmp_path/"m", **F64), torch.randn(1, 4, 8, 8, dtype=torch.float64)
    beta = (torch.linspace(.00085**.5, .012**.5, 1000, dtype=torch.float64)**2)
    root = (1 - beta).cumprod(0).sqrt()
    assert far(prior.schedule.alphas_cumprod[:-1].sqrt(), ((root - root[-1])*root[0]/(root[0] - root[-1]))[:-1]) < 1e-5      # arXiv 2305.08891, algorithm 1
    assert prior.schedule.alphas_cumprod[-1] == 2**-24
    for name in ("sds", "ism"):
        step = METHODS[name](prior, x, "a cup", 999)
        assert step.grad.isfinite().all() and step.x0_hat.isfinite().all(), name

def test_parts_that_a_prior_does_not_use_may_be_absent(folders, tmp_path):
    "Stable Diffusion 1.5's index names a safety checker, its feature extractor and an image encoder; none is needed"
    parts = dict(feature_extractor=["transformers", "CLIPImageProcessor"], safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"], image_encoder=["transformers", "CLIPVisionModelWithProjection"])
    folder = changed(folders/"sd15", tmp_path/"m", "model_index.json", **parts, requires_safety_checker=True)
    assert not missing_files(folder)
    prior, x = load_prior(folder, **F64), torch.randn(1, 4, 8, 8, dtype=torch.float64)
    assert far(prior.eps(x, 300, prior.embed("a")), network(prior.pipe, x, 300, "a")) < 1e-12 and prior.name == str(folder)

def test_a_condition_of_another_model_is_refused(folders):
    priors = {f: load_prior(folders/f, device="cpu") for f in ("sd15", "sdxl")} | dict(toy=load_prior("toy", device="cpu"))
    for name, prior in priors.items():
        x = torch.zeros(1, *prior.latent_shape)
        for other, cond in ((o, p.embed("a mug")) for o, p in priors.items()):
            if other == name: prior.eps(x, 300, cond); continue
            with pytest.raises(ValueError, match="another model"): prior.eps(x, 300, cond)

def test_a_misspelt_keyword_is_refused(folders):
    for word, near in (("dtpye", "dtype"), ("varient", "variant"), ("torch_dtype", "dtype"), ("local_file_only", "local_files_only"), ("safety_cheker", "safety_checker")):
        for name in ("toy", folders/"sd15"):
            with pytest.raises(TypeError, match=f"{word}.*mean {near}"): load_prior(name, device="cpu", **{word: None})
    assert load_prior(folders/"sd15", device="cpu", local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False, scheduler=checkpoints.DiffusionPipeline.from_pretrained(folders/"sd21").scheduler).prediction_type == "v_prediction"

def test_every_keyword_of_diffusers_loaders_is_known():
    import inspect, re
    from diffusers import StableDiffusionPipeline as SD
    taken = {w for f in (SD.from_pretrained, SD.from_single_file) for w in re.findall(r'kwargs\.pop\("(\w+)"', inspect.getsource(f))}
    assert taken - checkpoints.KEYWORDS - {"dtype", "dduf_file"} == {"torch_dtype", "config", *checkpoints.RUN_CODE}      # load_prior's own, and what would run code
