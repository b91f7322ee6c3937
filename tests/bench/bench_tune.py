"""One field of the toy preset in one stage (config.ONE_STAGE) changed at a time, measured: python tests/bench/bench_tune.py --save nbs/4_scene/results/create-tuning.json

First two other seeds, then fields of the preset with other values, then each ingredient of the method switched on or off.
Every setting makes the eight development prompts by ISM and is judged by judge a over 12 views, and in decibels against the nearest truth in 4 (see bench_create).
`--stage fifth`: the ingredients of ISM again where ISM acts from the first step (head_start 0), for three of the prompts; with the preset's head start of .75 ISM acts in 20 of 80 steps, at the lowest rates.
--part 0/2 and 1/2 share the work between two processes, each with a --save of its own; runs that a file holds already are not made again."""
import argparse, json, time
from pathlib import Path
from lucidteach.scene import config as settings_of, run as runner, text_to_3d as t3

SEEDS = [{}, dict(seed=1), dict(seed=2)]                             # how far a repeat lies from the preset
PRESET = [dict(guidance=2.), dict(guidance=5.), dict(guidance=7.5), dict(points=2000), dict(points=5000), dict(size=48), dict(size=96), dict(t_start=.98), dict(head_start=0.), dict(head_start=1.)]
INGREDIENTS = [dict(view_prompts=False), dict(overhead=False), dict(perp_neg=True), dict(flip=0.), dict(scale_noise=0.), dict(scale=0.), dict(tv=1.), dict(background=.66), dict(disparity_share=.2),
               dict(start_noise=True), dict(start_noise=True, offset_noise=.1), dict(target="full"), dict(densify=(20, 60, 10)), {k: v for k, v in settings_of.BALL.items() if v != settings_of.TOY[k]}]   # switched on or off

ISM = [dict(head_start=0.) | own for own in ({}, dict(target="full"), dict(start_noise=True, offset_noise=.1))]
STAGES = dict(fourth=(SEEDS + PRESET + INGREDIENTS, None), fifth=(ISM, ("a blue car", "a green house", "a purple teapot")))    # settings, and prompts (None: all of development)

def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--save", type=Path, required=True); ap.add_argument("--part", default="0/1"); ap.add_argument("--stage", default="fourth", choices=STAGES)
    args = ap.parse_args()
    import torch
    from bench_create import measure
    from lucidteach.judge.metrics import DEV_PROMPTS
    from lucidteach.judge.judges import load_judge
    from lucidteach.prior.checkpoints import TOY, load_prior
    torch.set_num_threads(1)
    prior, judges, (k, n) = load_prior("toy", device="cpu"), dict(a=load_judge("a")), map(int, args.part.split("/"))
    file = json.loads(args.save.read_text()) if args.save.is_file() else {}
    stage, (settings, prompts) = file.setdefault(args.stage, dict(pictures=json.loads((TOY/"recipe.json").read_text())["images_seen"], runs=[])), STAGES[args.stage]
    for own in settings[k::n]:
        for prompt in prompts or DEV_PROMPTS:
            plain = json.loads(json.dumps(own))
            if any(r["settings"] == plain and r["prompt"] == prompt for r in stage["runs"]): continue
            c, began = t3.config("toy", **{**settings_of.ONE_STAGE, **own}), time.process_time()
            state = t3.State(t3.Splats(t3.start(c, prompt), c))
            for _ in runner.generate(prior, prompt, "ism", c, state=state): pass
            cpu = time.process_time() - began
            found, _ = measure(state.scene, prompt, judges)
            keep = ("psnr", "blurred", "category_a", "colour_a", "janus_a", "chamfer", "sharpness", "saturation")
            stage["runs"].append(dict(prompt=prompt, settings=plain, calls=state.calls, cpu=round(cpu, 1), **{q: round(found[q], 3) for q in keep if q in found}))
            print(stage["runs"][-1], flush=True)
            args.save.write_text(json.dumps(file, indent=1) + "\n")

if __name__ == "__main__": main()
