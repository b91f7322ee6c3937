"""Checkpoints in miniature, for all tests: every family of Stable Diffusion with random weights, as a pipeline, a folder, a single file, a LoRA.

`build` makes the published sizes too (`tiny=False`), for the benchmarks and on the device "meta"."""
import json, shutil
import pytest, torch
from safetensors.torch import save_file

F64 = dict(device="cpu", dtype=torch.float64)

FAMILIES = ("sd15", "sd21base", "sd21", "sdxl")

def letters_tokenizer(n=77):
    "A CLIP tokenizer whose words are letters: the real one's vocabulary is a download"
    from transformers import CLIPTokenizer
    words = [c + end for c in "!,abcdefghijklmnopqrstuvwxyz" for end in ("", "</w>")] + ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={c: i for i, c in enumerate(words)}, merges=[], model_max_length=n)

def text_encoder(cls, hidden, layers, heads, act, vocab, n, projection=None):
    from transformers import CLIPTextConfig
    return cls(CLIPTextConfig(vocab_size=vocab, hidden_size=hidden, intermediate_size=4*hidden, num_hidden_layers=layers, num_attention_heads=heads, hidden_act=act,
        projection_dim=projection or hidden, max_position_embeddings=n, bos_token_id=vocab-2, eos_token_id=vocab-1, pad_token_id=vocab-1))

def sizes(family, tiny):
    "The numbers of the published configuration files; tiny ones have the same structure"
    xl, v1 = family == "sdxl", family == "sd15"
    blocks = (("DownBlock2D",) + ("CrossAttnDownBlock2D",)*2 if xl else ("CrossAttnDownBlock2D",)*3 + ("DownBlock2D",))
    unet = dict(sample_size=dict(sd15=64, sd21base=64, sd21=96, sdxl=128)[family], block_out_channels=(320, 640, 1280, 1280)[:3 if xl else 4],
        cross_attention_dim=768 if v1 else 2048 if xl else 1024, attention_head_dim=8 if v1 else (5, 10, 20, 20)[:3 if xl else 4], use_linear_projection=not v1)
    text = [(768, 12, 12, "quick_gelu")] if v1 or xl else [(1024, 23, 16, "gelu")]
    if xl: unet.update(transformer_layers_per_block=(1, 2, 10)); text.append((1280, 32, 20, "gelu"))
    vae = dict(block_out_channels=(128, 256, 512, 512), layers_per_block=2, norm_num_groups=32)
    if tiny:
        unet.update(sample_size=8, block_out_channels=(8, 16, 16, 16)[:3 if xl else 4], layers_per_block=1, attention_head_dim=2, cross_attention_dim=40 if xl else 16, norm_num_groups=4)
        if xl: unet.update(transformer_layers_per_block=(1, 1, 2))
        text, vae = [(16, 2, 2, "quick_gelu"), (24, 2, 2, "gelu")][:2 if xl else 1], dict(block_out_channels=(8,)*4, layers_per_block=1, norm_num_groups=4)
    if xl: unet.update(addition_embed_type="text_time", addition_time_embed_dim=8 if tiny else 256, projection_class_embeddings_input_dim=6*(8 if tiny else 256) + text[1][0])
    return dict(down_block_types=blocks, up_block_types=tuple(b.replace("Down", "Up") for b in blocks[::-1]), **unet), text, vae

def build(family, tiny=True, seed=0, device="cpu", **unet_changes):
    "A pipeline of the family with random weights: sd15 and sd21base predict eps, sd21 v, sdxl has two text encoders"
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, EulerDiscreteScheduler, PNDMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection
    torch.manual_seed(seed)
    unet, texts, vae = sizes(family, tiny)
    vocab, n = (58, 16) if tiny else (49408, 77)
    with torch.device(device):
        net = UNet2DConditionModel(**{**unet, **unet_changes})
        ae = AutoencoderKL(down_block_types=("DownEncoderBlock2D",)*4, up_block_types=("UpDecoderBlock2D",)*4, sample_size=8*unet["sample_size"],
                           scaling_factor=.13025 if family == "sdxl" else .18215, **vae)
        enc = [text_encoder(c, *s, vocab, n) for c, s in zip((CLIPTextModel, CLIPTextModelWithProjection), texts)]
    noise = dict(beta_schedule="scaled_linear", beta_start=.00085, beta_end=.012, prediction_type="v_prediction" if family == "sd21" else "epsilon")
    sched = dict(sd15=PNDMScheduler, sdxl=EulerDiscreteScheduler).get(family, DDIMScheduler)(**noise, steps_offset=1, **dict(sd15=dict(skip_prk_steps=True, set_alpha_to_one=False), sdxl={}).get(family, dict(clip_sample=False, set_alpha_to_one=False)))
    if family == "sdxl": return StableDiffusionXLPipeline(ae, *enc, letters_tokenizer(n), letters_tokenizer(n), net, sched, add_watermarker=False)
    return StableDiffusionPipeline(ae, *enc, letters_tokenizer(n), net, sched, None, None, requires_safety_checker=False)

@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    "A folder of folders, one for each family"
    from lucidteach.prior.latent import quiet
    root = tmp_path_factory.mktemp("checkpoints")
    with quiet():
        for name in FAMILIES: build(name).save_pretrained(root/name)
    return root

@pytest.fixture(scope="module")
def single(folders):
    return single_file(folders, "sd15")

def changed(folder, to, file, **changes):
    "A copy of a folder with a changed JSON file"
    shutil.copytree(folder, to)
    (to/file).write_text(json.dumps(json.loads((to/file).read_text()) | changes))
    return to

def single_file(folders, family):
    "A single file, and what `hf download --include '*.json' '*.txt'` brings: a folder without weights"
    file, config = folders/f"{family}-tiny.safetensors", folders/f"{family}-config"
    save_file(original_names(_load(folders/family, device="cpu").pipe), file)
    shutil.copytree(folders/family, config, ignore=shutil.ignore_patterns("*.safetensors"))
    return file, config

def _load(*args, **kw):
    from lucidteach.prior.checkpoints import load_prior
    return load_prior(*args, **kw)

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

def lora_file(pipe, path, seed=0, rank=2, scale=.5):
    "A LoRA for all query and value projections of the UNet, in the field's file format; the additions by module"
    g, state, deltas = torch.Generator().manual_seed(seed), {}, {}
    for name, m in pipe.unet.named_modules():
        if not name.endswith(("to_q", "to_v")): continue
        A, B = scale*torch.randn(rank, m.in_features, generator=g), scale*torch.randn(m.out_features, rank, generator=g)
        state[f"unet.{name}.lora_A.weight"], state[f"unet.{name}.lora_B.weight"], deltas[name] = A, B, B @ A
    save_file(state, path)
    return deltas

def far(a, b): return ((a - b).norm()/b.norm()).item()
