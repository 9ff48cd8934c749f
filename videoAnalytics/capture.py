"""The legacy recognizer's `capture.py`, at its old place: `face-identity legacy capture` under another name."""

from service.cli.legacy import run

if __name__ == "__main__":
    run("capture")
