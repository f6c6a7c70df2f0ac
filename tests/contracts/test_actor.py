from __future__ import annotations

import pytest
from holdtrue_contracts.actor import DEFAULT_TENANT, Actor, ActorKind, local_person, service_actor
from hypothesis import given
from hypothesis import strategies as st

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
actors = st.builds(Actor, names, names, st.sampled_from(ActorKind), st.lists(names, max_size=3).map(tuple))


@given(actors)
def test_the_header_form_is_ascii_and_reads_back_whatever_the_names_hold(actor: Actor) -> None:
    header = actor.to_header()
    assert header.isascii()
    assert all(0x20 < byte < 0x7F for byte in header)
    assert Actor.from_header(header) == actor


def test_the_header_form_is_pinned() -> None:
    actor = Actor("default", "Zoë / x", ActorKind.PERSON, ("operator", "auditor"))
    assert actor.to_header() == b"default/person/Zo%C3%AB%20%2F%20x/operator,auditor"


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"", "tenant/kind/name/roles"),
        (b"default/person/me", "tenant/kind/name/roles"),
        (b"/person/me/", "needs a tenant and a name"),
        (b"default/person//", "needs a tenant and a name"),
        (b"default/robot/me/", "robot"),
        ("default/person/Zoë/".encode(), "ascii"),
    ],
)
def test_a_broken_header_is_refused_with_what_is_wrong(header: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Actor.from_header(header)


def test_who_acts_by_default() -> None:
    assert service_actor("trainer") == Actor(DEFAULT_TENANT, "trainer", ActorKind.SERVICE)
    assert local_person().kind is ActorKind.PERSON
    assert local_person().name
