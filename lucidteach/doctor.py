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


def packages():
    "What must be there and what may be; of gsplat, which only a GPU needs, the device tells"
    if not version("lucidteach"):
        yield "fail", "needed", "not known, for lucidteach is not installed: pip install -e . in its folder"
        return
    rows = [r for r in requirements() if r[0] != "gsplat"]
    needed, optional = [r for r in rows if not r[2]], [r for r in rows if r[2]]
    yield "fail" if unmet(needed) else "ok", "needed", listed(needed)
    if gone := unmet(needed):
        yield (
            "fail",
            "lacking",
            f"{', '.join(gone)}: pip install lucidteach (on Linux without a GPU install torch's CPU build first)",
        )
    yield "ok", "optional", listed(optional)
    if gone := unmet(optional):
        yield "note", "absent", f"{', '.join(gone)}: pip install 'lucidteach[{','.join(sorted(set(gone.values())))}]'"


def device():
    "What torch would compute on, with how many threads"
    if not version("torch"):
        return
    import torch

    kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    name = torch.cuda.get_device_name() if kind == "cuda" else platform.processor() or platform.machine()
    yield "ok", "device", f"{kind} ({name})"
    yield (
        "ok",
        "torch threads",
        f"{torch.get_num_threads()} of {os.cpu_count()} cores, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')}",
    )
    load = getattr(os, "getloadavg", lambda: (0.0,))()[0]  # Windows has none
    if torch.get_num_threads() > max(1, os.cpu_count() - load + 0.5):
        yield (
            "note",
            "load",
            f"{load:.1f} in the last minute: where that is other work, fewer threads are faster, so set OMP_NUM_THREADS=1",
        )
    yield from gsplat(kind)


def gsplat(kind):
    "gsplat's wheel holds sources: only a CUDA device with a compiler makes it usable"
    here, gone = version("gsplat"), unmet(r for r in requirements() if r[0] == "gsplat")
    if kind != "cuda":
        yield "ok", "gsplat", f"{here or 'not'} installed; only a CUDA device uses it, and there is none"
        return
    if gone or not here:
        yield (
            "note",
            "gsplat",
            f"{min(gone, default='gsplat')} is lacking, and scenes on the GPU need it: pip install lucidteach",
        )
        return
    if not shutil.which("nvcc"):
        yield (
            "note",
            "gsplat",
            "CUDA device found but no nvcc to build its kernels: install the CUDA toolkit of torch's version",
        )
        return
    yield "ok", "gsplat", f"{here}, CUDA device and nvcc found: kernels are built at the first call"


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
        yield (
            "fail",
            "numba",
            f"cannot compile: {type(e).__name__}: {e}"
            + "; set NUMBA_CACHE_DIR to a folder that can be written" * ("cache" in str(e)),
        )
        return
    yield (
        "ok" if right else "fail",
        "numba",
        f"compiles ({time.perf_counter() - start:.1f} s), {nb.get_num_threads()} threads",
    )


def weights():
    "The toy prior that the package carries"
    files = sorted(TOY.rglob("*.safetensors"))
    if not (TOY / "model_index.json").is_file() or len(files) < 3:
        yield (
            "fail",
            "toy prior",
            "weights are missing from the package: reinstall it, or train them: python -m lucidteach.prior.train --help",
        )
        return
    bad = [f.name for f in files if not readable(f)]
    yield (
        "fail" if bad else "ok",
        "toy prior",
        f"damaged: {', '.join(bad)}: reinstall the package" if bad else f"{len(files)} files, {size(TOY) / 1e6:.0f} MB",
    )


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
        yield "note", "lab", f"cannot run, for lack of {', '.join(gone)}: pip install 'lucidteach[lab]'"
        return
    try:
        count = sum(1 for p in present().rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
    except FileNotFoundError as e:
        yield "note", "lab", str(e)
        return
    yield "ok", "lab", f"lucidteach lab opens a copy of {count} notebooks; all that they import is here"


def disk():
    "Free space here, and where downloaded models would lie"
    try:
        from huggingface_hub.constants import (
            HF_HUB_CACHE as cache,
        )  # its own answer to HF_HOME, HF_HUB_CACHE and the rest
    except ImportError:
        cache = "~/.cache/huggingface/hub"
    cache = Path(cache).expanduser()
    free = shutil.disk_usage(".").free / 1e9
    yield "ok" if free > 1 else "note", "disk", f"{free:.0f} GB free here"
    yield (
        "ok",
        "model cache",
        f"{cache}: {size(cache) / 1e9:.1f} GB"
        if cache.is_dir()
        else f"{cache}: empty; the toy prior needs no download",
    )


def network(ask):
    "Offline state: the setting always, the network only when asked to look"
    off = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    if off:
        yield "ok", "network", "HF_HUB_OFFLINE is set: only downloaded models are used"
        return
    if not ask:
        yield "ok", "network", "not asked (doctor --online looks); the main job needs none"
        return
    import socket

    try:
        socket.create_connection(("huggingface.co", 443), 2).close()
        yield "ok", "network", "the model hub answers"
    except OSError as e:
        yield "note", "network", f"the model hub does not answer ({e}); the toy prior and local folders work"


def prior(name, online=False):
    "One checkpoint: is it here, what is it, can it be a prior, its licence, its size, and where else it is"
    from .prior import latent as l

    row = next((r for r in l.KNOWN.values() if name in r["ids"]), None)
    path = l.TOY if name == "toy" else Path(name)
    if path.is_file() or path.suffix == ".safetensors":
        yield from single(path, l)
        return
    folder = path if path.is_dir() else l.cached(name)
    gone = l.missing_files(folder) if folder else []
    if folder is None:
        yield "fail", "prior", f"{name}: not on this machine, neither a folder nor in the model cache"
    elif gone:
        yield "fail", "prior", f"{name}: incomplete in {folder}; missing: {', '.join(gone)}"
    else:
        yield from usable(name, folder, l)
    yield (
        "ok" if row or licence(folder) else "note",
        "licence",
        licence(folder)
        or row
        and f"{row['licence']} (by its model card)"
        or "not told here: read the model card before you use it",
    )
    if row:
        yield (
            "ok",
            "full size",
            f"{row['millions'] / 1e3:.2f} billion weights: {row['millions'] * 2e-3:.1f} GB in float16, {row['millions'] * 4e-3:.1f} GB in float32; {row['px']} px, predicts {row['predicts']}",
        )
    if other := l.mirrors(name):
        yield "note", "mirrors", f"the original was taken off the hub in {l.GONE[name]}; unofficial: {', '.join(other)}"
    if (folder is None or gone) and not path.is_dir():
        yield (
            "note",
            "to get it",
            f"where there is a network: hf download {(l.mirrors(name) or [name])[0]} --local-dir model; then --prior model",
        )
    if online and name != "toy" and not path.is_dir():
        yield from hub(name)


def usable(name, folder, l):
    "A complete folder: damage, kind, and size on disk"
    index, unet, sched = (
        l.read_json(folder / f) for f in ("model_index.json", "unet/config.json", "scheduler/scheduler_config.json")
    )
    bad = [str(f.relative_to(folder)) for f in sorted(folder.rglob("*.safetensors")) if not readable(f)]
    if bad:
        yield "fail", "prior", f"{name}: damaged: {', '.join(bad)}: bring it anew"
        return
    if reason := l.why_not(index, unet, sched):
        yield "fail", "prior", f"{name} cannot be a prior: {reason}"
        return
    yield (
        "ok",
        "prior",
        f"{name}: complete in {folder}, {sum(f.stat().st_size for f in folder.rglob('*') if f.is_file()) / 1e9:.2f} GB; {index.get('_class_name')}, predicts {sched.get('prediction_type', 'epsilon')}",
    )


def single(path, l):
    "A checkpoint in one file"
    try:
        found = l.look_inside(path)
    except (ValueError, FileNotFoundError) as e:
        yield "fail", "prior", str(e)
        return
    row = l.KNOWN[found["family"]]
    yield (
        "ok",
        "prior",
        f"{path}: weights of the family {found['family']}, {path.stat().st_size / 1e9:.2f} GB; predicts {found['predicts'] or 'not told'}",
    )
    yield (
        "note",
        "configuration",
        f"not in the file: load_prior({str(path)!r}, config=FOLDER), a folder of the same family such as {row['ids'][-1]}"
        + (" (in the model cache)" if l.cached(row["ids"][-1]) else ""),
    )
    yield "note", "licence", "a single file does not tell: read the page it came from"


def licence(folder):
    "The licence that a folder's own model card names, or None"
    card = Path(folder or ".") / "README.md"
    if folder is None or not card.is_file():
        return None
    head = card.read_text(encoding="utf-8", errors="replace").split("---")
    lines = [
        l.split(":", 1)[1].strip()
        for l in (head[1] if len(head) > 2 and not head[0].strip() else "").splitlines()
        if l.startswith("license:")
    ]
    return f"{lines[0]} (its model card)" if lines else None


def hub(name):
    "Asks the hub about one id"
    from huggingface_hub import HfApi

    try:
        info = HfApi().model_info(name, files_metadata=True, timeout=5)
    except Exception as e:
        yield "note", "on the hub", f"no answer for {name}: {type(e).__name__}"
        return
    total, card = sum(f.size or 0 for f in info.siblings), (info.card_data or {}).get("license", "not told")
    yield "ok", "on the hub", f"{name} is there; licence {card}; {total / 1e9:.1f} GB in all its files"


def checks(online=False, name=None):
    "All findings as (state, name, text); state is ok, note or fail"
    from . import __version__

    yield (
        "ok",
        "lucidteach",
        f"{__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    )
    for part in (packages, device, numba, weights, lab, disk):
        try:
            yield from part()
        except Exception as e:
            yield "fail", part.__name__, f"{type(e).__name__}: {e}"
    yield from network(online)
    if name:
        try:
            yield from prior(name, online)
        except Exception as e:
            yield "fail", "prior", f"{type(e).__name__}: {e}"


def doctor(online=False, name=None):
    "Print the findings; 0 when the main job can run, 1 when it cannot"
    found = []
    for state, what, text in checks(online, name):
        found.append(state)
        print(f"{dict(ok='  ok  ', note=' note ', fail=' FAIL ')[state]} {what:<14} {text}", flush=True)
    bad = found.count("fail")
    print(
        f"\n{bad} thing{'s'[: bad != 1]} to mend, see FAIL above"
        if bad
        else f'\nReady: lucidteach compare "a red mug"' + (f" --prior {name}" if name else "")
    )
    return int(bad > 0)
