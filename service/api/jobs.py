"""Background jobs: status, progress and result."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.access.authentication import Caller
from service.api.shapes import Cursor, Limit, List
from service.errors import NotFound
from service.http.callers import CurrentCaller
from service.http.routes import keyed_router, needs
from service.http.sessions import RequestSession
from service.jobs.jobs import Job, find_job, list_jobs

router = keyed_router("/v1/jobs", "jobs")


class Progress(BaseModel):
    """Progress of a job; `total` is null until it is known."""

    done: int
    total: int | None


class JobError(BaseModel):
    """Why a job failed; `type` is that of a problem."""

    type: str
    title: str
    detail: str


class JobShape(BaseModel):
    """A background job."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "0c4qyk3d9m2w8",
                    "kind": "import",
                    "status": "succeeded",
                    "progress": {"done": 7, "total": 7},
                    "result": {"people": 2, "faces": 7},
                    "error": None,
                    "created_at": "2026-01-31T08:30:00Z",
                    "started_at": "2026-01-31T08:30:01Z",
                    "finished_at": "2026-01-31T08:30:02Z",
                }
            ]
        }
    )

    id: str
    kind: str
    status: Literal["queued", "running", "succeeded", "failed"]
    progress: Progress
    result: dict[str, Any] | None = Field(description="The result; null until the job has succeeded.")
    error: JobError | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, job: Job) -> "JobShape":
        """Convert a job to a response."""
        return cls(
            id=job.id,
            kind=job.kind,
            status=job.status,
            progress=Progress(done=job.done, total=job.total),
            result=job.result,
            error=_error(job),
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
        )


@router.get("")
@needs("read")
async def list_all(
    session: RequestSession, caller: CurrentCaller, limit: Limit = 100, cursor: Cursor = None
) -> List[JobShape]:
    """List the jobs of the tenant, newest first, that concern galleries which the key may use."""
    page = await list_jobs(session, limit, cursor)
    items = [JobShape.of(job) for job in page.items if _may_see(caller, job)]
    return List(items=items, next_cursor=page.next_cursor)


@router.get("/{job}")
@needs("read")
async def show(job: str, session: RequestSession, caller: CurrentCaller) -> JobShape:
    """Return one job."""
    shown = await find_job(session, job)
    if not _may_see(caller, shown):
        raise NotFound(f"there is no job {job[:100]!r}")
    return JobShape.of(shown)


def _may_see(caller: Caller, job: Job) -> bool:
    return caller.galleries is None or job.arguments.get("gallery") in caller.galleries


def _error(job: Job) -> JobError | None:
    if job.error is None:
        return None
    return JobError(type=f"urn:face-identity:{job.error['slug']}", title=job.error["title"], detail=job.error["detail"])
