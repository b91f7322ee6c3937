"""3D Gaussian splatting

`Gaussians` gets `load` and `save` in `files` and `render` in `rasterize`: whoever imports a part of this room has the whole class.
"""

from . import files as files, rasterize as rasterize
