"`lucidteach doctor`: can this machine run the main job, and if not, what to type"

import importlib.metadata as md
import os
import platform
import re
import shutil
import time
from pathlib import Path

TOY = Path(__file__).parent / "prior" / "weights" / "toy"


def version(package):
    "Installed version of a package, or None; nothing is imported"
    try:
        return md.version(package)
    except md.PackageNotFoundError:
        return None


def size(folder):
    "Bytes of all files under a folder"
    return sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file() and not f.is_symlink())


def requirements():
    "(package, versions that fit, extra or \"\") of each dependency in pyproject.toml, as the installation keeps them"
    for line in md.requires("lucidteach") if version("lucidteach") else ():
        package, versions = re.match(r"([\w.-]+)(?:\[.*?\])?([^;]*)", line).groups()
        yield package, versions.strip(), "".join(re.findall(r"extra == .(\w+)", line))


def fits(installed, versions):
    "Is there a version, and one of those?"
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:
        return bool(installed)  # then transformers, which brings it, is missing too
    return bool(installed) and SpecifierSet(versions).contains(installed, prereleases=True)


def unmet(rows):
    "Requirements that are missing or of another version, in words -> extra"
    return {
        f"{p}{versions} (here is {here})" if (here := version(p)) else p: extra
        for p, versions, extra in rows
        if not fits(version(p), versions)
    }


def listed(rows):
    "Installed packages of some requirements, with their versions, each once"
    return ", ".join(dict.fromkeys(f"{p} {v}" for p, *_ in rows if (v := version(p)))) or "none"


def ok(what: str, text: str) -> tuple:
    return "ok", what, text


def note(what: str, text: str) -> tuple:
    return "note", what, text


def fail(what: str, text: str) -> tuple:
    return "fail", what, text


def packages():
    "What must be there and what may be; of gsplat, which only a GPU needs, the device tells"
    if not version("lucidteach"):
        yield fail("needed", "not known, for lucidteach is not installed: pip install -e . in its folder")
        return
    rows = [r for r in requirements() if r[0] != "gsplat"]
    needed, optional = [r for r in rows if not r[2]], [r for r in rows if r[2]]

    gone = unmet(needed)
    yield (fail if gone else ok)("needed", listed(needed))
    if gone:
        remedy = "pip install lucidteach (on Linux without a GPU install torch's CPU build first)"
        yield fail("lacking", f"{', '.join(gone)}: {remedy}")

    yield ok("optional", listed(optional))
    if gone := unmet(optional):
        extras = ",".join(sorted(set(gone.values())))
        yield note("absent", f"{', '.join(gone)}: pip install 'lucidteach[{extras}]'")


def device():
    "What torch would compute on, with how many threads"
    if not version("torch"):
        return
    import torch

    kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    name = torch.cuda.get_device_name() if kind == "cuda" else platform.processor() or platform.machine()
    yield ok("device", f"{kind} ({name})")

    threads, asked = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS", "not set")
    yield ok("torch threads", f"{threads} of {os.cpu_count()} cores, OMP_NUM_THREADS={asked}")

    load = getattr(os, "getloadavg", lambda: (0.0,))()[0]  # Windows has none
    if threads > max(1, os.cpu_count() - load + 0.5):
        remedy = "where that is other work, fewer threads are faster, so set OMP_NUM_THREADS=1"
        yield note("load", f"{load:.1f} in the last minute: {remedy}")
    yield from gsplat(kind)


def gsplat(kind):
    "gsplat's wheel holds sources: only a CUDA device with a compiler makes it usable"
    here, gone = version("gsplat"), unmet(r for r in requirements() if r[0] == "gsplat")
    if kind != "cuda":
        yield ok("gsplat", f"{here or 'not'} installed; only a CUDA device uses it, and there is none")
    elif gone or not here:
        lacking = min(gone, default="gsplat")
        yield note("gsplat", f"{lacking} is lacking, and scenes on the GPU need it: pip install lucidteach")
    elif not shutil.which("nvcc"):
        remedy = "install the CUDA toolkit of torch's version"
        yield note("gsplat", f"CUDA device found but no nvcc to build its kernels: {remedy}")
    else:
        yield ok("gsplat", f"{here}, CUDA device and nvcc found: kernels are built at the first call")


def _plus_one(x):
    return x + 1


def numba():
    "A kernel is compiled, kept and called, because that is what the renderers need"
    if not version("numba"):
        return
    import numba as nb

    start = time.perf_counter()
    try:
        right = nb.njit(cache=True)(_plus_one)(1) == 2
    except Exception as e:
        remedy = "; set NUMBA_CACHE_DIR to a folder that can be written" if "cache" in str(e) else ""
        yield fail("numba", f"cannot compile: {type(e).__name__}: {e}{remedy}")
        return
    took = time.perf_counter() - start
    yield (ok if right else fail)("numba", f"compiles ({took:.1f} s), {nb.get_num_threads()} threads")


def weights():
    "The toy prior that the package carries"
    files = sorted(TOY.rglob("*.safetensors"))
    if not (TOY / "model_index.json").is_file() or len(files) < 3:
        remedy = "reinstall it, or train them: python -m lucidteach.prior.train --help"
        yield fail("toy prior", f"weights are missing from the package: {remedy}")
        return
    bad = [f.name for f in files if not readable(f)]
    if bad:
        yield fail("toy prior", f"damaged: {', '.join(bad)}: reinstall the package")
    else:
        yield ok("toy prior", f"{len(files)} files, {size(TOY) / 1e6:.0f} MB")


def readable(file):
    "Does the safetensors header match the file's length?"
    import json

    with open(file, "rb") as f:
        n = int.from_bytes(f.read(8), "little")
        if n > file.stat().st_size:
            return False
        head = json.loads(f.read(n))
    return 8 + n + max(v["data_offsets"][1] for k, v in head.items() if k != "__metadata__") == file.stat().st_size


def lab():
    "Can `lucidteach lab` open the notebooks, and can they run?"
    from .lab.notebooks import present

    gone = unmet(r for r in requirements() if r[2] == "lab")
    if gone:
        yield note("lab", f"cannot run, for lack of {', '.join(gone)}: pip install 'lucidteach[lab]'")
        return
    try:
        count = sum(1 for p in present().rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
    except FileNotFoundError as e:
        yield note("lab", str(e))
        return
    yield ok("lab", f"lucidteach lab opens a copy of {count} notebooks; all that they import is here")


def disk():
    "Free space here, and where downloaded models would lie"
    try:  # the hub's own answer to HF_HOME, HF_HUB_CACHE and the rest
        from huggingface_hub.constants import HF_HUB_CACHE as cache
    except ImportError:
        cache = "~/.cache/huggingface/hub"
    cache = Path(cache).expanduser()
    free = shutil.disk_usage(".").free / 1e9
    yield (ok if free > 1 else note)("disk", f"{free:.0f} GB free here")
    held = f"{size(cache) / 1e9:.1f} GB" if cache.is_dir() else "empty; the toy prior needs no download"
    yield ok("model cache", f"{cache}: {held}")


def network(ask):
    "Offline state: the setting always, the network only when asked to look"
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        yield ok("network", "HF_HUB_OFFLINE is set: only downloaded models are used")
        return
    if not ask:
        yield ok("network", "not asked (doctor --online looks); the main job needs none")
        return
    import socket

    try:
        socket.create_connection(("huggingface.co", 443), 2).close()
        yield ok("network", "the model hub answers")
    except OSError as e:
        yield note("network", f"the model hub does not answer ({e}); the toy prior and local folders work")


def prior(name, online=False):
    "One checkpoint: is it here, what is it, can it be a prior, its licence, its size, and where else it is"
    from .prior import checkpoints
    from .run.settings import nearest_name

    if name in checkpoints.IDEAL:
        yield ok("prior", f"{name}: the ideal denoiser of true renders; a formula, without weights")
        return
    path = checkpoints.TOY.with_name(name) if name in checkpoints.SHIPPED else Path(name)
    if path.is_file() or path.suffix == ".safetensors":
        yield from single(path, checkpoints)
        return

    folder = path if path.is_dir() else checkpoints.cached(name)
    gone = checkpoints.missing_files(folder) if folder else []
    if folder is None:
        hint = nearest_name(name, (*checkpoints.SHIPPED, *checkpoints.IDEAL)) if "/" not in name else ""
        yield fail("prior", f"{name}: not on this machine, neither a folder nor in the model cache. {hint}".rstrip())
    elif gone:
        yield fail("prior", f"{name}: incomplete in {folder}; missing: {', '.join(gone)}")
    else:
        yield from usable(name, folder, checkpoints)

    if folder is None and "/" not in name:
        return  # no id of a hub either
    yield from known(name, folder, checkpoints)
    if (folder is None or gone) and not path.is_dir():
        source = (checkpoints.mirrors(name) or [name])[0]
        yield note("to get it", f"where there is a network: hf download {source} --local-dir model; then --prior model")
    if online and name not in checkpoints.SHIPPED and not path.is_dir():
        yield from hub(name)


def known(name, folder, checkpoints):
    "Licence, size and mirrors of a checkpoint that many use"
    row = next((r for r in checkpoints.KNOWN.values() if name in r["ids"]), None)
    terms = licence(folder) or (row and f"{row['licence']} (by its model card)")
    yield ok("licence", terms) if terms else note("licence", "not told here: read the model card before you use it")
    if row:
        half, full = row["millions"] * 2e-3, row["millions"] * 4e-3
        text = f"{row['millions'] / 1e3:.2f} billion weights: {half:.1f} GB in float16, {full:.1f} GB in float32"
        yield ok("full size", f"{text}; {row['px']} px, predicts {row['predicts']}")
    if other := checkpoints.mirrors(name):
        gone = f"the original was taken off the hub in {checkpoints.GONE[name]}"
        yield note("mirrors", f"{gone}; unofficial: {', '.join(other)}")


def usable(name, folder, checkpoints):
    "A complete folder: damage, kind, and size on disk"
    from .prior.latent import why_not
    from .run.files import read_json

    files = ("model_index.json", "unet/config.json", "scheduler/scheduler_config.json")
    index, unet, scheduler = (read_json(folder / f) for f in files)
    bad = [str(f.relative_to(folder)) for f in sorted(folder.rglob("*.safetensors")) if not readable(f)]
    if bad:
        yield fail("prior", f"{name}: damaged: {', '.join(bad)}: bring it anew")
        return
    if reason := why_not(index, unet, scheduler):
        yield fail("prior", f"{name} cannot be a prior: {reason}")
        return
    total = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e9
    kind, predicts = index.get("_class_name"), scheduler.get("prediction_type", "epsilon")
    yield ok("prior", f"{name}: complete in {folder}, {total:.2f} GB; {kind}, predicts {predicts}")


def single(path, checkpoints):
    "A checkpoint in one file"
    try:
        found = checkpoints.look_inside(path)
    except (ValueError, FileNotFoundError) as e:
        yield fail("prior", str(e))
        return
    family, total = found["family"], path.stat().st_size / 1e9
    predicts = found["predicts"] or "not told"
    yield ok("prior", f"{path}: weights of the family {family}, {total:.2f} GB; predicts {predicts}")

    like = checkpoints.KNOWN[family]["ids"][-1]
    cached = " (in the model cache)" if checkpoints.cached(like) else ""
    call = f"load_prior({str(path)!r}, config=FOLDER)"
    yield note("configuration", f"not in the file: {call}, a folder of the same family such as {like}{cached}")
    yield note("licence", "a single file does not tell: read the page it came from")


def licence(folder):
    "The licence that a folder's own model card names, or None"
    card = Path(folder or ".") / "README.md"
    if folder is None or not card.is_file():
        return None
    parts = card.read_text(encoding="utf-8", errors="replace").split("---")
    head = parts[1] if len(parts) > 2 and not parts[0].strip() else ""
    for line in head.splitlines():
        if line.startswith("license:"):
            return f"{line.split(':', 1)[1].strip()} (its model card)"
    return None


def hub(name):
    "Asks the hub about one id"
    from huggingface_hub import HfApi

    try:
        info = HfApi().model_info(name, files_metadata=True, timeout=5)
    except Exception as e:
        yield note("on the hub", f"no answer for {name}: {type(e).__name__}")
        return
    total, card = sum(f.size or 0 for f in info.siblings), (info.card_data or {}).get("license", "not told")
    yield ok("on the hub", f"{name} is there; licence {card}; {total / 1e9:.1f} GB in all its files")


def checks(online=False, name=None):
    "All findings as (state, name, text); state is ok, note or fail"
    from . import __version__

    system = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield ok("lucidteach", f"{__version__}, {system}, {os.cpu_count()} cores")
    for part in (packages, device, numba, weights, lab, disk):
        try:
            yield from part()
        except Exception as e:
            yield fail(part.__name__, f"{type(e).__name__}: {e}")
    yield from network(online)
    if name:
        try:
            yield from prior(name, online)
        except Exception as e:
            yield fail("prior", f"{type(e).__name__}: {e}")


def doctor(online=False, name=None):
    "Print the findings; 0 when the main job can run, 1 when it cannot"
    marks, bad = dict(ok="  ok  ", note=" note ", fail=" FAIL "), 0
    for state, what, text in checks(online, name):
        bad += state == "fail"
        print(f"{marks[state]} {what:<14} {text}", flush=True)
    if bad:
        print(f"\n{bad} thing{'s'[: bad != 1]} to mend, see FAIL above")
    else:
        print('\nReady: lucidteach compare "a red mug"' + (f" --prior {name}" if name else ""))
    return int(bad > 0)
