"""The format of keys: what a leak scanner finds, and which keys are refused without a database query."""

import re

import pytest

from service.access.key_format import digest_of, hint_of, new_key, new_operator_key, read_key, read_operator_key

LARGEST_TENANT = (1 << 31) - 1


@pytest.mark.parametrize("tenant_id", [1, 35, 36, 123_456_789, LARGEST_TENANT])
def test_a_key_contains_its_tenant_and_has_a_digest(tenant_id: int) -> None:
    key = new_key(tenant_id)
    presented = read_key(key)
    assert presented is not None
    assert (presented.tenant_id, presented.digest) == (tenant_id, digest_of(key))


def test_a_scanner_finds_a_key_in_a_text_and_a_wrong_checksum_is_refused() -> None:
    key = new_key(LARGEST_TENANT)
    found = re.findall(r"fik_[0-9a-z]{1,7}_[0-9A-Za-z]{49}", f'curl -H "X-API-Key: {key}" https://example.org')
    assert found == [key]
    last = "0" if key[-1] != "0" else "1"
    assert read_key(key[:-1] + last) is None


@pytest.mark.parametrize("position", [0, 3, 4, 12, 30, 59])
def test_a_key_with_one_changed_character_is_refused(position: int) -> None:
    key = new_key(LARGEST_TENANT)
    changed = key[:position] + ("1" if key[position] != "1" else "2") + key[position + 1 :]
    assert read_key(changed) is None


@pytest.mark.parametrize(
    "text",
    ["", "fik_", "fik_1_", "fik_0_" + "0" * 49, "\0", "fik_1_" + "٣" * 49, "x" * 100_000, "fik_1_" + "0" * 49 + "\n"],
)
def test_a_text_of_another_format_is_not_a_key(text: str) -> None:
    assert read_key(text) is None
    assert read_operator_key(text) is None


def test_two_keys_are_never_the_same() -> None:
    assert len({new_key(1) for _ in range(1000)}) == 1000


def test_keys_of_operators_and_of_tenants_have_different_formats() -> None:
    assert read_key(new_operator_key()) is None
    assert read_operator_key(new_key(1)) is None
    assert read_operator_key(key := new_operator_key()) == digest_of(key)


def test_the_hint_shows_too_little_to_guess_the_rest() -> None:
    key = new_key(LARGEST_TENANT)
    hint = hint_of(key)
    assert key.startswith(hint[:-1])
    assert len(key) - len(hint[:-1]) == 45  # 39 of them random: 232 bits
    assert hint_of(new_operator_key()).startswith("fio_")
