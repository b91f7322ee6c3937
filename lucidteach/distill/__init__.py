from . import vsd  # every method is in METHODS, whichever module is asked for
