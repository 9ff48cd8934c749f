"""`python run.py`, the start command of the legacy recognizer: runs `face-identity serve`."""

import sys

from service.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["serve"]
    main()
