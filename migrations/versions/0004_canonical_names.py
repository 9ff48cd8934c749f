"""Canonical names: names that look equal become equal, in Unicode's form NFC and without blanks at their ends.

From this revision on the service stores and looks up names in this form only. A stored name in another form is
changed, unless a person of the gallery has the canonical name already: whether the two are one person is for people to
decide, so the second keeps its name and `face-identity people check` lists both. The second of two galleries or
tenants gets a number behind its name, because they are found by name alone.
"""

from collections.abc import Iterable, Iterator

import sqlalchemy as sa
from alembic import op

from service.database.names import canonical_name
from service.database.types import OWNER_ROLE

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TABLES = ("tenant", "api_key", "gallery", "person", "gallery_size")

# The characters that Python's str.strip() removes, without the control characters, which no name may hold.
BLANKS = " \u00a0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


def upgrade() -> None:
    if op.get_bind().scalar(sa.text("SHOW server_encoding")) != "UTF8":
        return  # an encoding of one byte per character has one spelling for each text
    op.execute(f"SET LOCAL ROLE {OWNER_ROLE}")
    # Row-level security is forced, and no policy shows the owner a row. The tables are locked until the commit, so
    # nobody else reads or writes meanwhile.
    for table in _TABLES:
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    rename_tenants()
    rename_galleries()
    rename_people("external_id", "external_id IS NOT NULL", is_unique=True)
    rename_people("name", "external_id IS NULL", is_unique=True)
    rename_people("name", "external_id IS NOT NULL", is_unique=False)
    for table in _TABLES:
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute("RESET ROLE")


def rename_tenants() -> None:
    connection = op.get_bind()
    names = [name for (name,) in connection.execute(sa.text("SELECT name FROM tenant ORDER BY tenant_id"))]
    for old, new in changed(names):
        connection.execute(sa.text("UPDATE tenant SET name = :new WHERE name = :old"), {"old": old, "new": new})


def rename_galleries() -> None:
    """Rename galleries, and their names in the keys that are limited to them."""
    connection = op.get_bind()
    stored: dict[int, list[str]] = {}
    lasting = sa.text("SELECT tenant_id, name FROM gallery WHERE expires_at IS NULL ORDER BY id")
    for tenant_id, name in connection.execute(lasting):
        stored.setdefault(tenant_id, []).append(name)
    rename = sa.text("UPDATE gallery SET name = :new WHERE tenant_id = :tenant AND name = :old")
    rename_in_keys = sa.text(
        "UPDATE api_key SET galleries = array_replace(galleries, :old, :new) WHERE tenant_id = :tenant"
    )
    for tenant_id, names in stored.items():
        for old, new in changed(names):
            for statement in (rename, rename_in_keys):
                connection.execute(statement, {"tenant": tenant_id, "old": old, "new": new})


def changed(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Pairs of old and new name for the names that are not canonical. A name that is taken gets a number."""
    names = list(names)
    taken = set(names)
    for old in names:
        canonical = new = canonical_name(old)
        if new == old:
            continue
        number = 1
        while new in taken:
            number += 1
            new = f"{canonical} ({number})"
        taken.add(new)
        yield old, new


def rename_people(column: str, people: str, *, is_unique: bool) -> None:
    """Give the column of these people its canonical form, and count the changed bytes of their galleries.

    In a unique column, a value that another person has already stays as it is; of several equal ones, the oldest
    person gets the canonical form.
    """
    first = "DISTINCT ON (tenant_id, gallery_id, canonical)" if is_unique else ""
    free = f"""WHERE NOT EXISTS (
        SELECT FROM person WHERE person.tenant_id = other.tenant_id AND person.gallery_id = other.gallery_id
            AND person.{column} = other.canonical AND {people})"""
    statement = f"""
        WITH other AS (
            SELECT {first} * FROM (
                SELECT tenant_id, gallery_id, id, {column} AS given,
                    btrim(normalize({column}, NFC), :blanks) AS canonical
                FROM person WHERE {people}
            ) AS spelled WHERE given <> canonical ORDER BY tenant_id, gallery_id, canonical, id
        ), renamed AS (
            UPDATE person SET {column} = other.canonical
            FROM (SELECT * FROM other {free if is_unique else ""}) AS other
            WHERE person.tenant_id = other.tenant_id AND person.gallery_id = other.gallery_id AND person.id = other.id
            RETURNING person.tenant_id, person.gallery_id, octet_length(canonical) - octet_length(given) AS bytes
        ), grown AS (
            SELECT tenant_id, gallery_id, sum(bytes) AS bytes FROM renamed GROUP BY tenant_id, gallery_id
        )
        UPDATE gallery_size SET bytes = gallery_size.bytes + grown.bytes
        FROM grown
        WHERE gallery_size.tenant_id = grown.tenant_id AND gallery_size.gallery_id = grown.gallery_id
            AND slot = (
                SELECT min(slot) FROM gallery_size AS size
                WHERE size.tenant_id = grown.tenant_id AND size.gallery_id = grown.gallery_id
            )
    """
    op.get_bind().execute(sa.text(statement), {"blanks": BLANKS})
