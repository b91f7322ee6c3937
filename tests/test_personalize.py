"An object that a prior has never seen: what is learned is what diffusers reads, a run goes on bit for bit, wrong calls say what would do"
import json
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from tiny import F64, build, far, folders, lora_file  # folders: a fixture  # noqa: F401

import lucidteach
from lucidteach import cli
from lucidteach.prior.checkpoints import load_prior
from lucidteach.prior.latent import LatentPrior, quiet
from lucidteach.prior.world import HELD_OUT, VIEWS, Camera, Thing, render, sample_thing
from lucidteach.scene import personalize_run as run
from lucidteach.scene.personalize import caption_with, learned, noise_loss, own_weight, view_word, with_lora
from lucidteach.scene.sources import initial_gaussians

pytest.importorskip("peft")

NET = dict(block_out_channels=(8,), down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",))
QUICK = dict(mode="quiet", steps=6, rank=2, batch=2, preservation=3, others=["b", "c"], lr=1e-2)


def tiny(family="sd15", **kw):
    with quiet():
        return LatentPrior(build(family, **({} if family == "sdxl" else NET)), **(F64 | kw))


def pictures(n=3, size=64):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def asked(prior, text="a sks"):
    g = torch.Generator().manual_seed(1)
    return prior.eps(torch.randn(1, *prior.latent_shape, generator=g).to(prior.dtype), 300, prior.embed(text))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_the_loss_is_the_plain_error_in_what_the_network_tells(kind):
    "The raw output of the UNet against noise, v or picture, by their formulas"
    prior = tiny()
    pipe = prior.pipe
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, prediction_type=kind)
    prior = LatentPrior(pipe, **F64)
    g = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(2, 4, 8, 8, generator=g).double() for _ in range(2))
    t, cond = torch.tensor([40, 900]), prior.embed(["a", "b"])
    a = pipe.scheduler.alphas_cumprod.double()[t].view(-1, 1, 1, 1)
    x_t = a.sqrt() * x0 + (1 - a).sqrt() * eps
    raw = pipe.unet(x_t, t, cond.emb).sample
    want = dict(epsilon=eps, v_prediction=a.sqrt() * eps - (1 - a).sqrt() * x0, sample=x0)[kind]
    assert noise_loss(prior, x0, t, eps, cond).item() == pytest.approx((raw - want).square().mean().item(), rel=1e-5)
    assert own_weight(kind, torch.tensor(1.0)) == (kind != "sample")


def test_a_lora_begins_as_the_prior_and_leaves_it_alone(tmp_path):
    "Beside a LoRA that the prior has already, which stays on"
    lora_file(tiny().pipe, tmp_path / "style.safetensors")
    with quiet():
        build("sd15", **NET).save_pretrained(tmp_path / "folder")
    prior = load_prior(tmp_path / "folder", lora=tmp_path / "style.safetensors", **F64)
    plain = load_prior(tmp_path / "folder", **F64)
    before, was = asked(prior), torch.get_rng_state()
    made = with_lora(prior, rank=2, seed=3, text_encoder=True)
    assert torch.get_rng_state().equal(was)  # torch's own generator is not asked
    assert far(asked(made), before) < 1e-12 and far(before, asked(plain)) > 1e-3
    with pytest.raises(ValueError, match="learned an object already.*lora=file"):
        run.personalize(pictures(), prior=made, **QUICK)
    for p in learned(made).values():
        p.data += 0.3
    assert far(asked(made), before) > 1e-3 and far(asked(prior), before) == 0
    again = learned(with_lora(prior, rank=2, seed=3, text_encoder=True))
    assert {k.partition(".")[0] for k in again} == {"unet", "text_encoder"}
    first = {k: v for k, v in again.items() if "lora_A" in k}
    other = learned(with_lora(prior, rank=2, seed=4, text_encoder=True))
    assert first and all(not v.equal(other[k]) for k, v in first.items())


@pytest.mark.parametrize("family, own", [("sd15", {}), ("sd21", dict(layers="attention")), ("sdxl", dict(text_encoder=True)), ("sd15", dict(text_encoder=True))])
def test_diffusers_reads_what_was_learned(family, own, tmp_path):
    "A fresh pipeline with load_lora_weights, and load_prior(lora=): the same answers"
    prior = tiny(family, dtype=torch.float32)
    before = asked(prior)
    made = run.personalize(pictures(), prior=prior, out=tmp_path / "run", **QUICK | dict(steps=3) | own)
    assert far(asked(prior), before) == 0 and far(asked(made), before) > 1e-4
    fresh = tiny(family, dtype=torch.float32)
    with quiet():
        fresh.pipe.load_lora_weights(tmp_path / "run", weight_name="lora.safetensors")
        build(family, **({} if family == "sdxl" else NET)).save_pretrained(tmp_path / "folder")
    assert far(asked(fresh), asked(made)) < 1e-5
    theirs = load_prior(tmp_path / "folder", device="cpu", dtype=torch.float32, lora=tmp_path / "run/lora.safetensors")
    assert far(asked(theirs), asked(made)) < 1e-5
    with safe_open(tmp_path / "run/lora.safetensors", "pt") as f:
        told = json.loads(f.metadata()["lucidteach"])
    assert told["prompt"] == "a sks" and told["recipe"]["rank"] == 2 and told["steps"] == 3


def test_diffusers_reads_a_word_that_was_learned(tmp_path):
    prior = tiny(dtype=torch.float32)
    before, other = asked(prior), asked(prior, "b")
    made = run.personalize(pictures(), prior=prior, by="inversion", out=tmp_path / "run", **QUICK | dict(lr=0.3))
    assert far(asked(made), before) > 1e-3 and far(asked(made, "b"), other) == far(asked(prior), before) == 0
    fresh = tiny(dtype=torch.float32)
    with quiet():
        fresh.pipe.load_textual_inversion(tmp_path / "run/token.safetensors")
    assert far(asked(fresh), asked(made)) < 1e-6
    assert load_file(tmp_path / "run/token.safetensors")["sks"].shape == (16,)


@pytest.mark.parametrize("own", [{}, dict(text_encoder=True), dict(by="inversion")], ids=["lora", "text", "word"])
def test_an_interrupted_run_goes_on_bit_for_bit(own, tmp_path, monkeypatch):
    "Ctrl-C in the third step and in the fifth; then the same call says that it is done and computes nothing"
    go = lambda out: run.personalize(pictures(), prior=tiny(dtype=torch.float32), out=out, **QUICK | own)
    monkeypatch.setattr(run, "RECORDS", 2)  # a record of three steps is cut in two
    whole, learn, at = go(tmp_path / "whole"), run.Teacher.learn, [2, 4]

    def interrupted(self):
        if at and self.made.step == at[0]:
            at.pop(0)
            signal.raise_signal(signal.SIGINT)
        return learn(self)

    monkeypatch.setattr(run.Teacher, "learn", interrupted)
    stopped = [go(tmp_path / "cut") for _ in range(2)]
    assert [m.step for m in stopped] == [3, 5] and not stopped[0].complete
    assert json.loads((tmp_path / "cut/metrics.jsonl").read_text().splitlines()[-1]) == dict(kind="end", complete=False)
    last = go(tmp_path / "cut")
    assert last.complete and last.name == whole.name and last.rows == whole.rows and len(last.rows) == 2
    for name in ("state.safetensors", "lora.safetensors" if whole.word is None else "token.safetensors", "report.html"):
        a, b = ((tmp_path / d / name).read_bytes() for d in ("whole", "cut"))
        assert a.replace(b"/whole/", b"") == b.replace(b"/cut/", b""), name
    monkeypatch.setattr(run.Teacher, "learn", lambda self: pytest.fail("it was done"))
    again = go(tmp_path / "cut")
    assert again.done_before and again.name == whole.name and far(asked(again), asked(whole)) == 0
    with pytest.raises(FileExistsError, match="rank"):
        run.personalize(pictures(), prior=tiny(dtype=torch.float32), out=tmp_path / "cut", **QUICK | own | dict(rank=3))


def test_the_others_are_kept_by_the_prior_s_own_answer():
    "At the first step nothing is forgotten; the error comes with what is learned, and without a weight it grows"
    def kept(weight):
        made = run.personalize(pictures(), prior=tiny(), **QUICK | dict(steps=20, lr=3e-2, weight=weight))
        return [r["kept"] for r in made.rows]
    prior = tiny()
    made = run.begin_personal(prior, run.Recipe(rank=2, batch=2), ["a sks"] * 3)
    teacher = run.Teacher(prior, made, pictures())
    teacher.remember(["b", "c", "d"], torch.randn(3, 4, 8, 8).double())
    assert teacher.losses(0)[1] < 1e-20 < teacher.losses(0)[0]
    assert np.mean(kept(100.0)[-5:]) < np.mean(kept(0.0)[-5:])


def test_a_step_is_a_function_of_seed_and_step():
    prior = tiny()
    made = run.begin_personal(prior, run.Recipe(rank=2, batch=2), ["a sks"] * 3)
    teacher = run.Teacher(prior, made, pictures())
    teacher.remember(["b", "c", "d"], torch.zeros(3, 4, 8, 8).double())
    a, b, c = teacher.drawing(5), teacher.drawing(5), teacher.drawing(6)
    assert all(torch.equal(x, y) for x, y in zip(a.t + a.eps, b.t + b.eps)) and (a.i == b.i).all()
    assert not torch.equal(a.eps[0], c.eps[0]) and not torch.equal(*a.eps)


def test_a_folder_of_pictures(tmp_path):
    "Names in order, views and texts from metadata.jsonl, larger ones averaged down, transparent ones on a ground"
    big = np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)
    Image.fromarray(big).save(tmp_path / "a.png")
    clear = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    clear.save(tmp_path / "b.png")
    Image.new("RGBA", (64, 64), (0, 0, 255, 255)).save(tmp_path / "c.webp", lossless=True)
    (tmp_path / "readme.txt").write_text("no picture")
    rows = [dict(file_name="a.png", view="back view"), dict(file_name="c.webp", text="a blue sks")]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    with pytest.raises(ValueError, match="b.png is transparent.*background='white'"):
        run.given(tmp_path)
    got = run.given(tmp_path, background="yellow")
    assert got.views == ["back view", None, None]
    assert run.captions_for(got, run.Recipe(), True) == ["a sks, back view", "a sks", "a blue sks"]
    assert run.captions_for(got, run.Recipe(), False) == ["a sks", "a sks", "a blue sks"]
    small = run.sized(got.pictures[0], "a.png", 64)
    want = big.reshape(64, 2, 64, 2, 3).mean((1, 3)).transpose(2, 0, 1) / 255
    assert np.allclose(small, want, atol=1e-6)
    assert got.pictures[1][:, 0, 0].tolist() == [1, 1, 0] and got.pictures[2][:, 5, 5].tolist() == [0, 0, 1]


def test_views_and_captions():
    cam = Camera(100, 10)
    assert [view_word(v) for v in (None, "back view", cam, (180, 10), (0, 80))] == [None, "back view", "side view", "back view", "overhead view"]
    assert caption_with("sks", "teapot", "side view") == "a sks teapot, side view" and caption_with("sks") == "a sks"
    for wrong in ("sideview", 3, (1, 2, 3)):
        with pytest.raises(ValueError, match="side view"):
            view_word(wrong)


P = pictures(4)
WRONG = {  # what is given -> what the complaint says
    "one picture": (dict(images=P[:1]), "1 picture.*4 to 8"),
    "no tensor of pictures": (dict(images=P[0]), r"\[N,3,H,W\]"),
    "nothing": (dict(images=None), "folder"),
    "values": (dict(images=P * 255), r"picture 0.*\[0,1\]"),
    "not square": (dict(images=list(P[:, :, :48])), "64 x 48.*48 x 48"),
    "too small": (dict(images=P[:, :, :32, :32]), "32 x 32.*64 x 64"),
    "no folder": (dict(images="no/such/folder"), "no such folder"),
    "a word of the world": (dict(token="mug"), "'mug'.*'sks'"),
    "a colour": (dict(token="purple"), "'purple'.*'sks'"),
    "two words": (dict(token="my thing"), "'my thing'.*'sks'"),
    "many tokens": (dict(token="zyzzyva"), "7 tokens.*'sks'"),
    "capitals": (dict(token="SKS"), "'SKS'.*'sks'"),
    "no token": (dict(token=""), "'sks'"),
    "an unknown category": (dict(category="anvil"), "'anvil'.*None"),
    "views": (dict(views=["side view"]), "1 entries for 4"),
    "a view": (dict(views=["sid view"] * 4), "side view"),
    "a caption without token": (dict(captions=["a thing"] * 4), "'a thing'.*'sks'"),
    "rank": (dict(rank=0), "rank"),
    "a rank that no memory holds": (dict(rank=10**6), "1 to 1024"),
    "steps": (dict(steps=0), "steps"),
    "an option": (dict(rnak=2), "rank"),
    "the exact prior": (dict(prior="ideal"), "no network"),
    "others": (dict(others=[]), "others"),
    "a word and the encoder": (dict(by="inversion", text_encoder=True), "text_encoder=False"),
    "a folder that is a number": (dict(out=3), "out"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_name_value_and_remedy(name, monkeypatch, tmp_path):
    "Before anything is drawn or learned, and before there is a folder"
    given, said = WRONG[name]
    for work in ("Teacher", "drawn"):
        monkeypatch.setattr(run, work, lambda *a, **k: pytest.fail("work was begun"))
    call = dict(images=P, prior=tiny(dtype=torch.float32), mode="quiet", out=tmp_path / "run") | given
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=said):
        run.personalize(**call)
    assert not (tmp_path / "run").exists()


def test_wrong_folders(tmp_path):
    with pytest.raises(ValueError, match="holds no pictures"):
        run.personalize(tmp_path)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (64, 64)).save(tmp_path / name)
        if name == "a.png":
            with pytest.raises(ValueError, match=f"{tmp_path.name} holds 1 picture.*4 to 8"):
                run.personalize(tmp_path)
    (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    with pytest.raises(ValueError, match="c.png cannot be read.*remove it"):
        run.personalize(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"no such folder, did you mean '{tmp_path.name}'"):
        run.personalize(tmp_path.with_name(tmp_path.name + "s"))
    with pytest.raises(ValueError, match="is a file"):
        run.personalize(tmp_path / "a.png")
    (tmp_path / "c.png").unlink()
    (tmp_path / "metadata.jsonl").write_text('{"file": "a.png"}\n')
    with pytest.raises(ValueError, match="line 1, has no file_name"):
        run.personalize(tmp_path)


def test_the_toy_prior_does_not_know_what_is_held_out():
    "No noun of a held-out object is a word of its tokenizer; the token is three letters that were never read"
    prior = load_prior("toy")
    for name in HELD_OUT:
        with pytest.raises(ValueError, match="does not know the category"):
            run.check_category(name, prior.pipe)
    run.check_category("teapot", prior.pipe)
    run.check_token("sks", prior.pipe)
    assert run.pieces(prior.pipe.tokenizer, "sks") == ["s", "k", "s"]


def test_no_word_that_the_prior_was_trained_on_is_a_token():
    "Whole words of the toy prior's tokenizer, which was made of the captions that it has read"
    prior = load_prior("toy")
    words = {w.removesuffix("</w>") for w in prior.pipe.tokenizer.get_vocab() if w.endswith("</w>")}
    words = {w for w in words if w.isascii() and w.isalpha() and w.islower() and len(w) > 1}
    assert len(words) > 100 and {"mug", "photo", "background", "gray"} <= words
    for word in words:
        with pytest.raises(ValueError, match=f"{word!r} is a word that means something already.*'sks'"):
            run.check_token(word, prior.pipe)


def test_views_that_nobody_tells_are_asked_for(tmp_path):
    "Said once at the beginning, with what would do; not where a view or a text is told, or none is wanted"
    told = lambda **kw: run.note_on_views(run.given(pictures(), **kw), run.Recipe(token="q"), True)
    assert "'a q'" in told() and "views=" in told() and "metadata.jsonl" in told() and "side view" in told()
    assert told(views=[None, "side view", None]) == told(captions=["a q", "a red q", "a q"]) == ""
    assert run.note_on_views(run.given(pictures()), run.Recipe(), False) == ""
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run.Live, "say", lambda self, text: said.append(text))
        run.personalize(pictures(), prior=tiny(dtype=torch.float32), **QUICK | dict(steps=1))
        run.personalize(pictures(), prior=tiny(dtype=torch.float32), views=["side view"] * 3, **QUICK | dict(steps=1))
    assert ["view is told" in text for text in said] == [True, False]


def test_the_commands(folders, tmp_path, monkeypatch, capsys):  # noqa: F811
    "personalize a folder of renders; create and compare with what was learned"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "anvil").mkdir()
    rows = []
    for i, a in enumerate((0, 90, 180)):
        image = (render(Thing("anvil"), Camera(a), 64).rgb * 255).astype(np.uint8).transpose(1, 2, 0)
        Image.fromarray(image).save(f"anvil/{i}.png")
        rows.append(dict(file_name=f"{i}.png", view=Camera(a).view))
    (tmp_path / "anvil/metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    prior = ["--prior", str(folders / "sd15"), "--steps", "2", "--device", "cpu"]
    assert cli.main(["personalize", "anvil", "--token", "q", "--rank", "2", "--preservation", "0", *prior]) == 0
    told = capsys.readouterr()
    file = told.out.strip().splitlines()[-1]
    assert file == "runs/q-personal/lora.safetensors" and "network calls" in told.err
    assert json.loads((tmp_path / "runs/q-personal/config.json").read_text())["captions"] == [f"a q, {v}" for v in (VIEWS[0], VIEWS[1], VIEWS[2])]
    assert cli.main(["create", "a q", "--lora", f"{file}@0.5", "--points", "50", *prior]) == 0
    assert "'a q' names none of its objects: from a ball" in capsys.readouterr().out
    assert "lora.safetensors x 0.5" in (tmp_path / "runs/a-q-3d/config.json").read_text()
    assert cli.main(["compare", "a q", "--lora", file, "--methods", "sds", *prior]) == 0
    for lora, said in {
        "gone.safetensors": "gone.safetensors: no such file",
        file[:-1]: "did you mean 'lora.safetensors'?",
        f"{file}@strong": "a strength is a number",
    }.items():
        assert cli.main(["compare", "a q", "--lora", lora, *prior]) == 2
        assert said in capsys.readouterr().err


def test_a_prompt_that_says_nothing_is_refused_with_what_to_ask_for(tmp_path, monkeypatch, capsys):
    "A token written wrongly, or the object's name, before the prior is loaded; not what the world's words say"
    monkeypatch.chdir(tmp_path)
    prior = tiny(dtype=torch.float32)
    run.personalize(pictures(), prior=prior, out="cam", **QUICK | dict(steps=1))
    monkeypatch.setattr("lucidteach.prior.checkpoints.load_prior", lambda *a, **k: pytest.fail("loaded"))
    for call in (["create", "a skz"], ["compare", "a camera"], ["edit", "a.png", "a sks", "a purple skss"]):
        for lora in ("cam/lora.safetensors", "cam@0.5", "cam"):
            assert cli.main([*call, "--lora", lora]) == 2
            assert "was taught 'sks': ask for 'a sks'" in capsys.readouterr().err
    run.check_asked(["a SKS", "a striped sks, side view", "a red mug"], "cam")
    assert run.lora_of("owner/name@0.5") == {"owner/name": 0.5} and run.lora_of("cam") == {"cam": 1.0}
    Image.new("RGB", (4, 4)).save("a@b.png")
    assert run.lora_of("a@b.png") == {"a@b.png": 1.0}  # an @ in a file's name


def test_a_learned_word_has_a_start():
    "A ball, or the points of what else is said; a start that is asked for stays, and a word misspelt is no learned one"
    prior = tiny(dtype=torch.float32)
    prior.name = "tiny with sks"
    how = dict(prior=prior, steps=1, points=40, mode="quiet", method="sds")
    ball, teapot = lucidteach.create("a sks", **how), lucidteach.create("a sks teapot", **how)
    assert (ball.settings.init, teapot.settings.init) == ("ball", "text")
    assert "'a sks' names none" in ball.notes[0] and "'a teapot'" in teapot.notes[0]
    said = lucidteach.create("a sks", **how, preset="ball")
    assert said.notes == [] and said.config() == ball.config()
    assert all(x.equal(y) for (_, x), (_, y) in zip(said.state.scene.tensors(), ball.state.scene.tensors()))
    want = initial_gaussians("text", 40, prompt="a teapot", seed=0, colours=True).means
    assert (teapot.gaussians.means - want).abs().max() < 0.02  # one step away
    own = lucidteach.create("a sks", **how, init="box")
    assert own.settings.init == "box" and own.notes == []
    with pytest.raises(ValueError, match="mugg.*did you mean.*mug"):
        lucidteach.create("a red mugg", prior="toy", steps=1)


def test_the_cards_of_the_priors_name_what_is_held_out():
    "An object that a prior has never seen: told on its card, sampled by no training, and no word of the world"
    from lucidteach.prior.checkpoints import TOY
    from lucidteach.prior.world import CATEGORIES

    for name in ("toy", "toy-detail"):
        told = json.loads((TOY.parent / name / "recipe.json").read_text(encoding="utf-8"))
        assert told["held_out"] == sorted({*HELD_OUT} - {"posed person"})  # a person is known; this one has joints
    assert not set(HELD_OUT) & set(CATEGORIES)
    g = np.random.default_rng(0)
    assert not {sample_thing(g).category for _ in range(500)} & set(HELD_OUT)
