"""The legacy recognizer's parsing and matching behind FastAPI, in their kind form and without its models."""

import sys

import numpy as np
import uvicorn
from fastapi import FastAPI, UploadFile

from tests.support import legacy_recognizer

app = FastAPI()
PROBE = np.random.default_rng(2).standard_normal(512)


@app.post("/recognizer/image")
async def recognize(file: UploadFile, dataset: UploadFile) -> dict[str, object]:
    """Return the label of one invented face."""
    await file.read()
    labels, matrix = legacy_recognizer.parse_kindly(await dataset.read())
    label = legacy_recognizer.match(labels, matrix, PROBE)
    return {"faces": [{"label": label, "bbox": [0.0, 0.0, 1.0, 1.0, 1.0]}]}


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="error")
