"Checkpoints of a fit, and folders of diffusers"
import json, sys
from pathlib import Path
import pytest, torch
from hypothesis import given, strategies as st
from safetensors import safe_open
from safetensors.torch import save

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from fuzz import check, inputs, mutated, mutated_json
from readers import small_fit

@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    "A fit after three of six steps: (bytes, tensors, metadata)"
    from lucidteach.splat.fit import fit
    f = tmp_path_factory.mktemp("fit")/"fit.safetensors"
    for s in fit(**small_fit(), checkpoint=f, save_every=3):
        if s.step == 3: break
    with safe_open(f, "pt") as t: return f.read_bytes(), {k: t.get_tensor(k) for k in t.keys()}, t.metadata()

@inputs(20)
@given(data=st.data())
def test_fit_checkpoint(checkpoint, data):
    "Bytes that are wrong; and whole files of which a tensor is gone, has another shape, type or name, or whose header says something else"
    whole, tensors, head = checkpoint[0], dict(checkpoint[1]), dict(checkpoint[2])
    if data.draw(st.integers(0, 3)) == 0: check("fit_checkpoint", **{"fit.safetensors": data.draw(mutated(whole))}); return
    for _ in range(data.draw(st.integers(1, 3))):
        k = data.draw(st.sampled_from(sorted(tensors)))
        match data.draw(st.sampled_from(["gone", "shape", "type", "name", "values", "head", "head", "head gone"])):
            case "gone": del tensors[k]
            case "shape": tensors[k] = tensors[k].flatten()[:-1].clone()
            case "type": tensors[k] = tensors[k].to(data.draw(st.sampled_from([torch.int64, torch.float16, torch.float64, torch.bool])))
            case "name": tensors["x." + k] = tensors.pop(k)
            case "values": tensors[k] = torch.full_like(tensors[k], data.draw(st.sampled_from([float("nan"), float("inf"), -1., 1e30])) if tensors[k].is_floating_point() else 1)
            case "head": head["fit"] = data.draw(mutated_json(json.loads(checkpoint[2]["fit"]))).decode("latin-1")
            case "head gone": head.pop("fit", None)
        if not tensors: break
    check("fit_checkpoint", **{"fit.safetensors": save(tensors, head)})

@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "The smallest Stable Diffusion, as files"
    from tiny import build
    from lucidteach.prior.latent import quiet
    f = tmp_path_factory.mktemp("sd")/"m"
    with quiet(): build("sd15").save_pretrained(f)
    return {str(p.relative_to(f)): p.read_bytes() for p in f.rglob("*") if p.is_file()}

PARTS = ("model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json", "scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json")

@inputs(6, 30)
@given(data=st.data())
def test_diffusers_folder(folder, data):
    name = data.draw(st.sampled_from(PARTS))
    check("prior", 120, **folder | {name: data.draw(mutated_json(json.loads(folder[name])))})

@inputs(4, 20)
@given(data=st.data())
def test_diffusers_weights(folder, data):
    name = data.draw(st.sampled_from([k for k in folder if k.endswith(".safetensors")]))
    check("prior", 120, **folder | {name: data.draw(mutated(folder[name]))})
