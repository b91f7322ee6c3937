"Wrong calls of losses, judges, statistics and the sweep: each is answered with the value, what is allowed and the nearest option, before any work"
import math
from types import SimpleNamespace
import numpy as np
import pytest, torch
from lucidteach import METHODS, init_state
from lucidteach.distill.regimes import distil, tiles
from lucidteach.judge import judges, measures, metrics as m, sweep as study
from lucidteach.lab import sweep
from lucidteach.prior.exact import MixturePrior

PRIOR = MixturePrior(torch.tensor([[-1., 0], [1, 0]]).reshape(2, 2, 1, 1), .3, labels=["a", "b"])
X = torch.zeros(1, 2, 1, 1)
OWN = {"sjc": ["variance_reduced"], "nfsd": ["switch"], "pds": ["stride"], "sdi": ["delta_s", "inverse_guidance", "eta", "tau", "as_code"], "tsm": ["delta_t", "delta_s", "mu"],
       "cds": ["delta_t"], "cfd": ["refresh"], "dsd": ["ahead", "lo", "steps"], "isd": ["delta_t"], "hifa": ["lambda_rgb"],
       "gcs": ["delta_t", "delta_e", "w_cc", "w_gc", "w_cp"], "vsd": ["gamma", "phi", "phi_lr", "phi_steps"], "asd": ["gamma", "phi", "phi_lr", "phi_steps"]}

def call(name, **options):
    more = {"source": (X, "a")} if name in ("dds", "pds", "dreamcatalyst") else {"negative": "b"} if name in ("bridge", "nfsd") else {}
    return METHODS[name](PRIOR, X, "a", 500, **{"state": init_state(name, PRIOR, X), **more, **options})

@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_common_options_of_a_loss(name):
    for option, value, said in (("guidance", "7", "guidance must be a finite number"), ("guidance", math.nan, "guidance must be a finite number"), ("noise", np.zeros((1, 2, 1, 1)), "noise must be a tensor"),
                                ("generator", 0, "generator must be a torch.Generator"), ("progress", 2, "progress must be a share within 0..1"), ("weight", "gama", "weight must be one of"), ("base", "con", "did you mean 'cond'"), ("state", 3, "state must be a dict")):
        with pytest.raises(ValueError, match=said): call(name, **{option: value})
    with pytest.raises(TypeError, match="has no option 'guidence': did you mean 'guidance'"): call(name, guidence=3)

@pytest.mark.parametrize("name, option", [(n, o) for n, os in OWN.items() for o in os])
def test_the_options_of_one_loss(name, option):
    for value in ("x", math.nan, [1], None) if option not in ("phi", "phi_lr") else ("x", math.nan, [1]):
        with pytest.raises(ValueError, match=f"{option} must be .*got"): call(name, **{option: value})

PICTURES = torch.full((2, 3, 64, 64), .5)
CALLS = [
    ("no method", lambda: METHODS["tms"], KeyError, "did you mean 'tsm'"),
    ("a state of nothing", lambda: init_state("vds", PRIOR, X), ValueError, "did you mean 'vsd'"),
    ("an option of the memory", lambda: init_state("vsd", PRIOR, X, rank=0), ValueError, "rank must be a whole number, 1 or more, got 0"),
    ("source without a picture", lambda: call("dds", source=("x", "a")), ValueError, "source=(latents, prompt)"),
    ("pds too low", lambda: METHODS["pds"](PRIOR, X, "a", 1, source=(X, "b")), ValueError, "t must be 2 or more; got 1"),
    ("gcs the wrong way round", lambda: call("gcs", delta_t=130), ValueError, "delta_t must be within 0..120; got 130"),
    ("asd without a minimum", lambda: call("asd", gamma=-1.), ValueError, "above -1"),
    ("distil with numpy", lambda: distil(PRIOR, np.zeros((1, 2, 1, 1)), "a"), ValueError, "torch.as_tensor"),
    ("distil no steps", lambda: distil(PRIOR, X, "a", steps=0), ValueError, "steps must be a whole number, 1 or more, got 0"),
    ("distil no method", lambda: distil(PRIOR, X, "a", "sdss"), KeyError, "did you mean 'sds'"),
    ("tiles", lambda: tiles(tile=5), ValueError, "tile must be a multiple of 4"),
    ("tiles of nothing", lambda: tiles(std="x"), ValueError, "std must be a number above 0"),
    ("judge c", lambda: judges.load_judge("c"), ValueError, "there is no judge 'c'"),
    ("judge None", lambda: judges.load_judge(None), ValueError, "there is no judge None"),
    ("judge of a list", lambda: judges.load_judge(["a"]), ValueError, "there is no judge ['a']"),
    ("judge's folder", lambda: judges.load_judge("a", "/nowhere"), FileNotFoundError, "python -m lucidteach.judge.judges a"),
    ("judge's folder is a number", lambda: judges.load_judge("a", 5), ValueError, "folder must be"),
    ("a text for pictures", lambda: judges.as_pictures("x"), ValueError, "got 'x'"),
    ("None for pictures", lambda: judges.as_pictures(None), ValueError, "a judge looks at images"),
    ("one picture", lambda: judges.as_pictures(PICTURES[0]), ValueError, "one image needs [None]"),
    ("numpy, channels last", lambda: judges.as_pictures(np.zeros((2, 64, 64, 3))), ValueError, "got [2, 64, 64, 3]"),
    ("bytes", lambda: judges.as_pictures(PICTURES * 255), ValueError, "clamp first"),
    ("a negative set", lambda: judges.render_set(-1, 0), ValueError, "n must be a whole number, 0 or more, got -1"),
    ("a recipe", lambda: judges.Recipe(step=3), TypeError, "did you mean 'steps'"),
    ("a recipe's net", lambda: judges.Recipe("c"), ValueError, "net must be one of 'a', 'b', got 'c'"),
    ("a recipe's rate", lambda: judges.Recipe(lr="fast"), ValueError, "lr must be a number above 0, got 'fast'"),
    ("one prompt for two", lambda: m.accuracy(None, PICTURES, ["a red mug"]), ValueError, "2 images and 1 prompts"),
    ("a prompt for prompts", lambda: m.told("a red mug"), ValueError, "list of prompts"),
    ("kid of numpy", lambda: m.kid(np.zeros((3, 2)), torch.zeros(3, 2)), ValueError, "torch.as_tensor"),
    ("kid of two widths", lambda: m.kid(torch.zeros(3, 2), torch.zeros(3, 4)), ValueError, "got float32 [3, 4] (where m = 3, D = 2"),
    ("kid of one", lambda: m.kid(torch.zeros(1, 2), torch.zeros(3, 2)), ValueError, "at least 2 rows"),
    ("chamfer of nothing", lambda: m.chamfer(torch.zeros(0, 3), torch.zeros(3, 3)), ValueError, "points in them"),
    ("chamfer of None", lambda: m.chamfer(None, torch.zeros(3, 3)), ValueError, "a must be a float tensor [N, D]"),
    ("chamfer, NaN", lambda: m.chamfer(torch.full((3, 3), math.nan), torch.zeros(3, 3)), ValueError, "9 of 9 values NaN"),
    ("bootstrap of words", lambda: m.paired_bootstrap(["x", "y"]), ValueError, "differences must be numbers"),
    ("bootstrap, no resamples", lambda: m.paired_bootstrap([1., 2.], n=0), ValueError, "n must be a whole number, 1 or more, got 0"),
    ("interval of one", lambda: m.mean_interval([1.]), ValueError, "at least 2 differences, got 1"),
    ("interval, level in percent", lambda: m.mean_interval([1., 2.], 95), ValueError, "level must be a share between 0 and 1, got 95"),
    ("interval, misspelt", lambda: m.mean_interval([1., 2.], levle=.9), TypeError, "did you mean 'level'"),
    ("t-test, NaN", lambda: m.t_test([1., math.nan]), ValueError, "1 of 2 differences are not finite"),
    ("wilcoxon of None", lambda: m.wilcoxon(None), ValueError, "not finite"),
    ("holm", lambda: m.holm([.1, 2]), ValueError, "p-values lie in [0,1]"),
    ("paired of no base", lambda: study.paired([dict(arm="ism", prompt="x", category_b=1.)]), ValueError, "no result of 'sds'"),
    ("true renders of a text", lambda: measures.true_renders("a red mug"), ValueError, "prompts must be"),
    ("ideal prior of none", lambda: measures.ideal_prior(["a red mug"], 0), ValueError, "n must be a whole number, 1 or more, got 0"),
    ("spread of one", lambda: measures.spread(PICTURES[:1]), ValueError, "at least two pictures"),
    ("judged, one prompt", lambda: measures.judged(PICTURES, ["a red mug"], {}), ValueError, "2 images need a list of 2 prompts"),
    ("targets of no arm", lambda: measures.target_scores(PRIOR, PICTURES, ["a", "b"], "imm"), ValueError, "did you mean 'ism'"),
    ("a job's stage", lambda: sweep.Job("tset", "sds"), ValueError, "did you mean 'test'"),
    ("a job's arm", lambda: sweep.Job("test", "imm"), ValueError, "did you mean 'ism'"),
    ("no stages", lambda: sweep.check_stages("", "toy"), ValueError, "no stage"),
    ("a plan", lambda: sweep.plan("tset"), ValueError, "unknown stage 'tset'"),
]

@pytest.mark.parametrize("name, wrong, error, words", CALLS, ids=[c[0] for c in CALLS])
def test_a_wrong_call_is_answered(name, wrong, error, words):
    with pytest.raises(error) as said: wrong()
    assert words in str(said.value), said.value

@pytest.mark.parametrize("wrong", [dict(steps=0), dict(canvas="oil"), dict(stages="tset"), dict(stages="detail")])
def test_a_sweep_that_cannot_be_leaves_no_folder(tmp_path, wrong):
    out = tmp_path/"sw"
    args = SimpleNamespace(**dict(out=str(out), stages="rate", steps=150, canvas="latents", prior="toy", device=None) | wrong)
    with pytest.raises(ValueError): sweep.run_sweep(args)
    with pytest.raises(ValueError, match="a sweep does jobs"): sweep.sweep(out, ["rate"], PRIOR)
    with pytest.raises(ValueError, match="list of prompts"): sweep.sweep(out, [], PRIOR, "a red mug")
    assert not out.exists()

def test_a_file_in_the_place_of_a_folder(tmp_path):
    (tmp_path/"sw").write_text("x")
    with pytest.raises(FileExistsError, match="is a file"): sweep.sweep(tmp_path/"sw", [], PRIOR)

def test_a_folder_that_is_not_finished_is_not_packed(tmp_path):
    with pytest.raises(ValueError, match="holds no job"): sweep.pack_folder(tmp_path, tmp_path/"to")
    job = sweep.Job("rate", "sds", steps=1, canvas="pixels")
    sweep.sweep(tmp_path, [job], MixturePrior(torch.zeros(1, 3, 8, 8), 1., labels=["a"]), ["a"], mode="quiet")
    with pytest.raises(ValueError, match="has no scores"): sweep.pack_folder(tmp_path, tmp_path/"to")
    assert not (tmp_path/"to").exists()
