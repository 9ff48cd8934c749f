"""A key without the scope `probe` cannot rebuild references from the answers to ten requests; a key with it can.

The attacker sends probes whose embeddings it knows, and reads the answers as linear equations for the reference.
"""

import httpx
import numpy as np
import numpy.typing as npt
import pytest

from service.encoder.fake_pictures import draw_people
from tests.support.server import MakeClient

REQUESTS = 10
PROBES_A_REQUEST = 250
FACES = 12
"""Faces of one image of the attacker."""
STAFF = "/v1/galleries/staff"
SUCCESS = 0.5
"""Cosine of an attacker who has learned something: an unknown person's embedding is far below."""
Vector = npt.NDArray[np.float64]
Equations = list[tuple[Vector, float]]
"""Probes, and the similarity of each to the reference."""


@pytest.fixture
async def victim(client: httpx.AsyncClient) -> Vector:
    """The embedding of the only reference in the gallery `staff`."""
    await client.post("/v1/galleries", json={"name": "staff"})
    image = {"image": ("victim.jpg", draw_people(["the victim"]))}
    await client.post(f"{STAFF}/faces?person=Victim", files=image)
    (face,) = (await client.post("/v1/encode", files=image)).json()["faces"]
    return np.array(face["embedding"])


def rebuilt(equations: Equations, dimension: int) -> Vector:
    """The embedding that fits the similarities best. A similarity of 0 stands for every cosine below, so tells less."""
    told = [(probe / np.linalg.norm(probe), similarity) for probe, similarity in equations if similarity > 0]
    if not told:
        return np.ones(dimension)
    solution: Vector = np.linalg.lstsq(
        np.stack([probe for probe, _ in told]), np.array([similarity for _, similarity in told]), rcond=None
    )[0]
    return solution


def cosine(one: Vector, other: Vector) -> float:
    return float(one @ other) / float(np.linalg.norm(one) * np.linalg.norm(other))


def equations_of(probes: npt.NDArray[np.float64], answer: httpx.Response) -> Equations:
    """What an answer tells about the only reference."""
    faces = answer.json().get("faces", [])
    return [
        (probe, candidate["similarity"])
        for probe, face in zip(probes, faces, strict=False)
        for candidate in face["candidates"]
    ]


async def attack_by_embeddings(client: httpx.AsyncClient, dimension: int) -> Equations:
    """What ten requests with random embeddings tell."""
    chance = np.random.default_rng(1)
    equations: Equations = []
    for _ in range(REQUESTS):
        probes = chance.standard_normal((PROBES_A_REQUEST, dimension))
        answer = await client.post(f"{STAFF}/recognize", json={"embeddings": probes.round(4).tolist()})
        equations += equations_of(probes, answer)
    return equations


async def attack_by_images(client: httpx.AsyncClient, query: str) -> Equations:
    """What ten images of strangers tell, whose embeddings the service itself gives."""
    equations: Equations = []
    for number in range(REQUESTS):
        image = {"image": ("a.jpg", draw_people([f"stranger {number} {face}" for face in range(FACES)]))}
        encoded = (await client.post("/v1/encode", files=image)).json()["faces"]
        answer = await client.post(f"{STAFF}/recognize{query}", files=image)
        equations += equations_of(np.array([face["embedding"] for face in encoded]), answer)
    return equations


async def attack_by_verification(client: httpx.AsyncClient, person: str) -> Equations:
    """What ten verifications of strangers tell."""
    equations: Equations = []
    for number in range(REQUESTS):
        image = {"image": ("a.jpg", draw_people([f"stranger {number}"]))}
        (face,) = (await client.post("/v1/encode", files=image)).json()["faces"]
        similarity = (await client.post(f"{STAFF}/people/{person}/verify", files=image)).json()["similarity"]
        if similarity is not None:
            equations.append((np.array(face["embedding"]), similarity))
    return equations


async def test_ten_requests_with_the_scope_rebuild_a_reference(client: httpx.AsyncClient, victim: Vector) -> None:
    """The attack works, so that the next test can fail."""
    found = rebuilt(await attack_by_embeddings(client, len(victim)), len(victim))
    assert cosine(found, victim) > 0.99


async def test_ten_requests_without_the_scope_rebuild_nothing(
    client: httpx.AsyncClient, make_client: MakeClient, tenant_id: int, victim: Vector
) -> None:
    person = (await client.get(f"{STAFF}/people")).json()["items"][0]["id"]
    door = await make_client(tenant_id, ["recognize", "verify", "read", "enroll"])
    attacks = {
        "embeddings": await attack_by_embeddings(door, len(victim)),
        "images": await attack_by_images(door, ""),
        "images, threshold 0": await attack_by_images(door, "?threshold=0"),
        "verification": await attack_by_verification(door, person),
    }
    for name, equations in attacks.items():
        assert abs(cosine(rebuilt(equations, len(victim)), victim)) < SUCCESS, name
    assert {name: len(equations) for name, equations in attacks.items()} == dict.fromkeys(attacks, 0)


async def test_embeddings_as_probes_need_the_scope(make_client: MakeClient, tenant_id: int, victim: Vector) -> None:
    door = await make_client(tenant_id, ["recognize", "verify", "read"])
    person = (await door.get(f"{STAFF}/people")).json()["items"][0]["id"]
    probe = {"embedding": victim.tolist()}
    for path in (
        *(f"{STAFF}/recognize", f"{STAFF}/recognize/embeddings", "/v1/recognize?gallery=staff"),
        *("/v1/recognize/embeddings?gallery=staff", f"{STAFF}/people/{person}/verify"),
        f"{STAFF}/people/{person}/verify/embedding",
    ):
        answer = await door.post(path, json=probe)
        assert (answer.status_code, answer.json().get("scope")) == (403, "probe"), path


def has_two_digits(similarity: float) -> bool:
    return round(similarity, 2) == similarity


async def seen_by(client: httpx.AsyncClient) -> list[float]:
    """The similarities in the answers of every route that compares images."""
    image = {"image": ("a.jpg", draw_people(["the victim", "a stranger"], variation=3))}
    person = (await client.get(f"{STAFF}/people")).json()["items"][0]["id"]
    one = (await client.post(f"{STAFF}/recognize", files=image)).json()["faces"]
    several = (await client.post("/v1/recognize?gallery=staff", files=image)).json()["faces"]
    same = {"image": ("a.jpg", draw_people(["the victim"], variation=2))}
    verified = (await client.post(f"{STAFF}/people/{person}/verify", files=same)).json()
    two = [("image", ("a.jpg", draw_people([name]))) for name in ("the victim", "a stranger")]
    compared = (await client.post("/v1/compare", files=two)).json()
    found = [candidate["similarity"] for face in one + several for candidate in face["candidates"]]
    found += [face["match"]["similarity"] for face in one + several if face["match"]]
    return [*found, verified["similarity"], compared["similarity"]]


async def test_a_door_sees_matches_with_two_digits(
    client: httpx.AsyncClient, make_client: MakeClient, tenant_id: int, victim: Vector
) -> None:
    door = await make_client(tenant_id, ["recognize", "verify", "read"])
    seen, exact = await seen_by(door), await seen_by(client)
    assert len(seen) == 6  # twice the match as match and as candidate, the verification and the comparison
    assert all(map(has_two_digits, seen))
    assert not all(map(has_two_digits, exact))
    assert len(exact) == 8  # the stranger has the victim as a candidate below the threshold


async def test_a_door_cannot_choose_what_it_sees(
    client: httpx.AsyncClient, make_client: MakeClient, tenant_id: int, victim: Vector
) -> None:
    door = await make_client(tenant_id, ["recognize", "verify", "read", "enroll"])
    image = {"image": ("a.jpg", draw_people(["the victim"]))}
    person = (await door.get(f"{STAFF}/people")).json()["items"][0]["id"]
    own = (await client.get(STAFF)).json()["threshold"]
    for threshold in (0.0, own - 0.01, 0.7123):
        for path in (
            *(f"{STAFF}/recognize?", "/v1/recognize?gallery=staff&"),
            f"{STAFF}/people/{person}/verify?",
        ):
            refused = await door.post(f"{path}threshold={threshold}", files=image)
            assert (refused.status_code, refused.json().get("scope")) == (403, "probe"), (path, threshold)
    assert (await door.post(f"{STAFF}/recognize?threshold=0.7", files=image)).status_code == 200
    lowered = await door.patch(STAFF, json={"threshold": 0.0})
    assert (lowered.status_code, lowered.json().get("scope")) == (403, "probe")
    assert (await door.patch(STAFF, json={"threshold": 0.9})).status_code == 200
    assert (await client.patch(STAFF, json={"threshold": 0.1})).status_code == 200


async def test_findings_about_references_have_no_similarity_below_the_threshold(
    client: httpx.AsyncClient, make_client: MakeClient, tenant_id: int, victim: Vector
) -> None:
    """An embedding that is enrolled for the victim must not serve as a probe either."""
    door = await make_client(tenant_id, ["recognize", "enroll", "read"])
    person = (await door.get(f"{STAFF}/people")).json()["items"][0]["id"]
    chosen = np.random.default_rng(2).standard_normal(len(victim)).tolist()
    added = (await door.post(f"{STAFF}/people/{person}/faces", json={"embedding": chosen})).json()
    assert [warning["detail"] for warning in added["warnings"]] == [
        "the face is unlike the person's other references; the threshold is 0.50"
    ]
    (inconsistent,) = (await door.get(f"{STAFF}/check")).json()["inconsistent"]
    assert [face["similarity"] for face in inconsistent["unlike"]] == [None]
    (inconsistent,) = (await client.get(f"{STAFF}/check")).json()["inconsistent"]
    assert [type(face["similarity"]) for face in inconsistent["unlike"]] == [float]


async def test_a_key_that_exports_may_give_the_scope(make_client: MakeClient, tenant_id: int) -> None:
    for scopes, status in ((["admin", "export"], 201), (["admin", "recognize"], 403), (["admin", "probe"], 201)):
        maker = await make_client(tenant_id, scopes)
        made = await maker.post("/v1/keys", json={"name": "probing", "scopes": ["probe"]})
        assert made.status_code == status, scopes
    maker = await make_client(tenant_id)
    made = await maker.post("/v1/keys", json={"name": "as its creator"})
    assert "probe" not in made.json()["scopes"]
