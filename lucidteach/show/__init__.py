"The package is callable, as `lucidteach.create` is: `lucidteach.show(gaussians)` is `lucidteach.show.viewer.show`"
import sys, types

class _Package(types.ModuleType):
    def __call__(self, *args, **kw):
        from .viewer import show
        return show(*args, **kw)

sys.modules[__name__].__class__ = _Package
