"The contrast of DDS: its loss against loops over features that attention processors keep, its gradient against differences"
import math

import pytest
import torch

import lucidteach as lt
from lucidteach.distill.dream import Contrast, contrastive, features, self_attention
from lucidteach.prior.exact import ImageSetPrior
from lucidteach.prior.latent import LatentPrior, quiet
from tiny import build

torch.set_num_threads(1)


def tiny(family="sd15", **changes):
    with quiet():
        return LatentPrior(build(family, **changes), device="cpu", dtype=torch.float64)


class Written:
    "Attention written out, which keeps its answer"

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, **_):
        told = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = (attn.head_to_batch_dim(f(s)) for f, s in ((attn.to_q, hidden_states), (attn.to_k, told), (attn.to_v, told)))
        mixed = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) @ v
        self.answer = attn.to_out[0](attn.batch_to_head_dim(mixed))
        return self.answer


def kept(prior, x_t, t, text):
    "Features of one picture by processors instead of hooks: a list of [n,n,D]"
    unet = prior.pipe.unet
    before = unet.attn_processors
    unet.set_attn_processor({k: Written() for k in before})
    prior.eps(x_t[None], t, prior.embed([text]))
    now = unet.attn_processors
    answers = [now[k].answer[0] for k in now if k.startswith("up_blocks") and "attn1" in k]
    unet.set_attn_processor(before)
    return [a.reshape(math.isqrt(len(a)), -1, a.shape[-1]) for a in answers]


def squares(grid, size):
    "Means over squares of places, as a list of vectors"
    n = len(grid) // size
    return [grid[i * size : (i + 1) * size, j * size : (j + 1) * size].reshape(-1, grid.shape[-1]).mean(0) for i in range(n) for j in range(n)]


def slow(was, now, sizes=(1, 2), temperature=0.07, over="edited", centred=False):
    "The contrast in loops"
    total = 0.0
    for grid_was, grid_now in zip(was, now):
        for size in sizes:
            a, b = squares(grid_was, size), squares(grid_now, size)
            if centred:
                a, b = ([v - sum(rows) / len(rows) for v in rows] for rows in (a, b))
            one, other = (a, b) if over == "edited" else (b, a)
            for i, v in enumerate(one):
                cosines = [float(v @ u / (v.norm().clamp(min=1e-12) * u.norm().clamp(min=1e-12))) / temperature for u in other]
                top = max(cosines)
                total += (top + math.log(sum(math.exp(c - top) for c in cosines)) - cosines[i]) / len(one)
    return total


PROMPTS, WAS, TIMES = ["a cat", "a dog"], ["a dog", "a bird"], torch.tensor([150, 700])
HOW = [{}, dict(over="source", centred=True, sizes=(1,)), dict(sizes=(2, 1), temperature=0.5, centred=True)]


def latents():
    g = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, 4, 8, 8, generator=g).double() for _ in range(3))


@pytest.mark.parametrize("how", HOW)
def test_the_contrast_is_what_the_article_adds_to_dds(how):
    prior, (x, src, noise) = tiny(), latents()
    add = prior.schedule.add_noise
    given = dict(source=(src, WAS), guidance=3.0, weight="gamma", noise=noise)
    step = contrastive(prior, x, PROMPTS, TIMES, contrast=0.3, **how, **given)
    dds = lt.METHODS["dds"](prior, x, PROMPTS, TIMES, **given)
    extra = step.terms["contrast"]
    assert torch.equal(step.grad, dds.grad + step.w * extra) and step.target is None and step.calls == dds.calls + 4
    assert (step.x0_target - (x - prior.schedule.gamma(TIMES)[:, None, None, None] * (dds.grad / dds.w + extra))).abs().max() < 1e-10

    for i in range(2):
        t = int(TIMES[i])
        was = kept(prior, add(src[i], noise[i], t), t, WAS[i])
        loss = lambda z, i=i, t=t, was=was: slow(was, kept(prior, add(z, noise[i], t), t, PROMPTS[i]), **how)
        direction = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(i)).double()
        h = 1e-4
        want = 0.3 * 64 * (loss(x[i] + h * direction) - loss(x[i] - h * direction)) / (2 * h)
        assert abs(float((extra[i] * direction).sum()) - want) < 1e-5 * float(extra[i].norm() * direction.norm()), (i, want)


def test_features_are_found_in_any_shape_and_no_hook_stays():
    prior = tiny()
    x = torch.randn(1, 4, 8, 16, generator=torch.Generator().manual_seed(0)).double()
    assert {tuple(v.shape[2:]) for v in features(prior, x, 500, prior.embed(["a"])).values()} == {(2, 4), (4, 8), (8, 16)}
    prior.pipe.unet.conv_out.register_forward_hook(lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        features(prior, x, 500, prior.embed(["a"]))
    assert not any(m._forward_hooks for m in self_attention(prior).values())


def test_places_are_drawn_by_the_generator_and_the_source_costs_least():
    g = lambda: torch.Generator().manual_seed(5)
    was, now = ({"a": torch.randn(1, 6, 8, 8, generator=torch.Generator().manual_seed(k)).double()} for k in (0, 1))
    few = Contrast(sizes=(1,), patches=9)
    assert few(was, now, g()).equal(few(was, now, g())) and not few(was, now, g()).equal(few(was, now))
    assert Contrast()(was, was) < Contrast()(was, now)


def test_without_a_weight_it_is_dds_and_other_priors_are_told():
    prior, (x, src, noise) = tiny("sdxl"), latents()
    given = dict(source=(src, WAS), guidance=3.0, noise=noise)
    assert contrastive(prior, x, PROMPTS, TIMES, contrast=0.0, **given).grad.equal(lt.METHODS["dds"](prior, x, PROMPTS, TIMES, **given).grad)
    exact = ImageSetPrior(torch.rand(2, 3, 8, 8), ["a", "b"], std=0.1)
    pixels = exact.encode(torch.rand(1, 3, 8, 8))
    for call, kind, says in (
        (lambda: contrastive(exact, pixels, "b", 500, source=(pixels, "a")), ValueError, "use dds"),
        (lambda: contrastive(prior, x, PROMPTS, TIMES, contrast=-1.0, **given), ValueError, "contrast must be a number, 0 or more"),
        (lambda: contrastive(prior, x, PROMPTS, TIMES, sizes=(0,), **given), ValueError, "sizes must be"),
        (lambda: contrastive(prior, x, PROMPTS, TIMES, sizes=(16,), **given), ValueError, "larger than"),
        (lambda: contrastive(prior, x, PROMPTS, TIMES, over="both", **given), ValueError, "over must be one of"),
        (lambda: contrastive(prior, x, PROMPTS, TIMES), ValueError, "needs source="),
        (lambda: contrastive(prior, x, PROMPTS, TIMES, guidence=3.0, **given), TypeError, "guidence"),
    ):
        with pytest.raises(kind) as e:
            call()
        assert says in str(e.value), says
