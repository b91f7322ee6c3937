"Wrong calls of the laboratory: each is answered with the value, what is allowed and the nearest option, before any work"

from types import SimpleNamespace

import pytest
import torch

from lucidteach.distill.canvas import Settings, check_own, mean_time, optimise, spelled, start_image
from lucidteach.lab.compare import compare, planned, prepare, run_compare, worlds
from lucidteach.lab.comparison import Comparison
from lucidteach.prior.exact import GaussianPrior
from lucidteach.prior.prompts import check_prompts, opened
from lucidteach.run.folders import claim, prior_name
from lucidteach.run.names import check_names


class Silent(GaussianPrior):
    "A prior that must not be asked"

    def eps(self, *a, **kw):
        raise AssertionError("the network was asked")


def prior():
    return Silent(torch.full((3, 16, 16), 0.5), 0.3)


def go(**kw):
    return compare(**dict(prompt="x", methods="ism", prior=prior(), truth=None, mode="quiet", steps=2) | kw)


def args(**kw):
    given = dict(prompt="a red mug", methods=None, steps=None, seed=0, guidance=None, out=None)
    return SimpleNamespace(**given | dict(device="cpu", prior=None, overwrite=False) | kw)


# fmt: off
WRONG = {  # name -> call, words that must be in the answer
    "canvases=5": (lambda: go(canvases=5), "a canvas is named by a str, got 5; there are pixels"),
    "canvases=None": (lambda: go(canvases=None), "a canvas is named by a str, got None"),
    "canvases=pixel": (lambda: go(canvases="pixel"), "did you mean 'pixels'"),
    "canvases=()": (lambda: go(canvases=()), "at least one canvas; there are pixels, latents, implicit"),
    "methods=()": (lambda: go(methods=()), "at least one method; there are sds"),
    "methods=None": (lambda: go(methods=None), "named by a str such as 'sds'"),
    "methods=imm": (lambda: go(methods="imm"), "did you mean 'ism'"),
    "an editing loss": (lambda: go(methods="dds"), "changes a given picture"),
    "options of another": (lambda: go(options={"vsd": {}}), "'vsd', which is not compared: the methods are ism"),
    "options misspelt": (lambda: go(options={"ims": {}}), "did you mean 'ism'"),
    "options=5": (lambda: go(options=5), "options must be of type dict, got 5"),
    "guidance=str": (lambda: go(guidance="7"), "guidance must be a finite number, got '7'"),
    "steps=10**9.5": (lambda: go(steps=3.2e9), "steps must be a whole number from 1 to at most 10^15"),
    "steps=-1": (lambda: go(steps=-1), "got -1"),
    "steps=10**30": (lambda: go(steps=10**30), "at most 10^15"),
    "head_start=1": (lambda: go(head_start=1), "head_start must be a share of the run, 0 or more and below 1, got 1"),
    "weight": (lambda: go(weight="gama"), "did you mean 'gamma'"),
    "equal": (lambda: go(equal="seconds"), "one of 'steps', 'calls', got 'seconds'"),
    "t_range": (lambda: go(t_range=(0.6, 0.5)), "rise within 0..1, got (0.6, 0.5)"),
    "negative=5": (lambda: go(negative=5), "negative must be of type str or None, got 5"),
    "prompt=None": (lambda: go(prompt=None), "at least one prompt"),
    "prompt=tensor": (lambda: go(prompt=torch.zeros(2)), "at least one prompt"),
    "prior=None": (lambda: go(prior=None), "an object with .eps, got None"),
    "prior=5": (lambda: go(prior=5), "an object with .eps, got 5"),
    "truth=5": (lambda: go(truth=5), "truth must be 'world', None, or a function"),
    "mode": (lambda: go(mode="quite"), "unknown mode 'quite'; did you mean 'quiet'"),
    "seeds=3": (lambda: go(seeds=3), "such as (0, 1, 2); got 3"),
    "seeds=.5": (lambda: go(seeds=0.5), "such as (0, 1, 2); got 0.5"),
    "seeds twice": (lambda: go(seeds=(1, 1)), "each once"),
    "out=5": (lambda: go(out=5), "name of a folder"),
    "overwrite=1": (lambda: go(overwrite=1), "overwrite must be of type bool, got 1"),
    "device=0": (lambda: go(device=0), "device must be of type str, got 0"),
    "worlds: none": (lambda: worlds("x", []), "at least one prior"),
    "worlds: twice": (lambda: worlds("a red mug", ["toy", "toy"]), "'toy' is named twice"),
    "worlds: options": (lambda: worlds("x", [prior()], methods=["sds"], options={"vsd": {}}), "'vsd', which is not"),
    "worlds: prompt": (lambda: worlds("a red mugg", "toy"), "mug"),
    "--methods ''": (lambda: planned(args(methods="")), "at least one method; there are sds"),
    "--methods imm": (lambda: run_compare(args(methods="sds,imm")), "did you mean 'ism'"),
    "--guidance nan": (lambda: planned(args(guidance=float("nan"))), "guidance must be a finite number, got nan"),
    "Settings(options)": (lambda: Settings(options={"ism": {"delta_t": "x"}}), "delta_t"),
    "Settings(own guidance)": (lambda: Settings(options={"ism": {"guidance": 3.0}}), "'ism@7.5'"),
    "Settings(seed)": (lambda: Settings(seed=0.5), "seed must be a whole number"),
    "spelled(@x)": (lambda: spelled("ism@x"), "guidance must be a finite number, got 'x'"),
    "spelled(nan)": (lambda: spelled("ism@nan"), "guidance"),
    "spelled(typo)": (lambda: spelled("ism:detla_t=50"), "did you mean 'delta_t'"),
    "spelled(steps)": (lambda: spelled("ism:steps=3"), "no option 'steps'"),
    "spelled(no value)": (lambda: spelled("ism:head_start"), "option=value"),
    "spelled(2)": (lambda: spelled("ism:head_start=2"), "head_start"),
    "spelled(5)": (lambda: spelled(5), "named by a str"),
    "check_own": (lambda: check_own({"ism": 5}), "a dict of options of ism, got 5"),
    "optimise(canvas)": (lambda: optimise(prior(), "x", canvas="pixel"), "did you mean 'pixels'"),
    "optimise(settings)": (lambda: optimise(prior(), "x", settings=5), "settings must be of type Settings, got 5"),
    "optimise(start)": (lambda: optimise(prior(), "x", start=torch.zeros(16, 16)), "start must be a float tensor"),
    "start_image(n)": (lambda: start_image(prior(), 0), "n must be a whole number, 1 or more, got 0"),
    "start_image(noise)": (lambda: start_image(prior(), 1, noise=-1.0), "noise must be a number, 0 or more"),
    "mean_time": (lambda: mean_time(Settings(), "1000"), "T must be a whole number, 1 or more, got '1000'"),
    "show(prompt)": (lambda: prepare("x", prior=prior())[0].show(3), "0 to 0, got 3"),
    "show(nothing)": (lambda: prepare("x", prior=prior())[0].show(), "nothing was computed"),
    "prior_name": (lambda: prior_name(None), "an object with .eps, got None"),
    "check_names": (lambda: check_names(7, ["a"], "stage"), "a stage is named by a str, got 7; there are a"),
    "check_prompts": (lambda: check_prompts("a red mugg", toy=True), "mug"),
    "opened": (lambda: opened(prior(), divisor=32), "multiple of 32 px, the prior's have 16"),
}
# fmt: on


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_call_is_answered(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, words = WRONG[name]
    with pytest.raises(ValueError) as e:
        result = call()
        if name.startswith("optimise"):
            next(result)
    assert words in str(e.value), str(e.value)
    assert len(str(e.value)) < 400 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("call, near", [(lambda: go(step=3), "steps"), (lambda: Settings(guidence=3), "guidance"), (lambda: optimise(prior(), "x", canvass=1), "canvas")])
def test_an_unknown_name_is_answered_with_the_nearest(call, near):
    with pytest.raises(TypeError, match=f"did you mean '{near}'"):
        call()


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileExistsError, match="holds other files and no run"):
        go(out=tmp_path)
    with pytest.raises(FileExistsError, match="is a file"):
        claim(tmp_path / "notes.txt", {})
    assert [f.name for f in tmp_path.iterdir()] == ["notes.txt"]


def test_settings_are_as_before():
    "The repr that a notebook shows, and what a config keeps"
    assert repr(Settings(steps=3)).startswith("Settings(steps=3, seed=0, guidance=3.0, head_start=0.5, negative=None")
    assert Settings(t_range=[0.1, 0.2], steps=3) == Settings(t_range=(0.1, 0.2), steps=3)
    assert hash(Comparison) and Settings(steps=3) != Settings()
