"""The methods' random options and memories, one sample at a time in float64, by the papers' formulas written out; the library sees a batch of mixed times.

A known mixture predicts; nothing of the methods' own arithmetic is used."""
import pytest, torch
from lucidteach import METHODS, init_state
from lucidteach.prior.exact import MixturePrior

torch.set_num_threads(1)
g = torch.Generator().manual_seed(0)
def normal(*shape): return torch.randn(*shape, generator=g).double()
PRIOR = MixturePrior(normal(4, 2, 3, 3), [.3, .5, .2, .7], [1., 2, .5, 1], ["cat", "dog", "bird", ("cat", "fish")])
PROMPTS, B = ["cat", "dog", "fish", "bird"], 4
X, NOISE = .5*normal(B, 2, 3, 3), normal(B, 2, 3, 3)

abar, product = [], 1.
for i in range(1000):
    product *= 1 - (.00085**.5 + (.012**.5 - .00085**.5)*i/999)**2
    abar.append(product)
def a(t): return 1. if t is None else abar[t]
def gamma(t): return ((1 - a(t))/a(t))**.5
def noised(x, n, t): return a(t)**.5*x + (1 - a(t))**.5*n
def moved(x, e, s, t): return a(t)**.5*(x/a(s)**.5 + (gamma(t) - gamma(s))*e)
def eps(x, t, text): return PRIOR.eps(x[None], t, PRIOR.embed(text))[0]
def guided(x, t, text, scale=7.5): return (null := eps(x, t, "")) + scale*(eps(x, t, text) - null)
def climbed(x, t, stride, ask):
    "By inversion from clean data to t, in strides"
    for s, u in zip([None, *range(stride, t, stride)], [*range(stride, t, stride), t]): x = moved(x, ask(x, s), s, u)
    return x
def seeded(k): return torch.Generator().manual_seed(k)
# float64 against float64 below: 1e-16 times some thousand roundings, and times gamma, which is 15 at most: 1e-11
def far(got, rows): return ((got - torch.stack(rows)).abs().max()/torch.stack(rows).abs().max()).item()

@pytest.mark.parametrize("name", METHODS)
def test_all_but_hifa_and_gcs_are_of_the_linear_form(name):
    "grad = w (eps_pred - target), as 11_schedule says; the two exceptions return no target"
    words = {"negative": "bird"} if name in ("bridge", "nfsd") else {}                  # the words that these two add by themselves name nothing here
    step = METHODS[name](PRIOR, X, PROMPTS, 300, source=(X + .1, PROMPTS), state=init_state(name, PRIOR, X), generator=seeded(1), **words)
    if name in ("hifa", "gcs"): assert step.target is None and step.grad.isfinite().all()
    else: assert far(step.grad, list(step.w*(step.eps_pred - step.target))) < 1e-12

def test_sdi_inverts_a_little_further_and_adds_noise():
    for tau, eta in ((1/30, .3), (.2, 1.), (0., 0.)):
        ts, up, want = [5, 990, 121, 300], int(tau*1000*torch.rand((), generator=seeded(5)).item()), []
        for x, n, t, text in zip(X, NOISE, ts, PROMPTS):
            u = min(t + up, 999)
            kappa = (climbed(x, u, 100, lambda z, s: guided(z, s, text, -7.5))/a(u)**.5 - x)/gamma(u) + eta*n
            want.append(gamma(t)*(guided(noised(x, kappa, t), t, text) - kappa))
        assert far(METHODS["sdi"](PRIOR, X, PROMPTS, torch.tensor(ts), noise=NOISE, generator=seeded(5), tau=tau, eta=eta).grad, want) < 1e-9

def test_cfd_renews_a_share_of_its_noise():
    "The kept noise keeps its variance"
    fresh, ts = torch.randn(X.shape, generator=seeded(2)).double(), [5, 990, 121, 300]
    step = METHODS["cfd"](PRIOR, X, PROMPTS, torch.tensor(ts), state=dict(noise=NOISE), generator=seeded(2), refresh=.36)
    kept = .8*NOISE + .6*fresh
    assert far(step.state["noise"], list(kept)) < 1e-12
    assert far(step.grad, [gamma(t)*(guided(noised(x, n, t), t, text) - n) for x, n, t, text in zip(X, kept, ts, PROMPTS)]) < 1e-9

@pytest.mark.parametrize("ahead", [.1, .4])
def test_dsd_looks_ahead(ahead):
    ts, up, want = [5, 900, 121, 999], ahead*torch.rand((), generator=seeded(4)).item(), []
    for x, z, t, text in zip(X, NOISE, ts, PROMPTS):
        u = min(t + int(up*max(t - 20, 0)), 999)
        grid = [int(999*k/10) for k in range(10, -1, -1)]
        for high, low in zip(grid, grid[1:]):
            if u < high: z = moved(z, guided(z, high, text), high, max(u, low))
        k = guided(z, u, text)
        want.append((1 - a(t))*(guided(noised(x, k, t), t, text) - eps(noised(x, k, u), u, text)))
    assert far(METHODS["dsd"](PRIOR, X, PROMPTS, torch.tensor(ts), noise=NOISE, generator=seeded(4), ahead=ahead).grad, want) < 1e-9

@pytest.mark.parametrize("mu", [.3, .58])
def test_tsm_rounds_its_time_down(mu):
    "0.58 of 50 is 29 in float32 and 28.999... in float64"
    ts, want = [39, 900, 16, 300], []
    for x, t, text in zip(X, ts, PROMPTS):
        s = t - 50 if t > 50 else None
        x_s = x if s is None else climbed(x, s, 200, lambda z, u: eps(z, u, ""))
        low, e_s = s or 0, eps(x_s, s, "")
        at = low + int(mu*(t - low))
        want.append(gamma(t)*(guided(moved(x_s, e_s, s, t), t, text) - eps(moved(x_s, e_s, s, at), at, "")))
    assert far(METHODS["tsm"](PRIOR, X, PROMPTS, torch.tensor(ts), mu=mu).grad, want) < 1e-9
    for i, t in enumerate(ts): assert far(METHODS["tsm"](PRIOR, X[i:i+1], PROMPTS[i], t, mu=mu).grad, want[i:i+1]) < 1e-9

def test_phi_begins_at_the_batch():
    "Mean and deviation at each place, the latter at least 1e-3"
    x = torch.tensor([[-1., -.02, 0, 3], [1, .02, 0, 3]]).double().reshape(2, 1, 2, 2)
    state = init_state("vsd", PRIOR, x)
    assert torch.allclose(state["phi.mean"].flatten(), torch.tensor([0., 0, 0, 3]).double())
    assert torch.allclose(state["phi.log_std"].exp().flatten(), torch.tensor([1, .02, 1e-3, 1e-3]).double())

@pytest.mark.parametrize("name, share", [("vsd", 0.), ("asd", -.75)])
def test_phi_trains_several_times_a_step(name, share):
    "With torch's Adam, new noise each time; the gradient is that of the first noise and of phi before"
    ts, state, draw = [5, 900, 121, 999], init_state(name, PRIOR, X), seeded(9)
    mean, log_std = (state[k].clone().requires_grad_() for k in ("phi.mean", "phi.log_std"))
    adam, A = torch.optim.Adam([mean, log_std], lr=.02), torch.tensor([a(t) for t in ts]).double().reshape(B, 1, 1, 1)
    lib = seeded(9)
    for _ in range(3):
        step = METHODS[name](PRIOR, X, PROMPTS, torch.tensor(ts), state=state, generator=lib, phi_steps=3)
        for k in range(3):
            n = torch.randn(X.shape, generator=draw).double(); x_t = A**.5*X + (1 - A)**.5*n
            pred = (1 - A)**.5*(x_t - A**.5*mean)/(A*(2*log_std).exp() + 1 - A)
            if k == 0: want = [(1 - a(t))*(guided(x, t, text) - p) for x, t, text, p in zip(x_t, ts, PROMPTS, pred.detach())]
            e_c = torch.stack([eps(x, t, text) for x, t, text in zip(x_t, ts, PROMPTS)])
            adam.zero_grad(); (((pred - n)**2).sum() + share*((pred - e_c)**2).sum()).div(B).backward(); adam.step()
        state = step.state
        assert far(step.grad, want) < 1e-5                              # the library counts Adam's steps in float32
        assert far(state["phi.mean"], list(mean.detach())) < 1e-5 and far(state["phi.log_std"], list(log_std.detach())) < 1e-5

def test_sdi_as_its_code_inverts():
    "SDI_CODE against threestudio's inversion in a straight line: from abar(0), through 1, 101, ..., noise in every step, asked at t with the point at u"
    from lucidteach.distill.zoo import SDI_CODE
    ts, draw, want = [5, 900, 121, 300], seeded(6), []
    up = int(.1*1000*torch.rand((), generator=draw).item())
    for x, t, text in zip(X, ts, PROMPTS):
        u, z = min(t + up, 999), x
        for s, to in zip([0, *(times := [k for k in range(1, 1000, 100) if k < t])], [*times, u]):
            c, null = eps(z, s, text), eps(z, s, "")
            e = c - 7.5*(c - null)
            z = a(to)**.5*(z - (1 - a(s))**.5*e)/a(s)**.5 + (1 - a(to))**.5*e
            z = z + .3*((1 - a(s))/(1 - a(to))*(1 - a(to)/a(s)))**.5*torch.randn(1, 2, 3, 3, generator=draw).double()[0]
        c, null = eps(z, t, text), eps(z, t, "")
        want.append(x - (z - (1 - a(t))**.5*(c + 100*(c - null)))/a(t)**.5)
    step = METHODS["sdi"](PRIOR, X, PROMPTS, torch.tensor(ts), generator=seeded(6), **SDI_CODE)
    assert far(step.grad, want) < 1e-9
    assert step.calls == sum(2*(len([k for k in range(1, 1000, 100) if k < t]) + 1) + 2 for t in ts)
