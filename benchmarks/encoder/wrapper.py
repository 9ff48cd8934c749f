"""A minimal service that one could write: FaceAnalysis behind FastAPI and a matrix of embeddings. Nobody ships it.

`python -m benchmarks.encoder.wrapper PACK_FOLDER_PARENT PORT` starts it, for benchmarks.encoder to compare with.
"""

import sys
from typing import Any

import cv2
import numpy as np
import uvicorn
from fastapi import FastAPI, UploadFile
from insightface.app import FaceAnalysis

from benchmarks.encoder.served import GALLERY


def make_app(root: str) -> FastAPI:
    """Return the application. `root` has the pack as models/pack, as FaceAnalysis requires."""
    app = FastAPI()
    analysis = FaceAnalysis(
        name="pack", root=root, providers=["CPUExecutionProvider"], allowed_modules=["detection", "recognition"]
    )
    analysis.prepare(ctx_id=-1)
    known = np.random.default_rng(1).standard_normal((6, 128)).astype(np.float32)
    known /= np.linalg.norm(known, axis=1, keepdims=True)

    @app.get("/readyz")
    def ready() -> dict[str, str]:
        return {"status": "ready"}

    @app.post(f"/v1/galleries/{GALLERY}/recognize")
    def recognize(image: UploadFile) -> dict[str, Any]:
        pixels = cv2.imdecode(np.frombuffer(image.file.read(), np.uint8), cv2.IMREAD_COLOR)
        faces = analysis.get(pixels)
        return {"faces": [{"box": face.bbox.tolist(), "best": _best(known, face.normed_embedding)} for face in faces]}

    return app


def _best(known: np.ndarray, probe: np.ndarray) -> dict[str, Any]:
    similarities = known @ probe
    return {"person": int(similarities.argmax()), "similarity": float(similarities.max())}


if __name__ == "__main__":
    uvicorn.run(make_app(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
