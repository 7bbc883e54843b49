"""What lightning-fabric asks of a launcher, answered by the place that a process was given."""

from __future__ import annotations

from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment

from polytask.training.processes import Place


class Introduction(ClusterEnvironment):
    """Processes on this machine, started by the first of them."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        return self.place.port

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self.place.size

    def set_world_size(self, size: int) -> None:
        """It is given."""

    def global_rank(self) -> int:
        return self.place.rank

    def set_global_rank(self, rank: int) -> None:
        """It is given."""

    def local_rank(self) -> int:
        return self.place.rank

    def node_rank(self) -> int:
        return 0
