import sys
from .. import _Callable

_home = "text_to_3d"   # of the function that the package is when it is called
sys.modules[__name__].__class__ = _Callable
