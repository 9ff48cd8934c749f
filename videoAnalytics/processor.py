"""The legacy recognizer's `processor.py`, at its old place: `face-identity legacy processor` under another name."""

from service.cli.legacy import run

if __name__ == "__main__":
    run("processor")
