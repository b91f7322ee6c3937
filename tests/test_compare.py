"The 2D laboratory under faults: interrupted, killed, crowded, misused; what is on disk is what was run"
import dataclasses, json, multiprocessing, os, re, signal, subprocess, sys, tempfile, time
from types import SimpleNamespace
import numpy as np, pytest, torch
from safetensors.torch import save as to_bytes
from lucidteach.distill.canvas import DEFAULTS, EDITING, Settings
from lucidteach.distill.loop import mean_time
from lucidteach.lab import compare as C, page as report
from lucidteach.lab.comparison import finals, panels
from lucidteach.run import folders, jobs
from lucidteach.run.files import write_file
from lucidteach.distill.pseudo_gt import pseudo_gt
from lucidteach.distill.methods import METHODS
from lucidteach.prior.exact import GaussianPrior


def prior(mean=.5): return GaussianPrior(torch.full((3, 32, 32), mean), .3)
def go(methods="sds", prompt="x", **kw): return C.compare(prompt, methods, **dict(prior=prior(), canvases="latents", truth=None, mode="quiet", steps=4, every=1) | kw)
def truth(image, prompt): return SimpleNamespace(image=image*0 + .5, psnr=10.)

def test_a_repeated_comparison_begins_clean(tmp_path):
    go().save(tmp_path)
    report.save_report(go(), tmp_path, prior())
    with pytest.raises(FileExistsError, match="seed"): go(seed=1).save(tmp_path)
    folders.begin(tmp_path, go(seed=1).config(), *C.LEFT)                     # what `--overwrite` does before the run, which may be killed then
    assert [f.name for f in tmp_path.iterdir()] == ["config.json"] and folders.claim(tmp_path, go(seed=1).config()) == "unfinished"

def test_killed_after_overwrite(tmp_path):
    from lucidteach import cli
    run = ["compare", "a red mug", "--methods", "sds", "--prior", "ideal", "--out", str(tmp_path/"o")]
    assert cli.main([*run, "--steps", "2"]) == 0
    p = subprocess.Popen([sys.executable, "-m", "lucidteach.cli", *run, "--steps", "20000", "--overwrite"], env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    while json.loads((tmp_path/"o"/"config.json").read_text())["steps"] == 2: time.sleep(.01)
    p.kill(); p.wait()
    assert not (tmp_path/"o"/"metrics.jsonl").exists() and not (tmp_path/"o"/"report.html").exists()

def test_priors_of_one_kind_are_told_apart(tmp_path):
    go().save(tmp_path)
    with pytest.raises(FileExistsError, match="prior"): go(prior=prior(.2)).save(tmp_path)
    assert go().config() == go().config()

def test_a_prior_is_told_by_its_labels_numbers_and_schedule():
    from lucidteach.prior.exact import ImageSetPrior, MixturePrior
    from lucidteach.prior.schedule import Schedule, scaled_linear
    pictures, names = torch.rand(2, 3, 8, 8), ["a cat", "a dog"]
    told = [folders.prior_name(p) for p in (MixturePrior(pictures, .1, labels=names), MixturePrior(pictures, .1, labels=names[::-1]), ImageSetPrior(pictures, names, std=0.),
            ImageSetPrior(pictures, names, std=.5), GaussianPrior(torch.zeros(3, 8, 8), .3), GaussianPrior(torch.zeros(3, 8, 8), .3, schedule=Schedule(scaled_linear(1000, .0001, .02))))]
    assert len(set(told)) == len(told)

def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *a: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"): write_file(tmp_path/"a.json", "x")
    assert not list(tmp_path.iterdir())

def test_overwriting_takes_only_what_a_run_left(tmp_path):
    mine = tmp_path/"comparison_final.png"; mine.touch()
    go(out=tmp_path, overwrite=True); go(seed=1, out=tmp_path, overwrite=True)
    assert mine.exists()

@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(off):
    alone = go()
    with off(): inside = go()
    assert torch.equal(inside.records["sds", "latents"][-1].image, alone.records["sds", "latents"][-1].image)

def test_an_interrupt_between_two_arms_files_every_picture_under_its_own_step():
    p = Stopping(torch.zeros(3, 32, 32), .3); p.at = 10**6
    want = go(["sds", "csd"], prior=p, steps=9)
    p.at = 20
    r = go(["sds", "csd"], prior=p, steps=9, every=100)
    assert r.interrupted and len({r.records[a][-1].step for a in r.arms}) == 2
    for arm in r.arms: assert torch.equal(r.records[arm][-1].image, want.records[arm][r.records[arm][-1].step - 1].image)

def interrupting(when):
    "A function that raises KeyboardInterrupt at its call number `when`"
    count = iter(range(10**6))
    def f(image, prompt):
        if next(count) == when: raise KeyboardInterrupt
        return truth(image, prompt)
    return f

@pytest.mark.parametrize("when", range(3))
def test_ctrl_c_in_the_search_for_truths(tmp_path, when):
    r = go(["sds", "ism", "csd"], truth=interrupting(when))
    report.save_report(r, tmp_path, prior())
    rows = [v for v in map(json.loads, (tmp_path/"metrics.jsonl").read_text().splitlines()) if v["kind"] == "result"]
    assert r.interrupted and [v["psnr"] for v in rows] == [10.]*when + [None]*(3 - when) and len({tuple(v) for v in rows}) == 1
    assert (tmp_path/"comparison.png").exists() and "search for the nearest truths" in (tmp_path/"report.html").read_text()

class Stopping(GaussianPrior):
    "Raises KeyboardInterrupt at the network call number `at`"
    at = 10**6
    def eps(self, *a, **kw):
        self.at -= 1
        if self.at == 0: raise KeyboardInterrupt
        return super().eps(*a, **kw)

@pytest.mark.parametrize("at", [1, 5, 6])                    # in the estimate; in the first step of the first and of the second method
def test_ctrl_c_before_anything_is_there(tmp_path, at):
    p = Stopping(torch.zeros(3, 32, 32), .3); p.at = at
    r = go(["sds", "csd"], prior=p)
    assert r.interrupted and not r.complete and r.notes
    report.save_report(r, tmp_path, prior())
    assert folders.claim(tmp_path, r.config()) == "unfinished" and "nterrupted" in (tmp_path/"report.html").read_text()

def test_ctrl_c_keeps_the_seeds_that_are_done(tmp_path):
    count = Stopping(torch.zeros(3, 32, 32), .3); count.at = 10**6
    go(prior=count, seeds=(0,)); one = 10**6 - count.at
    p = Stopping(torch.zeros(3, 32, 32), .3); p.at = one + 1                 # in the estimate of the second seed
    r = go(prior=p, seeds=(0, 1, 2))
    assert r.interrupted and [c.complete for c in r] == [True, False]
    r.save(tmp_path); r.show()
    assert json.loads((tmp_path/"seeds.json").read_text())["complete"] is False

def test_a_run_that_stopped_itself_is_not_complete(tmp_path):
    class Broken(GaussianPrior):
        def eps(self, x, t, c): return super().eps(x, t, c)*(float("nan") if x.abs().max() > 0 and self.calls_left() else 1.)
        left = 4
        def calls_left(self): self.left -= 1; return self.left < 0
    r = go(prior=Broken(torch.zeros(3, 32, 32), .3))
    r.save(tmp_path)
    assert r.records["sds", "latents"][-1].step < 4 and folders.claim(tmp_path, r.config()) == "unfinished"

@pytest.mark.parametrize("method", [m for m in METHODS if m not in EDITING and m not in ("hifa", "gcs", "bridge")])
def test_every_method_has_its_strip_of_targets(method):
    once = lambda: (torch.manual_seed(torch.seed()), report.targets(prior(), torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)), "x", method, Settings(options={}), 500, 3))[1]
    assert torch.equal(once(), once())                      # nothing is drawn from torch's own generator

@pytest.mark.parametrize("method, options", [("sdi", {}), ("dsd", {}), ("ism", dict(start_noise=True, offset_noise=.1))])
def test_targets_share_all_draws(method, options):
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    def once(seed, **kw): torch.manual_seed(seed); return pseudo_gt(prior(), x, "x", 500, method=method, n=3, generator=torch.Generator().manual_seed(0), **options, **kw).targets
    assert torch.equal(once(1), once(2)) and once(1).var(0).max() > 0
    assert once(1, same_noise=True).var(0).max() == 0

@pytest.mark.parametrize("kw, says", [
    (dict(prompt=["x", "x"]), "given twice"), (dict(steps=True), "steps"), (dict(seeds=(True,)), "seeds"), (dict(prior=5), "an object with .eps"),
    (dict(options={"ism": {"guidance": 5}}), "guidance"), (dict(options={"ims": {}}), "ism"), (dict(prompt="a red mug", truth="world", prior=GaussianPrior(torch.zeros(3, 16, 16), .3)), "truth=None")])
def test_wrong_input_is_said_before_any_work(kw, says):
    with pytest.raises(ValueError, match=says): go(**kw)

def test_a_truth_may_have_no_baselines(): assert go(truth=truth).table()[0]["psnr"] == 10.
def test_a_prompt_without_an_object_has_no_truth(): assert C.prepare("blurry", prior="toy")[0].truth is None

def writes(path): [write_file(path, f"{os.getpid()}"*100) for _ in range(500)]
def test_two_processes_may_write_one_file(tmp_path):
    with multiprocessing.get_context("spawn").Pool(2) as pool: pool.map(writes, [tmp_path/"race.txt"]*2)
    assert [f.name for f in tmp_path.iterdir()] == ["race.txt"]

def test_a_folder_is_for_one_process(tmp_path):
    with folders.held(tmp_path):
        p = subprocess.run([sys.executable, "-m", "lucidteach.cli", "compare", "a red mug", "--steps", "1", "--out", str(tmp_path)], capture_output=True, text=True)
    assert p.returncode == 2 and "another process" in p.stderr
    with folders.held(tmp_path): pass
    assert not (tmp_path/".lock").exists()
    with folders.held(tmp_path/"new"): pass
    assert not (tmp_path/"new").exists()                    # nothing came into it

def together(folder):
    "How often another process was inside the same folder"
    met = 0
    for _ in range(100):
        try:
            with folders.held(folder):
                try: os.close(os.open(folder/"inside", os.O_CREAT | os.O_EXCL)); os.unlink(folder/"inside")
                except FileExistsError: met += 1
        except FileExistsError: pass
    return met

def test_never_two_in_one_folder(tmp_path):
    (tmp_path/"keep").touch()
    with multiprocessing.get_context("spawn").Pool(3) as pool: assert pool.map(together, [tmp_path]*3) == [0]*3

def test_a_closed_pipe_does_not_lose_the_report(tmp_path):
    full = open("/dev/full", "w") if os.path.exists("/dev/full") else pytest.skip("no /dev/full here")
    subprocess.run([sys.executable, "-m", "lucidteach.cli", "compare", "a red mug", "--methods", "sds", "--steps", "2", "--out", str(tmp_path/"o")], stdout=full, stderr=subprocess.DEVNULL)
    assert (tmp_path/"o"/"report.html").exists() and folders.last_told(tmp_path/"o"/"metrics.jsonl")["complete"]

def told(folder): return [{k: v for k, v in json.loads(l).items() if k != "seconds"} for l in (folder/"metrics.jsonl").read_text().splitlines()]

HOST = """
import os, sys, torch; torch.set_num_threads(1)
import lucidteach.lab.compare as C, lucidteach.lab.page
from lucidteach.prior.checkpoints import load_prior
C.run.__defaults__ = (None, None, 0.)                                             # a checkpoint after every step
toy = load_prior("toy")
for out in sys.stdin:                                                             # forked, so that a run begins at once
    if (pid := os.fork()) == 0:
        C.compare('a red mug', ['sds', 'ism', 'vsd'], prior=toy, out=out.strip(), truth=None, canvases='latents', steps=8, every=4)
        os._exit(0)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""

def test_killed_and_taken_up(tmp_path):
    host = subprocess.Popen([sys.executable, "-c", HOST], env={**os.environ, "OMP_NUM_THREADS": "1"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    def begin(out): host.stdin.write(f"{tmp_path/out}\n"); host.stdin.flush(); return int(host.stdout.readline())
    def end(): return int(host.stdout.readline())
    try:
        begin("whole"); assert end() == 0
        for wait in (.1, .3):
            state = tmp_path/"cut"/"state.safetensors"
            seen = state.stat().st_mtime if state.exists() else 0
            pid, started = begin("cut"), time.monotonic()
            while time.monotonic() - started < 60 and not (state.exists() and state.stat().st_mtime > seen): time.sleep(.005)
            time.sleep(wait); os.kill(pid, signal.SIGKILL)
            assert end() == -signal.SIGKILL, "the run was over before it could be killed"
        begin("cut"); assert end() == 0
    finally: host.stdin.close(); host.wait(60)
    assert told(tmp_path/"cut") == told(tmp_path/"whole")
    assert (tmp_path/"cut"/"comparison.png").read_bytes() == (tmp_path/"whole"/"comparison.png").read_bytes()

@pytest.mark.parametrize("more", [dict(), dict(canvases=("pixels", "implicit")), dict(equal="calls", methods=["sds", "ism"], every=100), dict(methods=["sdi", "vsd"]), dict(methods=["sds@1", "ism@1:head_start=.75"])], ids=str)
def test_ctrl_c_lets_the_step_end_and_the_same_call_goes_on(tmp_path, monkeypatch, more):
    monkeypatch.setattr(C, "save_report", lambda r, folder, prior: report.save_report(r, folder))     # without the strips of targets, which ask the network as well
    class Signals(GaussianPrior):
        at = 0
        def eps(self, *a, **kw):
            self.at -= 1
            if self.at == 0: signal.raise_signal(signal.SIGINT)
            return super().eps(*a, **kw)
    p = Signals(torch.zeros(3, 32, 32), .3)
    call = lambda **kw: go(**dict(methods=["sds", "csd"], prior=p, steps=9, head_start=.3) | more | kw)
    whole = call(); total = -p.at
    p.at = total*3//4
    cut = call(out=tmp_path)
    assert cut.interrupted and 0 < cut.step < 9 and f"goes on from step {cut.step}" in cut.notes[0] and folders.claim(tmp_path, cut.config()) == "unfinished"
    p.at = 0
    end = call(out=tmp_path)
    assert end.complete and not end.notes and -p.at < total
    for arm in whole.arms:
        for a, b in zip(whole.records[arm], end.records[arm], strict=True): assert (a.step, a.calls, a.grad) == (b.step, b.calls, b.grad) and torch.equal(a.image, b.image)
    p.at = 0
    assert call(out=tmp_path).complete and p.at == 0                # a done run asks nothing
    with pytest.raises(FileExistsError, match="steps"): call(steps=8, out=tmp_path)
    assert call(steps=8, out=tmp_path, overwrite=True).complete

def test_an_arm_that_stopped_itself_stays(tmp_path, monkeypatch):
    def broken(*a, progress=0., generator, **kw):
        step = METHODS["sds"](*a, progress=progress, generator=generator, **kw)
        return step if progress < .5 else dataclasses.replace(step, grad=step.grad*float("nan"))
    broken.init = METHODS["sds"].init
    monkeypatch.setitem(METHODS, "broken", broken)
    first, again = (go(["sds", "broken"], steps=8, head_start=0., out=tmp_path) for _ in range(2))
    assert again.notes == first.notes and len(first.notes) == 1 and not again.complete
    assert [again.records[a][-1].step for a in again.arms] == [8, 4]

@pytest.mark.parametrize("how", ["cut", "empty", "other"])
def test_a_broken_checkpoint_is_named(tmp_path, how):
    go(out=tmp_path); f = tmp_path/"state.safetensors"
    f.write_bytes({"cut": f.read_bytes()[:-100], "empty": b"", "other": to_bytes({"a": torch.zeros(1)})}[how])
    with pytest.raises(ValueError, match="delete it to begin again"): go(out=tmp_path)

def test_what_is_saved_has_a_report(tmp_path):
    "As `create` leaves one: a page with the strips of targets; a run that is done is not asked again, one whose page is gone gets it back"
    class Counted(GaussianPrior):
        asked = 0
        def eps(self, *a, **kw): self.asked += 1; return super().eps(*a, **kw)
    p = Counted(torch.zeros(3, 32, 32), .3)
    go(["sds", "ism"], prior=p, out=tmp_path/"one")
    page = (tmp_path/"one"/"report.html").read_bytes()
    assert b"What each method pulls to" in page
    asked = p.asked
    go(["sds", "ism"], prior=p, out=tmp_path/"one"); assert p.asked == asked
    (tmp_path/"one"/"report.html").unlink(); go(["sds", "ism"], prior=p, out=tmp_path/"one")
    assert (tmp_path/"one"/"report.html").read_bytes() == page
    go(seeds=(0, 1), out=tmp_path/"many")
    assert len(list((tmp_path/"many").glob("*/report.html"))) == 2

def test_seeds_in_a_folder_go_on(tmp_path):
    one = go(seeds=(0, 1), out=tmp_path)
    more = go(seeds=(0, 1, 2), out=tmp_path)
    assert one.complete and more.complete and json.loads((tmp_path/"seeds.json").read_text())["seeds"] == [0, 1, 2]
    assert all(torch.equal(a.records["sds", "latents"][-1].image, b.records["sds", "latents"][-1].image) for a, b in zip(one, more))

def test_a_checkpoint_of_another_run_is_none(tmp_path):
    go(seed=1, out=tmp_path)
    for f in ("config.json", "metrics.jsonl"): (tmp_path/f).unlink()
    assert torch.equal(go(out=tmp_path, overwrite=True).records["sds", "latents"][-1].image, go().records["sds", "latents"][-1].image)

@pytest.mark.parametrize("at", ["checkpoint", "keep"])
def test_a_second_ctrl_c_after_the_step_loses_nothing(tmp_path, monkeypatch, at):
    made, count = getattr(C, at), iter(range(10**6))
    def impatient(*a):
        if next(count) == (1 if at == "checkpoint" else 3): raise KeyboardInterrupt
        return made(*a)
    monkeypatch.setattr(C, at, impatient); monkeypatch.setattr(C.run, "__defaults__", (None, None, 0.))
    r = go(out=tmp_path)
    assert r.interrupted and f"goes on from step {r.step}, unless" in r.notes[0] and (tmp_path/"comparison.png").exists()
    monkeypatch.setattr(C, at, made)
    assert go(out=tmp_path).complete

def test_each_seed_is_saved_before_the_next_begins(tmp_path, monkeypatch):
    done, make = [], C.execute
    def execute(r, *a): done.append([p.name for p in tmp_path.glob("*/metrics.jsonl")]); return make(r, *a)
    monkeypatch.setattr(C, "execute", execute); go(seeds=(0, 1), out=tmp_path)
    assert list(map(len, done)) == [0, 1]

# arms with settings of their own

@pytest.mark.parametrize("arm, plain", [
    ("sds@7.5", dict(methods="sds", guidance=7.5)), ("ism:head_start=0:delta_t=50", dict(methods="ism", head_start=0., options={"ism": {"delta_t": 50}})),
    ("ism@1:t_range=(.1, .3):warmup=0", dict(methods="ism", guidance=1., t_range=(.1, .3), warmup=0.))], ids=str)
def test_an_arm_is_what_the_same_settings_make(arm, plain):
    one, other = go([arm, "sds"]), go(**plain)
    assert torch.equal(one.records[arm, "latents"][-1].image, other.records[plain["methods"], "latents"][-1].image)
    assert one.table()[0]["method"] == arm and one.config()["methods"] == [arm, "sds"]

def test_all_rows_of_a_canvas_have_one_truth():
    pictures = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    order = iter(range(3))
    r = go(["sds", "ism", "csd"], truth=lambda image, prompt: SimpleNamespace(image=pictures[next(order)], psnr=1.))
    last = [panels(r, arm)[-1] for arm in r.arms]
    far = [sum((r.image(arm) - p).square().sum() for arm in r.arms) for p in pictures]
    assert all(name == "nearest truth" and torch.equal(image, pictures[int(np.argmin(far))]) for name, image in last)
    assert [row["psnr"] for row in r.table()] == [1.]*3

def test_a_world_of_blocks_brings_its_own_truth(tmp_path):
    from lucidteach.prior.patches import dot_world
    world = dot_world(size=16)
    r = C.compare("dots", ["sds@1", "ism@3"], prior=world, canvases=["pixels"], steps=4, every=2, head_start=0., mode="quiet")
    assert all(0 <= row["detail"] and 0 < row["off_texture"] for row in r.table()) and r.image(r.arms[0]).shape == (3, 16, 16)
    grey = r.truth(torch.full((3, 16, 16), .5), "dots")
    assert grey.measures["detail"] == 0 and set(grey.image.unique().tolist()) <= set(world.decode(world.mixture.means[:4]).clamp(0, 1).float().unique().tolist())
    page = report.save_report(r, tmp_path, world).read_text()
    assert any(f"SDS {word} at guidance 1" in page for word in ("smooths", "overshoots", "is weaker than the truth", "is as strong as the truth, of another texture,"))
    assert "the truth's detail at guidance 3" not in page or r.table()[1]["off_texture"] <= 1.3
    flat = r.truth(world.decode(world.mixture.means[:4].mean(0).mean() * torch.ones(1, 1, 16, 16))[0].expand(3, -1, -1).float(), "dots")
    assert flat.measures["off_smooth"] == grey.measures["off_smooth"] > 1                     # the same for every picture

def test_the_ideal_world_says_how_much_detail_is_left():
    from lucidteach.prior.ideal import IdealPrior
    world = IdealPrior(.5, renders=2, wide=4, size=32)
    r = C.compare("a red mug", ["sds@1", "sds@100"], prior=world, canvases=["pixels"], steps=30, every=30, head_start=0., t_range=(.02, .98), mode="quiet")
    soft, hard = r.table()
    x = world.encode(r.image(r.arms[0])[None])
    assert abs(soft["detail"] - world.measure(x, "a red mug")["detail"].item()) < 1e-6 and soft["detail"] < hard["detail"]
    from lucidteach.prior.ideal import speckle_patterns
    smooth = (speckle_patterns(.5).square().mean(1).sqrt() / world.std).min().item()           # a surface without speckles misses one of them, by its rms
    assert all(abs(row["off_smooth"] - smooth) < 1e-3 for row in (soft, hard))
    shown = [below for *_, below, _ in finals(r)]
    assert shown == [*([f"strength {row['detail']:.0%}", f"{row['off_texture']:.1f} off"] for row in (soft, hard)), ["strength 100%", "1.0 off"]]
    draw = torch.Generator().manual_seed(0)
    true = world.encode(r.truth(r.image(r.arms[0]), "a red mug").image[None].double())
    off = world.measure(true + world.std * torch.randn(true.shape, generator=draw), "a red mug")["off_texture"].item()
    assert abs(off - 1) < .1                                                                # what is printed under the truth: a picture drawn from the world
    with pytest.raises(ValueError, match="zebra"): C.prepare("a red zebra", prior="ideal-detail")

def test_an_object_too_narrow_for_its_texture_to_be_read_has_its_strength(tmp_path):
    "No patch of 7x7 pixels lies on a rocket: `compare` tells how strong its detail is, and not how far off"
    r = C.worlds("a red rocket", ["toy-detail"], methods=["sds@1"], steps=1, out=tmp_path/"r", mode="quiet")
    row, = r.table()
    assert row["detail"] == pytest.approx(0, abs=.1) and "off_texture" not in row and row["psnr"] > 15
    page = (tmp_path/"r"/"report.html").read_text(encoding="utf-8")
    assert "strength" in page and not re.search(r"\bnan\b[^\w+/]", page.split("data:image")[0])

def test_the_first_world_holds_sds_against_ism_at_the_same_guidance():
    arms = C.WORLDS["ideal-detail"]["methods"]
    assert {"sds@3", "ism@3", "sds@7.5", "ism@7.5"} <= set(arms)

def test_a_plain_comparison_says_its_settings_first():
    "Where the arms are named, the settings are not those of the two worlds: the first line says so, and which they are"
    plain, own = Settings(), {k: v for k, v in C.WORLDS["ideal-detail"].items() if k not in ("methods", "canvases")}
    said = report.settings_text(plain, "ideal-detail")
    for part in (f"{plain.steps} steps", f"first {plain.head} of them SDS", "δ_T of ISM 200", "at the end to 0.5", f"Not the settings of the two worlds, which for ideal-detail are: {own['steps']} steps"): assert part in said
    same = report.settings_text(Settings(**own), "ideal-detail")
    assert f"{own['steps']} steps" in same and "Not the settings" not in same + report.settings_text(plain, "a folder")
    r = go(steps=2); r.prior = "ideal-detail"
    first = report.report_html(r).split("<main>")[1].split("</p>")[0]
    assert report.settings_text(r.settings, "ideal-detail") in first and "Not the settings of the two worlds" in first

def test_targets_are_asked_at_one_guidance():
    "The spread of a method hangs on guidance and noise: the first is the same for all, the second is printed"
    p = prior(); r = go(["sds@1", "ism@3"], steps=2, prior=p, guidance=5.)
    page = report.targets_html(r, p, t=600, n=3)
    for m in ("sds", "ism"):
        images, noise = report.pulls(p, r.image(r.arms[0]), "x", f"{m}@5", r.settings, 600, 3)
        assert f"{m.upper()} at guidance 5: spread over noises {report.spread(images):.3f}, noise at x_t {noise:.2f}" in page

def test_the_noise_of_an_inversion_is_told():
    rows = go(["sds", "ism"], prior=GaussianPrior(torch.zeros(3, 32, 32), .3), steps=8, head_start=0.).table()
    assert abs(rows[0]["noise"] - 1) < .05 and rows[1]["noise"] < .8        # 3072 normal numbers in each of 8 records; strides of 200

# wrong calls: the value, what is allowed, before the network is asked or a folder is made

WRONG = [(dict(options={"ism": {"delta_t": "x"}}), "delta_t"), (dict(options={"ism": {"detla_t": 5}}), "did you mean 'delta_t'"), (dict(options={"ism": 5}), "dict"), (dict(options=5), "dict"),
         (dict(truth=5), "truth"), (dict(methods=5), "5"), (dict(methods=[]), "at least one"), (dict(methods=["ism@7,5"]), "guidance"), (dict(methods="imm@3"), "did you mean 'ism'"),
         (dict(methods="ism:head_start=1"), "head_start"), (dict(methods=["sds@1", "sds@1"]), "twice"), (dict(guidance=float("inf")), "guidance"), (dict(guidance="7.5"), "guidance"),
         (dict(canvases="pixel"), "did you mean 'pixels'"), (dict(steps=2.5), "steps"), (dict(methods="ism:delta_s=0"), "delta_s"), (dict(prompt=5), "prompt")]

@pytest.mark.parametrize("kw, says", WRONG, ids=lambda v: str(v)[:40])
def test_wrong_calls_cost_nothing(tmp_path, kw, says):
    class Silent(GaussianPrior):
        def eps(self, *a, **kw): raise AssertionError("the network was asked")
    with pytest.raises(ValueError, match=says): go(**dict(prior=Silent(torch.zeros(3, 32, 32), .3), methods=["ism"], out=tmp_path/"run") | kw)
    assert not (tmp_path/"run").exists()

@pytest.mark.parametrize("kw, says", [(dict(guidance="7.5"), "finite number"), (dict(guidance=float("nan")), "finite"), (dict(delta_t=(1, 2, 3)), "a pair"), (dict(noise=np.zeros(3)), "a tensor"),
                                      (dict(generator=0), "torch.Generator"), (dict(start_noise=1), "bool"), (dict(weight="gama"), "one of gamma")], ids=str)
def test_methods_check_their_options(kw, says):
    with pytest.raises(ValueError, match=says): METHODS["ism"](prior(), torch.zeros(1, 3, 32, 32), "x", 500, **kw)

def test_an_unknown_method_is_answered_with_the_nearest():
    with pytest.raises(KeyError, match="did you mean 'ism'"): METHODS["imm"]
    assert METHODS.get("imm") is None and "imm" not in METHODS

def test_defaults_are_those_of_the_table():
    from lucidteach.scene import text_to_3d as t3
    toy = t3.config("toy")
    for name, of in DEFAULTS.items():
        assert getattr(toy, name) == of["create"], name
    s = Settings()
    assert (s.guidance, s.weight, s.options["ism"]["delta_t"]) == tuple(DEFAULTS[k]["compare"] for k in ("guidance", "weight", "delta_t"))

def test_results_are_short_and_small():
    r = go(["sds", "ism"], truth=truth)
    assert len(repr(r)) < 300 and len(repr(r.records)) < 1500
    from PIL import Image
    import io
    assert Image.open(io.BytesIO(r._repr_png_())).height < 400 and C.prepare("x", prior=prior(), truth=None)[0]._repr_png_() is None

# what a killed run promised

class Killed(BaseException): pass

def command(monkeypatch, at=None, names=("a", "b")):
    "`lucidteach compare` with tiny priors; the write number `at` is the one before which it dies"
    made = [prior(), prior(.2)][:len(names)]
    for name, p in zip(names, made): p.name = name
    args = SimpleNamespace(prompt="x", methods=None, prior=None, out=None, overwrite=False)
    monkeypatch.setattr(C, "planned", lambda args: [C.prepare("x", ["sds", "ism@1"], prior=p, canvases="latents", truth=None, steps=3, every=1) for p in made])
    count, replace = iter(range(10**6)), os.replace
    def dying(*a):
        if next(count) == at: raise Killed
        return replace(*a)
    def run(folder):
        monkeypatch.setattr(os, "replace", dying)
        try: return C.run_compare(SimpleNamespace(**vars(args) | dict(out=str(folder))))
        finally: monkeypatch.setattr(os, "replace", replace)
    return run, count

def contents(folder):
    "Every file but for what is a time"
    text = lambda f: [{k: v for k, v in json.loads(l).items() if k != "seconds"} for l in f.read_text().splitlines()] if f.suffix == ".jsonl" else f.read_bytes()
    return {str(f.relative_to(folder)): text(f) for f in sorted(folder.rglob("*")) if f.is_file() and f.suffix in (".jsonl", ".png", ".json")}

@pytest.mark.parametrize("names", [("a",), ("a", "b")], ids=("one", "two"))
def test_killed_before_any_file_all_that_was_promised_comes(tmp_path, monkeypatch, names, capsys):
    run, count = command(monkeypatch, names=names)
    run(tmp_path/"whole"); writes, whole = next(count), contents(tmp_path/"whole")
    assert (tmp_path/"whole"/"report.html").exists()
    for at in range(0, writes, 1 if len(names) == 1 else 4):
        run, _ = command(monkeypatch, at, names)
        with pytest.raises(Killed): run(tmp_path/f"cut{at}")
        run, _ = command(monkeypatch, None, names)
        assert run(tmp_path/f"cut{at}") == 0 and "done already" not in capsys.readouterr().out, at
        assert contents(tmp_path/f"cut{at}") == whole and (tmp_path/f"cut{at}"/"report.html").exists(), at
    assert run(tmp_path/f"cut{at}") == 0 and "done already" in capsys.readouterr().out

def test_a_missing_page_is_made_again(tmp_path, monkeypatch, capsys):
    run, _ = command(monkeypatch)
    run(tmp_path/"run"); page = (tmp_path/"run"/"report.html").read_bytes()
    (tmp_path/"run"/"report.html").unlink(); (tmp_path/"run"/".x.json.123.part").touch(); (tmp_path/"run"/".mine.part").touch()
    assert run(tmp_path/"run") == 0 and "done already" not in capsys.readouterr().out
    assert (tmp_path/"run"/"report.html").read_bytes() == page
    assert not (tmp_path/"run"/".x.json.123.part").exists() and (tmp_path/"run"/".mine.part").exists()       # what a killed process was writing, and what is somebody's

def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    if not os.path.exists("/dev/full"): pytest.skip("no /dev/full here")
    full = tmp_path/"full"
    full.touch()
    monkeypatch.setattr(tempfile, "mkstemp", lambda **kw: (os.open("/dev/full", os.O_WRONLY), str(full)))
    with pytest.raises(OSError, match="a.json could not be written .No space left on device"): write_file(tmp_path/"a.json", "x"*10**5)
    assert not list(tmp_path.iterdir())

def test_a_run_keeps_its_threads(tmp_path, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(jobs, "best_threads", lambda prior: seen.append(1) or 2)
    run, _ = command(monkeypatch)
    before = torch.get_num_threads()
    run(tmp_path/"run")
    assert json.loads((tmp_path/"run"/"config.json").read_text())["threads"] == 2 and torch.get_num_threads() == before
    (tmp_path/"run"/"report.html").unlink()
    assert run(tmp_path/"run") == 0 and len(seen) == 1                # the second keeps what the first wrote

def test_a_command_keeps_freed_memory(monkeypatch):
    "Pages that the system has to give anew, for twenty arrays of 20 MB one after the other: counted by the system, in a process of its own"
    count = ("import ctypes, resource, torch; from lucidteach.run.jobs import keep_memory\n"
             "def faults():\n"
             "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
             "    for _ in range(20): torch.ones(5_000_000)\n"
             "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
             "libc = ctypes.CDLL(None); libc.mallopt(-1, 2**17); libc.mallopt(-3, 2**17)        # glibc's own thresholds, held fast\n"
             "print(faults(), keep_memory(), (faults(), faults())[1])                # the first twenty let the heap grow")
    if not sys.platform.startswith("linux") or not jobs.keep_memory(): pytest.skip("another C library")
    without, kept, after = subprocess.run([sys.executable, "-c", count], capture_output=True, text=True, check=True).stdout.split()
    assert kept == "True" and int(after) < int(without)/5
    monkeypatch.setattr(jobs.ctypes, "CDLL", lambda name: object())
    assert jobs.keep_memory() is False                                      # a C library without it

def test_a_huge_number_of_steps_is_estimated_at_once():
    "Of a thousand million steps a thousand are looked at, and their mean is that of a short run"
    long, short = (mean_time(Settings(steps=n), 1000) for n in (10**9, 10**4))
    assert abs(long - short) < 40
    with pytest.raises(ValueError, match="at most 10"): Settings(steps=10**30)

def test_what_cannot_be_leaves_no_folder(tmp_path):
    for wrong, says in ((dict(mode="x"), "unknown mode 'x'"), (dict(truth=5), "truth must be"), (dict(options={"ism": {"delta_t": "x"}}), "delta_t")):
        with pytest.raises(ValueError, match=says): C.compare("x", ["ism"], prior=GaussianPrior(torch.zeros(3, 16, 16), .5), out=tmp_path/"a", **wrong)
        assert not (tmp_path/"a").exists()
    with pytest.raises(ValueError, match="name of a folder"): C.compare("x", prior=GaussianPrior(torch.zeros(3, 16, 16), .5), out=5)
    with pytest.raises(TypeError, match="did you mean 'steps'"): C.compare("x", step=1)
