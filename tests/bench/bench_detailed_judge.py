"""What the judges with an eye for fine patterns say of true pictures that they have not seen:

    python tests/bench/bench_detailed_judge.py --out nbs/5_judge/results/detailed_judges.json

Old patterns beside the judge's own three answers; a table of all seven; fine patterns by the pixels that they cover, in
the views of prompts and from farther away; what is left when a picture is softened, drawn with more rays, or seen
through another lens; how often plain things with noise are called patterned. Beside it what can be told by one who
knows object and camera (`pattern_likeness`), on the same pictures. Adds to the file. One thread, three minutes.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import avg_pool2d

from lucidteach.judge.judges import WEIGHTS, Draw, blur, litter, load_judge, pictured, render_set
from lucidteach.judge.measures import pattern_likeness
from lucidteach.judge.metrics import PATS, SURFACES, shares
from lucidteach.prior.checkpoints import TOY
from lucidteach.prior.latent import LinearAutoencoder
from lucidteach.prior.texture import Textured
from lucidteach.prior.world import FINE_PATTERNS, render, sample_camera, sample_thing

USUAL = 300  # pixels that a pattern covers where it is asked for in earnest
SHADES = (0.0, 0.02, 0.04, 0.08, 0.12)


def plain(thing, camera):
    "The picture without its fine pattern"
    return torch.from_numpy(render(replace(thing, detail=0.0), camera, 64).rgb)


def covered(pictures):
    "Pixels that the fine pattern of each picture changes"
    rows = zip(pictures.things, pictures.cameras, pictures.images)
    return np.array([int(((plain(t, c) - x).abs().amax(0) > 0.04).sum()) for t, c, x in rows])


def as_prompts_have_it(n, seed):
    "Things on white with a fine pattern, each equally often, from the cameras that a prior's pictures are seen by"
    rng, rows = np.random.default_rng(seed), []
    for i in range(n):
        thing = sample_thing(rng, background=0, depth=0, corruption=0, mirrored=0.5)
        rows.append((replace(thing, pattern=FINE_PATTERNS[i % 4], seed=30_000_000 + i), sample_camera(rng)))
    return pictured(rows)


def answer_of_one_who_knows(thing, camera, image):
    "The fine pattern that a picture is likest to, object and camera known; None where no patch of 7x7 pixels shows it"
    seen = Textured("a speckled red mug")
    seen.thing, seen.camera = replace(thing, seed=0), camera
    try:
        like = pattern_likeness(image, seen)
    except ValueError:
        return None
    return max(like, key=like.get)


def share(right):
    "Mean, four digits"
    return round(float(np.mean(np.asarray(right, float))), 4)


def by_size(pixels, right, parts=4):
    "Share of right answers in equal parts, by the pixels that the pattern covers"
    order = np.array_split(pixels.argsort(kind="stable"), parts)
    return [dict(pixels=[int(pixels[i].min()), int(pixels[i].max())], right=share(right[i])) for i in order]


def by_pattern(asked, right):
    "Share of right answers for each pattern"
    return {SURFACES[k]: share(right[asked == k]) for k in np.unique(asked)}


def softened(ae):
    "name -> what is done to pictures"
    sigma = lambda x, s: torch.full((len(x), 1, 1, 1), s)
    noise = lambda x, s: (x + s * Draw(3).normal(*x.shape)).clamp(0, 1)
    through = lambda x: (ae.decode(ae.encode(2 * x - 1).latent_dist.mode()).sample / 2 + 0.5).clamp(0, 1)
    return {
        "as it is": lambda x: x,
        "mirrored": lambda x: x.flip(3),
        "through the autoencoder": through,
        **{f"blur {s} px": lambda x, s=s: blur(x, sigma(x, s)) for s in (0.3, 0.5, 0.7)},
        **{f"noise {s}": lambda x, s=s: noise(x, s) for s in (0.03, 0.06)},
    }


def through_wide_lens(camera, fov=70.0):
    "As large in the picture, from nearer"
    return replace(camera, fov=fov, radius=camera.radius * half_width(camera.fov) / half_width(fov))


def half_width(fov):
    "Of the picture, at distance 1"
    return np.tan(np.radians(fov / 2))


def drawn_anew(pictures, seen_by=lambda camera: camera):
    "The same things in pictures twice as large with 9 rays a pixel, averaged down"
    rows = [render(t, seen_by(c), 128, 3).rgb for t, c in zip(pictures.things, pictures.cameras)]
    return avg_pool2d(torch.from_numpy(np.stack(rows)), 2)


def scores(name, sets):
    "What is kept of a judge"
    judge, plain_judge = load_judge(name), load_judge(name[0])
    said = lambda x: judge(x).pattern.argmax(1)
    old, new, usual, large = (sets[k] for k in ("old", "new", "usual", "large"))
    table = torch.zeros(7, 7).index_put_((new.answers[:, 2], said(new.images)), torch.tensor(1.0), accumulate=True)

    def right(p, x=None):
        return (said(p.images if x is None else x) == p.answers[:, 2]).numpy()

    hit, fine, anew = right(usual), new.answers[:, 2].numpy() >= len(PATS), right(new)
    asked, many = usual.answers[:, 2].numpy(), sets["usual_pixels"] >= USUAL
    noisy = {s: (sets["plain"] + s * litter(len(sets["plain"]), 64, Draw(5))).clamp(0, 1) for s in SHADES}
    return dict(
        recipe=judge.recipe,
        bytes=(WEIGHTS / f"judge_{name}" / "model.safetensors").stat().st_size,
        old=dict(own=share(right(old)), three=round(shares(plain_judge(old.images), old.answers)["pattern"], 4)),
        table=table.int().tolist(),
        farther=dict(right=share(anew[fine]), by_size=by_size(sets["new_pixels"], anew[fine])),
        usual=dict(right=share(hit), by_pattern=by_pattern(asked, hit), by_size=by_size(sets["usual_pixels"], hit)),
        large=dict(right=share(hit[many]), by_pattern=by_pattern(asked[many], hit[many])),
        softened={k: share(right(large, f(large.images))) for k, f in sets["softened"].items()},
        anew={k: share(right(large, x)) for k, x in sets["anew"].items()},
        noisy={s: share(said(x) >= len(PATS)) for s, x in noisy.items()},
        wrong=(~hit).nonzero()[0].tolist(),
    )


def subset(p, keep):
    "Some of the pictures"
    keep = np.asarray(keep)
    pick = lambda rows: [rows[i] for i in keep]
    return replace(
        p, rgba=p.rgba[keep], answers=p.answers[keep], fill=p.fill[keep], things=pick(p.things), cameras=pick(p.cameras)
    )


def one_who_knows(pictures, pixels, n):
    "What can be told of the first n"
    rows = list(zip(pictures.things, pictures.cameras, pictures.images))[:n]
    said, pixels = [answer_of_one_who_knows(*row) for row in rows], pixels[:n]
    right = np.array([word == thing.pattern for word, (thing, *_) in zip(said, rows)])
    return dict(
        n=n,
        right=share(right),
        unreadable=said.count(None),
        large=share(right[pixels >= USUAL]),
        by_size=by_size(pixels, right),
    )


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--judges", nargs="+", default=["a-detail", "b-detail"])
    p.add_argument(
        "--known", type=int, default=120, help="pictures for one who knows object and camera; 0: what the file has"
    )
    a = p.parse_args()
    torch.set_num_threads(1)

    old, new = render_set(1200, seed=(2026, 1)), render_set(1400, seed=(2026, 3), detailed=4 / 7)
    usual = as_prompts_have_it(600, (2026, 4))
    sets = dict(old=old, new=new, usual=usual, usual_pixels=covered(usual))
    sets["new_pixels"] = covered(subset(new, (new.answers[:, 2] >= len(PATS)).nonzero().flatten()))
    sets["large"] = large = subset(usual, (sets["usual_pixels"] >= USUAL).nonzero()[0][:200])
    sets["plain"] = torch.stack([plain(*row) for row in zip(usual.things[:300], usual.cameras)])
    sets["softened"] = softened(LinearAutoencoder.from_pretrained(TOY / "vae").float().requires_grad_(False))
    sets["anew"] = {"36 rays a pixel": drawn_anew(large), "a lens of 70 degrees": drawn_anew(large, through_wide_lens)}

    kept = json.loads(a.out.read_text(encoding="utf-8")) if a.out.exists() else {}
    found = dict(patterns=SURFACES, usual_share=share(sets["usual_pixels"] >= USUAL))
    if a.known:
        found["known"] = one_who_knows(usual, sets["usual_pixels"], a.known)
    found |= {name: scores(name, sets) for name in a.judges}
    a.out.write_text(json.dumps(kept | found, indent=1), encoding="utf-8")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
