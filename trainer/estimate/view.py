"""The estimate as a person sees it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from trainer.config.schema import Config
from trainer.estimate.estimate import Estimate
from trainer.estimate.hardware import GIB
from trainer.estimate.propose import Proposal, overrides

_WORDS = {
    "masters": "fp32 master weights",
    "moments": "Adam's moments",
    "activations": "activations, logits, temporaries",
    "gathered": "weights gathered by ZeRO-3",
    "buckets": "buckets of the reduction",
    "flattening": "weights while they are flattened",
}


def print_estimate(console: Console, found: Estimate, config: Config) -> None:
    """Print memory and, for a described cluster, communication and time."""
    console.print(_headline(found), soft_wrap=True)
    console.print(_memory(found))
    if found.setup.ranks > 1 or found.volume.host:
        console.print(_communication(found), soft_wrap=True)
    if found.time is not None:
        console.print(_step(found, config), soft_wrap=True)


def _headline(found: Estimate) -> str:
    shape, setup = found.shape, found.setup
    offload = [
        name
        for name, is_on in (
            ("optimizer", setup.offload_optimizer),
            ("parameters", setup.offload_parameters),
        )
        if is_on
    ]
    rows = f"{setup.micro_batch} x {setup.length:,} tokens"
    return (
        f"estimate: {shape.parameters:,} parameters, {shape.trained:,} trained, {setup.ranks} rank(s), "
        f"ZeRO-{setup.stage}{', offloaded: ' + ' and '.join(offload) if offload else ''}, "
        f"{'bf16' if setup.bytes_per_weight == 2 else 'fp32'}, micro-batch {rows}"
        f"{' packed' if setup.packing else ''}"
        f"{f' on {setup.parts} ranks' if setup.parts > 1 else ''}, {setup.micro_steps} micro-step(s), "
        f"activation checkpointing {'on' if setup.checkpointing else 'off'}"
    )


def _memory(found: Estimate) -> Table:
    cluster, device = found.cluster, found.device.device_peak
    host = max((one.host_peak for one in found.memory.ledgers), key=lambda one: one.total)
    what = "GPU" if cluster is not None else "rank"
    of = ""
    if cluster is not None:
        of = f" of {_gib(cluster.memory)} {'' if found.fits_device else '(does not fit)'}"
    table = Table(
        title=f"memory per {what}: {_gib(device.total)}{of.rstrip()}, in {device.when}",
        title_justify="left",
    )
    table.add_column("what")
    table.add_column(f"per {what}", justify="right")
    table.add_column(f"on the host per rank, in {host.when}", justify="right")
    for part in dict.fromkeys([*device.parts, *host.parts]):
        table.add_row(
            _WORDS.get(part, part), _gib(device.parts.get(part)), _gib(host.parts.get(part))
        )
    table.add_row("all", _gib(device.total), _gib(host.total))
    return table


def _communication(found: Estimate) -> str:
    sent = found.volume
    words = (
        f"communication per step and rank: {_gib(sent.sent)} sent "
        f"(gradients {_gib(sent.gradients)}, weights {_gib(sent.weights)}"
        f"{f', activations {_gib(sent.activations)}' if sent.activations else ''})"
    )
    if found.cluster is not None and found.cluster.between is not None:
        words += f", as much over the links of each of {found.cluster.nodes} nodes"
    if sent.host:
        words += f"; {_gib(sent.host)} between GPU and host"
    return words


def _step(found: Estimate, config: Config) -> str:
    time, settings = found.time, config.estimate
    assert time is not None
    tokens = found.workload.tokens
    return (
        f"step: {time.seconds:.3g} s = compute {time.compute:.3g} + communication that is not hidden "
        f"{time.exposed:.3g} (of {time.communication:.3g}) + update {time.update:.3g} + offload "
        f"{time.host:.3g}; {tokens / time.seconds:,.0f} tokens/s, {tokens:,.0f} tokens a step "
        f"({'planned' if found.workload.planned else 'every sample as long as it may be'}). Assumed: "
        f"estimate.mfu={settings.mfu:g}, link_share={settings.link_share:g}, overlap={settings.overlap:g}"
    )


def print_proposal(console: Console, proposal: Proposal, now: Estimate) -> None:
    """Print the best settings, or why none fits."""
    best = proposal.best
    if best is not None:
        assert best.time is not None
        needs = f"{_gib(best.device.device_peak.total)} per GPU, {best.time.seconds:.3g} s a step"
        if best.setup == now.setup:
            console.print(f"proposal: the settings above are the fastest that fit ({needs})")
            return
        console.print(f"proposal: {' '.join(overrides(best.setup))}", soft_wrap=True)
        console.print(f"          {needs}", soft_wrap=True)
        return
    nearest = proposal.nearest
    if nearest is None:
        console.print(
            f"proposal: none. global_batch_size={now.workload.rows} rows cannot be dealt to "
            f"{now.setup.ranks} ranks",
            soft_wrap=True,
        )
        return
    console.print(f"proposal: {_why_not(nearest, proposal.tried)}", soft_wrap=True)


def _why_not(nearest: Estimate, tried: int) -> str:
    cluster, peak = nearest.cluster, nearest.device.device_peak
    assert cluster is not None
    words = f"nothing fits of {tried} settings tried. "
    if nearest.fits_device:
        assert cluster.host_memory is not None
        return words + (
            f"GPUs could hold {' '.join(overrides(nearest.setup))}, but its {cluster.gpus_per_node} ranks "
            f"need {_gib(nearest.host_bytes)} of a host's {_gib(cluster.host_memory)} (in "
            f"{max((one.host_peak for one in nearest.memory.ledgers), key=lambda one: one.total).when}). "
            "Take hosts with more memory, or more nodes with fewer GPUs each."
        )
    part, size = max(peak.parts.items(), key=lambda one: one[1])
    return words + (
        f"The least, {' '.join(overrides(nearest.setup))}, needs {_gib(peak.total)} of "
        f"{_gib(cluster.memory)} per GPU in {peak.when}, {_gib(size)} of them {_WORDS.get(part, part)}. "
        "Take more GPUs or larger ones, shorter samples (data.max_seq_len), or adaptation=lora."
    )


def _gib(size: float | None) -> str:
    if size is None:
        return ""
    return f"{size / GIB:.2f} GiB" if size >= GIB / 100 else f"{size / 1024**2:.2f} MiB"
