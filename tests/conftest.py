"""What holds for every test: no network, and examples that are the same in every run."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("eightfold", deadline=None, derandomize=True)
settings.load_profile("eightfold")


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Connecting to anything but a socket in the file system fails, at once and with a name."""

    def refuse(connect: Any) -> Any:
        def connect_locally(self: socket.socket, address: Any) -> Any:
            if self.family != socket.AF_UNIX:
                raise RuntimeError(f"a test tried to connect to {address}")
            return connect(self, address)

        return connect_locally

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, refuse(getattr(socket.socket, name)))
        yield
