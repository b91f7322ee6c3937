"Wrong calls of the losses, the inversion and the bench: each is answered with the value, what is allowed and the nearest option, before any network is asked"
import math
import numpy as np, pytest, torch
import lucidteach as lt
from lucidteach.distill import inversion, ism, methods, pseudo_gt, sds
from lucidteach.prior.exact import MixturePrior

G = torch.Generator().manual_seed(0)
X = torch.randn(2, 2, 3, 3, generator=G).double()


class Prior(MixturePrior):
    "Counts what it is asked"
    asked = 0

    def eps(self, *args):
        Prior.asked += 1
        return super().eps(*args)


P = Prior(torch.randn(3, 2, 3, 3, generator=G).double(), 0.3, labels=["a", "b", "c"])
NAN = X.where(X != X[0, 0, 0, 0], torch.nan)
call = lambda name: lambda *a, **kw: lt.METHODS[name](*(a or (P, X, "a", 400)), **kw)
on_sds, on_ism, first = call("sds"), call("ism"), lambda *a, **kw: methods.init_state(*(a or ("vsd", P, X)), **kw)
up, down = (lambda *a, f=f, **kw: f(*(a or (P, X, "", 500, 200)), **kw) for f in (inversion.ddim_invert, inversion.ddim_sample))
bench = lambda *a, **kw: pseudo_gt.pseudo_gt(*(a or (P, X, "a", 300)), **kw)
varied = lambda *a, **kw: pseudo_gt.target_variance(*(a or (P, X, "a", (100, 300))), **kw)
trips = lambda *a, **kw: ism.interval_scores(*(a or (P, X, "a", 500, 100)), **kw)

CALLS = {  # name: (call, words that must be in the answer)
    "unknown method": (lambda: lt.METHODS["imm"], "no method 'imm'", "did you mean 'ism'", "there are sds"),
    "prior is a name": (lambda: on_sds("toy", X, "a", 400), "lt.load_prior('toy')"),
    "prior is None": (lambda: on_ism(None, X, "a", 400), "prior must be an object with .eps and .schedule"),
    "x of numpy": (lambda: on_sds(P, X.numpy(), "a", 400), "x must be a float tensor [B,C,h,w]", "ndarray"),
    "x without a batch": (lambda: on_sds(P, X[0], "a", 400), "(2, 3, 3)", "reshape"),
    "x of whole numbers": (lambda: on_sds(P, X.long(), "a", 400), "torch.int64"),
    "x empty": (lambda: on_sds(P, X[:0], "a", 400), "B > 0"),
    "x with NaN": (lambda: on_ism(P, NAN, "a", 400), "1 values of 36 that are NaN"),
    "prompt is a number": (lambda: on_sds(P, X, 5, 400), "a prompt is a str", "5"),
    "too many prompts": (lambda: on_sds(P, X, ["a"] * 3, 400), "3 prompts for a batch of 2"),
    "t too large": (lambda: on_sds(P, X, "a", 10**9), "0..999", "1000000000"),
    "t negative": (lambda: on_ism(P, X, "a", -1), "0..999", "-1"),
    "t a share": (lambda: on_sds(P, X, "a", 0.4), "int or a LongTensor of shape (2,)", "0.4"),
    "t a str": (lambda: on_sds(P, X, "a", "400"), "'400'"),
    "t of numpy": (lambda: on_sds(P, X, "a", np.array([4, 5])), "LongTensor of shape (2,)"),
    "t of another length": (lambda: on_sds(P, X, "a", torch.tensor([4, 5, 6])), "LongTensor of shape (2,)"),
    "guidance a str": (lambda: on_sds(guidance="7"), "guidance must be a finite number", "'7'"),
    "guidance infinite": (lambda: on_sds(guidance=math.inf), "guidance must be a finite number", "inf"),
    "guidance of three": (lambda: on_ism(guidance=torch.ones(3)), "one for each sample", "(3,)"),
    "guidance misspelt": (lambda: on_sds(guidence=7), "did you mean 'guidance'"),
    "weight misspelt": (lambda: on_sds(weight="gama"), "weight must be one of gamma", "'gama'"),
    "base misspelt": (lambda: on_sds(base="con"), "'uncond', 'cond'", "did you mean 'cond'"),
    "noise of numpy": (lambda: on_sds(noise=X.numpy()), "noise must be a tensor of the shape of x"),
    "noise of another shape": (lambda: on_sds(noise=X[:1]), "noise must have the shape of x, (2, 2, 3, 3)"),
    "generator is a seed": (lambda: on_sds(generator=0), "torch.Generator().manual_seed(0)", "got 0"),
    "state is a list": (lambda: on_sds(state=[X]), "state must be a dict of tensors"),
    "progress beyond the end": (lambda: on_ism(progress=1.5), "progress must be a share within 0..1, got 1.5"),
    "negative is a number": (lambda: on_ism(negative=3), "a prompt is a str", "3"),
    "an option of another": (lambda: on_sds(delta_t=50), "sds() has no option 'delta_t'", "It takes guidance"),
    "delta_t huge": (lambda: on_ism(delta_t=10**9), "0 to 999,999", "1000000000"),
    "delta_t negative": (lambda: on_ism(delta_t=-5), "delta_t must be a whole number of timesteps", "-5"),
    "delta_t of three": (lambda: on_ism(delta_t=(1, 2, 3)), "a pair (start, end)", "(1, 2, 3)"),
    "delta_t misspelt": (lambda: on_ism(delta_T=50), "did you mean 'delta_t'"),
    "delta_s zero": (lambda: on_ism(delta_s=0), "delta_s must be a whole number of timesteps, at least 1, got 0"),
    "delta_s a str": (lambda: on_ism(delta_s="200"), "delta_s", "'200'"),
    "target misspelt": (lambda: on_ism(target="intervall"), "'interval', 'full', 'none'", "did you mean 'interval'"),
    "start_noise a number": (lambda: on_ism(start_noise=1), "start_noise must be of type bool, got 1"),
    "warmup negative": (lambda: on_ism(warmup=-1), "warmup must be a number, 0 or more, got -1"),
    "inverse is None": (lambda: on_ism(inverse=None), "a prompt is a str", "None"),
    "inverse_guidance a str": (lambda: on_ism(inverse_guidance="1"), "inverse_guidance must be a finite number, got '1'"),
    "interval of a str": (lambda: ism.interval("50"), "delta_t must be a whole number of timesteps", "'50'"),
    "interval with progress None": (lambda: ism.interval(50, None), "progress must be a finite number, got None"),
    "descend of an unknown method": (lambda: ism.descend(P, X, "a", "imm"), "no method 'imm'", "did you mean 'ism'"),
    "descend minus steps": (lambda: ism.descend(P, X, "a", steps=-1), "steps must be a whole number, 0 or more, got -1"),
    "descend without a prior": (lambda: ism.descend("toy", X, "a"), "lt.load_prior('toy') returns", "got 'toy'"),
    "state of an unknown method": (lambda: first("vds", P, X), "no method 'vds'", "did you mean"),
    "state of no name": (lambda: first(5, P, X), "no method 5", "there are sds"),
    "state without a prior": (lambda: first("vsd", "toy", X), "lt.load_prior('toy')"),
    "state of numpy": (lambda: first("cfd", P, X.numpy()), "x must be a float tensor"),
    "state with a seed": (lambda: first(seed=0), "init_state() has no option 'seed'"),
    "state with a generator 0": (lambda: first(generator=0), "generator must be", "Generator", "got 0"),
    "surrogate misspelt": (lambda: sds.surrogate(X, X, "summ"), "'sum', 'batch', 'mean', 'unit'", "did you mean 'sum'"),
    "surrogate of an unknown option": (lambda: sds.surrogate(X, X, reducton="sum"), "did you mean 'reduction'"),
    "surrogate of a number": (lambda: sds.surrogate(X, 5), "grad must be a tensor of the shape of x", "int"),
    "surrogate of numpy": (lambda: sds.surrogate(X.numpy(), X), "x must be a float tensor", "torch.as_tensor"),
    "surrogate of another shape": (lambda: sds.surrogate(X, X[:1]), "(2, 2, 3, 3)", "(1, 2, 3, 3)"),
    "surrogate of NaN": (lambda: sds.surrogate(X, NAN), "NaN or infinite values, not injected"),
    "invert with a prior's name": (lambda: up("toy", X, "", 500, 200), "lt.load_prior('toy') returns", "got 'toy'"),
    "invert numpy": (lambda: up(P, X.numpy(), "", 500, 200), "x must be a float tensor [B, C, h, w]", "torch.as_tensor"),
    "invert a str": (lambda: up(P, "picture.png", "", 500, 200), "x must be a float tensor [B, C, h, w]", "'picture.png'"),
    "invert to a str": (lambda: up(P, X, "", "500", 200), "t must be an int", "'500'"),
    "invert beyond the end": (lambda: up(P, X, "", 1500, 200), "0..999", "1500"),
    "invert to times of another length": (lambda: up(P, X, "", torch.tensor([5]), 200), "LongTensor of shape (2,)", "(1,)"),
    "invert in strides of 0": (lambda: up(P, X, "", 500, 0), "stride must be a whole number of timesteps, at least 1, got 0"),
    "invert with a prompt None": (lambda: up(P, X, None, 500, 200), "a prompt is a str", "None"),
    "invert downwards": (lambda: up(P, X, "", 100, 200, start=300), "x is at 300 already"),
    "invert with guidance None": (lambda: up(guidance=None), "guidance must be a finite number", "None"),
    "invert misspelt": (lambda: up(guidence=1.0), "did you mean 'guidance'"),
    "sample from a tensor of times": (lambda: down(P, X, "", torch.tensor([5, 6]), 200), "t must be a timestep 0, 1, 2"),
    "sample from beyond": (lambda: down(P, X, "", 1000, 200), "0..999", "1000"),
    "grid of 10^9": (lambda: inversion.time_grid(10**9, 1), "t must be a timestep", "1000000000"),
    "predict with a str": (lambda: inversion.predict(P, X, 400, "", guidance="1"), "guidance must be a finite number", "'1'"),
    "noise of clean data": (lambda: inversion.implied_noise(P, X, X, None), "clean data holds no noise"),
    "noise of two shapes": (lambda: inversion.noise_rms(P, X, X[:1], 400), "x_t must be a float tensor", "B = 2"),
    "round trip to a str": (lambda: trips(P, X, "a", "500", 100), "t must be a timestep", "'500'"),
    "round trip in no strides": (lambda: trips(P, X, "a", 500, None), "stride must be a whole number of timesteps", "None"),
    "bench of an unknown method": (lambda: bench(method="imm"), "no method 'imm'", "did you mean 'ism'"),
    "bench of a method's function": (lambda: bench(method=sds.sds), "method must be of type str"),
    "bench of half a draw": (lambda: bench(n=0.5), "n must be a whole number, 1 or more, got 0.5"),
    "bench of a str": (lambda: bench(n="8"), "n must be a whole number", "'8'"),
    "bench with infinite jitter": (lambda: bench(jitter=math.inf), "jitter must be a finite number, 0 or more, got inf"),
    "bench with a shift None": (lambda: bench(shift=None), "shift must be a whole number", "None"),
    "bench with same_noise 1": (lambda: bench(same_noise=1), "same_noise must be of type bool, got 1"),
    "bench with a seed": (lambda: bench(generator=0), "torch.Generator", "got 0"),
    "bench with x of numpy": (lambda: bench(P, X.numpy(), "a", 300), "x must be a float tensor", "torch.as_tensor"),
    "bench with NaN": (lambda: bench(P, NAN, "a", 300), "1 values of 36 that are NaN"),
    "bench misspelt": (lambda: bench(jiter=0.1), "jiter", "did you mean"),
    "variance over one time": (lambda: varied(P, X, "a", [300]), "times must be at least two timesteps"),
    "variance over a number": (lambda: varied(P, X, "a", 300), "times must be at least two timesteps", "300"),
    "variance over a wrong time": (lambda: varied(P, X, "a", (100, "300")), "'300'"),
    "variance of one draw": (lambda: varied(n=1), "n must be a whole number, 2 or more, got 1"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_call_is_answered_before_any_work(name):
    call, *words = CALLS[name]
    asked = Prior.asked
    with pytest.raises((ValueError, TypeError, KeyError)) as failed: call()
    missing = [w for w in words if w not in str(failed.value)]
    assert not missing, f"{failed.value}\nlacks {missing}"
    assert Prior.asked == asked, "the prior was asked before the call was refused"
    assert len(str(failed.value)) < 500
