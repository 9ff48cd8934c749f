"""Tables of jobs and of their input files. The tables of the queue itself are made by procrastinate's schema."""

from sqlalchemy import BigInteger, Column, DateTime, ForeignKeyConstraint, Integer, LargeBinary, Table, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB

from service.database.types import identifier, metadata, tenant_key

job = Table(
    "job",
    metadata,
    tenant_key(),
    identifier("id"),
    Column("kind", Text, nullable=False),
    Column("arguments", JSONB, nullable=False),
    Column("status", Text, nullable=False, server_default=text("'queued'")),
    Column("done", BigInteger, nullable=False, server_default=text("0")),
    Column("total", BigInteger),
    Column("attempts", Integer, nullable=False, server_default=text("0"), comment="Number of attempts by a worker."),
    Column("result", JSONB),
    Column("error", JSONB),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("started_at", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True)),
    ForeignKeyConstraint(["tenant_id"], ["tenant.tenant_id"], ondelete="CASCADE"),
)

job_input = Table(
    "job_input",
    metadata,
    tenant_key(),
    identifier("job_id"),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("content", LargeBinary, nullable=False, comment="One piece of the uploaded file, at most one mebibyte."),
    ForeignKeyConstraint(["tenant_id", "job_id"], ["job.tenant_id", "job.id"], ondelete="CASCADE"),
)
