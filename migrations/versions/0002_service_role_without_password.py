"""Remove the password of the service role. Release 0.1.0 derived it from the administrator's password.

If DATABASE_URL contained no password, anybody could compute the result. `service/database/logins.py` describes how the
service logs in now.
"""

from alembic import op

from service.database.types import SERVICE_ROLE

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Only a superuser can see whether there is a password. Without this look, databases of one server that migrate at
    # the same time would change the same role, which PostgreSQL refuses.
    op.execute(
        f"""DO $$ BEGIN
            IF has_table_privilege('pg_authid', 'SELECT') THEN
                PERFORM FROM pg_authid WHERE rolname = '{SERVICE_ROLE}' AND rolpassword IS NOT NULL;
                IF NOT FOUND THEN
                    RETURN;
                END IF;
            END IF;
            ALTER ROLE {SERVICE_ROLE} PASSWORD NULL;
        END $$"""
    )
