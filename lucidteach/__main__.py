"`python -m lucidteach` is the command `lucidteach`, where a script folder is not on the path"

import sys

from lucidteach.cli import main

if __name__ == "__main__":
    sys.exit(main())
