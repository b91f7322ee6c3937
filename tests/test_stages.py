"Text to 3D in two stages: times, guidance and rates of each, a run that goes on across the border, folders of before"

import json
from dataclasses import asdict
from math import ceil, floor
from pathlib import Path

import pytest
import torch
from test_create import SMALL, prior

from lucidteach.lab import create as lab
from lucidteach.scene import run as runner
from lucidteach.scene import text_to_3d as t3
from lucidteach.scene.config import DETAIL, PRESETS, config
from lucidteach.scene.edit import edit_config

TWO = SMALL | dict(steps=12, densify=(0, 0, 1), detail=(0.5, 0.4, 0.1), guidance=7.5, guidance_detail=2.0, t_width=1.0)


@pytest.mark.parametrize("steps", [1, 7, 80])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_every_step_belongs_to_one_stage_and_a_stage_ends_where_it_should(steps, share):
    "Window and progress of each step, by the formula written out, stage by stage"
    c = config("toy", steps=steps, t_width=1.0, t_start=0.8, t_range=(0.02, 0.3), detail=(share, 0.4, 0.1))
    seen = []
    for step in range(steps):
        late = step / steps >= share - 1e-12
        first = sum(i / steps < share - 1e-12 for i in range(steps))
        n, i = (steps - first, step - first) if late else (first, step)
        top, last = (0.4, 0.1) if late else (0.8, 0.3)
        high = floor(last * 1000) + floor((top - last) * 1000 * (1 - i / n)) - 1
        assert c.progress(step) == pytest.approx(i / n)
        assert c.at(step).times().bounds(1000, c.progress(step)) == pytest.approx((20, high), abs=1)
        seen.append(c.stage(step))
    assert len(set(seen)) == 1 + (0 < first < steps) and sum(len(r) for _, r in set(seen)) == steps


def test_one_stage_is_as_it_was():
    "Without `detail` the progress is the share of the run, and a step has the run's own Config"
    for name in PRESETS:
        c = config(name, detail=None)
        for step in (0, 1, c.steps // 2, c.steps - 1, c.steps):
            assert c.at(step) is c and c.progress(step) == (step + c.as_released) / c.steps
    for head, steps in ((0.1, 30), (0.75, 80), (0.3, 10), (1.0, 7), (0.0, 5)):  # as `step / steps < head_start` counted
        assert config("toy", steps=steps).first_steps(head) == sum(i / steps < head for i in range(steps))


def test_the_stage_of_detail_is_an_option():
    "The toy preset has one stage; with DETAIL SDS ends where the second begins; edits and `ball` draw as many views as ever"
    one, two = config("toy"), config("toy", **DETAIL)
    assert {one.stage(i) for i in range(one.steps)} == {(0, range(one.steps))}
    late = [i for i in range(two.steps) if two.stage(i)[0] == 1]
    assert late == [i for i in range(two.steps) if i / two.steps >= two.head_start] == list(range(two.steps // 2, two.steps))
    highest = [two.at(i).times().bounds(1000, two.progress(i))[1] for i in late]
    assert highest == sorted(highest, reverse=True) and highest[0] < one.times().bounds(1000, 0.5)[1]
    assert [config("ball").batch, edit_config().batch, edit_config(small=False).batch] == [4, 4, 4]


def test_a_stage_has_its_own_times_guidance_and_rates():
    "What a method is asked at each step, and at which rate the colours move, without a network"
    c, asked, rates = config("toy", **TWO), [], []
    told = prior()
    real = t3.attempt

    def attempt(method, prior, z, cond, t, **options):
        asked.append((t, options["guidance"], options["progress"]))
        return real(method, prior, z, cond, t, **options)

    t3.attempt = attempt
    try:
        for state in runner.generate(told, "a red mug", "sds", c):
            rates.append(state.scene.adam["sh0"].param_groups[0]["lr"])
    finally:
        t3.attempt = real
    assert [g for _, g, _ in asked] == [7.5] * 6 + [2.0] * 6
    assert [p for _, _, p in asked] == pytest.approx([i / 6 for i in range(6)] * 2)
    assert all(20 <= t < 800 for t, _, _ in asked[:6]) and all(20 <= t < 400 for t, _, _ in asked[6:])
    a, b = c.lr_color
    assert rates == pytest.approx([a * (b / a) ** (i / 6) for i in range(6)] * 2)


@pytest.mark.parametrize("stop", [3, 6, 9])
def test_a_run_goes_on_across_the_border(stop, tmp_path):
    "Packed before, at and after the border, taken up again: bit for bit the unbroken run"
    c, told = config("toy", **TWO), prior()
    *_, whole = runner.generate(told, "a red mug", "ism", c)
    for half in runner.generate(told, "a red mug", "ism", c):
        if half.step == stop:
            break
    (tmp_path / "state").write_bytes(runner.pack(half))
    again = t3.State(t3.Splats(t3.start(c, "a red mug"), c))
    runner.unpack(tmp_path / "state", again, c)
    *_, again = runner.generate(told, "a red mug", "ism", c, state=again)
    assert again.step == whole.step == 12
    for (k, a), (_, b) in zip(again.scene.tensors(), whole.scene.tensors()):
        assert torch.equal(a, b), k


def test_folders_of_before(tmp_path):
    "A folder without the new fields goes on where they say nothing; one of the old preset says by what it differs"
    asked = []

    def go(**own):
        counts = prior()
        ask = counts.eps
        counts.eps = lambda *a: (asked.append(1), ask(*a))[1]
        return lab.create("a red mug", "sds", prior=counts, out=tmp_path, mode="quiet", **SMALL | dict(steps=2) | own)

    old = dict(detail=None, guidance_detail=None)
    first = go(**old)
    asked.clear()
    told = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    kept = {k: v for k, v in told.items() if k not in old}
    assert set(told) - set(kept) == set(old) <= set(asdict(config()))
    (tmp_path / "config.json").write_text(json.dumps(kept), encoding="utf-8")
    again = go(**old)
    assert again.complete and again.state.calls == first.state.calls and not asked
    with pytest.raises(FileExistsError, match="different detail"):
        go(**old | dict(detail=(0.5, 0.4, 0.1)))


@pytest.mark.parametrize("preset,name", [("toy", "toy"), ("field", "field, closed start")])
def test_a_preset_is_the_one_that_was_measured(preset, name):
    "The settings of the runs in 43b, each of which says by what it differs from the first preset"
    lines = (Path(__file__).parent.parent / "nbs/4_scene/results/create-stages.jsonl").read_text(encoding="utf-8")
    runs = [r for r in map(json.loads, lines.splitlines()) if r["name"] == name]
    settings = {k: v for r in runs for k, v in r["settings"].items() if k != "pictures"}
    assert len(runs) >= 8 and len(settings) >= 7
    held = json.loads(json.dumps(asdict(config(preset))))
    assert {k: held[k] for k in settings} == settings


@pytest.mark.parametrize("detail", [(0.5, 0.1, 0.4), (0.5, 0.4, 0.02), (0.5, 0.4), (1.5, 0.4, 0.1), 0.5])
def test_wrong_stages_are_refused(detail):
    with pytest.raises((ValueError, TypeError), match="detail"):
        config("toy", detail=detail)


def test_a_ground_that_the_prompt_names():
    "The prior is told what the object stands on, and sees it there; so do the pictures that are handed out"
    heard, told = [], prior()
    embed = told.embed
    told.embed = lambda texts: (
        heard.append(texts),
        embed(["a red mug"] * (1 if isinstance(texts, str) else len(texts))),
    )[1]
    c = config("toy", **SMALL | dict(steps=1))
    *_, state = runner.generate(told, "a white duck on black", "sds", c)
    assert ["a white duck on black"] in heard
    corners = state.image[:, :, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.max() < 0.5  # the ball does not reach them
