"""A distillation step on a Stable Diffusion, against the bare network calls it is made of: python tests/bench/bench_sd.py FOLDER_OR_ID

Seconds per SDS and per ISM step - picture -> latents -> step -> gradient at the picture - beside the sum of the same UNet, encoder and encoder-gradient
calls made on diffusers' modules directly, in alternation in the same run; peak memory of both. `--random sd15|sd21base|sd21|sdxl` needs no download:
the family's published sizes with random weights (time and memory do not depend on the numbers). `--random tiny-sd21` and so on run anywhere in seconds."""
import argparse, platform, resource, statistics, time

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


class Peak:
    "Peak memory of a block in GB: of the CUDA allocator, else of the process as it stands (which never falls)"
    def __init__(self, device): self.cuda = device.type == "cuda"
    def __enter__(self):
        import torch
        if self.cuda: torch.cuda.reset_peak_memory_stats()
        return self
    def __exit__(self, *_):
        import torch
        self.gb = torch.cuda.max_memory_allocated()/1e9 if self.cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*1024/1e9

def seconds(f, device):
    import torch
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait(); start = time.perf_counter(); f(); wait()
    return time.perf_counter() - start

def distill(prior, image, method, cond, **options):
    "What a user runs: picture -> latents -> step -> gradient at the picture"
    import lucidteach as lt
    image.grad = None
    z = prior.encode(image)
    step = lt.METHODS[method](prior, z, cond, 500, negative=distill.null, **options)
    lt.surrogate(z, step.grad).backward()
    return step

def bare(prior, image, cond, null, singles):
    "The same networks called directly: encoder with its gradient, `singles` calls on B samples, one call on 2B"
    import torch
    pipe, B = prior.pipe, len(image)
    image.grad = None
    z = pipe.vae.encode((2*image - 1).to(prior.device, pipe.vae.dtype)).latent_dist.mode()
    x = z.detach().to(prior.dtype).contiguous(memory_format=torch.channels_last)
    t = torch.full((2*B,), 500, device=prior.device)
    both = type(cond).cat(null, cond)
    with torch.no_grad():
        for _ in range(singles): pipe.unet(x, t[:B], null.emb, added_cond_kwargs=null.extra or None)
        pipe.unet(x.repeat(2, 1, 1, 1), t, both.emb, added_cond_kwargs=both.extra or None)
    z.backward(torch.ones_like(z))

def measure(prior, batch=4, repeats=5, delta_s=200):
    "SDS and ISM at t = 500, guidance 7.5, beside their bare calls; medians of runs in alternation"
    import torch
    image = torch.rand(batch, 3, prior.image_size, prior.image_size, device=prior.device, requires_grad=True)
    cond, null = prior.embed("a red mug").repeat(batch), prior.embed("").repeat(batch)
    distill.null = null
    ism = dict(delta_t=50, delta_s=delta_s, inverse=null)
    for name, options, singles in (("sds", {}, 0), ("ism", ism, -(-450//delta_s) + 1)):
        whole, parts, calls = [], [], distill(prior, image, name, cond, **options).calls
        bare(prior, image, cond, null, singles)
        assert calls == batch*(singles + 2), (calls, singles)
        for _ in range(repeats):
            with Peak(prior.device) as a: whole.append(seconds(lambda: distill(prior, image, name, cond, **options), prior.device))
            with Peak(prior.device) as b: parts.append(seconds(lambda: bare(prior, image, cond, null, singles), prior.device))
        w, p = statistics.median(whole), statistics.median(parts)
        print(f"{name}  batch {batch}  {w:8.4f} s a step  {p:8.4f} s bare calls  {w/p:5.2f} x   peak {a.gb:.2f} GB, bare {b.gb:.2f} GB   {calls} network evaluations", flush=True)

def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("prior", nargs="?", help="folder, hub id or single file")
    ap.add_argument("--random", choices=[a + f for a in ("", "tiny-") for f in FAMILIES], help="random weights of this family's size")
    ap.add_argument("--device", default="auto"); ap.add_argument("--dtype", choices=("float32", "float16", "bfloat16"))
    ap.add_argument("--batch", type=int, default=4); ap.add_argument("--repeats", type=int, default=5)
    args = ap.parse_args()
    import torch
    from lucidteach.prior.latent import LatentPrior, pick_device, quiet
    from lucidteach.prior.checkpoints import load_prior
    dtype = getattr(torch, args.dtype) if args.dtype else None
    if args.random:
        with quiet(): pipe = build(args.random.removeprefix("tiny-"), args.random.startswith("tiny-"), device=pick_device(args.device)[0])
        prior = LatentPrior(pipe, args.device, dtype)
    else: prior = load_prior(args.prior or "toy", device=args.device, dtype=dtype)
    name = torch.cuda.get_device_name() if prior.device.type == "cuda" else f"{platform.machine()}, {torch.get_num_threads()} thread(s)"
    print(f"{args.random or args.prior or 'toy'}: {prior} on {name}, torch {torch.__version__}")
    measure(prior, args.batch, args.repeats)

if __name__ == "__main__": main()
