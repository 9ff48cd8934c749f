"""Liveness, readiness and metrics. These routes need no key and reveal nothing about tenants."""

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict

from service.database.schema.migrate import SchemaState
from service.errors import DatabaseUnavailable
from service.http.openapi import problems
from service.http.state import CurrentServerState
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
                    "encoders": [{"name": "dlib", "digest": "6f1c…", "dimension": 128}],
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


@router.get("/readyz", responses=problems(DatabaseUnavailable))
async def ready(state: CurrentServerState) -> Ready:
    """Readiness: the database answers and has the newest schema. Returns the encoders of this server."""
    schema = await state.readiness.state()
    if not schema.is_current:
        raise DatabaseUnavailable(
            f"the schema has revision {schema.revision}, this server needs {schema.newest}: run `face-identity migrate`"
        )
    encoders = [
        LoadedEncoder(name=space.name, digest=space.digest, dimension=space.dimension)
        for space in state.encoders.spaces
    ]
    return Ready(database=_shape(schema), encoders=encoders)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {"example": "# HELP …"}}}})
async def metrics() -> Response:
    """Metrics for Prometheus."""
    return Response(metrics_text(), media_type=METRICS_CONTENT_TYPE)


def _shape(schema: SchemaState) -> DatabaseState:
    return DatabaseState(
        postgresql=schema.postgresql,
        pgvector=schema.pgvector,
        pgvector_is_safe=schema.pgvector_is_safe,
        schema_revision=schema.revision,
        schema_is_current=schema.is_current,
    )
