from . import dream, vsd  # every method is in METHODS, whichever module is asked for
