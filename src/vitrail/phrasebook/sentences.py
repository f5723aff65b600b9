"""Sentence patterns of the phrasebook: each draws words that fit together and builds one sentence in both languages."""

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from vitrail.phrasebook import lexicon
from vitrail.phrasebook.constituents import (
    NUMBERS,
    OWN,
    PEOPLE,
    PRONOUNS,
    chance,
    degree_of,
    described,
    determiner,
    hour_of,
    inside_phrase,
    noun_of,
    object_of,
    place_phrase,
    state_clause,
    subject_of,
    tense_of,
    time_of,
)
from vitrail.phrasebook.grammar import (
    OBJECT_PRONOUNS,
    Determiner,
    Nominal,
    Phrase,
    PhrasebookPair,
    Tense,
    VerbGroup,
    be_group,
    both,
    clause,
    join_phrases,
    make_words,
    noun_phrase,
    pronoun,
    said,
    sentence,
    verb_group,
    with_infinitive,
)
from vitrail.phrasebook.lexicon import Adjective, Noun, Verb

# Verbs after "want to", after "what", and in commands; "_" is a space.
WISH_VERBS = (
    "eat drink buy read write open close wash take prepare visit see help sleep sing dance work play run rest have_fun go come stay"
)
QUESTION_VERBS = "eat drink buy read prepare write look_for want hide sell take wear see find"
COMMAND_VERBS = "open close take read write eat drink wash buy prepare look_for wait_for help watch"


def verbs_with(wanted: Callable[[Verb], bool]) -> tuple[Verb, ...]:
    """The verbs that fulfil the condition, in the order of the lexicon."""
    return tuple(verb for verb in lexicon.VERBS if wanted(verb))


class Mood(NamedTuple):
    """Whether a sentence is negated, and whether it is a question; never both."""

    negative: bool
    question: bool

    @property
    def supported(self) -> bool:
        """Whether English needs do."""
        return self.negative or self.question


def draw_mood(rng: Random) -> Mood:
    """A plain statement in three of five draws."""
    draw = rng.random()
    return Mood(draw < 0.22, draw > 0.8)


def make_sentence(subject: Nominal, group: VerbGroup, mood: Mood, *, rest: Phrase | None = None) -> PhrasebookPair:
    """The finished sentence."""
    phrase = clause(subject, group, key="verb", rest=rest, negative=mood.negative, question=mood.question)
    return sentence(phrase, "?" if mood.question else ".")


def verb_of(rng: Random, names: str) -> Verb:
    """One of the verbs named."""
    return lexicon.verb(rng.choice(names.split()).replace("_", " "))


def transitive(rng: Random) -> PhrasebookPair:
    """Somebody does something to something."""
    verb = rng.choice(verbs_with(lambda verb: bool(verb.objects)))
    mood = draw_mood(rng)
    subject = subject_of(rng, verb.subjects, asked=mood.question)
    tense = tense_of(rng, verb, support=mood.supported)
    thing = object_of(rng, verb, negated=mood.negative, avoid=subject.phrase.english[-1].text)
    group = verb_group(verb, subject, tense, key="verb", support=mood.supported)
    rest = thing.phrase if "state" in verb.traits else join_phrases(thing.phrase, time_of(rng, tense, 0.12))
    return make_sentence(subject, group, mood, rest=rest)


def feeding(rng: Random) -> PhrasebookPair:
    """An animal does one of the things that animals do."""
    frame = rng.choice(lexicon.FRAMES)
    verb = lexicon.verb(frame.verb)
    mood = draw_mood(rng)
    subject = subject_of(rng, frame.subjects, asked=mood.question)
    tense = tense_of(rng, verb, support=mood.supported)
    noun = noun_of(rng, frame.objects)
    plural = bool(noun.english_plural) and chance(rng, 0.2)
    kind = determiner(rng, noun, as_object=True, plural=plural)
    thing = described(rng, noun, kind, key="object", plural=plural, negated=mood.negative)
    group = verb_group(verb, subject, tense, key="verb", support=mood.supported)
    return make_sentence(subject, group, mood, rest=thing.phrase)


def pronoun_object(rng: Random) -> PhrasebookPair:
    """Somebody sees, helps, ... somebody, who is a pronoun."""
    verb = rng.choice(verbs_with(lambda verb: "person" in verb.objects.split()))
    mood = draw_mood(rng)
    subject = subject_of(rng, PEOPLE, asked=mood.question)
    options = [row for row in OBJECT_PRONOUNS if row[2] != subject.person or row[2] in (2, 4)]
    if subject.person in (0, 3):
        options = [row for row in options if row[2] not in (0, 3)]
    english, french, person, gender = rng.choice(options)
    clitic = Nominal(both(english, french, "object"), person, gender)
    tense = tense_of(rng, verb, support=mood.supported)
    group = verb_group(verb, subject, tense, key="verb", support=mood.supported, clitic=clitic)
    rest = join_phrases(Phrase(clitic.phrase.english), time_of(rng, tense) if "state" not in verb.traits else Phrase())
    return make_sentence(subject, group, mood, rest=rest)


def quality(rng: Random) -> PhrasebookPair:
    """Something is, was or will be hungry, cold, new."""
    if chance(rng, 0.5):
        subject, choices = somebody_or_animal(rng)
    else:
        noun = noun_of(rng, "food drink thing building")
        plural = bool(noun.english_plural) and chance(rng, 0.3)
        subject = noun_phrase(noun, definite(rng, noun, plural=plural), key="subject", plural=plural)
        choices = lexicon.predicates(noun)
    adjective = rng.choice(choices)
    tense: Tense = rng.choice(("present", "present", "past", "past", "future"))
    complement = said(adjective, subject, key="said", degree=degree_of(rng, adjective))
    return make_sentence(subject, be_group(subject, tense, complement, key="be", with_avoir=adjective.with_avoir), draw_mood(rng))


def somebody_or_animal(rng: Random) -> tuple[Nominal, Sequence[Adjective]]:
    """A subject that feels, and a suitable adjective."""
    if chance(rng, 0.4):
        person = lexicon.nouns("person")[0]
        return pronoun(rng.choice(PRONOUNS), key="subject"), [a for a in lexicon.predicates(person) if "person" in lexicon.tags(a)]
    noun = noun_of(rng, rng.choice((PEOPLE, "animal")))
    plural = bool(noun.english_plural) and chance(rng, 0.3)
    return noun_phrase(noun, definite(rng, noun, plural=plural), key="subject", plural=plural), lexicon.predicates(noun)


def definite(rng: Random, noun: Noun, *, plural: bool) -> Determiner:
    """A determiner other than a."""
    kind = determiner(rng, noun, plural=plural)
    return "the" if kind == "a" else kind


def movement(rng: Random) -> PhrasebookPair:
    """Somebody goes, comes, arrives or stays somewhere."""
    name, preposition = rng.choice((("go", "to"), ("go", "to"), ("come", "from"), ("come", "to"), ("arrive", "at"), ("stay", "at")))
    verb = lexicon.verb(name)
    mood = draw_mood(rng)
    subject = subject_of(rng, verb.subjects, asked=mood.question)
    tense = tense_of(rng, verb, support=mood.supported)
    group = verb_group(verb, subject, tense, key="verb", support=mood.supported)
    rest = join_phrases(place_phrase(rng, preposition), time_of(rng, tense, 0.3))
    return make_sentence(subject, group, mood, rest=rest)


def activity(rng: Random) -> PhrasebookPair:
    """Somebody sleeps, sings, gets up, perhaps somewhere."""
    verb = rng.choice(verbs_with(lambda verb: not verb.objects and verb.english not in ("give", "show", "go", "stay", "can", "must")))
    mood = draw_mood(rng)
    subject = subject_of(rng, verb.subjects, asked=mood.question)
    tense = tense_of(rng, verb, support=mood.supported)
    group = verb_group(verb, subject, tense, key="verb", support=mood.supported)
    somewhere = Phrase()
    if verb.english not in ("come", "arrive") and chance(rng, 0.4):
        somewhere = inside_phrase(rng, buildings=verb.english not in ("run", "fall"))
    rest = join_phrases(somewhere, time_of(rng, tense, 0.4))
    return make_sentence(subject, group, mood, rest=rest)


def infinitive_phrase(rng: Random, *, negated: bool) -> tuple[Verb, Phrase]:
    """A verb after want, like or have to, and its object."""
    verb = verb_of(rng, WISH_VERBS)
    if verb.objects:
        noun = noun_of(rng, verb.objects)
        plural = bool(noun.english_plural) and chance(rng, 0.3)
        kind = determiner(rng, noun, plural=plural)
        return verb, described(rng, noun, kind, key="object", plural=plural, negated=negated, share=0.1).phrase
    if verb.english in ("go", "come"):
        return verb, place_phrase(rng, "to")
    if verb.english == "stay":
        return verb, place_phrase(rng, "at")
    return verb, inside_phrase(rng) if chance(rng, 0.3) else Phrase()


def wish(rng: Random) -> PhrasebookPair:
    """Somebody wants to, likes to, can or must do something."""
    governor = lexicon.verb(rng.choice(("want", "want", "like", "can", "can", "must")))
    mood = draw_mood(rng)
    if governor.english == "must":
        mood = mood._replace(question=False)
    verb, rest = infinitive_phrase(rng, negated=mood.negative)
    subject = subject_of(rng, PEOPLE, asked=mood.question)
    to = "modal" not in governor.traits
    group = verb_group(governor, subject, "present", key="verb", support=to and mood.supported)
    group = with_infinitive(group, verb, subject, key="infinitive", to=to)
    return make_sentence(subject, group, mood, rest=rest)


def giving(rng: Random) -> PhrasebookPair:
    """Somebody gives or shows something to somebody."""
    verb = lexicon.verb(rng.choice(("give", "show")))
    mood = draw_mood(rng)
    subject = subject_of(rng, PEOPLE, asked=mood.question)
    tense = tense_of(rng, verb, support=mood.supported)
    group = verb_group(verb, subject, tense, key="verb", support=mood.supported)
    noun = noun_of(rng, "portable")
    plural = chance(rng, 0.2)
    thing = described(
        rng, noun, determiner(rng, noun, as_object=True, plural=plural), key="object", plural=plural, negated=mood.negative, share=0.1
    )
    receiver = subject_of(rng, PEOPLE, key="receiver", pronouns=0.0)
    rest = join_phrases(thing.phrase, both("to", "à", "to"), receiver.phrase)
    return make_sentence(subject, group, mood, rest=rest)


def location(rng: Random) -> PhrasebookPair:
    """Where something is; that there is something somewhere; or the question where."""
    noun = noun_of(rng, rng.choice(("portable", "pet")))
    plural = bool(noun.english_plural) and chance(rng, 0.3)
    draw = rng.random()
    if draw < 0.2:
        subject = described(rng, noun, determiner(rng, noun, plural=plural), key="subject", plural=plural)
        be, etre = ("are", "sont") if plural else ("is", "est")
        return sentence(join_phrases(both("where", "où", "where"), both(be, etre, "be"), subject.phrase), "?")
    mood = draw_mood(rng)
    where = spot(rng, noun)
    if draw < 0.55:
        kind: Determiner = rng.choice(("bare", "some", *NUMBERS)) if plural else "a"
        thing = described(rng, noun, kind, key="subject", plural=plural)
        be = "are" if plural else "is"
        english = (
            make_words(be, "be", "ask") + make_words("there", "there")
            if mood.question
            else make_words("there", "there") + make_words(be, "be")
        )
        french = make_words("est-ce que", "ask") * mood.question + make_words("il y", "there") + make_words("a", "be")
        return sentence(join_phrases(Phrase(english, french), thing.phrase, where), "?" if mood.question else ".")
    subject = described(rng, noun, determiner(rng, noun, plural=plural), key="subject", plural=plural)
    tense: Tense = rng.choice(("present", "present", "past"))
    group = be_group(subject, tense, where, key="be")
    return make_sentence(subject, group, mood)


def spot(rng: Random, noun: Noun) -> Phrase:
    """On, under or in something that can hold the noun."""
    preposition, french, wanted = rng.choice((("on", "sur", "surface"), ("under", "sous", "surface"), ("in", "dans", "inside room")))
    holder = rng.choice([found for found in lexicon.nouns(wanted) if found != noun and not lexicon.tags(found) & {"building"}])
    kind: Determiner = "the" if "room" in lexicon.tags(holder) else rng.choice(("the", "the", "this", *OWN))
    return join_phrases(both(preposition, french, "spot"), noun_phrase(holder, kind, key="holder").phrase)


def age_or_hour(rng: Random) -> PhrasebookPair:
    """How old somebody is, or what time it is."""
    number = rng.choice(NUMBERS)
    if chance(rng, 0.1):
        return sentence(join_phrases(both("it", "il", "it"), both("is", "est", "be"), hour_of(rng)), ".")
    noun = noun_of(rng, "name aged")
    subject = noun_phrase(noun, determiner(rng, noun), key="subject")
    if chance(rng, 0.5):
        subject = pronoun(rng.choice(("I", "you", "he", "she")), key="subject")
    tense: Tense = rng.choice(("present", "past", "future"))
    years = join_phrases(both(number, lexicon.NUMBERS[number], "number"), both("years old", "ans", "years"))
    mood = draw_mood(rng)
    group = be_group(subject, tense, years, key="be", with_avoir=True)
    return make_sentence(subject, group, mood)


def asking(rng: Random) -> PhrasebookPair:
    """Who, what, why, when and where."""
    word = rng.choice(("who", "what", "why", "when", "where"))
    if word == "who":
        verb = rng.choice(
            verbs_with(lambda verb: "person" in verb.subjects and bool(verb.past) and verb.english not in ("give", "show", "see"))
        )
        subject = Nominal(both("who", "qui", "who"), 2, "m")
        tense = tense_of(rng, verb, support=False)
        group = verb_group(verb, subject, tense, key="verb", support=False)
        rest = object_of(rng, verb, negated=False).phrase if verb.objects else time_of(rng, tense, 0.6)
        return sentence(clause(subject, group, key="verb", rest=rest), "?")
    subject = subject_of(rng, PEOPLE, pronouns=0.6)
    if word == "what":
        verb = verb_of(rng, QUESTION_VERBS)
        asked = both("what", "que", "what")
    else:
        names = "sleep sing dance work play cry laugh rest run" if word != "when" else "come arrive sleep work play rest"
        verb = lexicon.verb(rng.choice(names.split()))
        asked = both(word, {"why": "pourquoi", "when": "quand", "where": "où"}[word], "asked")
    tense = tense_of(rng, verb, support=True)
    group = verb_group(verb, subject, tense, key="verb", support=True)
    rest = time_of(rng, tense, 0.3) if word in ("why", "where") else Phrase()
    return sentence(join_phrases(asked, clause(subject, group, key="verb", rest=rest, question=True)), "?")


def command(rng: Random) -> PhrasebookPair:
    """Tell somebody (tu) to do something, or not to."""
    verb = verb_of(rng, COMMAND_VERBS)
    negative = chance(rng, 0.3)
    noun = noun_of(rng, verb.objects)
    plural = bool(noun.english_plural) and chance(rng, 0.3)
    thing = described(rng, noun, determiner(rng, noun, plural=plural), key="object", plural=plural)
    form = verb.present.split()[1]
    form = form[:-1] if form.endswith("es") else form
    english = make_words("do not", "not") * negative + make_words(verb.english, "verb")
    french = make_words("ne", "not") * negative + make_words(form, "verb") + make_words("pas", "not") * negative
    please = join_phrases(both(",", ",", "comma"), both("please", "s'il te plaît", "please"))
    polite = Phrase(please.english, make_words(",", "comma") + make_words("s' il te plaît", "please")) if chance(rng, 0.3) else Phrase()
    return sentence(join_phrases(Phrase(english, french), thing.phrase, polite), ".")


def who_clause(rng: Random, antecedent: Nominal, *, animal: bool, now: bool) -> Phrase:
    """A relative clause with qui: who ate the soup, that is sleeping in the garden; `now`: what is going on."""
    link = both("that" if animal else "who", "qui", "who")
    subject = Nominal(link, antecedent.person, antecedent.gender)
    wanted = "animal" if animal else "person"
    choices = [verb for verb in lexicon.VERBS if wanted in verb.subjects.split() and verb.past and verb.english not in ("give", "show")]
    verb = rng.choice([verb for verb in choices if not now or (verb.ing and "still" not in verb.traits.split())])
    negative = not now and chance(rng, 0.15)
    tense: Tense = "progressive" if now else tense_of(rng, verb, support=negative)
    group = verb_group(verb, subject, tense, key="relative", support=negative)
    if verb.objects:
        noun = noun_of(rng, verb.objects)
        rest = noun_phrase(noun, determiner(rng, noun), key="object", negated=negative).phrase
    elif verb.english in ("go", "come", "arrive", "stay"):
        rest = place_phrase(rng, "to" if verb.english in ("go", "come") else "at")
    else:
        rest = inside_phrase(rng, buildings=verb.english not in ("run", "fall")) if chance(rng, 0.4) else Phrase()
    return clause(subject, group, key="relative", rest=rest, negative=negative)


def relative(rng: Random) -> PhrasebookPair:
    """Somebody who does something is so; or one sees, knows, helps somebody who does something."""
    animal = chance(rng, 0.35)
    noun = noun_of(rng, "animal" if animal else "person")
    while "single" in lexicon.tags(noun):
        noun = noun_of(rng, "person")
    plural = chance(rng, 0.25)
    kind: Determiner = rng.choice(("the", "the", rng.choice(NUMBERS) if plural else "a"))
    head = noun_phrase(noun, kind, key="head", plural=plural)
    if chance(rng, 0.5):
        subject = Nominal(join_phrases(head.phrase, who_clause(rng, head, animal=animal, now=False)), head.person, head.gender)
        adjective = rng.choice(lexicon.predicates(noun))
        return sentence(state_clause(subject, adjective, "present", key="be", degree=degree_of(rng, adjective)), ".")
    seer = subject_of(rng, PEOPLE, pronouns=0.8)
    sensed = chance(rng, 0.6)
    names = ("see", "hear", "watch", "follow") if sensed else ("look for",) if animal else ("know", "help", "wait for", "look for")
    verb = lexicon.verb(rng.choice(names))
    group = verb_group(verb, seer, "present" if sensed else tense_of(rng, verb, support=False), key="verb", support=False)
    rest = join_phrases(head.phrase, who_clause(rng, head, animal=animal, now=sensed))
    return sentence(clause(seer, group, key="verb", rest=rest), ".")


# How often each pattern is drawn, beside the sentences with because.
PATTERNS: tuple[tuple[Callable[[Random], PhrasebookPair], int], ...] = (
    (transitive, 20),
    (feeding, 7),
    (pronoun_object, 7),
    (quality, 10),
    (movement, 7),
    (activity, 7),
    (wish, 9),
    (giving, 5),
    (location, 8),
    (age_or_hour, 2),
    (asking, 5),
    (command, 3),
    (relative, 9),
)


def draw(rng: Random) -> PhrasebookPair:
    """One sentence of any pattern."""
    (pattern,) = rng.choices([pattern for pattern, _ in PATTERNS], [weight for _, weight in PATTERNS])
    return pattern(rng)
