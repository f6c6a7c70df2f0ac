from __future__ import annotations

import pytest
from holdtrue_storage.migrations import Migration, MigrationError, pending
from hypothesis import given
from hypothesis import strategies as st


def _files(package: str, count: int) -> list[Migration]:
    return [Migration(package, f"{n:04}_step.sql", f"-- {package} {n}") for n in range(1, count + 1)]


def _applied(migrations: list[Migration]) -> dict[tuple[str, str], str]:
    return {(migration.package, migration.name): migration.sha256 for migration in migrations}


@given(st.integers(0, 5), st.integers(0, 5), st.data())
def test_what_follows_what_was_applied_is_pending_in_order(shared: int, own: int, data: st.DataObject) -> None:
    wanted = _files("shared", shared) + _files("own", own)
    done = _files("shared", data.draw(st.integers(0, shared))) + _files("own", data.draw(st.integers(0, own)))
    assert pending(wanted, _applied(done)) == [migration for migration in wanted if migration not in done]


@given(st.integers(1, 5), st.data())
def test_a_changed_file_is_refused_by_name(count: int, data: st.DataObject) -> None:
    files = _files("own", count)
    changed = data.draw(st.sampled_from(files))
    wanted = [Migration(f.package, f.name, f.sql + " ") if f is changed else f for f in files]
    with pytest.raises(MigrationError, match=f"own/{changed.name} was changed"):
        pending(wanted, _applied(files))


@given(st.integers(1, 5), st.data())
def test_a_missing_file_is_refused_by_name(count: int, data: st.DataObject) -> None:
    files = _files("own", count)
    missing = data.draw(st.sampled_from(files))
    with pytest.raises(MigrationError, match=f"own/{missing.name} .* missing"):
        pending([file for file in files if file is not missing], _applied(files))


@given(st.integers(2, 5), st.data())
def test_a_file_that_would_be_overtaken_is_refused(count: int, data: st.DataObject) -> None:
    files = _files("own", count)
    late = data.draw(st.sampled_from(files[:-1]))
    with pytest.raises(MigrationError, match=f"own/{late.name} would be overtaken"):
        pending(files, _applied([file for file in files if file is not late]))
