"Text to 3D: a killed run goes on bit for bit, folders are safe, failures are said, and the paper's preset runs from a folder of weights"
import json, math, os, random, re, signal, subprocess, sys, time
import pytest, torch
from lucidteach.lab import create as lab
from lucidteach.scene import run as runner, text_to_3d as t3
from lucidteach.prior.exact import GaussianPrior, ImageSetPrior
from lucidteach.splat.gaussians import Gaussians

SMALL = dict(steps=30, init="ball", head_start=0., size=16, points=60, every=10, view_prompts=False, overhead=False, disparity_prompt="{}", densify=(5, 25, 5), grow_grad=2.5e-4, reset_every=15, max_points=200, save_seconds=0., batch=4)

def prior():
    g = torch.Generator().manual_seed(0)
    return ImageSetPrior(torch.rand(3, 3, 16, 16, generator=g), ["a red mug"]*3, std=.3)

CHILD = """
import sys, time; sys.path.insert(0, {tests!r})
import torch; torch.set_num_threads(1)
from test_create import prior, SMALL, lab
slow = prior(); ask = slow.eps
slow.eps = lambda *a: (time.sleep(.02), ask(*a))[1]        # so that there is time to be killed
lab.create("a red mug", "ism", prior=slow, preset="toy", out=sys.argv[1], mode="quiet", **SMALL)
"""
def child(out): return subprocess.Popen([sys.executable, "-c", CHILD.format(tests=os.path.dirname(__file__)), str(out)], env={**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"})

def saved_step(out):
    "The step of the checkpoint in a folder, 0 without one. Read at one go: safe_open opens twice, and the run may put a new file there in between"
    if not (out/"state.safetensors").exists(): return 0
    data = (out/"state.safetensors").read_bytes()
    head = json.loads(data[8:8 + int.from_bytes(data[:8], "little")])
    return json.loads(head["__metadata__"]["run"])["step"]

def killed_at(out, step):
    "Start or go on, SIGKILL as soon as the checkpoint of `step` is there -> the step that survived"
    p = child(out)
    while p.poll() is None and saved_step(out) < step: time.sleep(.002)
    p.send_signal(signal.SIGKILL)
    assert p.wait() == -signal.SIGKILL, "the run was over before it could be killed"
    return saved_step(out)

def test_killed_runs_go_on_bit_for_bit(tmp_path, seed=0):
    "Killed twice, once before the first growth (step 10) and once after the second (step 15)"
    assert child(tmp_path/"whole").wait(120) == 0
    draw, out = random.Random(seed), tmp_path/"killed"
    survived = [killed_at(out, draw.randint(2, 9)), killed_at(out, draw.randint(17, 25))]
    assert survived[0] < survived[1] < SMALL["steps"]
    assert child(out).wait(120) == 0
    assert (out/"object.ply").read_bytes() == (tmp_path/"whole"/"object.ply").read_bytes()
    for name in ("config.json", "metrics.jsonl", "turntable.webp", "report.html", "panels"): assert (out/name).exists()

KILLS = int(os.environ.get("KILLS", 2))                      # KILLS=30 pytest tests/test_create.py -k random_moments
TINY = {**SMALL, "steps": 12, "every": 4, "densify": (2, 10, 3)}
HOST = """
import os, signal, sys, time; sys.path.insert(0, {tests!r})
import torch; torch.set_num_threads(1)
import lucidteach.distill.zoo, lucidteach.run.live, lucidteach.viz.report, lucidteach.viz.viewer
from lucidteach.scene.field import Field
from test_create import prior, TINY, lab
for line in sys.stdin:                                       # a folder, seconds until it is killed, the signal: forked, so that a run begins at once
    out, seconds, number = line.rsplit(maxsplit=2)
    if (pid := os.fork()) == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        scene = Field(resolutions=(8,), samples=4) if sys.argv[1] == "field" else None
        try: code = 130 if lab.create("a red mug", "ism", prior=prior(), preset="toy", out=out, mode="quiet", scene=scene, **TINY).interrupted else 0
        except KeyboardInterrupt: code = 131
        os._exit(code)
    began = time.monotonic()
    while (gone := os.waitpid(pid, os.WNOHANG))[0] == 0 and time.monotonic() - began < float(seconds): time.sleep(.002)
    if gone[0] == 0: os.kill(pid, int(number)); gone = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(gone[1]), time.monotonic() - began, flush=True)
"""

def left_by(folder):
    "All that a run left, without what its seconds change: name -> something to compare"
    from safetensors.torch import load_file
    found = {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file() and f.name != ".lock"}
    found["state.safetensors"] = {k: v.tolist() for k, v in load_file(folder/"state.safetensors").items()}
    lines = [json.loads(v) for v in found["metrics.jsonl"].decode().splitlines()]
    found["metrics.jsonl"] = [{k: v for k, v in line.items() if k not in ("network", "render", "rest", "files")} for line in lines]
    found["report.html"] = re.sub(r"[0-9,]+ s, of which[^;]*; ", "", found["report.html"].decode())
    return found

@pytest.mark.parametrize("kind", ["splats", "field"])
def test_killed_at_random_moments(kind, tmp_path):
    "SIGKILL or SIGINT at any moment of a run's life, while it writes its report too: the same call goes on, and in the end all that was promised is there, the same bit for bit, and nothing else"
    env = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    host = subprocess.Popen([sys.executable, "-c", HOST.format(tests=os.path.dirname(__file__)), kind], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    def go(out, seconds=1e9, number=0):
        host.stdin.write(f"{out} {seconds} {int(number)}\n"); host.stdin.flush()
        code, took = host.stdout.readline().split()
        return int(code), float(took)
    try:
        go(tmp_path/"first"); code, takes = go(tmp_path/"whole")             # the first one may have to compile
        want, draw, ended = left_by(tmp_path/"whole"), random.Random(KILLS), []
        assert code == 0 and {"config.json", "state.safetensors", "metrics.jsonl", "turntable.webp", "report.html", "panels/step-000012.png"} <= set(want)
        assert ("object.ply" in want) == (kind == "splats")
        for k in range(KILLS):
            out = tmp_path/f"killed{k}"
            for _ in range(2): ended.append(go(out, draw.uniform(0, takes), draw.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGINT)))[0])
            assert go(out)[0] == 0
            found = left_by(out)
            assert set(found) == set(want), f"{ended[-2:]}: {set(found) ^ set(want)}"
            for name in want: assert found[name] == want[name], f"{name} differs after {ended[-2:]}"
        print("exit codes:", {c: ended.count(c) for c in set(ended)})
    finally: host.stdin.close(); host.wait(60)

def test_what_a_killed_process_was_writing_is_swept(tmp_path):
    go = lambda: lab.create("a red mug", "sds", prior=prior(), preset="toy", out=tmp_path, mode="quiet", **{**SMALL, "steps": 2})
    go(); before = {str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*")}
    for name in (".state.safetensors.4711.part", ".report.htmlx8f_2k", "panels/.step-000001.png.12.part"): (tmp_path/name).write_bytes(b"half")
    (tmp_path/".mine").write_bytes(b"somebody's")
    assert go().done_before and {str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*")} == before | {".mine"}

def test_done_is_when_all_is_there(tmp_path, capsys):
    "A run that was done is said to be so and asks nobody; where a file is missing, cut short or no longer told of, it is written anew, and nothing is computed"
    asked = []
    def go():
        told = prior(); ask = told.eps
        told.eps = lambda *a: (asked.append(1), ask(*a))[1]
        del asked[:]
        return lab.create("a red mug", "sds", prior=told, preset="toy", out=tmp_path, mode="lines", **{**SMALL, "steps": 2})
    assert not go().done_before and asked
    want = left_by(tmp_path); capsys.readouterr()
    assert go().done_before and not asked and "done already" in capsys.readouterr().err
    gone, short, empty = lambda f: f.unlink(), lambda f: f.write_bytes(f.read_bytes()[:-9]), lambda f: f.write_bytes(b"")
    for name, spoil in {"object.ply": short, "report.html": gone, "turntable.webp": empty, "metrics.jsonl": short}.items():
        spoil(tmp_path/name)
        assert not go().done_before and not asked and left_by(tmp_path) == want, name
    assert go().done_before

def test_a_full_disk_names_the_file(tmp_path):
    "No file may be larger than 20 kB: as where the disk is full, the checkpoint cannot be written"
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OSError, match="state.safetensors could not be written") as e: lab.create("a red mug", "sds", prior=prior(), preset="toy", out=tmp_path, mode="quiet", **{**SMALL, "steps": 3, "points": 500})
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "goes on from the last checkpoint" in str(e.value) and not (tmp_path/"state.safetensors").exists()
    assert lab.create("a red mug", "sds", prior=prior(), preset="toy", out=tmp_path, mode="quiet", **{**SMALL, "steps": 3, "points": 500}).complete

def test_a_size_is_looked_at_before_anything(tmp_path, monkeypatch):
    "Of the toy prior before it is loaded, of another one before points are drawn; no folder is made, and the nearest sizes are named"
    import lucidteach.prior.checkpoints as latent
    monkeypatch.setattr(latent, "load_prior", lambda *a, **k: pytest.fail("it was loaded"))
    with pytest.raises(ValueError, match="multiple of 4.*63.*60, 64"): lab.create("a red mug", size=63, out=tmp_path/"run")
    monkeypatch.setattr(runner, "start", lambda *a: pytest.fail("points were drawn"))
    loaded = type("Loaded", (GaussianPrior,), {})(torch.zeros(4, 8, 8), 1.); loaded.image_size = 64
    with pytest.raises(ValueError, match="multiple of 8.*70.*64, 72"): lab.create("a red mug", prior=loaded, preset="toy", size=70, out=tmp_path/"run")
    assert not (tmp_path/"run").exists()

@pytest.mark.parametrize("kw, says", [(dict(mode="loud"), "loud"), (dict(out=5), "folder"), (dict(steps=10**400), "steps"), (dict(size=10**7), "size"), (dict(points=10**12), "points"), (dict(guidance="7"), "guidance"),
                                      (dict(view_prompts=True), "front view"), (dict(method=None), "method"), (dict(scene=3), "from_points"), (dict(preset="toyy"), "toy, ball")])
def test_a_wrong_call_is_answered_before_a_folder_is_made(tmp_path, kw, says):
    "With the value and what is allowed, and not even the folder above is there afterwards"
    with pytest.raises(ValueError, match=says): lab.create("a red mug", **{**dict(prior=prior(), preset="toy", out=tmp_path/"runs"/"mug", mode="quiet"), **SMALL, **kw})
    assert not list(tmp_path.iterdir())

def test_a_prompt_without_quotes(capsys):
    from lucidteach import cli
    assert cli.main(["create", "a", "red", "mug"]) == 2 and 'lucidteach create "a red mug"' in capsys.readouterr().err

def test_a_huge_number_of_steps_is_estimated_at_once(monkeypatch):
    "Of a million million steps 200 are looked at"
    drawn, make = [], t3.step_generator
    monkeypatch.setattr(lab, "step_generator", lambda *a: (drawn.append(a), make(*a))[1])
    c = t3.config("toy", steps=10**12)
    step = lab.typical_step(c, 1000, 0, c.steps)
    times = [int(c.at(i).times()(1000, 1, c.progress(i), make(c.seed, i))) for i in range(0, c.steps, c.steps//50)]
    assert len(drawn) <= 200 and abs(int(c.at(step).times()(1000, 1, c.progress(step), make(c.seed, step))) - sum(times)/len(times)) < 40

def test_what_a_notebook_shows_of_a_result_is_short():
    made = lab.create(["<b>mug", "a car"], "sds", prior=GaussianPrior(torch.zeros(3, 16, 16), 1.), preset="toy", mode="quiet", **{**SMALL, "steps": 1})
    for v in (made, made[0], made[0].state, made[0].state.picture, made[0].settings): assert len(repr(v)) < 700 and "tensor(" not in repr(v)
    html = made[0]._repr_html_()
    assert "&lt;b&gt;mug" in html and "<b>" not in html and len(html) < 200_000 and "data:image/png" in html

@pytest.mark.parametrize("recalled", [False, True])
def test_adam_follows_the_densification(recalled):
    "After growth Adam steps the very parameters of the scene, and the moments of those that stayed are what they were"
    c = t3.config("toy", **SMALL)
    state = t3.State(t3.Splats(t3.start(c), c))
    loop = lambda: next(runner.generate(prior(), "a red mug", "sds", c, state=state))
    moments = lambda: {k: [v for s in a.state.values() for v in (s["exp_avg"], s["exp_avg_sq"])] for k, a in state.scene.adam.items()}
    sizes = [len(state.scene)]
    while state.step < 20:
        if recalled: state.scene.recall(state.scene.memory())
        loop(); sizes.append(len(state.scene))
        for k, a in state.scene.adam.items():
            assert a.param_groups[0]["params"][0] is state.scene.params[k] and len(a.state) == 1
            assert all(m.shape == state.scene.params[k].shape for m in moments()[k])
    changes = sum(a != b for a, b in zip(sizes, sizes[1:]))
    assert changes, "nothing grew: the test shows nothing"
    assert all(s["step"] == 20 - changes for a in state.scene.adam.values() for s in a.state.values())   # as in 3DGS, only a step that changes the set makes no update

def test_opacities_are_reset():
    "At step `reset_every` no opacity stays above twice `prune_opacity` but for one update of Adam"
    c = t3.config("toy", **{**SMALL, "opacity": .9, "densify": (100, 200, 100)})
    state = t3.State(t3.Splats(t3.start(c), c))
    most = {}
    for _ in runner.generate(prior(), "a red mug", "sds", c, state=state): most[state.step] = state.scene.gaussians.opacities.max().item()
    assert most[c.reset_every] > .5 > .05 > most[c.reset_every + 1]

def test_a_folder_with_another_run_is_not_touched(tmp_path):
    small = {**SMALL, "steps": 2}
    lab.create("a red mug", prior=prior(), preset="toy", out=tmp_path, mode="quiet", **small)
    before = (tmp_path/"object.ply").read_bytes()
    with pytest.raises(FileExistsError, match="seed"): lab.create("a red mug", prior=prior(), preset="toy", out=tmp_path, mode="quiet", seed=1, **small)
    assert (tmp_path/"object.ply").read_bytes() == before
    assert lab.create("a red mug", prior=prior(), preset="toy", out=tmp_path, mode="quiet", **small).complete

def test_a_folder_knows_what_its_run_began_with(tmp_path):
    "Another scene, a file with other points, another field: another run. The same: the same run; and what is given stays as it is"
    from lucidteach.scene.field import Field
    run = lambda out, **kw: lab.create("a red mug", "sds", prior=prior(), preset="toy", out=tmp_path/out, mode="quiet", **{**SMALL, "steps": 2, **kw})
    a, b = (Gaussians.ball(60, seed=i, opacity=.5) for i in range(2))
    first = run("scene", scene=a)
    assert torch.equal(run("scene", scene=a).gaussians.means, first.gaussians.means)
    for kw in (dict(scene=b), {}):
        with pytest.raises(FileExistsError, match="scene"): run("scene", **kw)
    for g in (a, b):
        g.save(tmp_path/"points.ply")
        if g is a: run("file", init=tmp_path/"points.ply")
        else: pytest.raises(FileExistsError, run, "file", init=tmp_path/"points.ply").match("scene")
    fields = [Field(resolutions=(8,), samples=4, **kw) for kw in ({}, dict(channels=3), dict(radius=.2, extent=2.))]
    before = [p.clone() for p in fields[0].parameters()]
    assert "parameters" in run("field", scene=fields[0]).table()[-1]
    assert all(map(torch.equal, before, fields[0].parameters()))
    for other in fields[1:]:
        with pytest.raises(FileExistsError, match="scene"): run("field", scene=other)
    with pytest.raises(ValueError, match="from_points"): run("x", scene=torch.rand(5, 3))

def test_nan_stops_with_step_and_tensor(tmp_path):
    class Broken(GaussianPrior):
        calls = 0
        def eps(self, *a, **k):
            self.calls += 1
            return super().eps(*a, **k)*(float("nan") if self.calls > 9 else 1)
    r = lab.create("a red mug", "sds", prior=Broken(torch.zeros(3, 16, 16), 1.), preset="toy", out=tmp_path, mode="quiet", **SMALL)
    assert not r.complete and "distillation gradient is not finite" in r.notes[-1] and f"step {r.state.step}" in r.notes[-1] and "state.safetensors" in r.notes[-1]
    assert all(v.isfinite().all() for v in (r.gaussians.means, r.gaussians.sh, r.gaussians.logits))

@pytest.mark.parametrize("method", ["asd", "vsd"])
def test_the_memory_of_a_step_not_taken_is_not_kept(tmp_path, method):
    "A method with a memory, and a network that answers NaN: the checkpoint named is good, and another prior goes on from it"
    class Broken(GaussianPrior):
        calls = 0
        def eps(self, *a, **k):
            self.calls += 1
            return super().eps(*a, **k)*(float("nan") if self.calls > 6 else 1)
    go = lambda cls: lab.create("a red mug", method, prior=cls(torch.zeros(3, 16, 16), 1.), preset="toy", out=tmp_path, mode="quiet", **{**SMALL, "steps": 8, "save_seconds": 1e9})
    Broken.__name__ = "GaussianPrior"                         # to the folder it is the same prior
    r = go(Broken)
    assert not r.complete and "state.safetensors" in r.notes[-1] and saved_step(tmp_path) == r.state.step > 0
    assert go(GaussianPrior).complete

def test_nan_from_the_encoder_stops_too(tmp_path):
    "What a half-precision encoder may do: everything is saved, and the checkpoint is that of the last good step"
    told, seen = GaussianPrior(torch.zeros(3, 16, 16), 1.), []
    encode = told.encode
    told.encode = lambda x, **k: (seen.append(1), encode(x, **k)*(float("nan") if len(seen) > 9 else 1))[1]
    r = lab.create("a red mug", "sds", prior=told, preset="toy", out=tmp_path, mode="quiet", **{**SMALL, "every": 2})
    assert not r.complete and "the latents" in r.notes[-1] and f"step {r.state.step}" in r.notes[-1] and "state.safetensors" in r.notes[-1]
    assert 0 < saved_step(tmp_path) == r.state.step and "the latents" in (tmp_path/"report.html").read_text()

@pytest.mark.parametrize("kind", ["splats", "field"])
def test_nan_in_the_scene_keeps_the_checkpoint_before(tmp_path, kind, monkeypatch):
    "An update that leaves NaN: the next step names the tensor, the checkpoint stays that before, and what is handed out has no NaN"
    from lucidteach.scene.field import Field
    scene = Gaussians.ball(60, opacity=.5) if kind == "splats" else Field(resolutions=(8,), samples=4)
    cls = t3.Splats if kind == "splats" else t3.FieldScene
    step, fifth = cls.step, t3.config("toy", **SMALL).progress(4)
    def spoil(self, progress):
        step(self, progress)
        if progress == fifth: self.tensors()[0][1].data.view(-1)[3] = float("nan")
    monkeypatch.setattr(cls, "step", spoil)
    go = lambda: lab.create("a red mug", "sds", prior=prior(), preset="toy", out=tmp_path, mode="quiet", scene=scene, **SMALL)
    r = go()
    assert not r.complete and r.state.stopped.startswith("Stopped at step 5") and r.state.scene.tensors()[0][0] in r.notes[-1] and saved_step(tmp_path) == 4
    if kind == "splats": assert len(r.gaussians) == 59 and len(Gaussians.load(tmp_path/"object.ply")) == 59
    monkeypatch.setattr(cls, "step", step)
    assert go().complete

def test_damaged_folders_are_said_or_mended(tmp_path):
    go = lambda **kw: lab.create("a red mug", "sds", prior=prior(), preset="toy", out=tmp_path, mode="quiet", **{**SMALL, "steps": 3, **kw})
    want = go().gaussians.means
    whole = {n: (tmp_path/n).read_bytes() for n in ("metrics.jsonl", "config.json", "state.safetensors")}
    for text in (b"", b"\n\n", b"[1]\n", whole["metrics.jsonl"][:-9], b"\xff\xfe"):
        (tmp_path/"metrics.jsonl").write_bytes(text)
        assert torch.equal(go().gaussians.means, want)
    for n in ("report.html", "object.ply"): (tmp_path/n).unlink(); assert go().complete and (tmp_path/n).exists()       # done, but not all of it is there
    for text in (b"", b"[]", b"3", b"null", b"\xff\xfe"):
        (tmp_path/"config.json").write_bytes(text)
        with pytest.raises(FileExistsError, match="another run"): go()
    (tmp_path/"config.json").write_bytes(whole["config.json"]); (tmp_path/"metrics.jsonl").unlink()
    spoilt = bytearray(whole["state.safetensors"]); spoilt[-64:] = b"\xff"*64
    for data in (bytes(spoilt), runner.with_numbers({"x": torch.zeros(3)}, {}), whole["state.safetensors"][:-9]):
        (tmp_path/"state.safetensors").write_bytes(data)
        with pytest.raises(ValueError, match="no whole checkpoint"): go()

def test_overwrite_begins_anew(tmp_path):
    "Also over its own checkpoint, broken or not, and nothing of the old run stays; but a value that cannot work leaves what is there"
    from lucidteach.scene.field import Field
    go = lambda **kw: lab.create("a red mug", "sds", prior=prior(), preset="toy", out=tmp_path, mode="quiet", overwrite=True, **{**SMALL, "steps": 3, **kw})
    go(); before = {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    for kw in (dict(size=15), dict(weight="foo"), dict(seed=-1)):
        with pytest.raises(ValueError): go(**kw)
    assert before == {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    (tmp_path/"metrics.jsonl").unlink(); (tmp_path/"state.safetensors").write_bytes(b"xx")
    assert [r["step"] for r in go().rows] == [1, 3]
    assert go(seed=1).complete and json.loads((tmp_path/"config.json").read_text())["seed"] == 1
    assert go(scene=Field(resolutions=(8,), samples=4)).complete and not (tmp_path/"object.ply").exists()

class Counting(torch.nn.Module):
    "A field with a buffer that every picture changes and that every picture shows"
    def __init__(self):
        from lucidteach.scene.field import Field
        super().__init__(); self.field = Field(resolutions=(8,), samples=4); self.register_buffer("seen", torch.zeros(()))
    def render(self, camera, background=None):
        if torch.is_grad_enabled(): self.seen += 1
        r = self.field.render(camera, background=background)
        return (r[0]*(1 - .01*torch.sin(self.seen)), *r[1:])

def test_a_scene_of_ones_own_goes_on_with_its_buffers(tmp_path):
    class Stopping(ImageSetPrior):
        left = 10**6
        def eps(self, *a):
            self.left -= 1
            if self.left == 0: signal.raise_signal(signal.SIGINT)
            return super().eps(*a)
    def go(out, at=10**6):
        p = Stopping(torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)), ["a red mug"]*3, std=.3)
        p.left = at
        return lab.create("a red mug", "sds", prior=p, preset="toy", out=tmp_path/out, mode="quiet", scene=Counting(), **{**SMALL, "steps": 8}), 10**6 - p.left
    whole, calls = go("whole")
    part, _ = go("part", calls*3//4)
    assert part.interrupted and 0 < part.state.step < 8
    again, _ = go("part")
    assert again.complete and all(torch.equal(a, b) for a, b in zip(whole.state.scene.module.state_dict().values(), again.state.scene.module.state_dict().values()))

def test_a_module_may_share_parts_and_hold_infinity(tmp_path):
    class Twice(Counting):
        def __init__(self): super().__init__(); self.again = self.field; self.register_buffer("box", torch.tensor([float("inf")]))
    r = lab.create("a red mug", "sds", prior=prior(), preset="toy", out=tmp_path, mode="quiet", scene=Twice(), **{**SMALL, "steps": 2})
    assert r.complete and saved_step(tmp_path) == 2

def test_saving_over_ones_own_run_keeps_its_pictures(tmp_path):
    r = lab.create("a red mug", "sds", prior=prior(), preset="toy", out=tmp_path, mode="quiet", **{**SMALL, "steps": 2, "every": 1})
    before = sorted(f.name for f in tmp_path.rglob("*")); r.save(tmp_path, overwrite=True)
    assert before == sorted(f.name for f in tmp_path.rglob("*")) and any(n.startswith("step-") for n in before)

def test_another_run_that_came_before_is_not_wiped(tmp_path, monkeypatch):
    go = lambda prompts, method, out: lab.create(prompts, method, prior=prior_of_two(), preset="toy", out=out, mode="quiet", **{**SMALL, "steps": 1})
    prior_of_two = lambda: GaussianPrior(torch.zeros(3, 16, 16), 1.)
    make, seen = lab.make, []
    def slowly(*a):
        if not seen: seen.append(1); go("a blue mug", "csd", tmp_path/"a-blue-mug-3d")
        return make(*a)
    monkeypatch.setattr(lab, "make", slowly)
    with pytest.raises(FileExistsError, match="method"): go(["a red mug", "a blue mug"], "sds", tmp_path)
    assert json.loads((tmp_path/"a-blue-mug-3d"/"config.json").read_text())["method"] == "csd"

def test_a_turntable_is_of_a_kind_that_can_be_written(tmp_path):
    r = lab.create("a red mug", "sds", prior=prior(), preset="toy", mode="quiet", **{**SMALL, "steps": 1})
    with pytest.raises(ValueError, match="t.gif"): r.turntable(tmp_path/"t.gif", n=2, size=16)
    r.turntable(tmp_path/"t.WEBP", n=2, size=16)
    assert [f.name for f in tmp_path.iterdir()] == ["t.WEBP"]

def test_nothing_is_drawn_from_torchs_own_generator():
    from lucidteach.scene.field import Field
    from lucidteach.scene.points import load_points, points_from_text
    load_points.cache_clear(); torch.manual_seed(0); want = torch.rand(3); torch.manual_seed(0)
    Field(resolutions=(8,), samples=4); points_from_text("a red mug", n=8, steps=1)
    assert torch.equal(torch.rand(3), want)

@pytest.mark.parametrize("method", ["vsd", "asd"])
def test_methods_that_train_a_second_network(method):
    "The timed prior of a run asks the second network as the bare prior does"
    pytest.importorskip("peft", reason="the extra `train`")
    from lucidteach.distill.vsd import phi_eps
    from lucidteach.prior.checkpoints import load_prior
    toy = load_prior("toy", device="cpu")
    assert lab.create("a red mug", method, prior=toy, mode="quiet", steps=2, batch=1, points=60, init="ball", head_start=0.).complete
    x, cond = torch.randn(1, *toy.latent_shape, generator=torch.Generator().manual_seed(0)), toy.embed(["a red mug"])
    state = t3.init_state(method, toy, x, generator=torch.Generator().manual_seed(0))
    phi = {k[4:]: v + .1 for k, v in state.items() if k.startswith("phi.")}
    assert torch.equal(phi_eps(runner.Timed(toy), phi, x, 500, cond), phi_eps(toy, phi, x, 500, cond)) and not torch.equal(phi_eps(toy, phi, x, 500, cond), toy.eps(x, 500, cond))

def test_an_empty_scene_is_said():
    r = lab.create("a red mug", "sds", prior=prior(), preset="toy", mode="quiet", scene=Gaussians.ball(20, opacity=.0039/2), **SMALL)
    assert not r.complete and "empty" in r.notes[-1]
    with pytest.raises(ValueError, match="no Gaussian"): lab.create("a red mug", "sds", prior=prior(), preset="toy", mode="quiet", scene=r.gaussians.map(lambda v: v[:0]), **SMALL)

@pytest.mark.parametrize("save_seconds", [0., 60.])
def test_when_all_are_pruned_the_last_checkpoint_stays(tmp_path, save_seconds):
    "Saved after every step it is there and named, else there is none and no word of it; the rest of the folder is there either way, and a second call says the same"
    settings = dict(preset="ball", mode="quiet", out=tmp_path, **{**SMALL, "densify": (0, 100, 2), "prune_opacity": .9, "save_seconds": save_seconds})
    for _ in range(2):
        r = lab.create("a red mug", "sds", prior=prior(), **settings)
        assert not r.complete and "all Gaussians were pruned" in r.notes[-1] and len(r.gaussians) == 0
        assert ("state.safetensors" in r.notes[-1]) == (tmp_path/"state.safetensors").exists() == (save_seconds == 0)
        assert len(Gaussians.load(tmp_path/"object.ply")) == 0 and "all Gaussians were pruned" in (tmp_path/"report.html").read_text()

def test_what_cannot_work_is_said_by_name_before_anything(tmp_path):
    "For every field of Config: what no field takes, and what the ranges in its own type exclude"
    for f in t3.fields(t3.Config):
        for v in (float("nan"), object(), [object()]*2, (1, 2, 3, 4), {}, *((-1, [-1]*2, [-1]*3) if "guidance" not in f.name or f.name == "lambda_guidance" else ())):
            with pytest.raises(ValueError, match=f.name): lab.create("a red mug", out=tmp_path/"run", **{f.name: v})
    from lucidteach.distill.canvas import Settings
    from lucidteach.lab.compare import compare
    for f in t3.fields(Settings):
        for v in (float("nan"), object(), (1, (2, 3)), 3 if f.name == "negative" else "x"):
            with pytest.raises(ValueError, match=f.name): compare("a red mug", **{f.name: v})
    with pytest.raises(ValueError, match="size must be 16"): lab.create("a red mug", prior=prior(), preset="toy", mode="quiet", out=tmp_path/"run", **{**SMALL, "size": 15})
    assert not (tmp_path/"run").exists()

def test_several_prompts(tmp_path):
    made = lab.create(["a red mug", "a red mug "], "sds", prior=GaussianPrior(torch.zeros(3, 16, 16), 1.), preset="toy", mode="quiet", **{**SMALL, "steps": 1})
    assert len(made) == 2 and all(m.complete for m in made)
    run = lambda prompts: lab.create(prompts, "sds", prior=GaussianPrior(torch.zeros(3, 16, 16), 1.), preset="toy", mode="quiet", out=tmp_path, **{**SMALL, "steps": 1})
    with pytest.raises(ValueError, match="a-red-mug"): run(["a red mug", "a red-mug"])
    (tmp_path/"a-red-duck-3d").mkdir(); (tmp_path/"a-red-duck-3d"/"notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="a-red-duck"): run(["a red mug", "a red duck"])
    assert not (tmp_path/"a-red-mug-3d").exists()                     # the folder of the second is looked at before the first begins

@pytest.mark.parametrize("method", [m for m in t3.METHODS if m not in ("dds", "pds", "dreamcatalyst", "bridge")])   # bridge asks for "a blurry ..." and the exact prior knows one caption
def test_every_method(method):
    assert lab.create("a red mug", method, prior=prior(), preset="toy", mode="quiet", **{**SMALL, "steps": 2}).complete

@pytest.mark.parametrize("first", ["lt.create", "import lucidteach.lab.create"])
def test_create_is_a_function(first):
    code = f"import lucidteach as lt; {first}; import lucidteach.lab.create as m; assert callable(lt.create) and lt.create is m.create; " \
           "import inspect; assert inspect.getdoc(lt.create) == inspect.getdoc(m.create) and inspect.signature(lt.create) == inspect.signature(m.create)   # what `lt.create?` shows"
    subprocess.run([sys.executable, "-c", code], check=True)

def test_a_loaded_prior_is_known_by_its_name(tmp_path):
    from lucidteach.lab.compare import compare
    from lucidteach.prior.latent import LatentPrior
    from lucidteach.prior.checkpoints import load_prior
    toy = load_prior("toy", device="cpu")
    for f in (compare, lab.create):                                  # as with prior="toy": the toy prior spells an unknown word, and draws nonsense
        with pytest.raises(ValueError, match="unknown word 'zebra'"): f("a red zebra", prior=toy)
    toy.pipe.save_pretrained(tmp_path/"other")
    for other in (load_prior(tmp_path/"other", device="cpu"), LatentPrior(toy.pipe, "cpu", name="mine")):      # a word that it may have learned has no points
        assert lab.prepare("a red zebra", "ism", None, other, {})[1:] == (t3.config("ball"), other.name)
        assert lab.prepare("a red mug", "ism", None, other, {})[1] == lab.prepare("a red zebra", "ism", None, other, dict(init="text"))[1] == t3.config("toy")
    toy.image_size = 512
    assert lab.prepare("a red mug", "ism", None, toy, {})[1] == t3.config("paper")

def test_paper_preset_from_a_folder(tmp_path):
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from lucidteach.prior.checkpoints import load_prior
    toy, four = load_prior("toy").pipe, (8,)*4
    vae = AutoencoderKL(down_block_types=("DownEncoderBlock2D",)*4, up_block_types=("UpDecoderBlock2D",)*4, block_out_channels=four, norm_num_groups=4, latent_channels=4, scaling_factor=.18215)
    unet = UNet2DConditionModel(sample_size=64, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=2, cross_attention_dim=toy.text_encoder.config.hidden_size,
                                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))
    noise = DDIMScheduler(beta_start=.00085, beta_end=.012, beta_schedule="scaled_linear")
    StableDiffusionPipeline(vae=vae, text_encoder=toy.text_encoder, tokenizer=toy.tokenizer, unet=unet, scheduler=noise, safety_checker=None, feature_extractor=None,
                            requires_safety_checker=False).save_pretrained(tmp_path)
    r = lab.create("a red mug", prior=tmp_path, device="cpu", steps=5, every=5, mode="quiet")
    assert r.prior == str(tmp_path)
    assert r.complete and r.settings.size == 512 and len(r.gaussians) == 81920 and r.table()[-1]["calls"] > 0

CTRL_C = """
import os, signal, sys; sys.path.insert(0, {tests!r})
import torch; torch.set_num_threads(1)
from pathlib import Path
from test_create import prior, SMALL, lab
signal.signal(signal.SIGINT, signal.default_int_handler)      # a shell that starts a suite in the background lets it ignore Ctrl-C
out, times = Path(sys.argv[1]), [int(sys.argv[2])]
def press():
    while times[0] and (out/"panels"/"step-000004.png").exists(): times[0] -= 1; os.kill(os.getpid(), signal.SIGINT)
def pressing(f): return lambda *a, **k: (press(), f(*a, **k))[1]
told = prior()
if sys.argv[3] == "network": told.eps = pressing(told.eps)
else: torch.optim.Adam.step = pressing(torch.optim.Adam.step)        # when the set has been edited, and the step is not counted yet
r = lab.create("a red mug", "ism", prior=told, preset="toy", out=out, mode="lines", **{{**SMALL, "save_seconds": float(sys.argv[4]), "every": 2}})
sys.exit(130 if r.interrupted else 0)
"""
def ctrl_c(out, times, where="network", save_seconds=1e9):
    "A run in which Ctrl-C is pressed so many times at one place of the fifth step"
    env = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    p = subprocess.run([sys.executable, "-c", CTRL_C.format(tests=os.path.dirname(__file__)), str(out), str(times), where, str(save_seconds)], env=env, capture_output=True, text=True, timeout=300)
    return p.returncode, p.stdout + p.stderr

def unbroken(): return lab.create("a red mug", "ism", prior=prior(), preset="toy", mode="quiet", **{**SMALL, "every": 2}).gaussians.means

@pytest.mark.parametrize("where", ["network", "adam"])
def test_ctrl_c_leaves_a_checkpoint_and_a_message(tmp_path, where):
    "SIGINT anywhere in a step: exit status 130, the step is said, everything is on disk, and the same call goes on to what the unbroken run makes"
    code, said = ctrl_c(tmp_path, 1, where)
    assert code == 130 and "Interrupted after step 5" in said and "goes on from there" in said, said
    assert saved_step(tmp_path) == 5 and (tmp_path/"object.ply").exists() and "Interrupted" in (tmp_path/"report.html").read_text()
    code, said = ctrl_c(tmp_path, 0, where)
    assert code == 0 and "Going on from step 5" in said and saved_step(tmp_path) == SMALL["steps"]
    assert torch.equal(Gaussians.load(tmp_path/"object.ply").means, unbroken())

def test_ctrl_c_ends_the_list(tmp_path, monkeypatch):
    "Pressed in the estimate, in a step, while saving, or where nobody reads any more: what was begun is saved, nothing else begins"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    def pressing(f): return lambda *a, **k: (os.kill(os.getpid(), signal.SIGINT), f(*a, **k))[1]
    try:
        for i, (owner, name, taken) in enumerate(((lab, "estimate", 1), (t3.Splats, "step", 1), (lab.Creation, "save", 3), (runner, "why_stop", 1))):
            with monkeypatch.context() as m:
                m.setattr(owner, name, pressing(getattr(owner, name)))
                if name == "save": m.setattr(sys, "stderr", open(os.devnull))                    # not to be written to
                if name == "why_stop": m.setattr(owner, name, lambda c, s: (os.kill(os.getpid(), signal.SIGINT), "it cannot be taken")[1])
                if name in ("step", "why_stop"): m.setattr(lab, "estimate", lambda *a: dict(calls=0, seconds=0., memory=0., device="cpu"))
                made = lab.create(["a red mug", "a blue car"], "sds", prior=GaussianPrior(torch.zeros(3, 16, 16), 1.), preset="toy", mode="quiet", out=tmp_path/str(i), **{**SMALL, "steps": 3})
            assert [(r.state.step, r.interrupted, r.complete) for r in made] == [(0 if name == "why_stop" else taken, name != "save", name == "save")], name
            assert (tmp_path/str(i)/"a-red-mug-3d"/"report.html").exists() and not (tmp_path/str(i)/"a-blue-car-3d").exists()
    finally: signal.signal(signal.SIGINT, before)

def test_ctrl_c_twice_stops_at_once(tmp_path):
    "In the middle of an update: nothing of it is saved, and the run goes on from the checkpoint before"
    code, said = ctrl_c(tmp_path, 2, "adam", 0.)
    # Python ends by SIGINT, or with 1 where a thread has called exec(text) meanwhile: that clears the interpreter's flag
    assert code in (-signal.SIGINT, 1) and said.rstrip().endswith("KeyboardInterrupt") and saved_step(tmp_path) == 4, said
    assert ctrl_c(tmp_path, 0, "adam", 0.)[0] == 0
    assert torch.equal(Gaussians.load(tmp_path/"object.ply").means, unbroken())

def test_the_cost_is_said_before_and_is_about_right(capsys):
    "The estimate's calls are within a fifth of the calls spent; nothing of the run depends on its having been made"
    c = t3.config("toy", **{**SMALL, "steps": 40})
    scene = t3.Splats(t3.start(c), c)
    cost = lab.estimate(prior(), "a red mug", "ism", c, scene)
    assert torch.equal(scene.params["means"], t3.Splats(t3.start(c), c).params["means"]) and not scene.adam["means"].state
    r = lab.create("a red mug", "ism", prior=prior(), preset="toy", mode="lines", **{**SMALL, "steps": 40})
    said = capsys.readouterr()
    assert "network calls" in said.out + said.err and "seconds" in said.out + said.err
    assert abs(cost["calls"]/r.state.calls - 1) < .2 and cost["seconds"] > 0 and cost["memory"] > 0

def test_mp4(tmp_path):
    av = pytest.importorskip("av", reason="the extra `video`")
    r = lab.create("a red mug", "sds", prior=prior(), preset="toy", mode="quiet", **{**SMALL, "steps": 2})
    frames = r.turntable(tmp_path/"turn.mp4", n=6, size=64)
    with av.open(str(tmp_path/"turn.mp4")) as f: back = [v.to_image() for v in f.decode(video=0)]
    assert len(back) == len(frames) == 6 and back[0].size == (64, 64)
    error = torch.tensor([list(a.resize((1, 1)).getpixel((0, 0))) for a in frames]).float() - torch.tensor([list(b.resize((1, 1)).getpixel((0, 0))) for b in back]).float()
    assert error.abs().max() < 12        # H.264 keeps colours about

def test_mp4_without_av_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match="video"): lab.mp4([])

class Views(torch.nn.Module):
    "A field whose buffers are one memory"
    def __init__(self):
        super().__init__()
        self.colour = torch.nn.Parameter(torch.full((3,), .5))
        a = torch.arange(6.)
        for k, v in dict(a=a, b=a.view(2, 3), c=a[2:]).items(): self.register_buffer(k, v)
    def render(self, cam, background=None):
        n, size = len(cam), SMALL["size"]
        rgb = self.colour.view(1, 3, 1, 1).expand(n, 3, size, size)
        return rgb, torch.ones(n, 1, size, size), torch.ones(n, 1, size, size)

def test_buffers_may_share_memory(tmp_path):
    made = lambda: lab.create("a red mug", "sds", prior=prior(), preset="toy", out=tmp_path, mode="quiet", scene=Views(), **{**SMALL, "steps": 2})
    assert made().complete and made().state.step == 2

def test_going_on_from_what_was_handed_out_does_not_blur_it(tmp_path):
    still = dict(lr_means=(1e-12,)*2, lr_color=(1e-12,)*2, lr_opacity=(1e-12,)*2, lr_scales=(1e-12,)*2, lr_quats=(1e-12,)*2, densify=(0, 0, 1), scale_noise=0.)
    go = lambda scene: lab.create("a red mug", "sds", prior=prior(), preset="toy", mode="quiet", scene=scene, **{**SMALL, **still, "steps": 1})
    g = first = go(Gaussians.ball(60, opacity=.5)).gaussians
    for _ in range(3):
        g.save(tmp_path/"object.ply")
        g = go(tmp_path/"object.ply").gaussians
    assert (g.log_scales - first.log_scales).abs().max() < 1e-4        # three times there and back, a float32 of 4 has roundings of 5e-7

@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_create_works_where_gradients_are_off(off):
    go = lambda: lab.create("a red mug", "sds", prior=prior(), preset="toy", mode="quiet", **{**SMALL, "steps": 2})
    p = go()
    with off(): q = go()
    assert torch.equal(p.gaussians.means, q.gaussians.means)

def test_a_creation_can_be_copied():
    import copy, pickle
    made = lab.create("a red mug", "sds", prior=prior(), preset="toy", mode="quiet", **{**SMALL, "steps": 2})
    for twin in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))): assert torch.equal(twin.gaussians.means, made.gaussians.means)

@pytest.mark.parametrize("kw, says", [(dict(negative="a blue cra"), "cra"), (dict(inverse="qwerty"), "qwerty"), (dict(perp_neg=True, view_prompts=False), "view_prompts"), (dict(method="SDS"), "'sds'")])
def test_words_that_the_prior_does_not_know(kw, says):
    with pytest.raises(ValueError, match=says): lab.create("a red mug", **kw)

def test_the_prompts_background_is_painted():
    seen = []
    class Scene(Views):
        def render(self, cam, background=None): seen.append(background); return super().render(cam)
    on_black = ImageSetPrior(torch.rand(1, 3, 16, 16), ["a red mug on black"], std=.3)
    lab.create("a red mug on black", "sds", prior=on_black, preset="toy", mode="quiet", scene=Scene(), **{**SMALL, "steps": 1})
    assert (seen[-1] == 0).all()

def test_growth_asks_the_mean_gradient_of_the_views():
    for batch in (1, 4): assert runner.density_rule(t3.config("paper", batch=batch)).grow_grad2d == pytest.approx(7.5e-4*batch)

def test_the_report_is_for_telephones_too_and_its_viewer_is_shut_in(tmp_path):
    lab.create("a red mug", "sds", prior=prior(), preset="toy", out=tmp_path, mode="quiet", **{**SMALL, "steps": 1})
    page = (tmp_path/"report.html").read_text()
    assert 'name="viewport"' in page and 'sandbox="allow-scripts"' in page and "a red mug, to be turned" in page and "prefers-reduced-motion" in page

def test_very_small_half_axes_stay_finite():
    g = Gaussians.ball(5)
    g = t3.replace(g, log_scales=g.log_scales - 60)
    assert (runner.as_trained(g, t3.config("toy")).log_scales - g.log_scales + math.log(10)).abs().max() < 1e-4      # a float32 of 63 is known to 4e-6

@pytest.mark.parametrize("folder, says", [("lucidteach-x1", "for this process alone"), ("kernels", "once")])
def test_kernels_that_are_kept_nowhere_are_not_compiled_once(tmp_path, monkeypatch, capsys, folder, says):
    "What is said before the first rendering, with no kernels in the cache"
    import tempfile
    from types import SimpleNamespace
    from lucidteach.splat import kernels as r
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path)); monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path/folder))
    monkeypatch.setattr(r, "_announced", []); monkeypatch.setattr(r, "_blend", SimpleNamespace(stats=SimpleNamespace(cache_path=str(tmp_path))))
    r.announce()
    assert f"Compiling the CPU rasterizer, {says}" in capsys.readouterr().out

def test_a_run_keeps_the_threads_that_it_found_faster(tmp_path):
    import torch
    prior, small = GaussianPrior(torch.zeros(3, 16, 16), .5), dict(steps=2, init="ball", size=16, points=30, view_prompts=False, overhead=False)
    before = torch.get_num_threads()
    lab.create("x", prior=prior, out=tmp_path/"a", threads="auto", **small)
    assert json.loads((tmp_path/"a"/"config.json").read_text())["threads"] in (1, before) and torch.get_num_threads() == before
    with pytest.raises(ValueError, match="threads is 'auto'"): lab.create("x", prior=prior, out=tmp_path/"b", threads=4, **small)
    assert not (tmp_path/"b").exists()
