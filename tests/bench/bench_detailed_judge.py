"""What a trial judge of fine patterns says of true pictures that it has not seen:

    python tests/bench/bench_detailed_judge.py run a-detail --name crisp --out nbs/5_judge/results/detailed_trial.json

1,200 pictures of the old world and 1,400 of the detailed one, of which four sevenths have a fine pattern: shares of
right answers, the table of patterns (true in rows), and the fine patterns by how many pixels of the picture they cover.
Adds to the file, under the name. One thread, a minute.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from lucidteach.judge.judges import load_judge, render_set
from lucidteach.judge.metrics import PATS, SURFACES, shares
from lucidteach.prior.world import render


def rounded(row):
    "What was asked, with four digits"
    return {k: round(v, 4) for k, v in row.items() if v == v}


def covered(pictures, i):
    "Pixels that the fine pattern of picture i changes"
    plain = render(replace(pictures.things[i], detail=0.0), pictures.cameras[i], 64).rgb
    return int((np.abs(plain - pictures.images[i].numpy()).max(0) > 0.04).sum())


def by_size(pictures, right, fine):
    "Share of right answers in four equal parts, by the pixels that the pattern covers"
    pixels = np.array([covered(pictures, i) for i in fine])
    rows = []
    for part in np.array_split(pixels.argsort(kind="stable"), 4):
        share = round(float(right[fine][part].float().mean()), 4)
        rows.append(dict(pixels=[int(pixels[part].min()), int(pixels[part].max())], right=share))
    return rows


def scores(judge):
    "What is kept of a judge"
    old, new = render_set(1200, seed=(2026, 1)), render_set(1400, seed=(2026, 3), detailed=4 / 7)
    asked, said = new.answers, judge(new.images)
    named, is_fine = said.pattern.argmax(1), asked[:, 2] >= len(PATS)
    table = torch.zeros(7, 7).index_put_((asked[:, 2], named), torch.tensor(1.0), accumulate=True)

    def only(keep):
        return rounded(shares(said, torch.where(keep[:, None], asked, -1)))

    return dict(
        recipe=judge.recipe,
        old=rounded(shares(judge(old.images), old.answers)),
        detailed_old=only(~is_fine),
        detailed_fine=only(is_fine),
        patterns=SURFACES,
        table=table.int().tolist(),
        by_size=by_size(new, named == asked[:, 2], is_fine.nonzero().flatten().numpy()),
    )


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", type=Path, help="where the judge was trained")
    p.add_argument("judge", help="a-detail or b-detail")
    p.add_argument("--name", required=True, help="what the trial is called")
    p.add_argument("--out", type=Path, required=True)
    a = p.parse_args()
    torch.set_num_threads(1)
    found = scores(load_judge(a.judge, a.folder))
    kept = json.loads(a.out.read_text(encoding="utf-8")) if a.out.exists() else {}
    a.out.write_text(json.dumps(kept | {a.name: found}, indent=1), encoding="utf-8")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
