"A laboratory for score distillation where the truth is known"

__version__ = "0.1.0"

import importlib as _importlib
import typing as _typing

from . import _before
from . import _moved as _moved  # import paths of earlier versions, with a warning

_torch_spins = _before.let_threads_sleep()
_before.keep_kernels()

# public name -> the module that holds it; nothing heavy is imported before a name is asked for
_names = {
    "load_prior": "prior.checkpoints",
    "METHODS": "distill.methods",
    "surrogate": "distill.sds",
    "init_state": "distill.methods",
    "Step": "distill.sds",
    "compare": "lab.compare",
    "worlds": "lab.compare",
    "Settings": "distill.canvas",
    "LinearAutoencoder": "prior.latent",
    "ModelMixin": "prior.latent",  # diffusers looks both up here: model_index.json names "lucidteach"
    "nearest_truth": "prior.truth",
    "Camera": "splat.camera",
    "Gaussians": "splat.gaussians",
    "rasterization": "splat.rasterize",
    "Field": "scene.field",
    "create": "lab.create",
    "edit": "lab.edit",
    "personalize": "scene.personalize_run",
    "avatar": "lab.avatar",
    "Config": "scene.config",
    "show": "viz.viewer",
    "stepper": "viz.explorers",
    "explore": "viz.explore",
    "microscope_explorer": "viz.live3d",
    "live_create": "viz.live3d",
    "field_explorer": "viz.field_explorer",
    "splat_explorer": "viz.splat_explorer",
    "guidance_explorer": "viz.guidance_explorer",
    "board": "lab.board",
    "interval_explorer": "viz.interval",
    "target_grid": "viz.targets",
}

if _typing.TYPE_CHECKING:  # the same for a type checker and an editor; a test holds the two lists together
    from .distill.canvas import Settings as Settings
    from .distill.methods import METHODS as METHODS
    from .distill.methods import init_state as init_state
    from .distill.sds import Step as Step
    from .distill.sds import surrogate as surrogate
    from .lab.avatar import avatar as avatar
    from .lab.board import board as board
    from .lab.compare import compare as compare
    from .lab.compare import worlds as worlds
    from .lab.create import create as create
    from .lab.edit import edit as edit
    from .prior.checkpoints import load_prior as load_prior
    from .prior.latent import LinearAutoencoder as LinearAutoencoder
    from .prior.latent import ModelMixin as ModelMixin
    from .prior.truth import nearest_truth as nearest_truth
    from .scene.config import Config as Config
    from .scene.field import Field as Field
    from .scene.personalize_run import personalize as personalize
    from .splat.camera import Camera as Camera
    from .splat.gaussians import Gaussians as Gaussians
    from .splat.rasterize import rasterization as rasterization
    from .viz.explore import explore as explore
    from .viz.explorers import stepper as stepper
    from .viz.field_explorer import field_explorer as field_explorer
    from .viz.guidance_explorer import guidance_explorer as guidance_explorer
    from .viz.interval import interval_explorer as interval_explorer
    from .viz.live3d import live_create as live_create
    from .viz.live3d import microscope_explorer as microscope_explorer
    from .viz.splat_explorer import splat_explorer as splat_explorer
    from .viz.targets import target_grid as target_grid
    from .viz.viewer import show as show
else:  # without this line a type checker would believe in every name

    def __getattr__(name: str):
        if name == "torch_spins":
            return _torch_spins  # for the rasterizer's warning; nothing to offer
        if name not in _names:
            raise AttributeError(
                f"module 'lucidteach' has no attribute {name!r}; it offers {', '.join(sorted(_names))}"
            )
        value = globals()[name] = getattr(_importlib.import_module(f"lucidteach.{_names[name]}"), name)
        return value


def __dir__():
    return sorted({*globals(), *_names})  # whatever this file needs for itself begins with an underscore
