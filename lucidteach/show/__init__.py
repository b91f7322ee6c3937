import sys
from .. import _Callable

_home = "viewer"   # of the function that the package is when it is called
sys.modules[__name__].__class__ = _Callable
