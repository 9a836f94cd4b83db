"""Resident memory of the service after 10,000 certificates and after ten times as many (--certificates)."""

from __future__ import annotations

import time
from typing import Final

import psutil  # type: ignore[import-untyped]

from benchmarks.harness import Load, Service, arguments, drive, machine, scratch
from benchmarks.orders import make_csrs, requests

_CSRS: Final = 200
_CERTIFICATES: Final = (10_000, 100_000)
_MEBIBYTE: Final = 2**20


def main() -> None:
    """Measure and print."""
    asked = arguments(__doc__, rounds=1, seconds=5.0, connections=32, also={"--certificates": _CERTIFICATES})
    with scratch(asked.folder) as folder:
        print(f"{machine(folder)}; {asked.connections} connections")
        with Service(folder / "service") as service:
            load = Load(requests=requests(service, make_csrs(_CSRS)), connections=asked.connections)
            done, resident = 0, {0: _resident(service)}
            for wanted in asked.certificates:
                while done < wanted:
                    (measured,) = drive(service, [load], seconds=asked.seconds)
                    assert all(answer.status == 201 for answer in measured.answers)
                    done += len(measured.answers)
                time.sleep(1)  # what the last answers held is let go
                resident[done] = _resident(service)
        print(machine(folder))
    first = list(resident.values())[1]
    print(f"\n{'certificates':>12} {'MiB':>6} {'ratio':>6}")
    for count, octets in resident.items():
        print(f"{count:>12} {octets / _MEBIBYTE:>6.0f} {octets / first:>6.2f}")


def _resident(service: Service) -> int:
    return sum(psutil.Process(pid).memory_info().rss for pid in service.pids)


if __name__ == "__main__":
    main()
