"""A run's folder that somebody damaged or made: `create` goes on from it, or says in one sentence what is wrong with it, and never anything else"""
import json, shutil, sys
from pathlib import Path
import pytest, torch
from hypothesis import example, given, strategies as st
from safetensors import safe_open
sys.path.insert(0, str(Path(__file__).parent))
from fuzz import LONG, inputs
from lucidteach.lab import create as lab
from lucidteach.scene import run as runner, text_to_3d as t3
from lucidteach.prior.exact import GaussianPrior
from lucidteach.splat.gaussians import Gaussians

fuzzed = inputs(150)
SMALL = dict(steps=6, init="ball", head_start=0., size=16, points=40, every=3, view_prompts=False, overhead=False, densify=(0, 6, 2), grow_grad=1e-5, reset_every=3, max_points=60, save_seconds=1e9, batch=2)
prior = GaussianPrior(torch.zeros(3, 16, 16), .5)
METHODS = "sds", "asd"                                      # without a memory of its own, and with one
CONFIG = t3.config("toy", **SMALL)

def creation(method): return lab.Creation("a red mug", method, CONFIG, lab.prior_name(prior), t3.State(t3.Splats(t3.start(CONFIG), CONFIG)))
def go(method, out): return lab.create("a red mug", method, prior=prior, preset="toy", out=out, mode="quiet", **SMALL)

@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    "method -> (a folder whose run was stopped after four of six steps, its checkpoint's tensors and numbers)"
    made = {}
    for method in METHODS:
        out, r = tmp_path_factory.mktemp(method)/"run", creation(method)
        lab.begin_folder(out, r.config())
        for s in runner.generate(prior, r.prompt, method, CONFIG, state=r.state):
            if s.step in (1, 3): lab.keep(prior, r, out)
            if s.step == 4: break
        r.checkpoint(out)
        with safe_open(out/"state.safetensors", "pt") as f: made[method] = out, {k: f.get_tensor(k) for k in f.keys()}, json.loads(f.metadata()["run"])
    return made

def goes_on_or_says(method, folder):
    "The checkpoint of a folder is taken, and steps can be taken from it; or a ValueError names it, and nothing was changed"
    r = creation(method); before = {k: v.clone() for k, v in r.state.scene.memory().items()}
    try: taken = lab.resume(r, folder, prior)
    except ValueError as e:
        assert "no whole checkpoint" in str(e) and "state.safetensors" in str(e) and len(str(e)) < 1000
        assert r.state.step == 0 and not r.rows and not r.state.memory
        after = r.state.scene.memory()
        assert before.keys() == after.keys() and all(torch.equal(v, after[k]) for k, v in before.items())
        return False
    assert taken and 0 <= r.state.step <= CONFIG.steps
    for s in runner.generate(prior, r.prompt, method, CONFIG, state=r.state): assert s.stopped is None or isinstance(s.stopped, str)
    assert isinstance(repr(r), str) and r.metrics() and lab.report_html(r, folder) if LONG else repr(r)
    return True

numbers = st.one_of(st.integers(-5, 9), st.integers(-10**40, 10**40), st.floats(), st.booleans(), st.none(), st.text(max_size=5))
values = st.recursive(numbers, lambda v: st.one_of(st.lists(v, max_size=3), st.dictionaries(st.sampled_from(["step", "network", "rest", "render", "t", "a"]), v, max_size=3)), max_leaves=6)

@fuzzed
@given(st.data(), st.sampled_from(METHODS))
def test_bytes_of_a_checkpoint(folders, data, method):
    "Bytes changed, cut off, added or doubled"
    folder, _, _ = folders[method]
    whole, out = (folder/"state.safetensors").read_bytes(), folder.parent/"spoilt"
    spoilt = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.one_of(st.integers(0, 200), st.integers(0, max(len(spoilt) - 1, 0))))
        kind = data.draw(st.sampled_from(("set", "cut", "insert", "drop")))
        if kind == "set" and at < len(spoilt): spoilt[at] = data.draw(st.integers(0, 255))
        elif kind == "cut": del spoilt[at:]
        elif kind == "insert": spoilt[at:at] = data.draw(st.binary(max_size=20))
        else: del spoilt[at:at + data.draw(st.integers(1, 64))]
    out.mkdir(exist_ok=True); (out/"state.safetensors").write_bytes(spoilt)
    same = goes_on_or_says(method, out)
    if bytes(spoilt) == whole: assert same

@fuzzed
@given(st.data(), st.sampled_from(METHODS), st.booleans())
def test_parts_of_a_checkpoint(folders, data, method, signed):
    "Tensors left out, added, of another shape or kind; numbers that are none. `signed`: the digest is made anew, as somebody would who makes such a file"
    folder, tensors, head = folders[method]
    named, told, out = dict(tensors), json.loads(json.dumps(head)), folder.parent/"made"
    for _ in range(data.draw(st.integers(1, 2))):
        k = data.draw(st.sampled_from(sorted(tensors)))
        if k not in named: continue
        v, kind = named[k], data.draw(st.sampled_from(("drop", "add", "shape", "kind", "fill", "row", "number", "no number", "clean")))
        if kind == "drop": del named[k]
        elif kind == "add": named[data.draw(st.sampled_from(("param.x", "adam.means.max", "method.x", "grown.x", "buffer.x", "x", "")))] = v
        elif kind == "shape": named[k] = v.flatten() if data.draw(st.booleans()) else v[None]
        elif kind == "kind": named[k] = v.to(data.draw(st.sampled_from((torch.float64, torch.float16, torch.int64, torch.uint8, torch.bool))))
        elif kind == "fill": named[k] = torch.full_like(v, data.draw(st.sampled_from((float("nan"), float("inf"), -1., 0., 3.)))) if v.is_floating_point() else v
        elif kind == "row" and v.ndim: named[k] = torch.cat([v, v[:1]]) if data.draw(st.booleans()) else v[:-1]
        elif kind == "number": told[data.draw(st.sampled_from(sorted(head)))] = data.draw(values)
        elif kind == "no number": told.pop(data.draw(st.sampled_from(sorted(head))), None)
    if signed: told |= dict(digest=runner.digest(named, {n: v for n, v in told.items() if n != "digest"}))
    out.mkdir(exist_ok=True); (out/"state.safetensors").write_bytes(runner.with_numbers(named, told))
    goes_on_or_says(method, out)

texts = st.one_of(st.binary(max_size=60), values.map(lambda v: json.dumps(v).encode()), st.sampled_from((b"", b"\n", b"[]", b"null", b"{", b"\xff\xfe", b'{"complete": true}\n')))

@inputs(12)
@given(st.sampled_from(("config.json", "metrics.jsonl", "report.html", "object.ply", "turntable.webp", "panels/step-000001.png", "panels/step-999999.png")), texts, st.booleans())
@example("metrics.jsonl", b'{"kind": "end", "complete": true, "files": {}}\n', True)
@example("panels/step-000001.png", b"no picture", True)
def test_other_files_of_a_folder(folders, name, text, done):
    "Every other file, of a run that was done or was not: the run becomes whole, or another run is said to live there"
    out, want = folders["sds"][0].parent/"folder", folders["sds"][0].parent/"whole"
    if not want.exists(): go("sds", want)
    shutil.rmtree(out, ignore_errors=True); shutil.copytree(want if done else folders["sds"][0], out)
    (out/name).write_bytes(text)
    try: r = go("sds", out)
    except FileExistsError as e: assert name == "config.json" and "another run" in str(e); return
    assert r.complete and lab.all_there(r, out)
    assert (out/"object.ply").read_bytes() == (want/"object.ply").read_bytes()
