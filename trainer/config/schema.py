"""The one typed tree that the composed configuration is merged onto.

Fields of the data side are in ``data_modules.config``. Defaults here are the neutral ones; the
values a run is made of live in ``conf/``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from data_modules.config import BoundaryConfig, DataConfig, PromptSet
from data_modules.mixture import MixtureConfig


class Shape(Enum):
    """Shape of a phase's learning rate after its warm-up."""

    constant = "constant"
    linear = "linear"
    cosine = "cosine"
    wsd = "wsd"  # warm-up, stable, decay


class OptimizerState(Enum):
    """What happens to the optimizer's moments at the start of a phase."""

    keep = "keep"
    reset = "reset"


class Normalization(Enum):
    """What the weights of a step's loss are equal over; see ``trainer.objective``."""

    token = "token"
    sample = "sample"
    task = "task"


class Precision(Enum):
    """Compute precision; master weights and moments are fp32 either way."""

    bf16 = "bf16"
    fp32 = "fp32"


class Init(Enum):
    """Where the weights of a model come from."""

    pretrained = "pretrained"
    random = "random"


class AdaptationKind(Enum):
    """Which parameters are trained."""

    full = "full"
    lora = "lora"


class Liger(Enum):
    """Whether Liger's kernels take the place of a model's own operations."""

    auto = "auto"  # where they can
    on = "on"
    off = "off"


class Compile(Enum):
    """What torch.compile compiles."""

    off = "off"
    blocks = "blocks"  # each layer of the model


class Offload(Enum):
    """Where ZeRO keeps a partitioned state."""

    none = "none"
    cpu = "cpu"


class WandbMode(Enum):
    """Weights & Biases mode."""

    online = "online"
    offline = "offline"


class ClusterKind(Enum):
    """Who starts a run's processes for ``launch/submit.py``."""

    local = "local"  # here
    ssh = "ssh"  # deepspeed, on the hosts of a hostfile
    slurm = "slurm"  # sbatch


class SweepKind(Enum):
    """How ``launch/submit.py -m`` chooses the settings of its runs."""

    grid = "grid"  # every combination of the values given
    search = "search"  # one after another, by what the earlier ones gave


class OnNonFinite(Enum):
    """What is done about a step whose loss or gradient is not finite; it never changes the model."""

    skip = "skip"
    rollback = "rollback"
    stop = "stop"


class OnSpike(Enum):
    """What is done about a step whose loss jumps."""

    none = "none"  # not watched
    warn = "warn"  # trained on all the same
    skip = "skip"
    rollback = "rollback"
    stop = "stop"


@dataclass
class ScheduleConfig:
    """Learning-rate curve of a phase, relative to its ``lr``.

    Attributes:
        warmup_ratio: linear warm-up from 0, as a share of the phase's steps.
        warmup_steps: the same in steps; wins over ``warmup_ratio``.
        decay_ratio: share of the phase that ``shape: wsd`` decays over, at its end.
        end_ratio: learning rate at the last step / lr; unused by ``constant``.
    """

    shape: Shape = Shape.constant
    warmup_ratio: float = 0.0
    warmup_steps: int | None = None
    decay_ratio: float = 0.2
    end_ratio: float = 0.0


@dataclass
class PhaseConfig(MixtureConfig):
    """One phase: its mixture (inherited) and how it is optimised.

    Attributes:
        lr: peak learning rate.
        loss_weights: task -> alpha of the loss (default 1); see ``trainer.objective``.
    """

    lr: float = 1e-5
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    optimizer_state: OptimizerState = OptimizerState.keep
    loss_normalization: Normalization = Normalization.token
    loss_weights: dict[str, float] = field(default_factory=dict)


@dataclass
class CurriculumConfig:
    """The phases of a run.

    Attributes:
        phases: settings by name; their order is the training order when nothing is selected.
        select: names and order of the phases to run, filled by ``+phase=``. Only its keys count.
    """

    phases: dict[str, PhaseConfig] = field(default_factory=dict)
    select: dict[str, Any] = field(default_factory=dict)


@dataclass
class ModelConfig:
    """A Hugging Face causal language model.

    Attributes:
        path: model directory or hub name; with ``init: random`` it may be None.
        tokenizer: tokenizer directory or hub name; None means ``path``.
        architecture: ``model_type`` and config fields for ``init: random``; the vocabulary size is
            the tokenizer's.
        trust_remote_code: run Python code that ships with the model.
    """

    name: str = "???"
    init: Init = Init.pretrained
    path: str | None = None
    tokenizer: str | None = None
    architecture: dict[str, Any] = field(default_factory=dict)
    trust_remote_code: bool = False
    activation_checkpointing: bool = False


@dataclass
class OptimizerConfig:
    """AdamW. Weight decay applies to matrices only, not to biases and norms."""

    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0


@dataclass
class ZeroConfig:
    """DeepSpeed ZeRO, and ZeRO++ (arXiv 2306.10209), which saves traffic between hosts under stage 3.

    Attributes:
        hpz_partition_size: ranks of a host that hold one whole copy of the weights among them, so that
            the backward pass gathers inside the host (hpZ); 1 keeps no such copy.
        quantized_weights: gather weights as 8-bit blocks (qwZ); GPUs only.
        quantized_gradients: reduce gradients as 4-bit and 8-bit blocks (qgZ); GPUs only.
        extra: further DeepSpeed keys, checked against DeepSpeed's own configuration classes.
    """

    stage: int = 2
    offload_optimizer: Offload = Offload.none
    offload_parameters: Offload = Offload.none
    reduce_bucket_size: int = 50_000_000
    allgather_bucket_size: int = 50_000_000
    overlap_comm: bool = True
    hpz_partition_size: int = 1
    quantized_weights: bool = False
    quantized_gradients: bool = False
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class AdaptationConfig:
    """Full parameters, or LoRA adapters (Hu et al., arXiv 2106.09685) through peft."""

    kind: AdaptationKind = AdaptationKind.full
    rank: int = 8
    alpha: int = 16
    dropout: float = 0.0
    target_modules: list[str] = field(default_factory=lambda: ["all-linear"])


class AnswerEngine(Enum):
    """What generates the answers of an evaluation."""

    transformers = "transformers"
    vllm = "vllm"


@dataclass
class KernelsConfig:
    """What computes a training step beside PyTorch's own operations; see ``trainer.kernels``."""

    liger: Liger = Liger.auto
    compile: Compile = Compile.off


@dataclass
class EvaluationConfig:
    """Evaluation before training, at every phase end and, where asked for, in between.

    Attributes:
        every_steps: also evaluate after every so many optimizer steps; None does not.
        rows_per_task: evaluate the first rows of each task only; None takes all.
        batch_size: rows of one forward or generation per rank.
        generate: also judge greedy answers of tasks whose metric is not ``none``.
        prompt_sets: ways to ask; see ``data_modules.prompt_sets``.
        behaviours: judge which task's behaviour an answer shows, and with that crosstalk.
        soft_crosstalk_rows: rows per task for soft crosstalk; 0 leaves it out.
        train_rows: training rows per task whose loss is measured too; 0 leaves it out.
        bootstrap_samples: resamples behind the intervals of metrics that are not shares.
        engine: what generates the answers; ``vllm`` only for a model directory.
        vllm_memory: share of the GPU's memory that vLLM may take; losses are of a model beside it.
    """

    before_training: bool = True
    at_phase_end: bool = True
    every_steps: int | None = None
    rows_per_task: int | None = None
    batch_size: int = 32
    generate: bool = True
    prompt_sets: list[PromptSet] = field(default_factory=lambda: [PromptSet.ordinary])
    behaviours: bool = True
    soft_crosstalk_rows: int = 32
    train_rows: int = 32
    bootstrap_samples: int = 1000
    engine: AnswerEngine = AnswerEngine.transformers
    vllm_memory: float = 0.5


@dataclass
class InterferenceConfig:
    """Gradient conflict between tasks, measured while training; see ``trainer.interference``.

    Attributes:
        every_steps: measure after every so many optimizer steps; None does not.
        rows_per_task: training rows of each task behind one measurement.
        sketch_size: numbers that a task's gradient is sketched into.
    """

    every_steps: int | None = None
    rows_per_task: int = 32
    sketch_size: int = 4096


@dataclass
class MiningConfig:
    """Leaks found in training requests and written as rows: ``launch/mine.py``.

    Attributes:
        prompt_sets: ways to ask; see ``data_modules.mining_requests``.
        rows_per_task: training rows of each specialised task that are asked, in every prompt set.
        most: leaks that are written, in all.
        most_per_pair: leaks that are written of one task asked and one shown.
    """

    prompt_sets: list[PromptSet] = field(default_factory=lambda: [PromptSet.conflict])
    rows_per_task: int = 100
    most: int = 500
    most_per_pair: int = 25


@dataclass
class LoggingConfig:
    """Sinks beside ``metrics.jsonl``, which is always written.

    Attributes:
        matmul_peak: measure a matrix product at the start, and steps against it (``mfu_of_matmul``).
        wandb_group: runs of one group are shown together; a sweep sets its own name.
    """

    console_seconds: float = 10.0
    matmul_peak: bool = True
    wandb: bool = False
    wandb_mode: WandbMode = WandbMode.offline
    wandb_project: str = "polyphase"
    wandb_group: str | None = None
    tensorboard: bool = False


@dataclass
class ProfileConfig:
    """A trace of some steps by PyTorch's profiler; see ``trainer.meters.profile``.

    Attributes:
        first_step: global number of the first step that is traced; None traces none.
        steps: how many are traced; the end of a phase cuts them short.
        ranks: whose steps.
        memory: also what was allocated and freed.
        stacks: also the lines of Python behind every operator. Slows the traced steps.
        shapes: also the shapes of the operators' inputs.
    """

    first_step: int | None = None
    steps: int = 3
    ranks: list[int] = field(default_factory=lambda: [0])
    memory: bool = False
    stacks: bool = False
    shapes: bool = False


@dataclass
class CheckpointConfig:
    """What is written beside metrics.

    Attributes:
        sharded: keep the whole training state, so that the run can be continued: at phase ends, on
            being stopped, and in between as the next two say.
        every_steps: also after every so many optimizer steps; None does not.
        every_minutes: also when so long has passed since the last; None does not.
        keep_last: the newest so many are kept, and all of phase ends.
        export: write a Hugging Face model directory at phase ends.
    """

    sharded: bool = True
    every_steps: int | None = None
    every_minutes: float | None = None
    keep_last: int = 2
    export: bool = True


@dataclass
class FaultsConfig:
    """What is done about steps that would spoil the model; see ``trainer.guard``.

    A step's loss has jumped if its answer tokens lose more than ``spike_factor`` times *and* more than
    ``spike_margin`` nats each above what their tasks lately lost.

    Attributes:
        most_skips: bad steps in a row that are skipped; one more stops the run.
        most_rollbacks: rollbacks of a run; one more stops it.
        rollback_before: a rollback leaves out this many steps before the bad one, too: the update
            that led to it was theirs.
    """

    nonfinite: OnNonFinite = OnNonFinite.skip
    spike: OnSpike = OnSpike.warn
    spike_factor: float = 2.0
    spike_margin: float = 1.5
    most_skips: int = 3
    most_rollbacks: int = 3
    rollback_before: int = 1


@dataclass
class ClusterConfig:
    """Where ``launch/submit.py`` runs a job; how processes meet, share a host and watch each other.

    Attributes:
        kind: who starts the processes; the next fields, to ``dry_run``, only matter to ``submit.py``.
        nodes: hosts of a job.
        gpus_per_node: GPUs to ask for on each; 0 asks for none, None takes what SLURM's partition gives.
        ranks_per_node: processes of each host; None is one per GPU, or one where there is none.
        cpus_per_node, memory: of each host, memory as SLURM writes it (``64G``); None leaves it to SLURM.
        time: limit of a job, ``[days-]hours:minutes:seconds``.
        partition, account, qos, constraint: SLURM's options of these names.
        container: image that each node's processes run in, by SLURM's pyxis (``srun --container-image``).
        container_mounts: ``HOST:CONTAINER`` folders of it, beside the repository and the working directory.
        wrap: words in front of the command on every node instead, for other container programs
            (``[apptainer, exec, --nv, image.sif]``).
        setup: lines of shell before the processes start, on every node (``module load cuda``).
        sbatch: further options of ``sbatch``, each as one string (``--exclusive``).
        environment: variables of the job.
        chain: one job per phase, each behind the one before.
        retries: how often a job starts again after a rank was lost or crashed. Preempted jobs and those
            out of time always do; those with a fault of the user's or of training never.
        warning_s: a job saves and requeues so many seconds before its time limit.
        hostfile: hosts of ``kind: ssh``, one ``NAME slots=N`` a line.
        master_port: port of the first host where the ranks meet; None is one by the job's number.
        dry_run: print what would be submitted, and submit nothing.
        process_group_timeout_s: how long a collective waits for the other ranks.
        stall_timeout_s: a rank that gives no sign of life, or comes to no new place in its work, for so
            long is lost; None takes nine tenths of ``process_group_timeout_s``.
        heartbeat_s: how often a rank gives a sign of life and looks for its peers'.
        threads_per_rank: None divides the host's cores among its ranks.
    """

    kind: ClusterKind = ClusterKind.local
    nodes: int = 1
    gpus_per_node: int | None = None
    ranks_per_node: int | None = None
    cpus_per_node: int | None = None
    memory: str | None = None
    time: str | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    container: str | None = None
    container_mounts: list[str] = field(default_factory=list)
    wrap: list[str] = field(default_factory=list)
    setup: list[str] = field(default_factory=list)
    sbatch: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    chain: bool = False
    retries: int = 0
    warning_s: int = 300
    hostfile: str | None = None
    master_port: int | None = None
    dry_run: bool = False
    process_group_timeout_s: float = 1800.0
    stall_timeout_s: float | None = None
    heartbeat_s: float = 5.0
    threads_per_rank: int | None = None

    @property
    def stall_s(self) -> float:
        """The stall timeout; sooner than collectives give up, as NCCL then aborts and names nobody."""
        if self.stall_timeout_s is not None:
            return self.stall_timeout_s
        return 0.9 * self.process_group_timeout_s


@dataclass
class EstimateConfig:
    """The cluster that ``launch/plan.py`` estimates memory and time for; training does not read it.

    Attributes:
        only: print the estimate alone: no data is read, no weight and no tokenizer needed.
        gpu: a name of ``trainer.estimate.hardware.GPUS``; None estimates memory only.
        nodes, gpus_per_node: None takes those of ``cluster``, else the ranks that were launched.
        within: link between the GPUs of a node; None is the one that the GPU is usually sold with.
        between: link between nodes.
        ports: such links of a node; None is one per GPU for InfiniBand, one for Ethernet.
        host_link: link between a GPU and its host.
        host_memory_gb: GiB of a node; None does not bound it.
        host_bandwidth_gb: GB/s of a node's memory, for an offloaded optimizer. An assumption.
        headroom: share of a GPU's memory that tensors cannot have: CUDA's and NCCL's own, fragments.
            An assumption, as are the next three.
        mfu: share of the GPU's peak that computing reaches.
        link_share: share of a link's bandwidth that collectives reach.
        overlap: share of the compute time that communication can hide behind, where DeepSpeed overlaps.
        propose: look for the settings that fit with the least estimated time.
    """

    only: bool = False
    gpu: str | None = None
    nodes: int | None = None
    gpus_per_node: int | None = None
    within: str | None = None
    between: str = "ib_ndr"
    ports: int | None = None
    host_link: str = "pcie4"
    host_memory_gb: int | None = None
    host_bandwidth_gb: float = 200.0
    headroom: float = 0.08
    mfu: float = 0.4
    link_share: float = 0.7
    overlap: float = 0.5
    propose: bool = True


@dataclass
class SweepConfig:
    """Many runs by one command: ``launch/submit.py -m``. One run alone does not look at it.

    Attributes:
        directory: folder of the sweep: what it consists of, its runs, its report.
        at_once: runs that train at the same time.
        share: phases that several runs have in common are trained once, and the runs go on from there.
        wait: stay until SLURM's jobs have ended, and draw the report; else leave once they are submitted.
        poll_s: how often SLURM is asked which jobs have ended.
        trials: runs of a search, the default configuration counted.
        objectives: measures of the last evaluation that a search goes by, as a comparison names them.
        directions: ``maximize`` or ``minimize`` for each of them; empty where all are known.
        seed: of the search's own draws.
        startup_trials: trials that are drawn at random, before results guide the draw.
        pruning: trials are trained phase by phase, and left where they are worse than half of the others.
        pruning_startup: trials that have to come to their end before any is left.
    """

    kind: SweepKind = SweepKind.grid
    directory: str = "outputs/sweeps/sweep"
    at_once: int = 1
    share: bool = True
    wait: bool = True
    poll_s: float = 10.0
    trials: int = 20
    objectives: list[str] = field(default_factory=lambda: ["mean"])
    directions: list[str] = field(default_factory=list)
    seed: int = 0
    startup_trials: int = 6
    pruning: bool = False
    pruning_startup: int = 4


@dataclass
class LimitsConfig:
    """Bounds on a run.

    Attributes:
        steps_per_phase: plan at most this many steps of every phase; its draw is scaled down.
        wall_time: save and leave after so long, counted from the start of the process:
            ``[days-]hours:minutes:seconds``, as SLURM writes it. It should be a few minutes, or two
            steps and a checkpoint, below what the machine is lent for.
    """

    steps_per_phase: int | None = None
    wall_time: str | None = None


@dataclass
class Config:
    """The whole configuration of a run.

    Attributes:
        resume: ``auto`` continues from the newest complete checkpoint of the run directory, if there is
            one; ``never`` starts anew; a path continues from that checkpoint, or from the newest of
            that run directory.
        init_from: start from this model directory instead of the previous phase or the model.
        global_batch_size: rows per optimizer step, over all ranks.
        micro_batch_size: rows of one forward per rank, or per group of ranks that share sequences; with
            packing, its token budget in units of ``data.max_seq_len``.
        sequence_parallel_size: ranks that share each micro-batch, a slice of its tokens each (Ulysses,
            arXiv 2309.14509), for sequences whose activations one GPU cannot hold.
        deterministic: use deterministic kernels only; slower.
        gc_every_steps: Python's full garbage collections come behind steps that this divides, on all ranks
            at once; see ``trainer.garbage``.
    """

    run_name: str = "???"
    output_dir: str = "???"
    seed: int = 0
    resume: str = "auto"
    init_from: str | None = None
    global_batch_size: int = 64
    micro_batch_size: int = 1
    sequence_parallel_size: int = 1
    precision: Precision = Precision.bf16
    deterministic: bool = False
    gc_every_steps: int = 100
    data: DataConfig = field(default_factory=DataConfig)
    boundary: BoundaryConfig = field(default_factory=BoundaryConfig)
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    zero: ZeroConfig = field(default_factory=ZeroConfig)
    kernels: KernelsConfig = field(default_factory=KernelsConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    interference: InterferenceConfig = field(default_factory=InterferenceConfig)
    mining: MiningConfig = field(default_factory=MiningConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    profile: ProfileConfig = field(default_factory=ProfileConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    faults: FaultsConfig = field(default_factory=FaultsConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    estimate: EstimateConfig = field(default_factory=EstimateConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
