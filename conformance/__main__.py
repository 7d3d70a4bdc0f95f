"""`python -m detr_conformance`: the command line of this very Python, wherever its scripts are."""

import sys

from detr_conformance.supervisor import main

if __name__ == "__main__":
    sys.exit(main())
