"""The program `vitrail`: its verbs, and what becomes of an error. Never imports torch at the top."""

import errno
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

import vitrail
from vitrail.commands.shared import console
from vitrail.errors import Interrupted, UsageError, VitrailError, out_of_memory
from vitrail.runtime.stopping import stopping_at_once
from vitrail.runtime.streams import OutputClosed, guard_streams


def _resumable(verb: Callable[..., None]) -> Callable[..., None]:
    """A verb that goes on when it is called again: a signal that asks it to stop ends it so that batch systems see that, at any time.

    Its results are files: where nobody reads what it prints of them in the end, nothing is lost.
    """

    @wraps(verb)
    def stoppable(*arguments: Any, **options: Any) -> None:
        with stopping_at_once("stopped; what was done is kept"), suppress(OutputClosed):
            verb(*arguments, **options)

    return stoppable


class _Verb(NamedTuple):
    """One verb: the room of `commands` that it is in, what `--help` says of it, and whether it goes on when it is called again."""

    room: str
    help: str
    resumable: bool = False
    function: str = ""
    """Its function and module, where these are not called as the verb is."""


_VERBS = {
    "demo": _Verb("training", "Train on the built-in phrasebook, and look into the result.", resumable=True),
    "prepare": _Verb("training", "Clean text, hold some out, learn subwords, and report it all."),
    "train": _Verb("training", "Train a translator, a language model or a classifier from text.", resumable=True),
    "translate": _Verb("translating", "Translate a file or stdin, line for line."),
    "generate": _Verb("translating", "Write text with a language model."),
    "fill": _Verb("translating", "Guess hidden words with a masked language model."),
    "classify": _Verb("translating", "Give texts their labels with a classifier."),
    "embed": _Verb("translating", "Turn sentences into vectors, and find their neighbours."),
    "interpolate": _Verb("translating", "Walk from one sentence to another with an autoencoder."),
    "shortlist": _Verb("translating", "Learn which words a text needs, to translate faster."),
    "align": _Verb("translating", "Link the words of sentences with those of translations."),
    "evaluate": _Verb("evaluating", "Score translations, or a model: BLEU, chrF, TER; F1."),
    "inspect": _Verb("inspecting", "See through a model: one sentence, or a study of the whole."),
    "doctor": _Verb("inspecting", "Say what is wrong with a training, and the remedy."),
    "compare": _Verb("evaluating", "Train a ladder of architectures on the same text.", resumable=True),
    "vectors": _Verb("vectors", "Word vectors: train, evaluate, ask, convert and map them."),
    "export": _Verb("exchanging", "Write a model for another program."),
    "import": _Verb("exchanging", "Read a model back from another program.", function="import_model"),
    "lora": _Verb("exchanging", "Low-rank adapters: save one, merge it, take it out."),
    "config": _Verb("training", "List every setting, or those of a run."),
    "experiment": _Verb("inspecting", "See the problems that attention and gates were made for."),
    "bench": _Verb("evaluating", "Measure speed, against others and against promises."),
}
"""Listing them loads none."""


def _load(name: str) -> Callable[..., None] | typer.Typer:
    """A verb by name, or a group of verbs. A call needs one, and loads no other."""
    verb = _VERBS[name]
    function = verb.function or name
    found = getattr(import_module(f"vitrail.commands.{verb.room}.{function}"), function)
    return _resumable(found) if verb.resumable else found


class _Verbs(TyperGroup):
    """The verbs, each built by typer when it is needed."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands: Any = _Built()

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.help) for name, verb in _VERBS.items()])


class _Built(Mapping[str, Any]):
    """Verb by name, as typer builds it."""

    def __init__(self) -> None:
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._built:
            program, verb = _program(callback=lambda: None), _load(name)
            if isinstance(verb, typer.Typer):
                program.add_typer(verb)
            else:
                program.command(name)(verb)
            made: Any = typer.main.get_command(program)
            self._built[name] = made.commands[name]
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_VERBS)

    def __len__(self) -> int:
        return len(_VERBS)


def _program(**more: Any) -> typer.Typer:
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, **more)


app = _program(name="vitrail", cls=_Verbs, context_settings={"help_option_names": ["--help", "-h"]})


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors; may stand anywhere.")] = False,
) -> None:
    """Train your own translator from parallel text, and see through it."""
    if version:
        console.show(vitrail.__version__)
    elif context.invoked_subcommand is None:
        console.show(context.get_help())


_PYDANTIC = "Value error, "
"""What typer's own checks put before a message."""
_NOWHERE = "the folder that this runs in was deleted\n  try: cd to another"


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code: 0 done, or that of the error, which is told on stderr."""
    upto = arguments.index("--") if "--" in arguments else len(arguments)
    debug = "--debug" in arguments[:upto]
    if not _is_somewhere():  # torch's libraries would end the process in words of their own
        console.say(f"error: {_NOWHERE}")
        return VitrailError.exit_code
    wanted = [argument for place, argument in enumerate(arguments) if argument != "--debug" or place > upto]
    try:
        return app(wanted, prog_name="vitrail", standalone_mode=False) or 0
    except typer.Abort:  # what typer makes of Ctrl-C
        console.say("interrupted")
        return Interrupted.exit_code
    except typer.TyperException as error:
        console.say(f"error: {error.format_message().replace(_PYDANTIC, '')}\n  try: vitrail --help, or --help after a verb")
        return error.exit_code
    except OutputClosed as error:
        return error.exit_code
    except VitrailError as error:
        return _tell(error, str(error), debug=debug, code=error.exit_code)
    except Exception as error:
        text, code = _explain(error)
        return _tell(error, text, debug=debug, code=code)


def _explain(error: Exception) -> tuple[str, int]:
    """What is told of an error that nobody put in words where it happened, and its exit code."""
    if out_of_memory(error):
        return (
            "memory ran out\n  try: end other programs, give it less text at once, or raise the container's limit",
            VitrailError.exit_code,
        )
    if (
        isinstance(error, OSError) and error.filename is not None
    ):  # looking whether a file is there may fail, whatever it was to be used for
        code = UsageError.exit_code if error.errno == errno.ENAMETOOLONG else VitrailError.exit_code
        return f"{os.fsdecode(error.filename)}: {error.strerror}\n  try: check the name, and who may read and write there", code
    if isinstance(error, FileNotFoundError) and not _is_somewhere():
        return _NOWHERE, VitrailError.exit_code
    return f"{type(error).__name__}: {error}\n  try: the same command with --debug, which shows where it happened", VitrailError.exit_code


def _is_somewhere() -> bool:
    try:
        return Path.cwd().exists()
    except OSError:
        return False


def _tell(error: Exception, text: str, *, debug: bool, code: int) -> int:
    if debug:
        traceback.print_exception(error)
    console.say(f"error: {text}")
    return code


def main() -> None:
    """The entry point of the program."""
    guard_streams()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # where another process died, torch's warnings would bury what is told of it
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    code = run(sys.argv[1:])
    if any(thread.daemon for thread in threading.enumerate()):
        # A thread that waits for input holds the lock of stdin, and on that the interpreter's own end would abort.
        with suppress(OSError, VitrailError):
            sys.stdout.flush()
        os._exit(code)
    sys.exit(code)
