"""The legacy recognizer's `encoder.py` at its old path: runs `face-identity legacy encoder`."""

from service.cli.legacy import run

if __name__ == "__main__":
    run("encoder")
