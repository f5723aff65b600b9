"""The parts of random sentences: subjects and objects, times and places, drawn so that they fit together."""

from random import Random

from vitrail.phrasebook import lexicon
from vitrail.phrasebook.grammar import (
    Degree,
    Determiner,
    Nominal,
    Phrase,
    Tense,
    be_group,
    both,
    clause,
    join_phrases,
    noun_phrase,
    possession,
    pronoun,
    said,
)
from vitrail.phrasebook.lexicon import Adjective, Gender, Noun, Verb

PEOPLE = "person name"
PRONOUNS = ("I", "you", "he", "she", "we", "they")
OWN: tuple[Determiner, ...] = ("my", "your", "his", "her", "our", "their")
NUMBERS: tuple[Determiner, ...] = (
    "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
)  # fmt: skip


def chance(rng: Random, share: float) -> bool:
    """True in that share of draws."""
    return rng.random() < share


# Nouns


def determiner(rng: Random, noun: Noun, *, as_object: bool = False, plural: bool = False) -> Determiner:
    """A determiner that suits the noun; only objects are indefinite without an article."""
    tags = lexicon.tags(noun)
    if "name" in tags:
        return "none"
    options: list[Determiner] = ["the", "the", "the", "this"]
    if tags & {"kin", "pet", "tame", "thing", "food", "clothes"}:
        options.extend(rng.sample(OWN, 2))
    if "single" in tags and "kin" in tags:
        options = list(OWN)
    elif plural:
        options.extend(rng.sample(NUMBERS, 2))
    elif not tags & {"mass", "single"}:
        options.append("a")
    if as_object and (plural or "mass" in tags):
        options.extend(("some", "bare"))
    elif as_object and not tags & {"single", "kin"}:
        options.append("a")
    return rng.choice(options)


def noun_of(rng: Random, wanted: str) -> Noun:
    """A noun with one of the wanted tags; either gender is equally likely."""
    gender: Gender = rng.choice(("m", "f"))
    return rng.choice(lexicon.nouns_of_gender(wanted, gender) or lexicon.nouns(wanted))


def described(rng: Random, noun: Noun, kind: Determiner, *, key: str, plural: bool, negated: bool = False, share: float = 0.25) -> Nominal:
    """A noun phrase, with an adjective in that share of draws."""
    choices = lexicon.adjectives(noun)
    adjective = rng.choice(choices) if choices and chance(rng, share) else None
    return noun_phrase(noun, kind, key=key, plural=plural, adjective=adjective, negated=negated)


def subject_of(rng: Random, wanted: str, *, key: str = "subject", pronouns: float = 0.45, asked: bool = False) -> Nominal:
    """A subject: a pronoun (for people), or a noun phrase; never "I" in a question (`asked`)."""
    if "person" in wanted.split() and chance(rng, pronouns):
        return pronoun(rng.choice(PRONOUNS[asked:]), key=key)
    noun = noun_of(rng, wanted)
    if lexicon.tags(noun) & {"pet", "portable", "vehicle"} and chance(rng, 0.12):
        return possession(owner_of(rng, key=f"{key}.owner"), noun, key=key)
    plural = bool(noun.english_plural) and chance(rng, 0.25)
    return described(rng, noun, determiner(rng, noun, plural=plural), key=key, plural=plural, share=0.15)


def owner_of(rng: Random, *, key: str) -> Nominal:
    """A possessor: a name, or one person."""
    noun = noun_of(rng, PEOPLE)
    return noun_phrase(noun, determiner(rng, noun), key=key)


def object_of(rng: Random, verb: Verb, *, negated: bool, key: str = "object", avoid: str = "") -> Nominal:
    """The object of the verb; `avoid` is an excluded noun."""
    noun = noun_of(rng, verb.objects)
    while noun.english == avoid:
        noun = noun_of(rng, verb.objects)
    if lexicon.tags(noun) & {"pet", "portable", "vehicle"} and chance(rng, 0.08):
        return possession(owner_of(rng, key=f"{key}.owner"), noun, key=key)
    plural = bool(noun.english_plural) and chance(rng, 0.3)
    kind = determiner(rng, noun, as_object=True, plural=plural)
    if verb.english in ("like", "hate") and kind not in ("the", "this", *OWN):
        kind = "generic"
        plural = "mass" not in lexicon.tags(noun)
        if plural and not noun.english_plural:
            kind, plural = "the", False
    return described(rng, noun, kind, key=key, plural=plural, negated=negated)


# Verbs


def tense_of(rng: Random, verb: Verb, *, support: bool) -> Tense:
    """A tense in which the verb is used, and in which its English form is not ambiguous ("they read")."""
    traits = verb.traits.split()
    options: list[Tense] = []
    if support or verb.past != verb.english:
        options.append("present")
    if verb.past:
        options.extend(("past", "past"))
    if verb.ing and "still" not in traits:
        options.append("progressive")
    if verb.future:
        options.append("future")
    return rng.choice(options)


def time_of(rng: Random, tense: Tense, share: float = 0.2) -> Phrase:
    """When it happens, in that share of draws."""
    if not chance(rng, share):
        return Phrase()
    if tense != "progressive" and chance(rng, 0.25):
        return join_phrases(both("at", "à", "at"), hour_of(rng))
    english, french, _ = rng.choice([time for time in lexicon.TIMES if tense in time[2].split()])
    return both(english, french, "time")


def hour_of(rng: Random) -> Phrase:
    """An hour of the clock."""
    number = rng.choice(NUMBERS)
    return join_phrases(both(number, lexicon.NUMBERS[number], "hour"), both("o'clock", "heures", "clock"))


def place_phrase(rng: Random, preposition: str) -> Phrase:
    """A place with its preposition: to/at -> à, from -> de; a city or a place that one goes to."""
    french = "de" if preposition == "from" else "à"
    if chance(rng, 0.2):
        city, ville = rng.choice(lexicon.CITIES)
        return join_phrases(both("in" if preposition == "at" else preposition, french, "to"), both(city, ville, "city"))
    noun = noun_of(rng, "goal")
    kind: Determiner = "this" if chance(rng, 0.15) else "the"
    return join_phrases(both(preposition, french, "to"), described(rng, noun, kind, key="goal", plural=False, share=0.1).phrase)


def inside_phrase(rng: Random, *, buildings: bool = True) -> Phrase:
    """In a room, a village or perhaps a building."""
    noun = noun_of(rng, "room building" if buildings else "room")
    return join_phrases(both("in", "dans", "in"), described(rng, noun, "the", key="room", plural=False, share=0.1).phrase)


def degree_of(rng: Random, adjective: Adjective) -> Degree:
    """Sometimes "very", where the adjective has degrees."""
    return "very" if lexicon.gradable(adjective) and chance(rng, 0.15) else ""


def state_clause(
    subject: Nominal,
    adjective: Adjective,
    tense: Tense,
    *,
    key: str,
    degree: Degree = "",
    negative: bool = False,
    question: bool = False,
) -> Phrase:
    """Somebody is (not) (very) so."""
    complement = said(adjective, subject, key=f"{key}.said", degree=degree)
    group = be_group(subject, tense, complement, key=key, with_avoir=adjective.with_avoir)
    return clause(subject, group, key=key, negative=negative, question=question)
