"""The legacy recognizer's `encoder.py`, at its old place: `face-identity legacy encoder` under another name."""

from service.cli.legacy import run

if __name__ == "__main__":
    run("encoder")
