#!/usr/bin/env python3
"""Prints the tables of docs/scaling.md: data-parallel steps on up to 1024 GPUs, from few parameters.

    scripts/scaling_model.py                                     # the tables of the page
    scripts/scaling_model.py --step-ms 170 --gain 2.3            # of 1558M, with a measured step

Units: seconds, bytes, bytes/second. The formulas and where the numbers are from: docs/scaling.md.
"""

import argparse
import dataclasses
import math

MIB = 2**20
BLOCK = 64  # of the sparse model
RANKS = (1, 2, 4, 8, 16, 64, 256, 1024)


@dataclasses.dataclass(frozen=True)
class Machine:
    """Hosts of GPUs with NVLink between them and one network card for each."""

    gpus: int = 8  # a host
    nvlink_two: float = 335e9  # bus bandwidth of an all-reduce among 2 GPUs, measured
    nvlink_many: float = 370e9  # among more: NCCL's ring on 8, published
    network: float = 0.8 * 50e9  # of a card: 400 Gb/s, of which an all-reduce gets 80 %
    hop: float = 3.4e-6  # latency of one step of a ring over NVLink: NCCL's own table
    tree_hop: float = 4.0e-6
    network_hop: float = 14e-6

    # Fitted to 774M on two GPUs (MEASURED), three numbers to three.
    launch: float = 6.3e-6  # of a bucket, beside its hops
    interference: float = 0.824  # seconds that backward loses a second of reduction beside it
    end: float = 1.02e-3  # of a step on more than one rank, whatever its size


@dataclasses.dataclass(frozen=True)
class Gpt2:
    name: str
    layers: int
    width: int
    step: float  # of one GPU
    density: float = 1.0  # of the blocks' linear layers
    vocab: int = 50304
    context: int = 1024
    backward: float = 0.66  # share of the step: measured on 774M

    def linear(self, out: int, width: int) -> int:
        if self.density == 1:
            return out * width
        blocks = math.ceil(out / BLOCK) * math.ceil(width / BLOCK)
        return round(blocks * self.density) * BLOCK**2

    def tensors(self) -> list[int]:
        """Elements of the gradients, in the order of the parameters."""
        width = self.width
        square = self.linear(width, width)
        norm = [width, width]
        attention = [square, width] * 4
        mlp = [self.linear(4 * width, width), 4 * width, self.linear(width, 4 * width), width]
        block = [*norm, *attention, *norm, *mlp]
        return [self.vocab * width, self.context * width, *block * self.layers, *norm]


@dataclasses.dataclass(frozen=True)
class Reducing:
    bucket: int = 100 * MIB
    element: int = 4  # bytes of a gradient

    def buckets(self, model: Gpt2) -> list[int]:
        """Bytes of each, in the order they are reduced in: dist/reducer.cc."""
        buckets: list[int] = []
        for elements in reversed(model.tensors()):
            size = elements * self.element
            if not buckets or buckets[-1] + size > self.bucket:
                buckets.append(0)
            buckets[-1] += size
        return buckets


def latency(machine: Machine, ranks: int) -> float:
    """Of one reduction: rings inside and across hosts, or a tree across, whichever is shorter."""
    inside = min(ranks, machine.gpus)
    hosts = ranks // inside
    ring = 2 * (inside - 1) * machine.hop + 2 * (hosts - 1) * machine.network_hop
    if hosts == 1:
        return ring
    levels = math.ceil(math.log2(hosts))
    tree = 2 * (inside - 1) * machine.tree_hop + 2 * levels * machine.network_hop
    return min(ring, tree)


def reduction(machine: Machine, ranks: int, size: int) -> float:
    """Of one bucket. What is sent over NVLink and over the network is under way at once."""
    inside = min(ranks, machine.gpus)
    hosts = ranks // inside
    nvlink = machine.nvlink_two if inside == 2 else machine.nvlink_many
    over_nvlink = 2 * (inside - 1) / inside * size / nvlink
    over_network = 2 * (hosts - 1) / hosts * size / inside / machine.network
    return machine.launch + latency(machine, ranks) + max(over_nvlink, over_network)


@dataclasses.dataclass(frozen=True)
class Step:
    ranks: int
    seconds: float
    reducing: float  # all buckets, as if alone
    operations: float  # what those of one GPU take beside the reductions
    alone: float  # step of one rank

    @property
    def speed_up(self) -> float:
        return self.ranks * self.alone / self.seconds


def step(machine: Machine, model: Gpt2, reducing: Reducing, ranks: int) -> Step:
    if ranks == 1:
        return Step(1, model.step, 0, model.step, model.step)
    times = [reduction(machine, ranks, size) for size in reducing.buckets(model)]
    # What backward completes at its very end: the first blocks, and the token embedding.
    beside, last = sum(times[:-2]), sum(times[-2:])
    backward = model.backward * model.step
    slowed = backward + machine.interference * beside
    operations = model.step - backward + slowed
    whole = model.step - backward + max(slowed, beside) + last + machine.end
    return Step(ranks, whole, beside + last, operations, model.step)


# Both measured on one GPU, batch 8.
XL_STEP = 182.1e-3
XL_GAIN = 2.15  # at 90 %
XL_AIM = 2.6
LARGE = Gpt2("774M", 36, 1280, step=16 * 1024 / 94.8e3)
XL = Gpt2("1558M", 48, 1600, step=XL_STEP)
SMALL = Gpt2("124M", 12, 768, step=64 * 1024 / 566.2e3)


def sparse(model: Gpt2, gain: float) -> Gpt2:
    name = f"{model.name} at 90 %, {gain:g}× faster on one GPU"
    return dataclasses.replace(model, name=name, density=0.1, step=model.step / gain)


# name, model, reducing, ranks, measured step, whether the machine's numbers were fitted to it
MEASURED = (
    ("774M, 25 MiB", LARGE, Reducing(25 * MIB), 2, 32 * 1024 / 178.5e3, True),
    ("774M, 100 MiB", LARGE, Reducing(), 2, 32 * 1024 / 180.0e3, True),
    (
        "774M, 25 MiB, other day and code",
        dataclasses.replace(LARGE, step=16 * 1024 / 92.6e3),
        Reducing(25 * MIB),
        2,
        32 * 1024 / 174.2e3,
        False,
    ),
    (
        "774M, 100 MiB, third machine",
        dataclasses.replace(LARGE, step=16 * 1024 / 92.3e3),
        Reducing(),
        2,
        32 * 1024 / 176.0e3,
        False,
    ),
    (
        "1558M, 100 MiB",
        dataclasses.replace(XL, step=8 * 1024 / 44.8e3),
        Reducing(),
        2,
        16 * 1024 / 82.7e3,
        False,
    ),
    ("1558M at 90 %, 100 MiB", sparse(XL, XL_GAIN), Reducing(), 2, 88.3e-3, False),
    (
        "1558M, 100 MiB, other machine",
        dataclasses.replace(XL, step=186.3e-3),
        Reducing(),
        2,
        199.4e-3,
        False,
    ),
    (
        "1558M at 90 %, the same machine",
        dataclasses.replace(sparse(XL, XL_GAIN), step=86.6e-3),
        Reducing(),
        2,
        90.4e-3,
        False,
    ),
)


def print_measured(machine: Machine) -> None:
    print("| measured | ranks | one rank | step, measured | model | error | |")
    print("|---|---|---|---|---|---|---|")
    for name, model, reducing, ranks, measured, fitted in MEASURED:
        predicted = step(machine, model, reducing, ranks).seconds
        print(
            f"| {name} | {ranks} | {1e3 * model.step:.1f} ms | {1e3 * measured:.1f} ms "
            f"| {1e3 * predicted:.1f} ms | {100 * (predicted / measured - 1):+.1f} % "
            f"| {'fitted' if fitted else 'not fitted'} |"
        )


def print_ranks(machine: Machine, model: Gpt2, reducing: Reducing) -> None:
    size = sum(reducing.buckets(model))
    print(f"\n{model.name}: {size / 1e9:.2f} GB of gradients, {len(reducing.buckets(model))} buckets")
    print("\n| GPUs | step | reductions | exposed | speed-up | efficiency |")
    print("|---|---|---|---|---|---|")
    for ranks in RANKS:
        one = step(machine, model, reducing, ranks)
        print(
            f"| {ranks} | {1e3 * one.seconds:.1f} ms | {1e3 * one.reducing:.1f} ms "
            f"| {1e3 * (one.seconds - one.alone):.1f} ms | {one.speed_up:.2f}× "
            f"| {100 * one.speed_up / ranks:.1f} % |"
        )


def print_levers(machine: Machine, dense: Gpt2, thin: Gpt2) -> None:
    """What a change of one thing does to the speed-up on 2 and on 8 GPUs."""
    half = dataclasses.replace(machine, interference=machine.interference / 2)
    none = dataclasses.replace(machine, interference=0)

    def longer(model: Gpt2) -> Gpt2:
        return dataclasses.replace(model, step=2 * model.step)

    small, short = Reducing(25 * MIB), Reducing(element=2)
    changes = (
        ("as it is", machine, Reducing(), lambda model: model),
        ("buckets of 25 MiB", machine, small, lambda model: model),
        ("twice the sequences a step, in two micro-batches", machine, Reducing(), longer),
        ("gradients reduced in bfloat16", machine, short, lambda model: model),
        ("half of the interference", half, Reducing(), lambda model: model),
        ("no interference", none, Reducing(), lambda model: model),
        ("bfloat16 and twice the sequences", machine, short, longer),
    )
    print("\n| change | dense, 2 GPUs | dense, 8 | sparse, 2 | sparse, 8 |\n|---|---|---|---|---|")
    for name, changed, reducing, of in changes:
        ratios = (
            step(changed, of(model), reducing, ranks).speed_up
            for model in (dense, thin)
            for ranks in (2, 8)
        )
        print(f"| {name} | " + " | ".join(f"{ratio:.2f}×" for ratio in ratios) + " |")
    print("| asked for | 1.95× | 7.6× | 1.92× | 7.4× |")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--step-ms", type=float, default=1e3 * XL_STEP, help="1558M on one GPU")
    parser.add_argument("--gain", type=float, default=XL_GAIN, help="of 90 %% sparsity on one GPU")
    parser.add_argument("--interference", type=float, default=Machine.interference)
    parser.add_argument("--bucket-mib", type=int, default=100)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    machine = Machine(interference=arguments.interference)
    reducing = Reducing(arguments.bucket_mib * MIB)
    dense = dataclasses.replace(XL, step=arguments.step_ms / 1e3)
    thin = sparse(dense, arguments.gain)
    print_measured(machine)
    for model in (SMALL, LARGE, dense, thin, sparse(dense, XL_AIM)):
        print_ranks(machine, model, reducing)
    print_levers(machine, dense, thin)


if __name__ == "__main__":
    main()
