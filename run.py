"""`python run.py`, as the legacy recognizer was started: `face-identity serve` with the settings of `.env`."""

import sys

from service.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["serve"]
    main()
