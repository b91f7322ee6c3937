"Import paths of the version before: they lead to where their names live now, with a warning, for one version"

import importlib
import importlib.abc
import importlib.util
import sys
import types
import warnings
from importlib.machinery import PathFinder, SourceFileLoader

# old module -> the modules that its names live in now, nearest first
MOVED = {
    "create": (),
    "create.field": ("scene.field",),
    "create.init": ("scene.start", "scene.meshes", "scene.points", "scene.sources"),
    "create.text_to_3d": ("scene.text_to_3d", "scene.run", "lab.create"),
    "distill.compare": (
        "distill.canvas",
        "lab.compare",
        "lab.comparison",
        "run.folders",
        "run.jobs",
        "run.memory",
        "run.tables",
        "run.files",
        "run.names",
        "run.settings",
        "prior.pictures",
        "prior.prompts",
    ),
    "prior.files": ("run.files",),
    "show": (),
    "show.explorers": ("viz.explorers",),
    "show.lab": ("lab.notebooks",),
    "show.live": ("run.live",),
    "show.report": ("viz.report", "lab.page", "lab.compare"),
    "show.viewer": ("viz.viewer", "lab.export", "run.pages"),
}

# a module that is still there -> where some of its names live now
LEFT = {
    "prior.latent": ("prior.checkpoints",),
    "distill.sds": ("distill.methods", "run.settings"),
    "distill.zoo": ("distill.vsd", "distill.methods"),
    "judge.metrics": ("judge.judges",),
    "judge.sweep": ("judge.measures", "lab.sweep"),
    "prior.exact": ("prior.cond", "prior.patches"),
    "prior.schedule": ("run.settings",),
    "prior.train": ("prior.training_run",),
    "prior.world": ("prior.words", "prior.truth", "prior.objects"),
    "scene.text_to_3d": ("scene.run", "lab.create"),
    "splat.fit": ("splat.captures",),
    "splat.gaussians": ("splat.algebra", "splat.files", "splat.kinds"),
    "splat.rasterize": ("splat.reference", "splat.kernels"),
    "splat.strategy": ("splat.mcmc",),
}

# a package that was a function as well -> where that function lives now
CALLED = {
    "create": ("lab.create",),
    "show": ("viz.viewer",),
}


class Callable(types.ModuleType):
    "The packages `create` and `show` could be called: they still can, when an old path has brought one of them in"

    def __call__(self, *args, **kw):
        package = self.__name__.removeprefix("lucidteach.")
        return found(package, package, CALLED[package])(*args, **kw)


def found(old: str, name: str, homes: tuple):
    "The name from the first module that has it"
    for home in homes if not name.startswith("__") else ():
        holder = importlib.import_module(f"lucidteach.{home}")
        if name in vars(holder):
            return getattr(holder, name)
    raise AttributeError(f"module 'lucidteach.{old}' has no attribute {name!r}, and neither has {' nor '.join(homes)}")


def warn(text: str):
    warnings.warn(f"{text}; the old path goes with the next version", FutureWarning, stacklevel=3)


class Left(SourceFileLoader):
    "Loads a module that is still there, and lets it hand on the names that have left it"

    def exec_module(self, module):
        super().exec_module(module)
        old = module.__name__.removeprefix("lucidteach.")

        def gone(name):
            value = found(old, name, LEFT[old])
            warn(f"lucidteach.{old} has {name} from {' or '.join(LEFT[old])} now")
            return value

        module.__getattr__ = gone


class Moved(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    "Finds the modules of MOVED, each of which hands on the names of the modules that it became"

    def find_spec(self, fullname, path=None, target=None):
        package, _, name = fullname.partition(".")
        if package == "lucidteach" and name in LEFT:
            spec = PathFinder.find_spec(fullname, path, target)
            if spec and isinstance(spec.loader, SourceFileLoader):
                spec.loader = Left(spec.loader.name, spec.loader.path)
            return spec
        if package != "lucidteach" or name not in MOVED:
            return None
        return importlib.util.spec_from_loader(fullname, self, is_package=not MOVED[name])

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        old = module.__name__.removeprefix("lucidteach.")
        homes = MOVED[old]
        if not homes:
            module.__class__ = Callable  # once it is imported, `lucidteach.create` is this package
            return
        module.__getattr__ = lambda name: found(old, name, homes)
        warn(f"lucidteach.{old} is now {' and '.join(f'lucidteach.{home}' for home in homes)}")


sys.meta_path.insert(0, Moved())
