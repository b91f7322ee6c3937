"The bench of 22_pseudo_gt: the split of a variance against a slow pooled one, and what it refuses before any work"
import numpy as np, pytest, torch
from lucidteach.prior.patches import dot_world
from lucidteach.distill import ism, zoo                      # registers them
from lucidteach.distill.pseudo_gt import pseudo_gt, target_variance

TIMES = (60, 300, 500, 700, 940)

def rng(seed): return torch.Generator().manual_seed(seed)

def two_pictures():
    prior = dot_world(8)
    return prior, prior.sample(prior.embed(["dots", "dots"]), rng(0))

@pytest.mark.parametrize('way', [dict(method='sds'), dict(method='sds', jitter=.1), dict(method='ism', start_noise=True), dict(method='csd')], ids=str)
def test_the_parts_add_up_to_the_pooled_variance(way):
    "Law of total variance, sample by sample and pixel by pixel in plain loops: within + between = pooled"
    prior, x = two_pictures()
    n, k = 3, len(TIMES)
    g = rng(1)
    targets = np.stack([pseudo_gt(prior, x, 'dots', t, n=n, generator=g, **way).targets.numpy() for t in TIMES])      # [k,n,B,C,h,w]
    draws, times = target_variance(prior, x, 'dots', TIMES, n=n, generator=rng(1), **way)
    for b in range(len(x)):
        pixels = targets[:, :, b].reshape(k * n, -1).T
        pooled = np.mean([np.mean((p - p.mean())**2) for p in pixels])
        within, between = draws[b].item(), times[b].item() + draws[b].item() / n
        assert within * (n - 1) / n + between * (k - 1) / k == pytest.approx(pooled, rel=1e-9)

def test_a_method_that_draws_nothing_varies_over_times_only():
    prior, x = two_pictures()
    draws, times = target_variance(prior, x, 'dots', TIMES, method='ism', n=2)
    each = torch.stack([pseudo_gt(prior, x, 'dots', t, method='ism', n=1).targets[0] for t in TIMES])
    assert (draws == 0).all()
    assert torch.allclose(times, each.var(0).flatten(1).mean(1), rtol=1e-12)

class Untouched:
    "A prior that must not be asked"
    def __getattr__(self, name): raise AssertionError(f'the prior was asked for {name}')

@pytest.mark.parametrize('wrong, says', [
    (dict(method='imm'), "no method 'imm'; there are"), (dict(n=0), 'n must be at least 1, a whole number; got 0'),
    (dict(n='8'), "got '8'"), (dict(n=True), 'got True'), (dict(n=2.5), 'got 2.5'), (dict(jitter=-.1), 'jitter must be a number >= 0'),
    (dict(jitter=float('nan')), 'got nan'), (dict(jitter='0.1'), "got '0.1'"), (dict(shift=-1), 'shift must be at least 0'),
    (dict(shift=.5), 'got 0.5')], ids=str)
def test_wrong_calls_are_refused_before_any_work(wrong, says):
    x = torch.zeros(1, 1, 8, 8)
    with pytest.raises(ValueError) as failed: pseudo_gt(Untouched(), x, 'dots', 300, **wrong)
    assert says in str(failed.value)
    with pytest.raises(ValueError) as failed: target_variance(Untouched(), x, 'dots', TIMES, **wrong)
    assert says.replace('least 1', 'least 2') in str(failed.value)

def test_one_time_or_one_draw_has_no_variance():
    x = torch.zeros(1, 1, 8, 8)
    with pytest.raises(ValueError, match='at least two timesteps'): target_variance(Untouched(), x, 'dots', [300])
    with pytest.raises(ValueError, match='n must be at least 2'): target_variance(Untouched(), x, 'dots', TIMES, n=1)
