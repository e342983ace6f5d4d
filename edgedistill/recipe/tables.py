"""The structs of a recipe: every table and key that a person can write, with its range and its default.

What the names in a recipe stand for (models, losses, sources) is looked up by `distill`; files are read by `recipe.files`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from edgedistill.recipe.export import Export
from edgedistill.recipe.kinds import AboveZero, Fraction, Name, Natural, NotNegative, PerChannel, Positive, Table
from edgedistill.recipe.pruning import Prune


class Augment(Table, frozen=True, kw_only=True):
    """Random changes of a training view; every default is 'none', so an empty table trains on the images as they are."""

    flip: bool = False
    """Mirror left and right with probability 1/2."""
    scale: tuple[AboveZero, AboveZero] = (1.0, 1.0)
    """Smallest and largest zoom; below 1 the object shrinks, above 1 it grows."""
    aspect: Annotated[float, msgspec.Meta(ge=1)] = 1.0
    """Largest ratio by which the width changes against the height, up or down."""
    shift: Fraction = 0.0
    """Largest shift in each direction, as a fraction of the side."""
    rotate_deg: Annotated[float, msgspec.Meta(ge=0, le=180)] = 0.0
    """Largest rotation to either side, in degrees."""
    brightness: Fraction = 0.0
    """Largest change of brightness, as a fraction of 255."""
    contrast: Fraction = 0.0
    """Largest change of contrast, as a fraction of itself."""
    blur: NotNegative = 0.0
    """Largest sigma of a Gaussian blur, in pixels of the view."""
    noise: Fraction = 0.0
    """Largest deviation of Gaussian noise, as a fraction of 255."""
    erase: Annotated[float, msgspec.Meta(ge=0, le=0.5)] = 0.0
    """Largest side of an erased square, as a fraction of the view's side."""
    border: Literal["reflect", "black"] = "reflect"
    """What lies outside of the image where a view shows it."""
    mixup: NotNegative = 0.0
    """Alpha of mixup (Zhang et al. 2018): a view is blended with one of another image; 0 is off."""
    cutmix: NotNegative = 0.0
    """Alpha of cutmix (Yun et al. 2019): a rectangle comes from another image's view; 0 is off."""

    def __post_init__(self) -> None:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale must be [smallest, largest], got {list(self.scale)}")


class Data(Table, frozen=True, kw_only=True):
    """Which images: `embedded`, `torchvision:NAME`, `folder:PATH` or `webdataset:SHARDS`."""

    source: str
    unlabelled: str | None = None
    """`folder:PATH` (images in any sub-folders) or `webdataset:SHARDS`: further training images, for terms that need no label."""
    root: str | None = None
    """Where `torchvision:` keeps its downloads; ~/.cache/edgedistill by default."""
    licence: str | None = None
    """SPDX name of the images' licence, where the source does not know it."""
    validation: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.1
    """Fraction of each class's training images that is held out to watch the training."""
    unlabelled_limit: Positive | None = None
    """Use only this many images without a label, spread evenly over them all."""
    train_limit: Positive | None = None
    """Use only this many labelled training images, class-balanced."""
    test_limit: Positive | None = None
    """Use only this many test images, class-balanced."""
    views: Positive | None = None
    """Number of different views of an image: epoch e shows view e mod `views`, and the teacher answers each view once.
    By default every epoch has a view of its own."""
    view_size: Positive | None = None
    """Side of a view in pixels; by default the larger of the two networks' input sizes."""
    augment: Augment = Augment()


class Network(Table, frozen=True, kw_only=True):
    """A network in torch: `timm:NAME`, `torchvision:NAME` or `python:MODULE:FUNCTION`."""

    model: str
    weights: str | None = None
    """`pretrained` (the library's own weights), the path of a safetensors file, or nothing."""
    new_head: bool = False
    """Take everything but the last layer from `weights`, whose classes may then be others."""
    args: dict[str, Any] = {}
    """Further arguments of the network's constructor."""
    input_size: Positive | None = None
    """Side of the square input in pixels; by default what the weights were trained at."""
    strides: list[Literal[1, 2]] | None = None
    """Strides of the convolutions that halve the image, first to last; [1] keeps the stem at full size for small images."""
    mean: PerChannel | None = None
    """Mean of the network's normalization, 0 to 1, RGB."""
    std: PerChannel | None = None
    """Deviation of the network's normalization, 0 to 1, RGB."""
    licence: str | None = None
    """SPDX name of the weights' licence, written into the provenance of a student."""

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std must be given together")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError(f"std must be above 0, got {list(self.std)}")


class Teacher(Network, frozen=True, kw_only=True):
    """Anything that maps images to logits.

    Beside a network in torch: `onnx:FILE`, `tflite:FILE`, `keras:FILE`, `logits:FOLDER`, or `ema`, the student's own
    exponential average (train.ema).
    """

    weight: NotNegative = 1.0
    """Its share in an ensemble of several [[teacher]] tables."""
    classes: tuple[str, ...] | None = None
    """Names of its outputs in their order, where its weights do not say them; by default the data's classes."""
    mapping: dict[str, str] = {}
    """From a name of its outputs to a class of the data; several may go to one class, outputs without an entry are left out."""
    probe: bool = False
    """It is a backbone without a head: a linear probe is trained on its features first."""
    calibrate: bool = False
    """Scale its logits by the temperature that fits the validation images best (Guo et al. 2017) before it teaches."""
    gate: bool = True
    """Stop the run when it is near chance on the validation images; false teaches with it all the same."""


class Student(Network, frozen=True, kw_only=True):
    """The network to train, and how a camera frame is brought to its size on the device."""

    resize: Literal["stretch", "crop"] = "crop"
    interpolation: Literal["area", "linear", "nearest"] = "linear"
    """`area` sees every pixel of a camera frame, `linear` is some times faster; small inputs need `area`."""
    prune: Prune | None = None
    """Take channels out of the network, which then needs `weights`, before it is trained."""


class Term(Table, frozen=True, kw_only=True):
    """One term of the training loss; a key that the loss does not use must be left out."""

    loss: str
    weight: NotNegative = 1.0
    epochs: tuple[Natural, Positive] | None = None
    """The epochs in which the term counts, [first, end); by default all. Hints before logits are two terms one after the other."""
    temperature: AboveZero | None = None
    """Temperature of softened logits, for `kd`, `dkd`, `dist` and `exits`; 1 by default."""
    standardize: bool = False
    """Turn the logits of each sample into z-scores in front of the loss (Sun et al. 2024)."""
    label_smoothing: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    alpha: NotNegative | None = None
    """First weight inside the loss: the target class of `dkd` (1 by default), the classes within a sample of `dist` (1),
    the labels of `exits` (0.5)."""
    beta: NotNegative | None = None
    """Second weight inside the loss: the other classes of `dkd` (2 by default), the samples within a class of `dist` (1),
    the last layer's logits of `exits` (0.5); of `attention` (1000) and `similarity` (3000) it is the only one."""
    layers: dict[str, str] = {}
    """From a layer of the student to one of the teacher, by their dotted names, for `hint`, `attention` and `similarity`."""
    exits: tuple[str, ...] = ()
    """Layers of the student that get an exit of their own, by their dotted names, for `exits`."""


class Train(Table, frozen=True, kw_only=True):
    """The training budget and the optimizer."""

    epochs: Positive
    batch_size: Positive = 128
    optimizer: str = "adamw"
    lr: AboveZero = 1e-3
    weight_decay: NotNegative = 0.05
    warmup_epochs: NotNegative = 1.0
    clip_grad_norm: AboveZero | None = None
    workers: Natural = 0
    threads: Positive | None = None
    accumulate: Positive = 1
    """Pieces that a batch is computed in, to save memory; the gradient is that of the whole batch."""
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    accelerator: str = "auto"
    devices: Positive = 1
    """Processes on this machine, one a device; each gets its share of a batch. `torchrun` and `fabric run` set it themselves."""
    nodes: Positive = 1
    """Machines that train together."""
    compile: bool = False
    """Compile the student with torch.compile."""
    ema: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    """Decay a step of an exponential average of the weights; the average is what is measured and kept."""
    snapshots: tuple[Positive, ...] = ()
    """Epochs after which the student is kept as student-epoch-N.safetensors, for instance as an early-stopped teacher."""
    loggers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    """Where metrics go beside metrics.jsonl."""
    checkpoint_steps: Positive | None = None
    """Steps between checkpoints; by default one checkpoint an epoch."""


class Cache(Table, frozen=True, kw_only=True):
    """The teacher's answers on disk, so that each view is answered once for all students."""

    enabled: bool = True
    folder: str | None = None
    """Where caches are kept; ~/.cache/edgedistill/views by default, or below $XDG_CACHE_HOME."""
    precision: Literal["fp16", "fp32"] = "fp16"
    top_k: Positive | None = None
    """Classes that are kept of a sample, beside the mass of the rest; by default all up to 1,000 classes, above that 100."""
    features: bool = False
    """Keep the features that terms ask for, too; without it the teacher is run again in each step that needs them."""


class BornAgain(Table, frozen=True, kw_only=True, tag_field="kind", tag="born_again"):
    """Each generation is taught by the one before (Furlanello et al. 2018); their ensemble is measured at the end."""

    generations: Annotated[int, msgspec.Meta(ge=2)] = 2
    """Trainings in all; the first is taught by [teacher], or by the labels alone without one."""


class Recursive(Table, frozen=True, kw_only=True, tag_field="kind", tag="recursive"):
    """Each network teaches the next, smaller one: teacher, assistants in their order, student (Mirzadeh et al. 2020)."""

    assistants: Annotated[tuple[Student, ...], msgspec.Meta(min_length=1)]
    epochs: Positive | None = None
    """Epochs of each assistant; train.epochs by default, fewer stop them early (Cho and Hariharan 2019)."""


class Recipe(Table, frozen=True, kw_only=True):
    """A whole recipe. Without `teacher` it is plain training, with cross-entropy as the only term."""

    name: Name
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] = 0
    data: Data
    student: Student
    teacher: Teacher | tuple[Teacher, ...] | None = None
    """One [teacher] table, or several [[teacher]] tables that teach together."""
    ensemble: Literal["probabilities", "logits"] = "probabilities"
    """What several teachers are averaged in."""
    schedule: BornAgain | Recursive | None = None
    """Several trainings one after the other."""
    distill: tuple[Term, ...] = (Term(loss="cross_entropy"),)
    train: Train
    cache: Cache = Cache()
    export: Export = Export()

    def __post_init__(self) -> None:
        if not any(term.weight > 0 for term in self.distill):
            raise ValueError("distill needs at least one term with a weight above 0")
        turns = {0, *(term.epochs[1] for term in self.distill if term.epochs)}
        for epoch in sorted(turn for turn in turns if turn < self.train.epochs):
            if not any(term.weight > 0 and is_active(term, epoch) for term in self.distill):
                raise ValueError(f"distill has no term with a weight above 0 in epoch {epoch}; epochs are numbered from 0")
        if self.teacher is not None and sum(teacher.weight for teacher in self.teachers) == 0:
            raise ValueError("teacher needs at least one table, with a weight above 0")

    @property
    def teachers(self) -> tuple[Teacher, ...]:
        """The teachers, none, one or several."""
        if self.teacher is None:
            return ()
        return self.teacher if isinstance(self.teacher, tuple) else (self.teacher,)

    @property
    def is_self_taught(self) -> bool:
        """Whether the student's own exponential average is a teacher."""
        return any(teacher.model == "ema" for teacher in self.teachers)

    def plain(self) -> Recipe:
        """Return the control: the same student, data, budget and seed, without a teacher."""
        return msgspec.structs.replace(self, teacher=None, schedule=None, distill=(Term(loss="cross_entropy"),))

    def smoke(self) -> Recipe:
        """Return the same recipe cut down to a few batches: every line of code runs, nothing is learned."""
        batch_size = min(self.train.batch_size, 16)
        limits = {"train_limit": 8 * batch_size, "unlabelled_limit": 8 * batch_size, "test_limit": 256}
        data = {name: min(getattr(self.data, name) or limit, limit) for name, limit in limits.items()}
        epochs = max(term.epochs[0] for term in self.distill if term.epochs) + 1 if any(term.epochs for term in self.distill) else 1
        train = {"epochs": min(epochs, self.train.epochs), "batch_size": batch_size, "warmup_epochs": 0.0, "snapshots": ()}
        schedule = self.schedule
        if isinstance(schedule, Recursive):
            schedule = msgspec.structs.replace(schedule, epochs=None)
        return msgspec.structs.replace(
            self,
            data=msgspec.structs.replace(self.data, **data),
            schedule=schedule,
            train=msgspec.structs.replace(self.train, **train),
            export=msgspec.structs.replace(self.export, calibration=min(self.export.calibration, 32), parity_images=256),
        )


def is_active(term: Term, epoch: int) -> bool:
    """Return whether a term counts in an epoch, which are numbered from 0."""
    return term.epochs is None or term.epochs[0] <= epoch < term.epochs[1]
