"Every method on exact priors under random options: finite gradients of x's shape and dtype, or a ValueError that says what is wrong"
import math, sys
from pathlib import Path
import pytest, torch
from hypothesis import given, strategies as st
sys.path.insert(0, str(Path(__file__).parent))
from fuzz import inputs
from lucidteach import METHODS, init_state
from lucidteach.distill.canvas import EDITING
from lucidteach.prior.exact import GaussianPrior, ImageSetPrior, MixturePrior, toy_images

torch.set_num_threads(1)
g = torch.Generator().manual_seed(0)
means = torch.randn(4, 2, 3, 3, generator=g).double()
images, names = toy_images(8)
PRIORS = {"mixture": (MixturePrior(means, [.3, .5, .2, .7], [1., 2, .5, 1], ["cat", "dog", "bird", ("cat", "fish")]), ["cat", "dog", "fish"]),
          "narrow": (MixturePrior(means, 1e-6, labels=["cat", "dog", "bird", "fish"]), ["cat", "dog", "fish"]),
          "one point": (GaussianPrior(.2, 0., shape=(2, 3, 3)), ["a", "b"]),
          "images": (ImageSetPrior(images[::6], [n[1] for n in names[::6]]), sorted({n[1] for n in names[::6]}))}
OWN = {"ism": dict(delta_t=[0, 1, 50, 1000, (100, 50)], delta_s=[1000, 200], target=["interval", "full", "none"], start_noise=[True], inverse_guidance=[-100., 7.5, 100.]),
       "tsm": dict(delta_t=[0, 1, 1000], delta_s=[1000, 200], mu=[0., 1.]), "cds": dict(delta_t=[0, 1, 999]), "isd": dict(delta_t=[0, 999]),
       "sdi": dict(delta_s=[1000, 200], as_code=[True], tau=[0., 1.], eta=[0., 3.], inverse_guidance=[-100., 100.]), "pds": dict(stride=[1, 2, 7]),
       "nfsd": dict(switch=[0., 1.]), "cfd": dict(refresh=[0., 1.]), "dsd": dict(ahead=[0., 1.], steps=[1, 3]), "csd": dict(progress=[0., 1.]),
       "gcs": dict(delta_t=[0, 80], delta_e=[80, 999], w_cp=[0.]), "hifa": dict(lambda_rgb=[0., 10.]), "vsd": dict(phi_steps=[0, 2], phi_lr=[0., 1.]), "asd": dict(gamma=[-.99, 3.])}

@st.composite
def calls(draw, sizes=(0., 1e-8, 1., 30.), guidances=(0., 1., 7.5, 100., -7.5), dtypes=(torch.float32, torch.float64)):
    "(name, prior, x, prompt, t, options) of one call"
    name, (prior, prompts) = draw(st.sampled_from(sorted(METHODS))), PRIORS[draw(st.sampled_from(sorted(PRIORS)))]
    B, seed = draw(st.integers(1, 3)), draw(st.integers(0, 2**31))
    x = draw(st.sampled_from(sizes))*torch.randn(B, *prior.latent_shape, generator=torch.Generator().manual_seed(seed))
    x = x.to(draw(st.sampled_from(dtypes)))
    time = st.sampled_from([0, 1, 2, 20, 998, 999]) | st.integers(0, 999)
    t = draw(time | st.lists(time, min_size=B, max_size=B).map(torch.tensor))
    options = dict(guidance=draw(st.sampled_from(guidances)), generator=torch.Generator().manual_seed(seed))
    for k, values in {"negative": prompts, "base": ["cond"], "weight": ["gamma", "uniform", "sigma2"], **OWN.get(name, {})}.items():
        if draw(st.booleans()): options[k] = draw(st.sampled_from(values))
    if name == "bridge": options.setdefault("negative", prompts[0])          # an exact prior knows no faults
    if name in EDITING: options["source"] = (x.flip(0), prompts[-1])
    if memory := init_state(name, prior, x, generator=torch.Generator().manual_seed(seed)): options["state"] = memory
    return name, prior, x, prompts[0], t, options


def answer(call):
    "The step, or None where the call is refused with a sentence"
    name, prior, x, prompt, t, options = call
    try: step = METHODS[name](prior, x, prompt, t, **options)
    except ValueError as e:
        assert len(str(e)) > 20, e
        return None
    assert step.grad.shape == x.shape and step.grad.dtype == x.dtype and step.grad.isfinite().all(), (name, t, options)
    return step

@inputs(250)
@given(calls())
def test_gradients_are_finite(call):
    "Sizes that a run may meet: nothing is refused but a t below PDS's stride, a GCS interval the wrong way round, or an inversion that guidance blows up"
    name, _, _, _, t, options = call
    if answer(call) is None: assert name in ("pds", "gcs") or options.get("inverse_guidance") in (-100., 100.), (name, t, options)

@inputs(150)
@given(calls(sizes=(1., 1e3, 1e18, 1e37), guidances=(1., 7.5, -100., 1e10, 1e30), dtypes=(torch.float16, torch.bfloat16, torch.float32)))
def test_what_overflows_is_said(call):
    answer(call)

@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", sorted(METHODS))
def test_an_option_that_is_no_number_is_named(name, bad):
    prior, x = PRIORS["mixture"][0], torch.zeros(1, 2, 3, 3)
    with pytest.raises(ValueError, match="guidance must be a finite number"): METHODS[name](prior, x, "cat", 500, guidance=bad)
    with pytest.raises(ValueError, match="progress must be a share within 0..1"): METHODS[name](prior, x, "cat", 500, progress=bad)
    if name in EDITING:
        with pytest.raises(ValueError, match="source latents hold values that are NaN or infinite"): METHODS[name](prior, x, "cat", 500, source=(x + bad, "cat"))

def test_a_run_gets_the_step_that_overflowed():
    "An inversion that guidance blows up: an error for who calls the method, the step for a run, which stops with what it has; a network's own NaN is left to both"
    from lucidteach.distill.methods import Overflow, attempt
    prior, x = PRIORS["mixture"][0], torch.ones(1, 2, 3, 3)
    call = ("sds", prior, x, "cat", 500)
    with pytest.raises(Overflow, match="overflows float32.*Lower the guidance") as said: METHODS["sds"](prior, x, "cat", 500, guidance=1e300)
    step = attempt(*call, guidance=1e300)
    assert not step.grad.isfinite().all() and said.value.step.grad.shape == x.shape
    class Broken(MixturePrior):
        def eps(self, x_t, t, cond): return super().eps(x_t, t, cond)*math.nan
    broken = Broken(prior.means, prior.stds.flatten(), prior.weights, prior.names)
    assert METHODS["sds"](broken, x, "cat", 500).grad.isnan().all()
