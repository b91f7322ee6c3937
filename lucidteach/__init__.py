"A laboratory for score distillation where the truth is known"

__version__ = "0.1.0"

import importlib as _importlib, os as _os, sys as _sys, types as _types

if "OMP_WAIT_POLICY" not in _os.environ:  # idle threads of torch and numba must not take each other's cores,
    _torch_spins = "torch" in _sys.modules  # which torch's own do if it was loaded before: the rasterizer warns
    _os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    _os.environ.setdefault(
        "GOMP_SPINCOUNT", "10000"
    )  # but wait for half a millisecond before they sleep: to be woken takes longer than most pauses
else:
    _torch_spins = _os.environ["OMP_WAIT_POLICY"].upper() == "ACTIVE"


def _writable(folder):
    try:
        _os.makedirs(folder, exist_ok=True)
    except OSError:
        return False
    return _os.access(folder, _os.W_OK)


_places = (
    _os.path.join(_os.path.dirname(__file__), "splat", "__pycache__"),
    _os.path.join(_os.environ.get("XDG_CACHE_HOME") or _os.path.expanduser("~/.cache"), "numba"),
)
if "NUMBA_CACHE_DIR" not in _os.environ and not any(
    map(_writable, _places)
):  # numba loads no kernels that it can keep nowhere
    import atexit as _atexit, shutil as _shutil, tempfile as _tempfile

    _os.environ["NUMBA_CACHE_DIR"] = _tempfile.mkdtemp(prefix="lucidteach-")
    _atexit.register(
        lambda folder, maker: _os.getpid() == maker and _shutil.rmtree(folder, ignore_errors=True),
        _os.environ["NUMBA_CACHE_DIR"],
        _os.getpid(),
    )  # not at the end of a forked child
    print(
        f"Compiled kernels can be kept neither in {' nor in '.join(_places)}: every process compiles its own. NUMBA_CACHE_DIR names another folder.",
        file=_sys.stderr,
    )

# public name -> the module that holds it; nothing heavy is imported before a name is asked for
_names = {
    "load_prior": "prior.latent",
    "METHODS": "distill.zoo",
    "surrogate": "distill.sds",
    "init_state": "distill.sds",
    "Step": "distill.sds",
    "compare": "distill.compare",
    "Settings": "distill.compare",
    "LinearAutoencoder": "prior.latent",
    "ModelMixin": "prior.latent",  # diffusers looks both up here: model_index.json names "lucidteach"
    "nearest_truth": "prior.world",
    "Camera": "splat.camera",
    "Gaussians": "splat.gaussians",
    "rasterization": "splat.rasterize",
    "Field": "scene.field",
    "create": "lab.create",
    "Config": "scene.text_to_3d",
    "show": "viz.viewer",
    "stepper": "viz.explorers",
}


def __getattr__(name):
    if name == "torch_spins":
        return _torch_spins  # for the rasterizer's warning; nothing to offer
    if name not in _names:
        raise AttributeError(f"module 'lucidteach' has no attribute {name!r}; it offers {', '.join(sorted(_names))}")
    value = globals()[name] = getattr(_importlib.import_module(f"lucidteach.{_names[name]}"), name)
    return value


def __dir__():
    return sorted({*globals(), *_names})  # whatever this file needs for itself begins with an underscore


from . import _moved as _moved  # import paths of earlier versions, with a warning
