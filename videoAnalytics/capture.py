"""The legacy recognizer's `capture.py` at its old path: runs `face-identity legacy capture`."""

from service.cli.legacy import run

if __name__ == "__main__":
    run("capture")
