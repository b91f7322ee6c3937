"A prior in ONNX Runtime: the same answers, torch where a gradient is asked, other weights seen, and what is said without the extra"
import copy
import json
import sys

import pytest
import torch

import lucidteach as lt
from lucidteach.prior import fast as made
from lucidteach.prior.fast import fast
from tiny import build

HERE = all(__import__("importlib").util.find_spec(name) for name in ("onnxruntime", "onnx"))
needs = pytest.mark.skipif(not HERE, reason="onnxruntime and onnx are not installed")


@pytest.fixture(scope="module")
def prior():
    return lt.load_prior("toy", device="cpu")


@needs
@pytest.mark.parametrize("threads", (1, 2))
def test_the_answers_are_torchs(prior, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        quick = fast(prior)
        for b, texts in ((1, ["a red mug"]), (3, ["", "a duck on black", "a striped blue car, back view"])):
            x, cond = torch.randn(b, *prior.latent_shape, generator=torch.Generator().manual_seed(b)), prior.embed(texts)
            for t in (None, 1, 250, torch.tensor([999] * b)):
                with torch.no_grad():
                    noise = prior.eps(x, t, cond)
                    assert (quick.eps(x, t, cond) - noise).abs().max() < 1e-5 * noise.abs().max()
        wide = torch.randn(1, prior.latent_shape[0], 24, 16)  # the graph knows no size of its own
        assert (quick.eps(wide, 300, prior.embed("a mug")) - prior.eps(wide, 300, prior.embed("a mug"))).abs().max() < 1e-5
    finally:
        torch.set_num_threads(before)


@needs
def test_where_a_gradient_is_asked_torch_computes_it(prior):
    quick, cond, grads = fast(prior), prior.embed("a red mug"), []
    for p in (quick, prior):
        x = torch.ones(1, *prior.latent_shape, requires_grad=True)
        p.eps(x, 300, cond).square().sum().backward()
        grads.append(x.grad)
    assert torch.equal(*grads) and grads[0].abs().sum() > 0
    emb = cond.emb.clone().requires_grad_()
    assert quick.eps(torch.ones(1, *prior.latent_shape), 300, type(cond)(emb, cond.texts)).requires_grad


@needs
def test_other_weights_are_seen_and_the_pipeline_is_shared():
    prior = lt.load_prior("toy", device="cpu")
    quick, x, cond = fast(prior), torch.randn(1, *prior.latent_shape), prior.embed("a red mug")
    before = quick.eps(x, 300, cond)
    with torch.no_grad():
        next(prior.pipe.unet.parameters()).mul_(1.5)
    after = quick.eps(x, 300, cond)
    assert (after - before).abs().max() > 1e-3 and (after - prior.eps(x, 300, cond)).abs().max() < 1e-5
    assert quick.pipe is prior.pipe and fast(quick) is quick and quick.calls == 2 and prior.calls == 1


@needs
def test_a_run_says_what_computed_it(prior, tmp_path):
    result = lt.compare("a red mug", ("sds",), prior=fast(prior), steps=2, out=tmp_path / "run", mode="quiet")
    assert result.prior == "toy+onnxruntime"
    assert json.loads(next((tmp_path / "run").rglob("config.json")).read_text(encoding="utf-8"))["prior"] == "toy+onnxruntime"


@pytest.mark.parametrize("gone", ("onnx", "onnxruntime"))
def test_without_the_extra_it_says_how_to_get_it(prior, monkeypatch, gone):
    if gone == "onnxruntime" and not HERE:
        pytest.skip("without onnx the other one is not reached")
    monkeypatch.setitem(sys.modules, gone, None)
    with pytest.raises(ImportError, match=rf"needs {gone}: pip install 'lucidteach\[fast\]'"):
        fast(prior)
    assert prior.runtime is None


def test_what_cannot_be_made_fast(prior):
    for bad in (None, "toy", prior.pipe.unet):
        with pytest.raises(ValueError, match="LatentPrior"):
            fast(bad)
    other = copy.copy(prior)
    other.dtype = torch.float64
    with pytest.raises(ValueError, match="float32"):
        fast(other)
    other = made.LatentPrior(build("sdxl"), device="cpu")
    with pytest.raises(ValueError, match="tokens"):
        fast(other)
