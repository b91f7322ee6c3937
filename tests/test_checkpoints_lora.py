"LoRAs of checkpoints in miniature: what they add, which are refused, and phi beside them"
import sys, warnings
import pytest, torch
from safetensors.torch import save_file

from lucidteach.distill.methods import METHODS
from lucidteach.distill.vsd import phi_eps
from lucidteach.prior.checkpoints import load_prior
from lucidteach.prior.latent import LatentPrior, quiet
from tiny import F64, build, far, folders, lora_file                          # folders: a fixture

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

def test_a_lora_that_was_read_in_part_is_refused(folders, monkeypatch, tmp_path):
    "As transformers below 5.11 read the second text encoder's: layers are made, and left at their start; a layer of zeros may stay one"
    pytest.importorskip("peft")
    pipe, state = load_prior(folders/"sdxl", **F64).pipe, {}
    for part in ("unet", "text_encoder", "text_encoder_2"):
        for k, m in getattr(pipe, part).named_modules():
            if not isinstance(m, torch.nn.Linear) or not k.endswith(("to_q", "q_proj")): continue
            key = f"{part}.{k}" if part == "unet" else f"{part}.text_model.{k.removeprefix('text_model.')}"
            state |= {f"{key}.lora_A.weight": torch.ones(2, m.in_features), f"{key}.lora_B.weight": torch.ones(m.out_features, 2)}
    state[next(k for k in state if "unet" in k and "lora_B" in k)].zero_()
    save_file(state, tmp_path/"all.safetensors")
    prior = load_prior(folders/"sdxl", lora=tmp_path/"all.safetensors", **F64)
    for part in ("text_encoder", "text_encoder_2"):
        ups = [m.lora_B["lora0"].weight for m in getattr(prior.pipe, part).modules() if hasattr(m, "lora_B")]
        assert ups and all((up == 1).all() for up in ups)
    whole = type(pipe).load_lora_weights
    def in_part(self, *a, **kw):
        whole(self, *a, **kw)
        for m in self.text_encoder_2.modules():
            if hasattr(m, "lora_B"): m.lora_B["lora0"].weight.data.zero_()
    monkeypatch.setattr(type(pipe), "load_lora_weights", in_part)
    with pytest.raises(ValueError, match=f"{len(ups)} of its {len(state)//2} layers are not there: text_encoder_2"): load_prior(folders/"sdxl", lora=tmp_path/"all.safetensors", **F64)

def test_lora_of_another_family_is_refused(folders, tmp_path):
    pytest.importorskip("peft")
    lora_file(load_prior(folders/"sdxl", device="cpu").pipe, tmp_path/"xl.safetensors")
    with pytest.raises(ValueError, match="LoRA"): load_prior(folders/"sd15", device="cpu", lora=tmp_path/"xl.safetensors")

def test_lora_without_peft_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"lucidteach\[train\]"): load_prior("toy", lora="author/style")

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
