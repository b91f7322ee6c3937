"A training run that is stopped, broken, diverging or not alone in its folder"
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from safetensors.torch import load_file

from lucidteach.prior import training_run as run
from lucidteach.prior.train import Config

TINY = dict(steps=4, batch=2, channels=(16, 16), width=16, pca_images=70, bank=24, size=16)


def trained(out, **kw):
    own = {k: kw.pop(k) for k in list(kw) if k in Config.__dataclass_fields__}
    return run.train(Config(**TINY | own), out, sheet_every=10**6, **kw)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("done")
    trained(out, until=2)
    return out


@pytest.fixture
def half(done, tmp_path):
    "A copy of a run of two steps of four"
    return shutil.copytree(done, tmp_path / "half")


@pytest.mark.parametrize("own", [dict(seed=1), dict(detailed=0.5), dict(background=0.5)])
def test_a_bank_of_another_world_is_refused(done, own):
    bank = done / "bank.safetensors"
    ae = trained_autoencoder(done)
    with pytest.raises(ValueError, match=next(iter(own))): run.open_bank(bank, Config(**TINY | own), ae)
    assert len(run.open_bank(bank, Config(**TINY), ae)["captions"]) == 24
    with torch.no_grad(): next(ae.parameters()).add_(0.01)
    with pytest.raises(ValueError, match="autoencoder"): run.open_bank(bank, Config(**TINY), ae)


def trained_autoencoder(out):
    from diffusers import StableDiffusionPipeline
    return StableDiffusionPipeline.from_pretrained(out / "toy").vae


def test_a_bank_without_a_note_is_taken(done, tmp_path):
    "Banks that were made before there was one"
    made = run.open_bank(done / "bank.safetensors", Config(**TINY), None)
    run.save_bank(made, tmp_path / "bank.safetensors")
    again = run.open_bank(tmp_path / "bank.safetensors", Config(**TINY | dict(seed=5)), trained_autoencoder(done))
    assert torch.equal(again["latents"], made["latents"])


@pytest.mark.parametrize("name,content", [
    ("bank.safetensors", b""), ("bank.safetensors", b"text"), ("checkpoint/state.safetensors", b"\0" * 40), ("checkpoint/state.json", b"{}"),
    ("checkpoint/state.json", b'{"step": 2, "conf'), ("checkpoint/state.json", b'{"step": -1, "seconds": 1, "config": {}}'), ("log.csv", b"step,loss\n"),
])
def test_a_broken_file_is_named(half, name, content):
    (half / name).write_bytes(content)
    with pytest.raises(ValueError, match=name.rpartition("/")[2]): trained(half, resume=True)


def test_a_setting_of_another_version_is_named(half):
    file = half / "checkpoint/state.json"
    told = json.loads(file.read_text())
    told["config"]["hue"] = 3
    file.write_text(json.dumps(told))
    with pytest.raises(ValueError, match="another version: it has the settings hue"): trained(half, resume=True)


def test_weights_that_diverge_do_not_replace_those_that_are_kept(half):
    before = load_file(half / "checkpoint/state.safetensors")
    file = half / "checkpoint/state.json"
    told = json.loads(file.read_text())
    told["config"]["lr"] = 1e30
    file.write_text(json.dumps(told))
    with pytest.raises(ValueError, match="not finite; the last checkpoint .* is kept; begin another run with a lower rate"):
        trained(half, resume=True, lr=1e30)
    after = load_file(half / "checkpoint/state.safetensors")
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)


def test_a_resumed_run_takes_no_start(half):
    with pytest.raises(ValueError, match="leave one of --resume and --start out"): trained(half, resume=True, start=half / "toy")


def test_a_folder_in_use_is_refused(tmp_path):
    with run.held(tmp_path), pytest.raises(FileExistsError, match="another process"): trained(tmp_path)


def test_a_folder_in_the_place_of_the_bank_is_refused(tmp_path):
    (tmp_path / "bank.safetensors").mkdir()
    with pytest.raises(ValueError, match="is a folder"): run.open_bank(tmp_path / "bank.safetensors", Config(**TINY), None)


def test_a_bank_is_given_up_when_it_is_asked_to_stop(done, tmp_path):
    stop = threading.Event()
    stop.set()
    with pytest.raises(KeyboardInterrupt):
        run.open_bank(tmp_path / "bank.safetensors", Config(**TINY | dict(bank=2000)), trained_autoencoder(done), 1, stop)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to catch")
def test_a_run_that_is_stopped_ends_with_130(half):
    command = [sys.executable, "-m", "lucidteach.prior.train", "--out", half, "--resume", "--steps", "100000"]
    p = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    log, size = half / "log.csv", -1
    for _ in range(600):
        size = log.stat().st_size if log.exists() else 0
        if size > 20 or p.poll() is not None:
            break
        time.sleep(0.2)
    p.send_signal(signal.SIGTERM)
    said = p.communicate(timeout=120)[0]
    assert p.returncode == 130, said
    assert json.loads((half / "checkpoint/state.json").read_text())["step"] > 2


def trainer(out, **own):
    "A trainer before its first step, with a bank where there is one"
    config = Config(**TINY | own)
    tr = run.prepared(config, out, False, None)
    if config.bank:
        tr.use_bank(run.open_bank(out / "bank.safetensors", config, tr.ae))
    return tr


@pytest.mark.parametrize("bank", [0, 24])
def test_times_and_cap_reach_the_loss(tmp_path, bank):
    "Half of the times lie below 20 where that is asked, and the weight of the error in v is min(SNR+1, cap)/(SNR+1)"
    tr = trainer(tmp_path, bank=bank, batch=64, times="start", cap=50.0)
    b = tr.pictures.at(0)
    assert 0.45 < (b.t < 20).float().mean() < 0.55
    snr = 1 / (1 - tr.schedule.alphas_cumprod[b.t]) - 1
    weight = tr.problem(b)[2].flatten()
    assert torch.allclose(weight.double(), (snr + 1).clamp(max=50) / (snr + 1), rtol=1e-4)
    assert (weight < 0.9).any() and (weight > 0.99).any()

    few = trainer(tmp_path / "noisy", bank=0, batch=64, noisy=0.5).pictures.at(0)
    assert 0.45 < (few.t >= 900).float().mean() < 0.62


def test_grain_is_on_the_clean_latents_and_in_the_pool(tmp_path):
    tr = trainer(tmp_path, batch=24, grain=0.3, pool=1)
    b = tr.pictures.at(0)
    x0 = tr.pictures.clean(b)[0]
    grain = x0 - tr.bank["latents"][b.i].float()
    assert abs(grain.std() - 0.3) < 0.02 and abs(grain.mean()) < 0.02
    mean, _ = tr.pictures.target(b, x0, torch.randn_like(x0))
    assert torch.allclose(mean, x0)  # a pool of one is the picture that was drawn


def test_a_detailed_run_sees_and_reads_fine_patterns(tmp_path):
    from lucidteach.prior.train import Trainer, drawn_from
    config = Config(**TINY | dict(bank=0, detailed=0.5, batch=200))
    assert drawn_from(config) == dict(background=0.15, detailed=0.5, grounds=0.25, mirrored=0.5)
    tr, plain = Trainer(config), Trainer(Config(**TINY))
    words = ("furry", "speckled", "woven", "bricked", "sandy")
    assert [len(tr.tokenizer.tokenize(w)) for w in words] == [1] * 5
    assert all(len(plain.tokenizer.tokenize(w)) > 1 for w in words)
    said = tr.pictures.at(0).captions
    fine = ("furry", "fluffy", "fur", "speckle", "fleck", "woven", "knit", "wool", "brick")
    assert 0.3 < sum(any(w in c for w in fine) for c in said) / len(said) < 0.6


def test_new_words_begin_at_the_mean_of_their_pieces_and_the_autoencoder_comes_along(tmp_path):
    from lucidteach.prior.checkpoints import TOY, load_prior
    from lucidteach.prior.train import Trainer
    tr = Trainer(Config(pca_images=70, detailed=0.5))
    run.start_from(tr, TOY)
    old = load_prior("toy", device="cpu").pipe
    before, after = (v.get_input_embeddings().weight for v in (old.text_encoder, tr.raw.text_encoder))
    ids, known = tr.tokenizer.get_vocab(), old.tokenizer.get_vocab()
    for word in ("furry", "bricked"):
        pieces = old.tokenizer(word, add_special_tokens=False).input_ids
        assert len(pieces) > 1 and torch.allclose(after[ids[word + "</w>"]], before[pieces].mean(0), atol=1e-6)
    assert torch.equal(after[ids["mug</w>"]], before[known["mug</w>"]])
    assert all(torch.equal(a, b) for a, b in zip(tr.ae.parameters(), old.vae.parameters()))
