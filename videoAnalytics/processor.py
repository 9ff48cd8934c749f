"""The legacy recognizer's `processor.py` at its old path: runs `face-identity legacy processor`."""

from service.cli.legacy import run

if __name__ == "__main__":
    run("processor")
