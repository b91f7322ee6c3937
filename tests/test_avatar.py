"An avatar: maps, both traps of from_unet, a control that every loss obeys view by view, a skin, a measure, wrong calls"
import json
import math

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline
from tiny import F64, build, far

from lucidteach.distill.methods import METHODS, init_state
from lucidteach.lab import avatar as lab
from lucidteach.prior import control_run
from lucidteach.prior.checkpoints import load_prior
from lucidteach.prior.control import Controlled, control_config, control_folder, load_control, make_control
from lucidteach.prior.latent import LatentPrior, quiet
from lucidteach.prior.pose import BONES, POSES, Pose, as_pose, maps_of, posed, posed_joints, sample_pose, swapped
from lucidteach.prior.world import CATEGORIES, HELD_OUT, Camera, render
from lucidteach.scene import avatar as scene
from lucidteach.scene.config import config
from lucidteach.scene.text_to_3d import draw_views, look_at_step, orbit
from lucidteach.splat.gaussians import Gaussians

NET = dict(block_out_channels=(8,), down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",))


def tiny(family="sd15", **kw):
    with quiet():
        return LatentPrior(build(family, **({} if family == "sdxl" else NET)), **(F64 | kw))


def lively(net, seed=1):
    "A ControlNet whose zero convolutions are no longer zero"
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p += 0.1 * torch.randn(p.shape, generator=g).to(p)
    return net


def controlled(family="sd15", **kw):
    prior = tiny(family, **kw)
    return Controlled(prior, lively(make_control(prior.pipe.unet, 8)))


def maps(n, size=64, seed=0):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


# ---- poses, truth, maps


def test_the_old_world_is_as_it_was():
    "A pose that both have gives the same parts; no category was added to those that are sampled"
    rng = np.random.default_rng(0)
    for _ in range(5):
        a, b, e, c, d, w = rng.random(6)
        pose = dict(left_arm=12 + 138 * a, right_arm=12 + 138 * b, left_elbow=60 * e, right_elbow=60 * e)
        pose |= dict(left_leg=70 * c - 35, right_leg=70 * d - 35)
        new = HELD_OUT["posed person"].build(*posed(pose, w).params)
        assert np.allclose(CATEGORIES["person"].build(a, b, e, c, d, w), new, atol=1e-12)
    assert "posed person" not in CATEGORIES and len(CATEGORIES) == 28


def test_a_swing_is_a_rotation_about_the_shoulder():
    "Lengths of the arm stay, and so does the angle at the elbow"
    rng = np.random.default_rng(1)
    for _ in range(20):
        J, still = posed_joints(p := sample_pose(rng, 1.0)), posed_joints(Pose(p.left_arm, p.right_arm, p.left_elbow, p.right_elbow))
        for side in ("left", "right"):
            for a, b in (("shoulder", "elbow"), ("elbow", "hand"), ("shoulder", "hand")):
                length = lambda j: math.dist(j[f"{side}_{a}"], j[f"{side}_{b}"])
                assert length(J) == pytest.approx(length(still), abs=1e-9)


def test_a_map_is_what_a_slow_loop_over_pixels_draws():
    J, camera, size = posed_joints("lunge"), Camera(30, 10), 24
    made = maps_of(J, [camera], size)[0]
    want, K = np.zeros((3, size, size)), camera.K(size)
    for i in range(size):
        for j in range(size):
            layers = []
            for k, ((a, b), colour) in enumerate(BONES.items()):
                p, q = (camera.viewmat[:3, :3] @ J[n] + camera.viewmat[:3, 3] for n in (a, b))
                u, v = ((K @ x)[:2] / x[2] for x in (p, q))
                d = v - u
                s = min(max(((np.array([j + 0.5, i + 0.5]) - u) @ d) / max(d @ d, 1e-9), 0), 1)
                z = p[2] + s * (q[2] - p[2])
                gap = np.hypot(*(np.array([j + 0.5, i + 0.5]) - u - s * d))
                layers.append((z + 1e-4 * k, min(max(0.035 * K[0, 0] / z - gap + 0.5, 0), 1), colour))
            for _, share, colour in sorted(layers, key=lambda v: -v[0]):
                want[:, i, j] += share * (np.array(colour) - want[:, i, j])
    assert np.abs(made.numpy() - want).max() < 1e-3
    assert len(set(BONES.values())) == len(BONES)


def test_a_mirrored_view_gets_the_mirrored_map():
    "Of the loop: a step whose pictures are flipped"
    c = config("ball", batch=2, size=64, seed=3)
    J, flips = posed_joints("walk"), {look_at_step(c, i)[1]: i for i in range(12)}
    assert set(flips) == {True, False}
    cams = draw_views(c, flips[True]).camera
    made, plain = scene.control_at(J, c, flips[True]), scene.control_at(J, c, flips[False])
    other = scene.skeleton_maps(J, cams.viewmats, cams.Ks, 64).flip(-1)
    assert made.shape == plain.shape == (2, 3, 64, 64) and (made - other).abs().max() > 0.5
    assert made.equal(scene.skeleton_maps(swapped(J), cams.viewmats, cams.Ks, 64).flip(-1))


# ---- the traps and the network


def test_both_traps_of_from_unet():
    "Heads are lost silently, the map does not fit: what `make_control` mends, seen by what the networks compute"
    prior = load_prior("toy", **F64)
    unet, words = prior.pipe.unet, prior.embed("a green person").emb
    naive, ours = ControlNetModel.from_unet(unet).double(), make_control(unet, 4).double()
    true = unet.add_embedding(words)
    assert ours.add_embedding(words).equal(true) and far(naive.add_embedding(words), true) > 0.1
    x, m = torch.randn(1, *prior.latent_shape).double(), torch.rand(1, 3, 64, 64).double()
    with pytest.raises(RuntimeError, match="size"):
        naive(x, 500, words, m)
    down, mid = ours(x, 500, words, m, return_dict=False)
    assert all(not v.any() for v in (*down, mid))
    # and with open zero convolutions, what comes out is the UNet's own first half
    for z in (*ours.controlnet_down_blocks, ours.controlnet_mid_block):
        torch.nn.init.dirac_(z.weight)
    seen = []
    hook = unet.mid_block.register_forward_hook(lambda m, a, out: seen.append(out))
    unet(x, 500, words)
    hook.remove()
    _, mid = ours(x, 500, words, m, return_dict=False)
    assert far(mid, seen[0]) < 1e-10


def test_slim_leaves_out_the_middle_alone():
    unet = load_prior("toy", device="cpu").pipe.unet
    slim, whole = make_control(unet, 4, slim=True), make_control(unet, 4)
    own = slim.state_dict()
    assert sum(v.numel() for v in own.values()) * 2 < 10e6 < sum(p.numel() for p in whole.parameters()) * 2
    theirs = unet.state_dict()
    copied = [k for k in own if k in theirs]
    assert all(own[k].equal(theirs[k]) for k in copied)
    assert all(k.startswith(("controlnet_",)) for k in set(own) - set(copied))
    assert control_config(unet, 4)["conditioning_embedding_out_channels"] == (16, 32, 96)


# ---- the prior that carries its control


def test_it_is_diffusers_own_answer():
    "One denoising step of StableDiffusionControlNetPipeline's networks, by hand; and scale 0 and no map are the prior"
    prior = controlled()
    pipe, net = prior.pipe, prior.net
    g = torch.Generator().manual_seed(0)
    x, m = torch.randn(2, 4, 8, 8, generator=g).double(), maps(2)
    cond = prior.embed(["a", "b"])
    prior.control = m
    down, mid = net(x, 300, cond.emb, m.double(), return_dict=False)
    want = pipe.unet(x, 300, cond.emb, down_block_additional_residuals=down, mid_block_additional_residual=mid).sample
    assert far(prior.eps(x, 300, cond), want) < 1e-12 and far(tiny().eps(x, 300, cond), want) > 1e-3
    assert prior.calls == 2
    prior.scale = 0.0
    assert far(prior.eps(x, 300, cond), tiny().eps(x, 300, cond)) < 1e-12
    prior.scale, prior.control = 1.0, None
    assert prior.eps(x, 300, cond).equal(tiny().eps(x, 300, cond))


@pytest.mark.parametrize("name", [k for k in METHODS if k not in lab.EDITING])
def test_every_loss_obeys_the_control_of_its_view(name):
    "Two views in one batch are the two views alone, with their own maps; and a changed map changes its view alone"
    prior = controlled()
    x = torch.randn(2, *prior.latent_shape, generator=torch.Generator().manual_seed(2)).double()
    noise = torch.randn(2, *prior.latent_shape, generator=torch.Generator().manual_seed(3)).double()
    cond, m = prior.embed(["a", "b"]), maps(2)

    def once(rows, control):
        prior.control = control
        state = init_state(name, prior, x[rows], generator=torch.Generator().manual_seed(0)) or None
        g = torch.Generator().manual_seed(4)
        return METHODS[name](prior, x[rows], cond[rows], 400, guidance=3.0, noise=noise[rows], generator=g, state=state).grad

    both = once([0, 1], m)
    changed = m.clone()
    changed[1] = 1 - changed[1]
    other = once([0, 1], changed)
    assert far(other[1:], both[1:]) > 1e-4
    learns = name in ("vsd", "asd")  # one second model for both views: the first is touched through it
    if not learns:
        assert far(other[:1], both[:1]) < 1e-9
        for i in range(2):
            assert far(once([i], m[i : i + 1]), both[i : i + 1]) < 1e-9


def test_every_call_of_ism_sees_a_map():
    "Inversion, null prompt and prediction: the ControlNet is asked as often as the UNet"
    prior, asked = controlled(), dict(net=0, unet=0)
    prior.control = maps(2)
    x = torch.randn(2, *prior.latent_shape).double()
    for k, module in dict(net=prior.net, unet=prior.pipe.unet).items():
        module.register_forward_hook(lambda m, a, out, k=k: asked.__setitem__(k, asked[k] + 1))
    METHODS["ism"](prior, x, prior.embed(["a", "b"]), 500, guidance=3.0, delta_s=100)
    assert asked["net"] == asked["unet"] > 4


def test_a_wrong_map_is_told():
    prior = controlled()
    for wrong, said in ((maps(2)[:, :1], "control must be"), (maps(1, 32), r"maps \[V,3,64,64\]"), (maps(1) * 255, "divide by 255")):
        with pytest.raises(ValueError, match=said):
            prior.control = wrong
    prior.control = maps(2)
    with pytest.raises(ValueError, match="2 maps for 3 samples"):
        prior.eps(torch.randn(3, 4, 8, 8).double(), 10, prior.embed(["a"] * 3))


@pytest.mark.parametrize("channels", [3, 1])
def test_depth_is_a_control_like_any_other(channels):
    "A ControlNet of depth maps, in three equal channels or in one: inversion, null prompt and prediction all see them"
    prior = tiny()
    config = control_config(prior.pipe.unet, 8) | dict(conditioning_channels=channels)
    both = Controlled(prior, lively(ControlNetModel(**config)))
    views = [Camera(20, 12), Camera(200, 12)]
    depth = torch.stack([control_run.depth_map(as_pose("t"), 0.5, c, 64) for c in views])[:, :channels]
    assert depth.shape == (2, channels, 64, 64) and 0 <= depth.min() < depth.max() <= 1
    for d, c in zip(depth, views):  # on the person alone, and the farther the darker
        true = render(posed("t"), c)
        on = d[0].numpy()[true.alpha == 1][true.depth[true.alpha == 1].argsort()]
        assert not d[0].numpy()[true.alpha == 0].any() and (np.diff(on) <= 1e-6).all() and on.mean() > 0.2
    both.control = depth

    x = torch.randn(2, *prior.latent_shape, generator=torch.Generator().manual_seed(2)).double()
    cond = prior.embed(["a", "b"])
    down, mid = both.net(x, 300, cond.emb, depth.double(), return_dict=False)
    more = dict(down_block_additional_residuals=down, mid_block_additional_residual=mid)
    assert far(both.eps(x, 300, cond), prior.pipe.unet(x, 300, cond.emb, **more).sample) < 1e-12

    shown, asked = [], []
    both.net.register_forward_pre_hook(lambda m, a: shown.append(a[3]))
    prior.pipe.unet.register_forward_hook(lambda m, a, out: asked.append(len(out.sample if hasattr(out, "sample") else out[0])))
    pull = lambda: METHODS["ism"](both, x, cond, 500, guidance=3.0, delta_s=100).grad
    one = pull()
    assert len(shown) == len(asked) > 4  # as many calls of the one as of the other,
    assert all(m.equal(depth.double().repeat(n // 2, 1, 1, 1)) for m, n in zip(shown, asked))  # each with its views' maps
    changed = depth.clone()
    changed[1] = 1 - changed[1]
    both.control = changed
    other = pull()
    assert far(other[1:], one[1:]) > 1e-4 and far(other[:1], one[:1]) < 1e-9
    with pytest.raises(ValueError, match=rf"maps \[V,{channels},64,64\]"):
        both.control = torch.rand(2, 4 - channels, 64, 64)


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_any_diffusers_folder(family, tmp_path):
    "A tiny random ControlNet, saved by diffusers in both precisions; and an avatar by it"
    prior = tiny(family, dtype=torch.float32)
    lively(make_control(prior.pipe.unet, 8)).save_pretrained(tmp_path / "net")
    made = load_control(tmp_path / "net", prior)
    made.control = maps(1)
    x, cond = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), prior.embed("a")
    assert far(made.eps(x, 300, cond), prior.eps(x, 300, cond)) > 1e-3
    made.net.save_pretrained(tmp_path / "half", variant="fp16")
    again = load_control(str(tmp_path / "half"), prior)
    again.control = maps(1)
    assert again.eps(x, 300, cond).equal(made.eps(x, 300, cond))
    if family == "sd15":
        pipe = prior.pipe
        parts = dict(vae=pipe.vae, text_encoder=pipe.text_encoder, tokenizer=pipe.tokenizer, unet=pipe.unet)
        with quiet():
            StableDiffusionControlNetPipeline(**parts, controlnet=made.net, scheduler=pipe.scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
        r = lab.avatar("a b", prior=prior, control=tmp_path / "net", mode="quiet", steps=2, points=60, batch=2, seed=1)
        assert r.complete and r.gaussians.means.isfinite().all() and r.told() == []


def test_folders_that_are_none(tmp_path):
    prior = tiny(dtype=torch.float32)
    with pytest.raises(FileNotFoundError, match="no config.json there; give 'toy'"):
        control_folder(tmp_path)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="is no JSON"):
        control_folder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(dict(_class_name="UNet2DConditionModel")), encoding="utf-8")
    with pytest.raises(ValueError, match="'UNet2DConditionModel', no ControlNetModel"):
        control_folder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(dict(_class_name="ControlNetModel")), encoding="utf-8")
    (tmp_path / "diffusion_pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match="pickled .bin"):
        load_control(tmp_path, prior)
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(b"x")
    with pytest.raises(ValueError, match="cannot be read"):
        load_control(tmp_path, prior)
    lively(make_control(prior.pipe.unet, 4)).save_pretrained(tmp_path / "quarter")
    with pytest.raises(ValueError, match="for another network: maps brought to a 4th"):
        load_control(tmp_path / "quarter", prior)
    lively(make_control(tiny("sd21").pipe.unet, 8)).save_pretrained(tmp_path / "other")
    load_control(tmp_path / "other", tiny("sd21", dtype=torch.float32))


# ---- the training run


def test_a_training_run_goes_on_bit_for_bit(tmp_path):
    "Two steps and two more are four steps, from the file; the folder is one that load_control reads"
    c = control_run.ControlConfig(steps=4, batch=2, bank=5, precision="no", warmup=1)
    whole = control_run.train_control(c, tmp_path / "a", mode="quiet")

    class Stop:
        def is_set(self):
            return self.tr.step >= 2

    stop = Stop()
    made = control_run.ControlTrainer

    def noted(config):
        stop.tr = made(config)
        return stop.tr

    control_run.ControlTrainer = noted
    try:
        control_run.train_control(c, tmp_path / "b", mode="quiet", stop=stop)
    finally:
        control_run.ControlTrainer = made
    again = control_run.train_control(c, tmp_path / "b", resume=True, mode="quiet")
    assert again.step == 4 and all(p.equal(q) for p, q in zip(whole.params + whole.ema, again.params + again.ema))
    with pytest.raises(FileExistsError, match="--resume"):
        control_run.train_control(c, tmp_path / "b", mode="quiet")
    with pytest.raises(ValueError, match="seed=0, not 1"):
        control_run.train_control(control_run.ControlConfig(**(vars(c) | dict(seed=1))), tmp_path / "b", resume=True, mode="quiet")
    prior = load_prior("toy", device="cpu")
    before = sum(float(p.double().sum()) for p in prior.pipe.unet.parameters())
    assert sum(float(p.double().sum()) for p in whole.prior.pipe.unet.parameters()) == before  # the prior is left alone
    assert load_control(tmp_path / "a/control", prior).net.config.mid_block_type == "UNetMidBlock2D"


def test_a_run_on_depth_and_who_refuses_what_it_makes(tmp_path):
    "The same run learns depth; its folder is a control for `Controlled`, and an avatar, which shows skeletons, says no"
    c = control_run.ControlConfig(steps=1, batch=2, bank=3, precision="no", warmup=1, maps="depth")
    tr = control_run.train_control(c, tmp_path, mode="quiet")
    bank = control_run.open_bank(tmp_path / "bank.safetensors", c, tr.prior)
    assert bank["maps"].shape == (3, 3, 64, 64) and bank["maps"][:, 0].equal(bank["maps"][:, 2]) and bank["maps"].any()
    assert load_control(tmp_path / "control", load_prior("toy", device="cpu")).net.config.conditioning_channels == 3
    with pytest.raises(ValueError, match="trained on maps of depth, and an avatar is shown skeletons"):
        lab.avatar("a green person", control=tmp_path / "control", mode="quiet")


# ---- the skin


def test_skinning_of_a_scene():
    "Rigid bones carry covariances with them; interpolated poses begin and end where they shall"
    g = Gaussians.from_points(scene.limb_points(posed_joints("t"), 200), scale=0.02)
    assert torch.allclose(scene.reposed(g, "t", "t").means, g.means, atol=1e-6)
    there = scene.reposed(g, "t", "lunge")
    assert (there.means - g.means).norm(dim=1).max() > 0.3 and there.log_scales.equal(g.log_scales)
    w = scene.skin_weights(g.means, posed_joints("t"))
    assert torch.allclose(w.sum(1), torch.ones(200)) and (w >= 0).all()
    assert scene.blended("t", "walk", 0) == as_pose("t") and scene.blended("t", "walk", 1) == as_pose("walk")
    with pytest.raises(ValueError, match=r"with_degree\(0\)"):
        scene.reposed(g.with_degree(1), "t", "walk")


@pytest.mark.parametrize("name", POSES)
def test_limbs_follow_to_where_the_joints_are(name):
    "A point at a joint of the T is carried to that joint of the pose: bones of the world hardly stretch"
    J, J1 = posed_joints("t"), posed_joints(name)
    old, new = scene.bone_frames("t"), scene.bone_frames(name)
    for k, (bone, (a, b, _)) in enumerate(scene.SKIN_BONES.items()):
        one = torch.nn.functional.one_hot(torch.tensor([k, k]), len(scene.SKIN_BONES)).float()
        moved = scene.skinned(torch.tensor([J[a], J[b]]), one, old, new)
        assert torch.allclose(moved[0], torch.tensor(J1[a], dtype=torch.float32), atol=1e-5)
        assert (moved[1] - torch.tensor(J1[b])).norm() < (0.03 if "shin" in bone or "thigh" in bone else 1e-4)


def test_the_measure_finds_truth_and_notices_lies():
    views = scene.around(3, first=20)
    true = torch.from_numpy(np.stack([render(posed("wave", color="red"), c).rgb for c in views]))
    found = scene.refit(true, views, "red")
    assert scene.joint_errors(found, as_pose("wave")).mean() < 0.05
    assert scene.joint_errors(found, as_pose("walk")).mean() > 0.15
    assert scene.pixel_errors(found, as_pose("wave"), views).shape == (3, 8)


def test_the_search_is_not_stuck_where_a_coarse_grid_was():
    """True pictures under a blur, as an avatar is soft: what is found fits at least as well as what is true.

    The left arm of "lunge" is 20 degrees from the nearest swing of the old grid, and was lost in the trunk."""
    views = scene.around(4)
    g = torch.arange(-5, 6).double()
    g = torch.exp(-(g**2) / 8) / torch.exp(-(g**2) / 8).sum()
    A = torch.zeros(64, 64, dtype=torch.double)  # a blur as a matrix, whose rows are cut and made whole at the edges
    for k, w in zip(range(-5, 6), g):
        A += torch.diag(w.expand(64 - abs(k)), k)
    A /= A.sum(1, keepdim=True)
    for pose in (as_pose("lunge"), sample_pose(np.random.default_rng(11), 1.0)):
        true = np.stack([render(posed(pose, color="green"), c).rgb for c in views])
        soft = (A @ torch.from_numpy(true).double() @ A.T).float()
        found = scene.refit(soft, views, "green")
        assert scene.joint_errors(found, pose).max() < scene.NEAR
        assert not scene.is_missed(found, soft, views, pose, color="green")
        lost = Pose(**(vars(pose) | dict(left_arm=0, left_elbow=0, left_swing=0)))
        assert scene.is_missed((lost, 0.5), soft, views, pose, color="green")


def test_the_cameras_of_the_measure_are_those_of_the_pictures():
    for i, c in enumerate(lab.world_orbit(5)):
        cam = orbit(5, size=64)[i]
        assert np.allclose(cam.viewmats[0].numpy(), c.viewmat, atol=1e-5)
        assert np.allclose(cam.Ks[0].numpy(), c.K(64), atol=1e-3)


# ---- calls


@pytest.mark.parametrize("call, said", [
    (dict(pose="tee"), "unknown pose 'tee': did you mean t|unknown pose 'tee': choose one of"),
    (dict(pose=dict(left_amr=3)), "unknown joint angle 'left_amr': did you mean left_arm"),
    (dict(pose=dict(left_arm=200)), "left_arm must be an angle of 0 to 160 degrees, got 200"),
    (dict(prompt="a red mug"), "is about a mug"),
    (dict(prompt="a person in a checkered shirt"), "unknown word"),
    (dict(prompt=""), "needs a prompt with a person"),
    (dict(control="nowhere"), "no config.json there"),
    (dict(method="dds"), "dds is an editing loss"),
    (dict(method="imsn"), "ism"),
    (dict(prior="ideal"), "no network that a ControlNet"),
    (dict(build=2.0), "build must be a share"),
])  # fmt: skip
def test_wrong_calls_say_what_would_do(call, said, monkeypatch):
    "Before any prior is loaded"
    monkeypatch.setattr(lab, "opened", None)
    call = dict(prompt="a green person") | call
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        lab.avatar(call.pop("prompt"), mode="quiet", **call)


def test_a_setting_that_is_none():
    with pytest.raises(TypeError, match="no setting 'stepps'.*steps"):
        lab.avatar("a green person", stepps=3)


def test_words_of_the_world():
    said = scene.in_the_worlds_words
    assert said("a person in a green shirt") == "a green person"
    assert said("A man wearing an orange t-shirt on black") == "an orange man on black"
    assert said("a red mug") == "a red mug"
    assert lab.read_pose("t") == "t" and lab.read_pose("left_arm=12, right_leg=3") == dict(left_arm=12, right_leg=3)
    assert lab.read_pose('{"left_arm": 12, "right_leg": 3}') == dict(left_arm=12, right_leg=3)
    with pytest.raises(ValueError, match="is no angle"):
        lab.read_pose("left_arm=up")
    with pytest.raises(ValueError, match="is no JSON"):
        lab.read_pose("{left_arm: 12}")


def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, monkeypatch):
    "Ctrl-C in the second step; then the same call says that it is done and computes nothing"
    prior = tiny(dtype=torch.float32)
    lively(make_control(prior.pipe.unet, 8)).save_pretrained(tmp_path / "net")
    how = dict(pose="walk", prior=prior, control=tmp_path / "net", mode="quiet", steps=4, points=60, batch=2, every=2)
    whole = lab.avatar("a b", out=tmp_path / "whole", **how)
    plain, n = scene.advance, []

    def interrupted(*args):
        n.append(0)
        out = plain(*args)
        if len(n) == 2:
            import signal

            signal.raise_signal(signal.SIGINT)
        return out

    monkeypatch.setattr(scene, "advance", interrupted)
    half = lab.avatar("a b", out=tmp_path / "half", **how)
    assert half.interrupted and half.state.step == 2
    monkeypatch.setattr(scene, "advance", plain)
    rest = lab.avatar("a b", out=tmp_path / "half", **how)
    assert rest.complete and rest.gaussians.means.equal(whole.gaussians.means) and rest.gaussians.sh.equal(whole.gaussians.sh)
    again = lab.avatar("a b", out=tmp_path / "half", **how)
    assert again.done_before
    names = {p.name for p in (tmp_path / "half").iterdir()}
    assert {"object.ply", "animation.webp", "report.html", "config.json", "metrics.jsonl"} <= names
    with pytest.raises(FileExistsError, match="pose"):
        lab.avatar("a b", out=tmp_path / "half", **(how | dict(pose="t")))
    page = (tmp_path / "half/report.html").read_text(encoding="utf-8")
    assert "walk" in page and "src=\"http" not in page
