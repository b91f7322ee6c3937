"The world with fine detail: what was there before is as it was, and the new patterns are what they claim"
import hashlib
from dataclasses import replace

import numpy as np
import pytest

from lucidteach.prior import words, world
from lucidteach.prior.world import FINE_PATTERNS, GROUNDS, HELD_OUT, PATTERNS, Camera, Thing, render, sample_camera, sample_thing

# of the world before it had fine patterns: 40 pictures, each times one fixed random picture; and the hash of their texts
BEFORE = [
    -1.46433, -0.35101, -1.24785, -1.49286, -1.16195, -0.06794, -1.56192, -1.41820, -1.57814, -1.57187,
    -1.47621, -1.35552, -1.49900, -1.70701, -1.29753, -1.55711, -1.25894, -1.47662, -1.59189, -1.39463,
    -1.71750, -0.29583, -1.34156, -1.12348, -1.47338, -1.40682, -0.06413, -1.33863, -1.68266, -1.49117,
    -1.52257, -0.97699, -1.68430, -0.18953, -0.05037, -1.42870, -2.05392, -1.65067, -0.00519, -1.72852,
]
TEXTS = "f37243a6d8457777836cfdffe8ad1ef01c95c9a2937f91d061d252c634af58cb"


def test_what_was_drawn_before_is_drawn_still():
    b = words.sample(40, seed=(22, 1), size=32)
    w = np.random.default_rng(7).normal(size=(3, 32, 32)) / np.sqrt(3 * 32 * 32)
    assert np.allclose([(x * w).sum() for x in b.images], BEFORE, atol=2e-4)  # a pixel off by 1/255 moves it by .7e-4
    assert hashlib.sha256("\n".join(b.captions + [repr(t) for t in b.things]).encode()).hexdigest() == TEXTS


@pytest.mark.parametrize("pattern", FINE_PATTERNS)
def test_detail_is_a_strength_and_a_seed_draws_it_anew(pattern):
    thing, cam = Thing("mug", "red", pattern), Camera(20, 20)
    plain = render(replace(thing, pattern="plain"), cam).rgb
    assert np.allclose(render(replace(thing, detail=0.0), cam).rgb, plain, atol=1e-6)
    half, full = (abs(render(replace(thing, detail=d), cam).rgb - plain).mean() for d in (0.5, 1.0))
    assert np.isclose(half, full / 2, rtol=0.05)
    other = render(replace(thing, seed=1), cam).rgb
    assert abs(other - render(thing, cam).rgb).mean() > full / 4
    assert np.array_equal(other, render(replace(thing, seed=1), cam).rgb)


@pytest.mark.parametrize("pattern", FINE_PATTERNS)
def test_two_cameras_see_the_same_detail(pattern):
    "Points of the surface, found by depth in one view, have the same colour in another: no light moves with a camera"
    size, cams = 512, (Camera(10, 20), Camera(25, 28))
    pair = [render(Thing("house", "blue", pattern, seed=5), c, size, 1) for c in cams]
    plain = [render(Thing("house", "blue"), c, size, 1) for c in cams]
    rng, errors, contrast = np.random.default_rng(0), [], []
    for _ in range(4000):
        i, j = rng.integers(size, size=2)
        if pair[0].alpha[i, j] < 1:
            continue
        ray = np.linalg.inv(cams[0].K(size)) @ (j + 0.5, i + 0.5, 1)
        point = cams[0].position + cams[0].axes.T @ (ray * pair[0].depth[i, j])
        q = cams[1].axes @ (point - cams[1].position)
        u, v = (cams[1].K(size) @ (q / q[2]))[:2].astype(int)
        if abs(pair[1].depth[v, u] - q[2]) > 0.01:
            continue  # hidden there
        errors.append(abs(pair[0].rgb[:, i, j] - pair[1].rgb[:, v, u]).mean())
        contrast.append(abs(pair[0].rgb[:, i, j] - plain[0].rgb[:, i, j]).mean())
    assert len(errors) > 300 and np.mean(errors) < 0.25 * np.mean(contrast)


@pytest.mark.parametrize("pattern", ("striped", *FINE_PATTERNS))
def test_a_mirrored_thing_is_its_mirror_image(pattern):
    t, cam = Thing("teapot", "green", pattern, seed=3), Camera(50, 25, target=(0.1, 0.0, 0.05))
    over = render(replace(t, mirrored=True), Camera(-50, 25, target=(-0.1, 0.0, 0.05)))
    seen = render(t, cam)
    assert np.array_equal(over.rgb, seen.rgb[:, :, ::-1])
    assert np.allclose(over.normal * np.reshape((-1, 1, 1), (3, 1, 1)), seen.normal[:, :, ::-1])
    points = np.random.default_rng(0).uniform(-1, 1, (50, 3))
    assert np.allclose(
        world.distance(replace(t, mirrored=True), points), world.distance(t, points * (-1, 1, 1)), atol=1e-9
    )


def test_neighbours_tell_nothing_of_each_other():
    "cell_hash is uniform, and uncorrelated between neighbours and between seeds"
    n = 24
    h = np.array([[[world.cell_hash(i, j, k, 9) for k in range(n)] for j in range(n)] for i in range(n)])
    assert abs(h.mean() - 0.5) < 0.02 and abs(h.std() - 12**-0.5) < 0.01
    for axis in range(3):
        a, b = np.delete(h, 0, axis).ravel(), np.delete(h, -1, axis).ravel()
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.04  # 13,000 pairs: four standard deviations are .035
    other = [world.cell_hash(i, 0, 0, s) for s in (9, 10) for i in range(2000)]
    assert abs(np.corrcoef(other[:2000], other[2000:])[0, 1]) < 0.09


def test_grounds_leave_the_object_alone_and_white_stays_white():
    cam = Camera(20, 25)
    even = render(Thing("rocket", "white"), cam)
    inside, outside = even.alpha == 1, even.alpha == 0
    assert (even.rgb[:, outside] == 1).all()
    for ground in GROUNDS[1:]:
        r = render(Thing("rocket", "white", ground=ground), cam)
        assert np.array_equal(r.rgb[:, inside], even.rgb[:, inside])
        assert r.rgb[:, outside].std() > 0.01 and r.rgb.min() >= 0
    grainy = render(Thing("rocket", "white", grain=0.05, background="gray"), cam)
    clean = render(Thing("rocket", "white", background="gray"), cam)
    assert np.isclose((grainy.rgb - clean.rgb)[:, outside].std(), 0.05, rtol=0.05)


def test_held_out_objects_are_rendered_and_never_sampled():
    rng = np.random.default_rng(0)
    drawn = {sample_thing(rng, detailed=0.5, grounds=0.2, mirrored=0.5).category for _ in range(1500)}
    assert drawn == set(world.CATEGORIES) and not drawn & set(HELD_OUT)
    for name, kind in HELD_OUT.items():
        assert isinstance(kind.has_front, bool)
        for p in (0.0, 0.5, 1.0):
            t = Thing(name, "blue", params=(p,) * len(kind.params))
            far = np.random.default_rng(1).normal(size=(500, 3))
            assert (world.distance(t, 0.95 * far / np.linalg.norm(far, axis=1, keepdims=True)) > 0).all()  # fits
            assert 0.1 < render(t, Camera(30, 20)).alpha.mean() < 0.6
        assert sample_thing(rng, categories=[name]).category == name


def test_the_new_words_come_in_only_where_they_are_asked_for():
    rng = np.random.default_rng(3)
    assert {sample_thing(rng).pattern for _ in range(300)} == set(PATTERNS)
    many = [sample_thing(rng, detailed=0.5, grounds=0.3, mirrored=0.5) for _ in range(2000)]
    share = lambda f: np.mean([f(t) for t in many])
    assert abs(share(lambda t: t.pattern in FINE_PATTERNS) - 0.5) < 0.05
    for p in FINE_PATTERNS:
        assert abs(share(lambda t: t.pattern == p) - 0.125) < 0.04, p
    uneven = [t.ground for t in many if t.ground != "even"]
    for ground in ("sandy", "shaded", "cloudy"):
        assert uneven.count(ground) > len(uneven) / 6, ground
    assert abs(share(lambda t: t.mirrored) - 0.5) < 0.05 and len({t.seed for t in many}) > 1990
    white = [t for t in many if t.color == t.background == "white" and t.kind == "photo"]
    assert white and all(t.ground != "even" for t in white)
    assert words.parse("a furry red mug on a sandy white background, side view") == words.Attributes(
        "mug", "red", "furry", "side view", ground="sandy"
    )
    for said, pattern in (("with flecks", "speckled"), ("made of wool", "woven"), ("made of brick", "bricked")):
        assert words.parse(f"a blue house {said}").pattern == pattern
    for p in FINE_PATTERNS:
        said = words.caption(Thing("house", "blue", p), sample_camera(rng))
        assert words.parse(said).pattern == p and said.startswith(f"a {p} blue house")


def test_the_nearest_truth_of_a_mirrored_thing():
    "A reflected mug's stripes slant the other way: only a search that may reflect finds them"
    from lucidteach.prior.truth import nearest_truth

    cam = Camera(10, 15)
    picture = render(Thing("mug", "red", "striped", mirrored=True), cam).rgb
    near = nearest_truth(picture, "a striped red mug", cam, starts=12, mirrored=True)
    assert near.thing.mirrored and near.psnr > 30 and near.camera == cam
    again = render(near.thing, near.camera).rgb
    assert abs(again - near.image).mean() < 0.02  # registered, else the same
    assert nearest_truth(picture, "a striped red mug", cam, starts=12).psnr < near.psnr - 5


def on_a_wall(number, seed, n=600):
    "Ink and light of a pattern on a square of 1.2 units, [n,n] each: rows go up the wall"
    at = (np.arange(n) + 0.5) / n * 1.2 - 0.6
    both = [[world.textured(number, seed, x, 0.3, z, 0.0, 1.0, 0.0) for x in at] for z in at]
    return np.moveaxis(np.array(both), 2, 0)


def runs_of(line):
    "Where a line of truths begins to be true, and ends"
    step = np.diff(np.r_[0, line, 0].astype(int))
    return np.flatnonzero(step == 1), np.flatnonzero(step == -1)


def test_bricks_lie_in_rows_that_are_shifted():
    "Mortar lies along whole rows, .13 apart; between them bricks of .2 to .28 units, whose joints stand above each other nowhere"
    lines, unit = [], 600 / 1.2
    for seed in range(4):
        ink = on_a_wall(6, seed)[0] > 0
        first, last = runs_of(ink.all(1))
        assert np.allclose(np.diff(first[1:]), 0.13 * unit, atol=2)
        assert np.allclose((last - first)[1:-1], 0.24 * 0.13 * unit, atol=2)
        for below, above in zip(last, first[1:]):
            joints = runs_of(ink[(below + above) // 2])[0][1:]
            length = np.diff(joints).mean()
            assert np.ptp(np.diff(joints)) <= 2 and 0.2 * unit - 2 < length < 0.28 * unit + 2
            lines.append(ink[(below + above) // 2])
    shares = np.mean(lines, 0)  # of the rows that have a joint there
    assert abs(shares.mean() - 0.16) < 0.02 and shares.max() < 0.5


def test_threads_cross():
    "Light changes along one axis in about half of the places, and along the other in the rest"
    light = on_a_wall(5, 0)[1]
    squares = light.reshape(24, 25, 24, 25).swapaxes(1, 2)  # .05 units, a third of a cell
    up, along = ((np.diff(squares, axis=a) ** 2).mean((2, 3)) for a in (2, 3))
    ratio = np.log(up / along)
    assert 0.3 < (ratio > 0).mean() < 0.7 and np.median(abs(ratio)) > 1
