"The shipped prior with fine detail: its files, its words, and that it knows noise from detail better than the prior that it began from"
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import lucidteach as lt
from lucidteach.prior.checkpoints import TOY
from lucidteach.prior.prompts import opened
from lucidteach.prior.words import caption
from lucidteach.prior.world import FINE_PATTERNS, render, sample_camera, sample_thing

DETAIL = TOY.with_name("toy-detail")
pytestmark = pytest.mark.skipif(not DETAIL.exists(), reason="the weights are not in this copy")


@pytest.fixture(scope="module")
def priors():
    return {name: lt.load_prior(name, device="cpu") for name in ("toy", "toy-detail")}


def test_files_are_those_of_the_toy_prior_and_tell_no_machine():
    files = [f for f in DETAIL.rglob("*") if f.is_file()]
    assert {f.relative_to(DETAIL) for f in files} == {f.relative_to(TOY) for f in TOY.rglob("*") if f.is_file()}
    for f in DETAIL.rglob("*.json"):
        assert not any(s in f.read_text() for s in ('"/tmp', '"/root', '"/work', '"/home')), f
    for part, name in (("unet", "diffusion_pytorch_model"), ("text_encoder", "model")):
        raw = (DETAIL / part / f"{name}.safetensors").read_bytes()
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        assert {v["dtype"] for k, v in header.items() if k != "__metadata__"} <= {"F16", "I64"}, part
    recipe = json.loads((DETAIL / "recipe.json").read_text())
    assert recipe["command"].startswith("python -m lucidteach.prior.train") and recipe["steps"] > 0


def test_new_words_are_tokens_and_old_ones_are_as_they_were(priors):
    new, old = (priors[k].pipe.tokenizer for k in ("toy-detail", "toy"))
    for pattern in FINE_PATTERNS:
        assert len(new.tokenize(pattern)) == 1 < len(old.tokenize(pattern))
    assert new.tokenize("a striped red mug, side view") == old.tokenize("a striped red mug, side view")
    with pytest.raises(ValueError, match="toy-detail"):
        opened(priors["toy"], ["a furry mug"])
    assert opened(priors["toy-detail"], ["a furry mug"]) is priors["toy-detail"]


def test_it_tells_noise_from_detail_better_than_toy(priors):
    "Eight pictures that no training saw, small times: the error of eps, pictures and noises the same for both"
    rng, pictures, captions = np.random.default_rng(606), [], []
    for i in range(8):
        thing = sample_thing(rng, background=0, depth=0, corruption=0)
        thing, cam = replace(thing, pattern=FINE_PATTERNS[i % 4], seed=77_000_000 + i), sample_camera(rng)
        pictures.append(render(thing, cam).rgb)
        captions.append(caption(thing, cam))
    x = torch.from_numpy(np.stack(pictures))
    for t in (10, 100):
        error = {}
        for name, p in priors.items():
            z = p.encode(x)
            eps = torch.randn(z.shape, generator=torch.Generator().manual_seed(t))
            with torch.no_grad():
                found = p.eps(p.schedule.add_noise(z, eps, t), t, p.embed(captions))
            error[name] = float((found - eps).square().mean().sqrt())
        assert error["toy-detail"] < 0.95 * error["toy"], (t, error)


def test_it_inverts_where_toy_does_not(priors):
    "Strides of 50 up from pictures noised to t = 1: the noise implied at t has the variance of noise, or nearly"
    rng, pictures = np.random.default_rng(607), []
    for i in range(8):
        thing = sample_thing(rng, background=0, depth=0, corruption=0)
        pattern = FINE_PATTERNS[i % 4] if i < 4 else thing.pattern
        pictures.append(render(replace(thing, pattern=pattern, seed=78_000_000 + i), sample_camera(rng)).rgb)
    x = torch.from_numpy(np.stack(pictures))
    for name, low, high in (("toy-detail", 0.8, 1.05), ("toy", 0, 0.7)):
        p, implied = priors[name], []
        z, null = p.encode(x), p.embed([""] * len(x))
        x_t, t = p.schedule.add_noise(z, torch.randn(z.shape, generator=torch.Generator().manual_seed(1)), 1), 1
        while t < 700:
            later = t + 50
            with torch.no_grad():
                eps = p.eps(x_t, t, null)
            a, b = p.schedule.abar(t), p.schedule.abar(later)
            x_t, t = (b / a).sqrt() * (x_t - (1 - a).sqrt() * eps) + (1 - b).sqrt() * eps, later
            implied.append(((x_t - b.sqrt() * z) / (1 - b).sqrt()).square().mean().sqrt().item())
        assert low < min(implied) <= max(implied) < high, (name, implied)
