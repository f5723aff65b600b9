"""All settings of a training, in one frozen object."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vitrail.config import Config, Duration, Interval
from vitrail.data.any_config import AnyDataConfig
from vitrail.data.data_config import DataConfig
from vitrail.decode.search.beams import SearchConfig
from vitrail.errors import UsageError
from vitrail.models.adapters import LoraConfig
from vitrail.models.architectures import PRESETS, TASK_DATA, TASK_MODELS, AnyModelConfig, ModelConfig, TaskName, require_translator, task_of
from vitrail.runtime.device import Device, Precision
from vitrail.train.optim import OptimizerConfig, ScheduleConfig
from vitrail.train.starting.init_config import InitConfig


class TrainConfig(Config):
    """Length, batches, optimizer, validation, checkpoints."""

    duration: Duration = Duration(amount=20, unit="epochs")
    """Length of the training, the schedule's horizon: "8000 steps", "20 epochs" or "30 minutes".
    Only steps and epochs end a resumed run where an unbroken one would have ended."""
    batch_tokens: int = Field(default=2048, ge=1)
    """Most target positions in a batch, padding counted: the main cost in memory."""
    accumulate: int = Field(default=1, ge=1)
    """Batches whose gradients are added up before one update; divided among the processes when there are several."""
    subword_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of subword merges left out at random while training, so that words are seen in several spellings (BPE-dropout)."""
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Share of the target's probability spread evenly over the whole vocabulary."""
    average_decay: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the moving average of the weights. The average is validated and saved as the model. 0: the weights themselves."""
    average_checkpoints: int = Field(default=0, ge=0)
    """At the end, also try the mean of this many checkpoints, and keep it where its dev score is better. 0: do not."""
    average_which: Literal["last", "best"] = "last"
    """Which checkpoints the mean is taken of."""
    old_share: Annotated[float, Field(ge=0, lt=1)] | Literal["auto"] = 0.0
    """Of a training that started from another model: at the end the model becomes share * old + (1 - share) * new weights, which gives back
    some of what was forgotten. auto: the least share with which no dev text but the first loses more than `old_lost`. 0: the
    new weights alone."""
    old_lost: float = Field(default=0.7, ge=0)
    """Of `old_share = auto`: how much may be lost on the old dev text, in points of chrF; 0.7 are about one of BLEU."""
    validate_start: bool = False
    """Score the model before the first step, too. It stays the run's model where no later one is better on the dev set."""
    validate_every: Interval = Interval(amount=1, unit="epochs", share=0.25)
    """How often the dev set is scored and translated: "1 epochs", "500 steps", "5 minutes"; with ", at most 25%", a short training has four
    validations, too. 0: only at the end."""
    save_every: Duration = Duration(amount=5, unit="minutes")
    """How often a checkpoint is written, in addition to those at validations."""
    log_every: int = Field(default=50, ge=1)
    """Steps between lines of metrics."""
    select: Literal["auto", "bleu", "chrf", "loss", "accuracy", "f1", "matthews"] = "auto"
    """Dev score that chooses the best model; for equal scores, the lower loss decides. auto: for a translator chrf, which counts
    characters, so that it measures progress in lines of any length and script; for a classifier f1, the mean over all labels, so that rare
    ones count as much as frequent ones; for other models loss. A resumed run keeps its score."""
    patience: int = Field(default=0, ge=0)
    """Stop after this many validations without a better dev score. 0: never."""
    validation_sentences: int = Field(default=1000, ge=1)
    """Most dev sentences that are translated at each validation."""
    probes: tuple[str, ...] = Field(default=(), max_length=12)
    """Sentences for the film of the training; without them some of the dev set. Of a translator each with a tab and its translation, of a
    classifier with a tab and its label, where it is known; a language model writes on from each; [MASK] hides a token from a masked one."""
    keep_last: int = Field(default=2, ge=1)
    """Newest checkpoints that are kept."""
    keep_best: int = Field(default=1, ge=0)
    """Best checkpoints that are also kept."""
    device: Device = "auto"
    """Where to compute: auto takes a GPU when there is one."""
    precision: Precision = "auto"
    """Type of matrix products: auto takes bf16 where the hardware multiplies it."""
    threads: int = Field(default=0, ge=0)
    """Processor threads; 0: one a core. A resumed run needs the same number to give the same bits."""


class RunConfig(Config):
    """A whole run."""

    data: AnyDataConfig
    """Text, cleaning, hold-out, vocabulary."""
    model: AnyModelConfig = PRESETS["tiny"]
    """The architecture and its size."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """The optimizer."""
    schedule: ScheduleConfig = ScheduleConfig()
    """The learning-rate schedule."""
    train: TrainConfig = TrainConfig()
    """Length, batches, optimizer, validation, checkpoints."""
    search: SearchConfig = SearchConfig()
    """Default search settings of the trained model."""
    init: tuple[InitConfig, ...] = ()
    """Parts that are taken from other models, by role: where the training starts from."""
    lora: LoraConfig = LoraConfig()
    """Low-rank adapters in place of training all of what was taken."""
    seed: int = Field(default=1, ge=0)
    """Seed of everything random: initial weights, dropout, order of batches."""

    @property
    def task(self) -> TaskName:
        """The task, from the model's kind."""
        return task_of(self.model)

    @property
    def translator(self) -> ModelConfig:
        """The model's shape. Raises UsageError where it does not translate."""
        return require_translator(self.model)

    @property
    def pairs(self) -> DataConfig:
        """The text of a translator. Raises UsageError where the run is of another kind."""
        if not isinstance(self.data, DataConfig):
            raise UsageError(f"the run of {TASK_MODELS[self.task]}", expected="the run of a translator")
        return self.data

    @model_validator(mode="after")
    def _each_role_once(self) -> "RunConfig":
        roles = [part.role for part in self.init]
        if twice := {role for role in roles if roles.count(role) > 1}:
            raise UsageError(f"init: {' and '.join(sorted(twice))} twice", expected="each role once")
        if self.lora.rank and not self.init:
            raise UsageError(
                f"lora.rank = {self.lora.rank} without init: an adapter learns nothing of use beside fresh weights",
                remedy="--init all=FOLDER; or --set lora.rank=0 trains the model itself",
            )
        return self

    @model_validator(mode="after")
    def _old_weights(self) -> "RunConfig":
        named = {"optimizer.l2_start": self.optimizer.l2_start, "train.old_share": self.train.old_share}
        for name, value in named.items():
            if value and not self.init:
                raise UsageError(f"{name} = {value} without init: there are no old weights", remedy="--from FOLDER")
            if value and self.lora.rank:
                found = f"{name} = {value} with lora.rank = {self.lora.rank}"
                raise UsageError(found, expected="one of the two: adapters leave old weights as they are")
        if self.train.old_share == "auto" and not (isinstance(self.data, DataConfig) and self.data.further_dev):
            raise UsageError(
                "train.old_share = auto with one dev set: what the old text loses would not be seen",
                expected="a dev set of the old text beside that of the new",
                remedy="--dev new.tsv,name=new --dev old.tsv,name=old; or a share, such as --set train.old_share=0.3",
            )
        return self

    @property
    def keeps_start(self) -> bool:
        """Whether the weights that the training started from are needed later on."""
        return bool(self.optimizer.l2_start or self.train.old_share)

    @model_validator(mode="after")
    def _one_task(self) -> "RunConfig":
        if self.data.kind != TASK_DATA[self.task]:
            raise UsageError(
                f"{TASK_MODELS[self.task]} (model.kind) with data of kind {self.data.kind}",
                expected=f"data of kind {TASK_DATA[self.task]}: two sides of a text for a translator, plain text for a language model,"
                " text and labels for a classifier",
                remedy="--text FILE --preset lstm-lm, --source FILE --target FILE, or --text FILE --labels FILE",
            )
        return self
