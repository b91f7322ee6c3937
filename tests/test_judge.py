"Judges and statistics from outside: peers' formulas, package data, and that the two judges are two"
import itertools, json, math, os, subprocess, sys
from pathlib import Path
import numpy as np
import pytest
import torch
from filelock import FileLock
from lucidteach.judge import metrics as m, sweep
from lucidteach.prior import world
from lucidteach.prior.exact import GaussianPrior

@pytest.fixture(scope="module")
def judges(): return {k: m.load_judge(k) for k in "ab"}

@pytest.fixture(scope="module")
def truth(): return m.render_set(300, seed=(5, 17))

def test_weights_are_small_and_half(judges):
    files = [m.WEIGHTS/f"judge_{k}"/"model.safetensors" for k in "ab"]
    assert sum(f.stat().st_size for f in files) < 4.2e6
    for f in files: assert {v.dtype for v in m.load_file(f).values()} <= {torch.float16, torch.int64}

def test_recipes_tell_how(judges):
    for k, j in judges.items(): assert j.recipe["net"] == k and j.recipe["step"] == j.recipe["steps"] and j.recipe["cpu_minutes"] > 0, j.recipe

def test_true_renders_are_named(judges, truth):
    for k, j in judges.items():
        share = m.shares(j(truth.images), truth.answers)
        assert share["category"] > .93 and share["colour"] > .95 and share["pattern"] > .8 and share["view"] > .8, (k, share)

def test_verdicts_are_probabilities(judges, truth):
    for j in judges.values():
        v = j(truth.images[:5])
        for k, n in dict(category=29, colour=10, pattern=3, view=4).items():
            p = getattr(v, k)
            assert p.shape == (5, n) and torch.allclose(p.sum(1), torch.ones(5), atol=1e-5) and (p >= 0).all()

def test_judges_are_two(judges, truth):
    "They err on different pictures: both wrong at once is rarer than either"
    wrong = [j(truth.images).category.argmax(1) != truth.answers[:, 0] for j in judges.values()]
    assert (wrong[0] & wrong[1]).sum() <= min(w.sum() for w in wrong)
    assert type(judges["a"].net) is not type(judges["b"].net)

@pytest.mark.parametrize("value", [0., .5, .8, 1.])
def test_flat_pictures_are_refused(judges, value):
    for j in judges.values(): assert j(torch.full((1, 3, 64, 64), value)).category.argmax() == m.REJECT

def test_captions_say_what_their_things_are():
    b = world.sample(300, seed=(3, 3), depth=0., corruption=0.)
    for row, caption, thing, camera in zip(m.told(b.captions).tolist(), b.captions, b.things, b.cameras):
        truth = m.answers(thing, camera, margin=0.)
        assert all(said in (-1, true) for said, true in zip(row, truth)), (caption, row, truth)

def test_statistics_agree_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(1)
    for n in (3, 8, 20, 45):
        d = rng.normal(.3, 1, n)
        assert math.isclose(m.wilcoxon(d), stats.wilcoxon(d, method="exact").pvalue, rel_tol=1e-9)
        assert np.array_equal(m.ranks(d.round()), stats.rankdata(d.round()))
    d = rng.integers(-5, 8, 120); d = d[d != 0]
    assert math.isclose(m.wilcoxon(d), stats.wilcoxon(d, method="approx", correction=False).pvalue, rel_tol=1e-9)

def test_bootstrap_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    hits = [low <= .5 <= high for low, high in (m.paired_bootstrap(rng.normal(.5, 1, 28), n=400, seed=i) for i in range(400))]
    assert .90 < np.mean(hits) < .98, np.mean(hits)     # a percentile interval of 28 is a little short

def test_holm_keeps_the_family_wise_error():
    rng = np.random.default_rng(3)
    assert np.mean([min(m.holm(rng.random(6))) < .05 for _ in range(4000)]) < .06

def test_kid_is_the_kernel_mean_distance():
    "Features with a known answer: with m copies of u and of v, KID is k(u,u) + k(v,v) - 2 k(u,v)"
    u, v = torch.tensor([1., 2., 0., 1.]), torch.tensor([0., 1., 1., 3.])
    k = lambda p, q: (float(p @ q)/4 + 1)**3
    assert math.isclose(m.kid(u.repeat(3, 1), v.repeat(5, 1)), k(u, u) + k(v, v) - 2*k(u, v), rel_tol=1e-12)

def test_batches_do_not_depend_on_history(truth):
    c = m.Recipe(batch=16)
    later = m.batch_at(truth, 5, c)
    m.batch_at(truth, 4, c)
    assert all(torch.equal(x, y) for x, y in zip(later, m.batch_at(truth, 5, c)))

KILLS = '''
import os, random, signal, sys, time
from pathlib import Path
import torch
from lucidteach.judge import sweep as S
from lucidteach.prior.exact import GaussianPrior
prior = GaussianPrior(torch.full((3, 8, 8), .5), .3)
jobs = [S.Job("rate", arm, steps=8, canvas="pixels") for arm in ("sds", "csd", "ism", "fixed")]
score = lambda images, prompts, stage: [dict(category_a=float(i.mean())) for i in images]

def go(folder):
    S.sweep(folder, jobs, prior, ["a blue car", "a red mug"], mode="quiet")
    S.score_all(folder, score, mode="quiet")

root = Path(sys.argv[1])
go(root/"warm")
began = time.perf_counter()
go(root/"whole")
takes, chance, killed = time.perf_counter() - began, random.Random(0), 0
for folder in [root/f"killed{k}" for k in range(3)]:
    for attempt in range(4):
        if not (child := os.fork()):
            go(folder)
            os._exit(0)
        time.sleep(chance.random() * takes / 2)
        os.kill(child, signal.SIGKILL)
        killed += os.waitpid(child, 0)[1] == signal.SIGKILL
    go(folder)
print(killed)
'''

@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_a_sweep_that_was_killed_ends_as_one_that_was_not(tmp_path):
    run = subprocess.run([sys.executable, "-c", KILLS, str(tmp_path)], check=True, capture_output=True, text=True)
    assert int(run.stdout.split()[-1]) > 0 and "Damaged" not in run.stdout          # killed at times, and nothing was half written
    tidy = lambda folder: [{k: v for k, v in r.items() if k != "seconds"} for r in sweep.results(folder)]
    whole, pictures = tidy(tmp_path/"whole"), {p.name: p.read_bytes() for p in (tmp_path/"whole").glob("*.png")}
    for folder in tmp_path.glob("killed?"):
        assert len(whole) == 8 and tidy(folder) == whole
        assert {p.name: p.read_bytes() for p in folder.glob("*.png")} == pictures

@pytest.fixture
def small_sweep(tmp_path):
    "A folder with the whole stage 'rate' of one arm, made without a network: (folder, jobs, how to make what is missing)"
    jobs = [sweep.Job("rate", "ism", lr=lr, steps=2, canvas="pixels") for lr in sweep.RATES]
    prior, prompts = GaussianPrior(torch.full((3, 8, 8), .5), .3), ["a blue car", "a red mug"]
    score = lambda images, prompts, stage: [dict(category_a=float(i.mean())) for i in images]
    def make():
        sweep.sweep(tmp_path, jobs, prior, prompts, mode="quiet")
        sweep.score_all(tmp_path, score, mode="quiet")
        return sweep.results(tmp_path)
    make()
    return tmp_path, jobs, make

@pytest.mark.parametrize("kind", ["json", "png", "scores"])
@pytest.mark.parametrize("keep", [0, 30, .9])
def test_a_file_cut_short_is_said_and_made_again(small_sweep, capsys, kind, keep):
    "Of four rates none may go missing: the best would be chosen among three"
    folder, jobs, make = small_sweep
    rows, path = sweep.results(folder), folder/f"{jobs[1].name}.{kind}"
    data = path.read_bytes()
    path.write_bytes(data[:keep if keep >= 1 else int(keep * len(data))])
    with pytest.raises(ValueError, match=f"1 damaged files .*{jobs[1].name}.{kind}"): sweep.results(folder)
    again = make()
    assert path.name in capsys.readouterr().out and Path(f"{path}.damaged").exists()
    strip = lambda rows: [{k: v for k, v in r.items() if k != "seconds"} for r in rows]
    assert strip(again) == strip(rows) and path.exists() and not sweep.mend(folder)

def test_a_rate_is_not_chosen_among_fewer(small_sweep):
    folder, jobs, make = small_sweep
    rows = sweep.results(folder)
    assert sweep.chosen_rate(rows, "ism") in sweep.RATES
    with pytest.raises(ValueError, match="no result yet at 0.1"): sweep.chosen_rate([r for r in rows if r["lr"] != .1], "ism")

def test_a_folder_of_other_prompts_is_left_alone(small_sweep):
    folder, jobs, make = small_sweep
    with pytest.raises(FileExistsError, match="other prompts, 'a blue car' among them"):
        sweep.sweep(folder, jobs, GaussianPrior(torch.full((3, 8, 8), .5), .3), ["a green house"], mode="quiet")

def test_a_job_in_work_elsewhere_is_not_moved(small_sweep):
    folder, jobs, make = small_sweep
    (folder/f"{jobs[0].name}.json").write_text("{")
    with FileLock(folder/f".{jobs[0].name}.lock"): assert not sweep.mend(folder)
    assert len(sweep.mend(folder)) == 1

@pytest.mark.parametrize("wrong, said", [(dict(stage="tset"), "there are rate"), (dict(arm="imm"), "there are sds"), (dict(lr=0), "lr must be a number above 0"),
    (dict(steps=2.5), "whole number"), (dict(guidance=float("inf")), "finite"), (dict(guidance=10**400), "too large"), (dict(canvas="oil"), "there are pixels")])
def test_a_job_that_cannot_be_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said): sweep.Job(**dict(stage="rate", arm="sds") | wrong)
