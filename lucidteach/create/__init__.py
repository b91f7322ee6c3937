"The package is callable: importing any of its modules puts the package itself where `lucidteach.create` the function would be"
import sys, types

class _Package(types.ModuleType):
    def __call__(self, *args, **kw):
        from .text_to_3d import create
        return create(*args, **kw)

sys.modules[__name__].__class__ = _Package
