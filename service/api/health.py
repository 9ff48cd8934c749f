"""Liveness, readiness and metrics. These routes need no key and reveal nothing about tenants."""

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict

from service.database.schema.migrate import SchemaState
from service.embedding import EmbeddingSpace
from service.encoder.devices import network_devices
from service.errors import DatabaseUnavailable, OutOfMemory
from service.http.openapi import problems
from service.http.state import CurrentServerState
from service.settings import Settings
from service.telemetry import METRICS_CONTENT_TYPE, metrics_text

router = APIRouter(tags=["health"])


class Alive(BaseModel):
    """The process is alive."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "alive"}]})

    status: Literal["alive"] = "alive"


class DatabaseState(BaseModel):
    """The state of the database."""

    postgresql: str
    pgvector: str | None
    pgvector_is_safe: bool
    schema_revision: str | None
    schema_is_current: bool


class LoadedEncoder(BaseModel):
    """One encoder of this server."""

    name: str
    digest: str
    dimension: int
    detector_device: str
    """`cpu`, or the provider and the number of its GPU, such as `cuda:0`."""
    recognizer_device: str


class Ready(BaseModel):
    """The server is ready."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "status": "ready",
                    "database": {
                        "postgresql": "16.9",
                        "pgvector": "0.8.5",
                        "pgvector_is_safe": True,
                        "schema_revision": "0001",
                        "schema_is_current": True,
                    },
                    "encoders": [
                        {
                            "name": "dlib",
                            "digest": "6f1c…",
                            "dimension": 128,
                            "detector_device": "cpu",
                            "recognizer_device": "cpu",
                        }
                    ],
                }
            ]
        }
    )

    status: Literal["ready"] = "ready"
    database: DatabaseState
    encoders: list[LoadedEncoder]


@router.get("/healthz")
async def alive() -> Alive:
    """Liveness: the process answers. It does not check the database, whose outage is no reason for a restart."""
    return Alive()


@router.get("/readyz", responses=problems(DatabaseUnavailable, OutOfMemory))
async def ready(state: CurrentServerState) -> Ready:
    """Readiness: the database answers and has the newest schema, and images do not lack memory. Returns the encoders of
    this server.
    """
    state.encoders.check_memory()
    schema = await state.readiness.state()
    if not schema.is_current:
        raise DatabaseUnavailable(
            f"the schema has revision {schema.revision}, this server needs {schema.newest}: run `face-identity migrate`"
        )
    encoders = [_loaded(space, state.settings) for space in state.encoders.spaces]
    return Ready(database=_shape(schema), encoders=encoders)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {"example": "# HELP …"}}}})
async def metrics() -> Response:
    """Metrics for Prometheus."""
    return Response(metrics_text(), media_type=METRICS_CONTENT_TYPE)


def _loaded(space: EmbeddingSpace, settings: Settings) -> LoadedEncoder:
    devices = network_devices(space.name, settings)
    return LoadedEncoder(
        name=space.name,
        digest=space.digest,
        dimension=space.dimension,
        detector_device=devices.detector,
        recognizer_device=devices.recognizer,
    )


def _shape(schema: SchemaState) -> DatabaseState:
    return DatabaseState(
        postgresql=schema.postgresql,
        pgvector=schema.pgvector,
        pgvector_is_safe=schema.pgvector_is_safe,
        schema_revision=schema.revision,
        schema_is_current=schema.is_current,
    )
