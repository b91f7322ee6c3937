"Fine patterns where a scene begins: the point model takes their words, and paints them on the points that they belong to"
import numpy as np
import pytest
import torch

from lucidteach.prior import world
from lucidteach.prior.world import FINE_PATTERNS, PATTERNS, Thing
from lucidteach.scene.points import dressed, facing, points_from_text, words_of
from lucidteach.scene.sources import initial_gaussians
from lucidteach.scene.start import surface, true_points


@pytest.mark.parametrize("pattern", FINE_PATTERNS)
def test_a_fine_pattern_is_drawn_as_plain_and_then_dressed(pattern):
    assert words_of(f"a {pattern} red mug").tolist() == words_of("a red mug").tolist()
    plain, colours = points_from_text("a red mug", n=300, seed=2, steps=4)
    points, dress = points_from_text(f"a {pattern} red mug", n=300, seed=2, steps=4)
    assert torch.equal(points, plain) and not torch.equal(dress, colours)
    assert points_from_text(f"a {pattern} red mug", n=300, seed=2, steps=4)[1].equal(dress)
    assert 0 <= dress.min() <= dress.max() <= 1


@pytest.mark.parametrize("pattern", PATTERNS)
def test_old_patterns_are_as_they_were(pattern):
    p, c = true_points(Thing("car", "blue", pattern), 200)
    assert dressed(p, c, Thing("car", "blue", pattern)) is c


@pytest.mark.parametrize("pattern", FINE_PATTERNS)
@pytest.mark.parametrize("color", ("white", "black", "green"))
def test_colours_are_those_of_the_world_at_the_same_places(pattern, color):
    "One point at a time by the world's own function, with normals of the distance by finite differences"
    thing = Thing("castle", color, pattern, seed=5)
    p, material, _ = surface(thing, 3000, np.random.default_rng(3))
    palette, e = world.palette(color), 1e-4 * np.eye(3)
    normals = np.stack([world.distance(thing, p + d) - world.distance(thing, p - d) for d in e], 1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    close = np.abs((facing(torch.from_numpy(p)).numpy() * normals).sum(1)) > 0.98  # 11 degrees: not at edges and corners
    axes = np.sort(abs(normals), 1)
    close &= axes[:, 2] - axes[:, 1] > 0.3  # 12 degrees from a direction that faces two ways alike
    assert close.mean() > 0.4

    got = dressed(torch.from_numpy(p).float(), torch.from_numpy(palette[material]).float(), thing).numpy()
    want = palette[material].copy()
    for i in range(len(p)):
        if material[i] in (world.MAIN, world.SHADE):
            w, f = world.textured(world.SURFACES.index(pattern), 5, *p[i], *normals[i])
            w = world.seen_in(*palette[material[i]], w, f if f != 1 else 0.0)
            want[i] = f * (want[i] + w * (palette[world.INK] - want[i]))
    same = np.abs(got - want.clip(0, 1)).max(1) < 0.02
    assert same[close].mean() > 0.97 and (np.abs(got - palette[material]).max(1) > 0.05).mean() > 0.2


def test_a_scene_begins_from_a_fine_prompt():
    g = initial_gaussians("text", 200, prompt="a woven hat")  # no colour said: the one that the points have
    assert len(g) == 200 and g.means.isfinite().all()
