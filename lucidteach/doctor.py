"`lucidteach doctor`: can this machine run the main job, and if not, what to type"
import importlib, importlib.metadata as md, os, platform, shutil, sys, time
from pathlib import Path

MUST = ("torch", "diffusers", "transformers", "safetensors", "numpy", "numba", "pillow", "matplotlib", "tqdm")
MAY = {"gsplat": "lucidteach", "jupyterlab": "lucidteach[lab]", "ipywidgets": "lucidteach[lab]", "anywidget": "lucidteach[lab]", "plotly": "lucidteach[lab]",
       "accelerate": "lucidteach[train]", "peft": "lucidteach[train]", "gaussforge": "lucidteach[formats]", "nbdev": "lucidteach[dev]"}
TOY = Path(__file__).parent/"prior"/"weights"/"toy"

def version(package):
    "Installed version of a package, or None; nothing is imported"
    try: return md.version(package)
    except md.PackageNotFoundError: return None

def size(folder):
    "Bytes of all files under a folder"
    return sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file() and not f.is_symlink())

def packages():
    "One line for what must be there, one for what may be"
    have, missing = {p: v for p in MUST if (v := version(p))}, [p for p in MUST if not version(p)]
    yield "fail" if missing else "ok", "needed", ", ".join(f"{p} {v}" for p, v in have.items()) or "none"
    if missing: yield "fail", "missing", f"{', '.join(missing)}: pip install lucidteach (on Linux without a GPU install torch's CPU build first)"
    yield "ok", "optional", ", ".join(f"{p} {version(p)}" for p in MAY if version(p)) or "none"
    if lacking := [p for p in MAY if not version(p)]:
        yield "note", "absent", f"{', '.join(lacking)}: pip install '{' '.join(sorted({MAY[p] for p in lacking}))}'"

def device():
    "What torch would compute on, with how many threads"
    if not version("torch"): return
    import torch
    kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    name = torch.cuda.get_device_name() if kind == "cuda" else platform.processor() or platform.machine()
    yield "ok", "device", f"{kind} ({name})"
    yield "ok", "torch threads", f"{torch.get_num_threads()} of {os.cpu_count()} cores, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')}"
    yield from gsplat(kind)

def gsplat(kind):
    "gsplat's wheel holds sources: only a CUDA device with a compiler makes it usable"
    if not version("gsplat"): yield "note", "gsplat", "not installed; the CPU needs none"; return
    if kind != "cuda": yield "ok", "gsplat", f"{version('gsplat')} installed, not usable: no CUDA device; the CPU path does not need it"; return
    if not shutil.which("nvcc"): yield "note", "gsplat", "CUDA device found but no nvcc to build its kernels: install the CUDA toolkit of torch's version"; return
    yield "ok", "gsplat", f"{version('gsplat')}, CUDA device and nvcc found: kernels are built at the first call"

def numba():
    "A kernel is compiled and called, because that is what the world's renderer needs"
    if not version("numba"): return
    import numba as nb
    start = time.perf_counter()
    try: right = nb.njit(lambda x: x + 1)(1) == 2
    except Exception as e: yield "fail", "numba", f"cannot compile: {type(e).__name__}: {e}"; return
    yield "ok" if right else "fail", "numba", f"compiles ({time.perf_counter() - start:.1f} s), {nb.get_num_threads()} threads"

def weights():
    "The toy prior that the package carries"
    files = sorted(TOY.rglob("*.safetensors"))
    if not (TOY/"model_index.json").is_file() or len(files) < 3:
        yield "fail", "toy prior", "weights are missing from the package: reinstall it, or train them: python -m lucidteach.prior.train --help"; return
    bad = [f.name for f in files if not readable(f)]
    yield "fail" if bad else "ok", "toy prior", f"damaged: {', '.join(bad)}: reinstall the package" if bad else f"{len(files)} files, {size(TOY)/1e6:.0f} MB"

def readable(file):
    "Does the safetensors header match the file's length?"
    import json
    with open(file, "rb") as f:
        n = int.from_bytes(f.read(8), "little")
        if n > file.stat().st_size: return False
        head = json.loads(f.read(n))
    return 8 + n + max(v["data_offsets"][1] for k, v in head.items() if k != "__metadata__") == file.stat().st_size

def disk():
    "Free space here, and where downloaded models would lie"
    cache = Path(os.environ.get("HF_HOME", Path.home()/".cache"/"huggingface"))
    free = shutil.disk_usage(".").free/1e9
    yield "ok" if free > 1 else "note", "disk", f"{free:.0f} GB free here"
    yield "ok", "model cache", f"{cache}: {size(cache)/1e9:.1f} GB" if cache.is_dir() else f"{cache}: empty; the toy prior needs no download"

def network(ask):
    "Offline state: the setting always, the network only when asked to look"
    off = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    if off: yield "ok", "network", "HF_HUB_OFFLINE is set: only downloaded models are used"; return
    if not ask: yield "ok", "network", "not asked (doctor --online looks); the main job needs none"; return
    import socket
    try: socket.create_connection(("huggingface.co", 443), 2).close(); yield "ok", "network", "the model hub answers"
    except OSError as e: yield "note", "network", f"the model hub does not answer ({e}); the toy prior and local folders work"

def checks(online=False):
    "All findings as (state, name, text); state is ok, note or fail"
    from . import __version__
    yield "ok", "lucidteach", f"{__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    for part in (packages, device, numba, weights, disk):
        try: yield from part()
        except Exception as e: yield "fail", part.__name__, f"{type(e).__name__}: {e}"
    yield from network(online)

def doctor(online=False):
    "Print the findings; 0 when the main job can run, 1 when it cannot"
    found = []
    for state, name, text in checks(online):
        found.append(state)
        print(f"{dict(ok='  ok  ', note=' note ', fail=' FAIL ')[state]} {name:<14} {text}", flush=True)
    bad = found.count("fail")
    print(f"\n{bad} thing{'s'[:bad != 1]} to mend, see FAIL above" if bad else '\nReady: lucidteach compare "a red mug"')
    return int(bad > 0)
