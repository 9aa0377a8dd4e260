"""GPUs and links by name: figures of their makers, and what a described cluster is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.config.schema import Config

if TYPE_CHECKING:
    from trainer.distributed import Ranks

GIB = 1024**3
_T, _G = 10**12, 10**9


@dataclass(frozen=True)
class Gpu:
    """One kind of GPU.

    Attributes:
        bf16, fp32: peak operations per second; without sparsity and TF32, which PyTorch leaves off.
        memory: bytes that programs get, as nvidia-smi reports them.
        bandwidth: of its memory, bytes per second.
        within: the link between GPUs of a node that it is usually sold with.
    """

    bf16: float
    fp32: float
    memory: int
    bandwidth: float
    within: str


def _gpu(bf16: float, fp32: float, mib: int, bandwidth: float, within: str) -> Gpu:
    return Gpu(bf16 * _T, fp32 * _T, mib * 1024**2, bandwidth * _G, within)


#: Dense tensor-core bf16 with fp32 accumulation (TFLOP/s), fp32 (TFLOP/s), MiB, GB/s. Sources: NVIDIA's
#: data sheets of the A100, H100, H200, L4, L40S and RTX A6000, of the DGX B200 (a GPU is an eighth of it),
#: and its white papers of the GA102 and Ada architectures for the RTX 3090 and 4090.
GPUS = {
    "a100_40": _gpu(312, 19.5, 40_536, 1_555, "nvlink3"),
    "a100_80": _gpu(312, 19.5, 81_920, 2_039, "nvlink3"),
    "h100": _gpu(989.4, 66.9, 81_559, 3_350, "nvlink4"),
    "h100_pcie": _gpu(756, 51, 81_559, 2_000, "pcie5"),
    "h200": _gpu(989.4, 66.9, 143_771, 4_800, "nvlink4"),
    "b200": _gpu(2_250, 75, 183_359, 8_000, "nvlink5"),
    "l4": _gpu(121, 30.3, 23_034, 300, "pcie4"),
    "l40s": _gpu(362, 91.6, 46_068, 864, "pcie4"),
    "a6000": _gpu(154.8, 38.7, 49_140, 768, "pcie4"),
    "rtx3090": _gpu(71, 35.6, 24_576, 936, "pcie4"),
    "rtx4090": _gpu(165.2, 82.6, 24_564, 1_008, "pcie4"),
}

#: Names that the driver gives whole GPUs, as ``torch.cuda.get_device_name`` returns them. Compared as a
#: whole: a part of one (MIG), a laptop's or another market's has a similar name and another peak.
_DRIVER_NAMES = {
    "A100-SXM4-40GB": "a100_40",
    "A100-PCIE-40GB": "a100_40",
    "A100-SXM4-80GB": "a100_80",
    "A100 80GB PCIe": "a100_80",
    "H100 80GB HBM3": "h100",
    "H100 PCIe": "h100_pcie",
    "H200": "h200",
    "B200": "b200",
    "L4": "l4",
    "L40S": "l40s",
    "RTX A6000": "a6000",
    "GeForce RTX 3090": "rtx3090",
    "GeForce RTX 4090": "rtx4090",
}


def gpu_named(driver_name: str) -> Gpu | None:
    """The GPU that a driver calls so; None if its figures are not known here."""
    known = _DRIVER_NAMES.get(driver_name.removeprefix("NVIDIA "))
    return None if known is None else GPUS[known]


#: Bytes per second of one GPU in one direction: NVLink generations by NVIDIA's data sheets (which name the
#: sum of both directions), PCI Express with 16 lanes.
WITHIN = {
    "nvlink3": 300 * _G,
    "nvlink4": 450 * _G,
    "nvlink5": 900 * _G,
    "pcie3": 16 * _G,
    "pcie4": 32 * _G,
    "pcie5": 64 * _G,
}


@dataclass(frozen=True)
class Link:
    """A port of a node to the others: bytes per second in one direction."""

    bandwidth: float
    one_per_gpu: bool


#: InfiniBand usually has a port for each GPU, Ethernet one for the node.
BETWEEN = {
    "ib_hdr": Link(25 * _G, True),
    "ib_ndr": Link(50 * _G, True),
    "ib_xdr": Link(100 * _G, True),
    "eth_10": Link(1.25 * _G, False),
    "eth_25": Link(3.125 * _G, False),
    "eth_100": Link(12.5 * _G, False),
    "eth_400": Link(50 * _G, False),
}


@dataclass(frozen=True)
class Cluster:
    """Where a run would train.

    Attributes:
        within: bytes per second between a GPU and the others of its node, in one direction.
        between: bytes per second between a node and the others; None for a single node.
        host_link: bytes per second between a GPU and the host's memory.
        memory: bytes of a GPU that tensors may take.
        host_memory: bytes of a node; None is not known.
    """

    gpu: Gpu
    nodes: int
    gpus_per_node: int
    within: float
    between: float | None
    host_link: float
    memory: int
    host_memory: int | None

    @property
    def ranks(self) -> int:
        return self.nodes * self.gpus_per_node

    @property
    def ring(self) -> float:
        """Bytes per second of a ring through all GPUs: that of its slowest part."""
        return self.within if self.between is None else min(self.within, self.between)


def sizes_of(config: Config, ranks: Ranks) -> tuple[int, int]:
    """Nodes, and ranks on each: as ``estimate`` says, else ``cluster``, else as they were launched."""
    estimate, cluster = config.estimate, config.cluster
    described = estimate.nodes or estimate.gpus_per_node or cluster.gpus_per_node
    if not described and cluster.nodes == 1 and not cluster.ranks_per_node:
        return ranks.world_size // ranks.local_world_size, ranks.local_world_size
    per_node = estimate.gpus_per_node or cluster.ranks_per_node or cluster.gpus_per_node or 1
    return estimate.nodes or cluster.nodes, per_node


def cluster_of(config: Config, nodes: int, per_node: int) -> Cluster | None:
    """The cluster that ``estimate`` describes; None where it names no GPU."""
    settings = config.estimate
    if settings.gpu is None:
        return None
    gpu = GPUS[settings.gpu]
    link = BETWEEN[settings.between]
    ports = settings.ports or (per_node if link.one_per_gpu else 1)
    return Cluster(
        gpu=gpu,
        nodes=nodes,
        gpus_per_node=per_node,
        within=WITHIN[settings.within or gpu.within],
        between=None if nodes == 1 else ports * link.bandwidth,
        host_link=WITHIN[settings.host_link],
        memory=int(gpu.memory * (1 - settings.headroom)),
        host_memory=None if settings.host_memory_gb is None else settings.host_memory_gb * GIB,
    )
