"""The seam holds: the core awaits nothing else, both managers are the same, and an effect may fail anywhere."""

from __future__ import annotations

import ast
import asyncio
import gc
import inspect
from collections.abc import AsyncIterator, Awaitable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.unit.managers.helpers import CASES, NAME, Manager, NewManager, client, given
from tiny_ca.db import AsyncDBHandler, SyncDBHandler
from tiny_ca.exc import NotUniqueCertOwner
from tiny_ca.managers import AsyncCertLifecycleManager, CertLifecycleManager, keeping, lifecycle, repair
from tiny_ca.managers.effects import awaited, inline, stepped, whole
from tiny_ca.managers.lifecycle import Lifecycle
from tiny_ca.storage import AsyncLocalStorage, LocalStorage


class TestShape:
    def test_the_core_awaits_only_effects(self) -> None:
        """Every await of the core is of ``self._run`` or of another coroutine of the core."""
        core = [ast.parse(inspect.getsource(module)) for module in (keeping, lifecycle, repair)]
        nodes = [node for tree in core for node in ast.walk(tree)]
        own = {node.name for node in nodes if isinstance(node, ast.AsyncFunctionDef)}
        awaits = [node.value for node in nodes if isinstance(node, ast.Await)]
        assert awaits
        for value in awaits:
            assert isinstance(value, ast.Call), ast.unparse(value)
            assert isinstance(value.func, ast.Attribute), ast.unparse(value)
            assert ast.unparse(value.func.value) == "self", ast.unparse(value)
            assert value.func.attr in {"_run", *own}, ast.unparse(value)
        assert not [node for node in nodes if isinstance(node, ast.AsyncFor | ast.AsyncWith)]

    def test_both_managers_are_the_same(self) -> None:
        """The core's operations are the methods of both managers, with one signature; only the async ones wait."""
        operations = {name for name, _ in inspect.getmembers(Lifecycle, inspect.isfunction) if not name.startswith("_")}
        for kind in (CertLifecycleManager, AsyncCertLifecycleManager):
            public = {name for name in vars(kind) if not name.startswith("_")}
            assert public == operations | {"factory"}
            for name in operations:
                method = getattr(kind, name)
                assert inspect.signature(method) == inspect.signature(getattr(Lifecycle, name))
                assert method.__doc__
                assert inspect.iscoroutinefunction(method) is (kind is AsyncCertLifecycleManager)
        assert inspect.signature(CertLifecycleManager) == inspect.signature(AsyncCertLifecycleManager)

    @pytest.mark.parametrize(
        "wrong", [{"db_handler": object()}, {"storage": object()}, {"storage": AsyncLocalStorage()}, {"factory": 1}]
    )
    def test_sync_refuses_other_kinds(self, wrong: dict[str, Any]) -> None:
        """The sync manager names the collaborator that is of another kind."""
        with pytest.raises(TypeError, match=next(iter(wrong))):
            CertLifecycleManager(**wrong)

    def test_sync_refuses_an_async_registry(self, tmp_path: Path) -> None:
        """An asynchronous BaseDB is another kind, too."""
        with pytest.raises(TypeError, match="AsyncDBHandler"):
            CertLifecycleManager(db_handler=AsyncDBHandler(f"sqlite:///{tmp_path / 'ca.db'}"))


class TestEffects:
    def test_generated_is_a_list(self) -> None:
        """Generators, async or not, come back as lists from either seam."""

        def rows() -> Iterator[int]:
            yield from (1, 2)

        async def arows() -> AsyncIterator[int]:
            yield 1
            yield 2

        assert stepped(inline(rows)) == [1, 2]  # type: ignore[comparison-overlap]
        assert asyncio.run(awaited(rows)) == asyncio.run(awaited(arows)) == [1, 2]  # type: ignore[comparison-overlap]

    def test_inline_does_not_wait(self) -> None:
        """What has to be awaited is a TypeError in a sync manager, and a coroutine that waits a RuntimeError."""
        future: asyncio.Future[int] = asyncio.Future(loop=asyncio.new_event_loop())

        def give() -> int | Awaitable[int]:
            return future

        with pytest.raises(TypeError, match="asynchronous"):
            stepped(inline(give))

        async def wait() -> int:
            return await future

        with pytest.raises(RuntimeError, match="waited"):
            stepped(wait())
        future.get_loop().close()

    def test_a_function_may_give_an_awaitable(self) -> None:
        """The async seam awaits what a plain function returned."""

        async def answer() -> int:
            return 42

        def give() -> int | Awaitable[int]:
            return answer()

        assert asyncio.run(awaited(give)) == 42

    def test_begun_is_ended(self) -> None:
        """A cancelled caller is told so after the operation has ended, not in its middle."""
        done: list[str] = []

        async def operation() -> None:
            await asyncio.sleep(0.05)
            done.append("ended")

        async def main() -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(whole(operation()), 0.01)
            assert done == ["ended"]

        asyncio.run(main())


class TestFailures:
    @pytest.mark.parametrize("dead", [False, True], ids=["failing", "dying"])
    @pytest.mark.parametrize("case", CASES)
    def test_before_every_effect(self, copied_manager: NewManager, case: str, *, dead: bool) -> None:
        """Whichever effect fails: nothing unrecorded is left, and the old certificate stands unless its successor does.

        A process that dies may leave a folder that no record names; ``repair`` finds it, and then all is well.
        """
        operation, arguments = CASES[case]
        for k in range(1, 20):
            manager = copied_manager(str(k))
            old = manager.certificate("web")
            folders, known = manager.folders(), {record.serial_number for record in manager.records()}
            if not manager.cut_short(k, dead=dead, operation=operation, **given(arguments, old)):
                assert k > 1
                return
            successor = [record for record in manager.records() if record.serial_number not in known]
            gc.collect()  # a frame of the operation that died may hold its lock
            repairs = manager.call("repair")
            assert_whole(manager)
            if not successor:
                assert all(one.action == "discarded" for one in repairs)
                assert dead or not repairs
                assert {*manager.folders(), "a"} == {*folders, "a"}  # of the path a/b the first step may stay
                assert_usable(manager, old)
            assert manager.statuses().count("valid") in {1, 2} if case == "a renewal" else 1
            assert manager.statuses("Root").count("valid") == 1
            assert manager.call("repair") == []
        pytest.fail("it never ended")

    @pytest.mark.parametrize("dead", [False, True], ids=["failing", "dying"])
    def test_a_deletion_goes_on(self, copied_manager: NewManager, *, dead: bool) -> None:
        """Cut short anywhere, a deletion is done again to its end: the key never outlives the record."""
        for k in range(1, 20):
            manager = copied_manager(str(k))
            serial = manager.certificate("web").serial_number
            done = not manager.cut_short(k, dead=dead, operation="delete_certificate", serial=serial)
            if not (manager.folder / "web").exists() and not manager.statuses():
                done = True
            assert manager.statuses() or not (manager.folder / "web").exists()
            assert done or manager.call("delete_certificate", serial) is True
            assert (manager.statuses(), (manager.folder / "web").exists()) == ([], False)
            if done:
                return
        pytest.fail("it never ended")


class TestTwoAtOnce:
    def test_exactly_one_wins(self, tmp_path: Path, db_url: str) -> None:
        """Of many that issue one name at once exactly one gets it; of the others nothing is left."""
        first = Manager(
            CertLifecycleManager(LocalStorage(tmp_path / "pki"), db_handler=SyncDBHandler(db_url)),
            tmp_path / "pki",
            db_url,
            asyncio.Runner(),
        )
        first.set_up()
        before = first.folders()

        def issue(_: int) -> x509.Certificate | None:
            handler = SyncDBHandler(db_url)
            manager = CertLifecycleManager(LocalStorage(first.folder), first.manager.factory, handler)
            try:
                return manager.issue_certificate(client())[0]
            except NotUniqueCertOwner:
                return None
            finally:
                handler.close()

        with ThreadPoolExecutor(8) as pool:
            won = [cert for cert in pool.map(issue, range(8)) if cert is not None]
        assert len(won) == 1
        assert first.statuses() == ["valid"]
        assert len(first.folders() - before) == 1
        first.close()


def assert_usable(manager: Manager, cert: x509.Certificate) -> None:
    """Assert that a certificate is valid, with its own files where its record says."""
    record = manager.eyes.get_by_serial(cert.serial_number)
    assert record is not None
    assert record.status == "valid"
    folder = manager.folder / str(record.uuid)
    assert x509.load_pem_x509_certificate((folder / f"{NAME}.pem").read_bytes()) == cert
    key = load_pem_private_key((folder / f"{NAME}.key").read_bytes(), None)
    assert key.public_key() == cert.public_key()


def assert_whole(manager: Manager) -> None:
    """Assert that every folder has its record, and every valid certificate its folder with itself in it."""
    kept = {
        path.parent.name: x509.load_pem_x509_certificate(path.read_bytes()).serial_number
        for path in manager.folder.rglob("*.pem")
        if path.name != "crl.pem"
    }
    records = {str(record.uuid): int(record.serial_number) for record in manager.records() if record.uuid}
    assert kept.items() <= records.items()
    valid = {str(record.uuid): int(record.serial_number) for record in manager.records() if record.status == "valid"}
    assert valid.items() <= kept.items()
    assert not list(manager.folder.rglob(".*"))
