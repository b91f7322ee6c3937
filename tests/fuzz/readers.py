"""The readers that are fuzzed, each a function of a folder of files; run as a program, a child process that reads what `fuzz.check` sends.

Its memory is limited, and it answers each input by one line of JSON: read, refused, or what else happened."""
import json, os, sys, tempfile, traceback
from functools import lru_cache
from pathlib import Path

ALLOWED = (ValueError, FileNotFoundError)          # the answers of a reader to a file that it does not take
MEMORY = 6 << 30                                   # bytes more than the process has when it begins

def scene(folder):
    from lucidteach.splat.gaussians import Gaussians
    g, = (Gaussians.load(f) for f in folder.iterdir())
    assert len(g) and all(v.isfinite().all() for v in vars(g).values()), "a scene of what is not finite"

def mesh(folder):
    from lucidteach.scene.meshes import read_mesh, usable
    usable(read_mesh(next(f for f in folder.iterdir() if f.stem == "a")))

def colmap(folder):
    from lucidteach.splat.captures import load_colmap
    views = load_colmap(folder)
    assert views.camera.viewmats.isfinite().all() and views.camera.Ks.isfinite().all(), "a camera of what is not finite"

def transforms(folder):
    from lucidteach.splat.captures import load_transforms
    views = load_transforms(folder)
    assert views.camera.viewmats.isfinite().all() and views.camera.Ks.isfinite().all(), "a camera of what is not finite"

@lru_cache(None)
def small_fit():
    import torch
    from lucidteach.splat.camera import Camera
    from lucidteach.splat.fit import Posed, Recipe
    from lucidteach.splat.gaussians import Gaussians
    views = Posed(torch.full((2, 3, 8, 8), .5), Camera.orbit([0., 90.], 10., 3., size=8, fov_deg=40))
    return dict(views=views, start=Gaussians.ball(6, radius=.5, sh_degree=1), recipe=Recipe(steps=6, sh_every=2))

def fit_checkpoint(folder):
    from lucidteach.splat.fit import fit
    for _ in fit(**small_fit(), checkpoint=folder/"fit.safetensors"): break             # the state is whole: a step can be made

def prior(folder):
    from lucidteach.prior.checkpoints import load_prior
    load_prior(folder, device="cpu")

def prompt(folder):
    from lucidteach.prior.words import parse
    parse((folder/"prompt.txt").read_bytes().decode("utf-8", "replace"))

READERS = dict(scene=scene, mesh=mesh, colmap=colmap, transforms=transforms, fit_checkpoint=fit_checkpoint, prior=prior, prompt=prompt)

def answer(reader, folder) -> dict:
    try: READERS[reader](folder); return dict(outcome="read")
    except ALLOWED as e:
        return dict(outcome="refused", text=str(e)[:300]) if str(e) else dict(outcome="silent", text="an error without a word", trace=traceback.format_exc()[-3000:])
    except BaseException as e:
        last = traceback.extract_tb(e.__traceback__)[-1]
        return dict(outcome=type(e).__name__, text=str(e)[:300], place=f"{Path(last.filename).name}:{last.name}", trace=traceback.format_exc()[-3000:])

def main():
    import resource
    out = os.fdopen(os.dup(1), "w"); os.dup2(2, 1)                                       # native readers talk on stdout
    import lucidteach, torch
    from lucidteach.splat import captures, fit, gaussians
    now = int(Path("/proc/self/statm").read_text().split()[0])*os.sysconf("SC_PAGE_SIZE") if Path("/proc/self/statm").exists() else 0
    if now: resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
    print(json.dumps(dict(outcome="ready")), file=out, flush=True)
    while line := sys.stdin.buffer.readline():
        asked = json.loads(line)
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)/"input"
            for name, n in asked["files"].items():
                (folder/name).parent.mkdir(parents=True, exist_ok=True)
                (folder/name).write_bytes(sys.stdin.buffer.read(n))
            told = answer(asked["reader"], folder)
        print(json.dumps(told), file=out, flush=True)

if __name__ == "__main__": main()
