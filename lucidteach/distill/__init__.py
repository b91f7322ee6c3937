from . import zoo  # every method is in METHODS, whichever module is asked for
