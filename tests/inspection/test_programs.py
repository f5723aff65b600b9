"""A translator in programs: many threads at once, forked and spawned processes, asyncio, pickles."""

import asyncio
import io
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from builders import TRANSLATING, settled
from recorded import translator

from vitrail.data.vocabularies.subwords import SubwordsConfig, train_vocabularies
from vitrail.decode.ensemble import Ensemble
from vitrail.decode.search.beams import SearchConfig
from vitrail.decode.translate import TranslateConfig, Translation, Translator
from vitrail.errors import ModelError, UsageError
from vitrail.inspection.causes.attribution import attribute
from vitrail.inspection.causes.change import Edit
from vitrail.inspection.translator import InspectableTranslator
from vitrail.models.build import build_model

OFF = {"pre-layer-sinusoidal": "encoder.0.self_attention:1", "lstm-luong-dot-fed": "attention", "pre-rms-rotary-swiglu": "decoder.1"}
THREADS = 8


def digest(record: object) -> object:
    return record.to_npz() if hasattr(record, "to_npz") else record  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]


@pytest.mark.parametrize("calls", [2, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", OFF)
def test_threads_get_what_one_after_the_other_gives(name: str, calls: int) -> None:
    one = translator(name, beams=2, max_extra=3)

    def edited() -> object:
        with one.edited(off=[OFF[name]]):
            return one.translate("afcbd"), one.inspect("bed").facts

    jobs: list[Callable[[], object]] = [
        lambda: one.translate(["afcbd", "bed"]),
        lambda: one.translate("pad", search=SearchConfig(beams=3, max_length=6)),
        lambda: digest(one.inspect("afcbd")),
        edited,
        lambda: one.edit("bed", Edit(hidden=(1,))).to_record(),
        lambda: digest(attribute(one.inspect("fa"), one.model, methods=["gradient_x_input", "occlusion"])),
    ]
    expected = [job() for job in jobs]
    plain, changed = one.translate("afcbd"), expected[3]
    assert isinstance(changed, tuple) and changed[0] != plain and edited() == changed

    def work(seed: int) -> list[bool]:
        draw = random.Random(seed)
        chosen = [draw.randrange(len(jobs)) for _ in range(calls)]
        return [jobs[number]() == expected[number] for number in chosen]

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(work, range(THREADS)))
    finally:
        sys.setswitchinterval(before)
    assert all(len(row) == calls and all(row) for row in found)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in one.model.modules())


def test_an_edit_belongs_to_the_thread_or_task_that_made_it() -> None:
    one = translator("pre-layer-sinusoidal")
    plain = one.translate("afcbd")
    with ThreadPoolExecutor(1) as pool, one.edited(off=["encoder.0.self_attention:1", "decoder.1"]):
        changed = one.translate("afcbd")
        assert pool.submit(one.translate, "afcbd").result() == plain != changed
        assert "edits" not in pool.submit(one.inspect, "afcbd").result().facts.extras
        assert len(one.inspect("afcbd").facts.extras["edits"]) == 2

    async def task(off: list[str]) -> Translation:
        with one.edited(off=off):
            await asyncio.sleep(0.01)
            found = one.translate("afcbd")
            await asyncio.sleep(0.01)
            return found

    async def both() -> list[Translation]:
        return list(await asyncio.gather(task(["encoder.0.self_attention:1", "decoder.1"]), task([])))

    with ThreadPoolExecutor(1) as pool:  # where no browser of other tests has a loop of its own
        assert pool.submit(lambda: asyncio.run(both())).result() == [changed, plain]
    assert one.translate("afcbd") == plain


@pytest.mark.parametrize("name", ["pre-layer-sinusoidal", "pre-rms-rotary-swiglu"])
def test_a_text_longer_than_all_before_can_be_looked_at_and_translated_in_threads(name: str) -> None:
    """Tables of positions grow while a search runs, where no gradients are kept, and in several threads at once."""

    def fresh() -> InspectableTranslator:
        config = TranslateConfig(search=SearchConfig(beams=1, max_length=3), max_source_tokens=2000)
        return InspectableTranslator(settled(TRANSLATING[name]), vocabularies=TRANSLATING[name].vocabularies, config=config)

    one = fresh()
    one.translate("ab" * 150)
    assert one.inspect("ab" * 128)["gradients.encoder.0.residual_2.sum"].any()
    texts = ["ab" * length for length in (130, 700, 260, 400, 170, 600, 140, 500)]
    expected = [one.translate(text) for text in texts]
    other = fresh()
    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(other.translate, texts)) == expected


# Other processes.


def answer(one: InspectableTranslator, text: str) -> tuple[str, tuple[int, ...], float, bytes]:
    found = one.translate(text)
    return found.text, found.tokens, round(found.log_probability, 4), one.inspect(text).facts.model_dump_json().encode()


def imported(data: bytes) -> set[str]:
    """The modules whose classes and functions a pickle asks for."""
    found: set[str] = set()

    class Listening(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> object:
            found.add(module)
            return super().find_class(module, name)

    Listening(io.BytesIO(data)).load()
    assert InspectableTranslator.__module__ in found
    return found


@pytest.mark.parametrize("kind", ["bpe", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("word", "character"))])
def test_a_translator_is_sent_as_plain_bytes(kind: str) -> None:
    shape = SubwordsConfig.model_validate({"kind": kind, "size": 300, "joint": kind == "bpe"})
    both = train_vocabularies(["a dog ate the food ."] * 3, ["le chien a mangé ."] * 3, config=shape)
    config = TRANSLATING["post-rms-learned-gelu" if kind == "bpe" else "post-layer-untied"].config
    one = InspectableTranslator(
        build_model(config, both).eval(), vocabularies=both, config=TranslateConfig(seed=5), languages=("en", "fr"), longest_source=9
    )
    data = pickle.dumps(one)
    assert not any(module.split(".")[0] == "torch" for module in imported(data))
    other = pickle.loads(data)  # noqa: S301  (made above)
    assert type(other) is InspectableTranslator and other.languages == ("en", "fr") and other.config == one.config
    assert other.vocabularies.digest == both.digest and other.vocabularies.joint == both.joint
    text = "The dog ate the food. A dog ate it."
    assert other.translate(text) == one.translate(text) and other.inspect(text).to_npz() == one.inspect(text).to_npz()
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(one.model.parameters(), other.model.parameters(), strict=True))


def test_what_is_sent_is_all_or_refused() -> None:
    one = translator("lstm")
    vocabularies = TRANSLATING["lstm"].vocabularies
    together = Translator(Ensemble([one.model, settled(TRANSLATING["gru-bahdanau"])], digests=["x", "x"]), vocabularies=vocabularies)
    other = pickle.loads(pickle.dumps(together))  # noqa: S301
    assert other.translate("afcbd") == together.translate("afcbd")
    with one.edited(off=["decoder.0:1"]), pytest.raises(UsageError, match="while it is edited"):
        pickle.dumps(one)

    class Another:
        def encode(self, source: object) -> None: ...
        def start(self, encoded: object) -> None: ...
        def step(self, last: object, state: object) -> None: ...

    with pytest.raises(ModelError, match="Another cannot be sent"):
        pickle.dumps(Translator(Another(), vocabularies=vocabularies))  # pyright: ignore[reportArgumentType]


def test_spawned_processes_translate_alike() -> None:
    one, texts = translator("pre-layer-sinusoidal"), ["afcbd", "bed"]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(answer, [one] * len(texts), texts)) == [answer(one, text) for text in texts]


FORKING = """
import os, signal, sys, torch
sys.path[:0] = {paths!r}
torch.set_num_threads(2)
from recorded import translator
one = translator("pre-layer-sinusoidal")
(torch.randn(600, 600) @ torch.randn(600, 600)).softmax(1)
before = one.translate("afcbd")
one.inspect("afcbd")
child = os.fork()
if not child:
    signal.alarm(60)
    (torch.randn(600, 600) @ torch.randn(600, 600)).softmax(1)
    same = one.translate("afcbd").tokens == before.tokens and one.inspect("afcbd").target.ids == before.tokens
    os._exit(0 if same else 3)
_, status = os.waitpid(child, 0)
assert one.translate("afcbd") == before
sys.exit(os.waitstatus_to_exitcode(status) % 256)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_translates() -> None:
    here = Path(__file__).parent
    program = FORKING.format(paths=[str(here), str(here.parent / "contract")])
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=180, env=environment, check=False)
    assert ran.returncode == 0, f"{ran.returncode} (of a signal: {256 - signal.SIGALRM}): {ran.stderr}"
