"""Sentences with because, in which the meaning of an adjective determines the antecedent of a pronoun.

In "The dog ate the soup because it was hungry", it is the dog (il); in "... because it was cold", the soup (elle).
"""

from random import Random
from typing import Literal, NamedTuple

from vitrail.phrasebook import lexicon
from vitrail.phrasebook.constituents import PEOPLE, PRONOUNS, chance, degree_of, determiner, state_clause, subject_of
from vitrail.phrasebook.grammar import (
    Degree,
    Nominal,
    Phrase,
    PhrasebookPair,
    Tense,
    both,
    clause,
    join_phrases,
    noun_phrase,
    pronoun,
    sentence,
    verb_group,
)
from vitrail.phrasebook.lexicon import Adjective, Gender, Noun, VerbFrame

AntecedentRole = Literal["subject", "object"]
AGAIN = "again"
"""The key of the pronoun in the clause with because."""
# Adjectives of an animal's look in these sentences: never a reason for what it does.
LOOKS = ("big", "small", "young", "old", "beautiful", "white", "black", "grey")


class Cause(NamedTuple):
    """The parts of one such sentence, so that it can also be built with the wrong pronoun."""

    subject: Noun
    object: Noun
    role: AntecedentRole
    main: Phrase
    adjective: Adjective
    degree: Degree
    tense: Tense
    denied: bool
    """True where the reason is that it is *not* so: because it was not hungry."""
    resumed: Nominal
    """The pronoun in the clause with because."""

    @property
    def antecedent(self) -> Noun:
        return self.subject if self.role == "subject" else self.object

    def pair(self, *, wrong: bool = False) -> PhrasebookPair:
        """The sentence; `wrong`: with the other pronoun and the matching agreement."""
        resumed = self.resumed
        if wrong:
            resumed = pronoun("it", key=AGAIN, gender="f" if resumed.gender == "m" else "m")
        return sentence(join_phrases(self.main, because(resumed, self.adjective, self.tense, degree=self.degree, denied=self.denied)), ".")


def because(subject: Nominal, adjective: Adjective, tense: Tense, *, degree: Degree, denied: bool = False) -> Phrase:
    """Because somebody or something is (not) so."""
    state = state_clause(subject, adjective, tense, key="because.be", degree=degree, negative=denied)
    return join_phrases(both("because", "parce que", "because"), state)


def resume(subject: Nominal) -> Nominal:
    """The pronoun that takes people up again: the girls -> they, elles."""
    if subject.phrase.english[0].text in PRONOUNS:
        return pronoun(subject.phrase.english[0].text, key=AGAIN)
    if subject.plural:
        return pronoun("they", key=AGAIN, gender=subject.gender)
    return pronoun("he" if subject.gender == "m" else "she", key=AGAIN)


def reason(rng: Random) -> PhrasebookPair:
    """Somebody does something, or does not, because of how he or she feels."""
    name, negative, states = rng.choice(lexicon.REASONS)
    subject = subject_of(rng, PEOPLE, pronouns=0.35)
    tense: Tense = "past" if chance(rng, 0.6) else "present"
    group = verb_group(lexicon.verb(name), subject, tense, key="verb", support=negative)
    main = clause(subject, group, key="verb", negative=negative)
    adjective = rng.choice([a for a in lexicon.ADJECTIVES if a.english in states.split() and "person" in lexicon.tags(a)])
    return sentence(join_phrases(main, because(resume(subject), adjective, tense, degree=degree_of(rng, adjective))), ".")


def states_of(frame: VerbFrame, noun: Noun, role: AntecedentRole, *, negative: bool) -> list[Adjective]:
    """The possible reasons that fit the noun."""
    if role == "subject":
        wanted = frame.own_no if negative else frame.own_yes
    else:
        wanted = frame.object_no if negative else frame.object_yes
    return [a for a in lexicon.predicates(noun) if a.english in wanted.split()]


def noun_with(rng: Random, wanted: str, gender: Gender) -> Noun:
    """A noun of that gender with one of the wanted tags."""
    return rng.choice(lexicon.nouns_of_gender(wanted, gender))


def cause(rng: Random, *, gender: Gender, other: Gender, role: AntecedentRole, people: bool = False) -> Cause | None:
    """Draw a sentence whose pronoun has this role and gender; the other noun has the other ones. None if the draw does not fit.

    With `people`, the subject is a person (he, she or they) and the object is it.
    """
    frame = rng.choice(lexicon.PEOPLE_FRAMES if people else lexicon.FRAMES)
    genders = (gender, other) if role == "subject" else (other, gender)
    subject, thing = noun_with(rng, frame.subjects, genders[0]), noun_with(rng, frame.objects, genders[1])
    negative = chance(rng, 0.35)
    # "did not eat because it was not hungry": what is denied is a reason for doing it.
    denied = negative and chance(rng, 0.2)
    states = states_of(frame, subject if role == "subject" else thing, role, negative=negative and not denied)
    states = [a for a in states if not denied or a.english in lexicon.DENIABLE.split()]
    if not states:
        return None
    adjective = rng.choice(states)
    degree: Degree = "" if denied else degree_of(rng, adjective)
    if negative and not denied and role == "object" and lexicon.gradable(adjective) and chance(rng, 0.25):
        degree = "too"
    tense: Tense = "past" if chance(rng, 0.65) or frame.verb == "read" else "present"
    looks = [a for a in lexicon.adjectives(subject) if a.english in LOOKS]
    look = rng.choice(looks) if looks and not people and adjective.english not in LOOKS and chance(rng, 0.25) else None
    plural = bool(subject.english_plural) and chance(rng, 0.3 if people else 0.0)
    doer = noun_phrase(subject, determiner(rng, subject, plural=plural), key="subject", plural=plural, adjective=look)
    kind = determiner(rng, thing)
    done_to = noun_phrase(thing, "the" if kind == "a" and negative else kind, key="object")
    group = verb_group(lexicon.verb(frame.verb), doer, tense, key="verb", support=negative)
    main = clause(doer, group, key="verb", rest=done_to.phrase, negative=negative)
    it = resume(doer) if people and role == "subject" else pronoun("it", key=AGAIN, gender=gender)
    return Cause(subject, thing, role, main, adjective, degree, tense, denied, it)


def draw_cause(rng: Random, *, people: bool) -> Cause:
    """One sentence with either role and either gender, all equally likely."""
    while True:
        gender, other = rng.choice(("m", "f")), rng.choice(("m", "f"))
        drawn = cause(rng, gender=gender, other=other, role=rng.choice(("subject", "object")), people=people)
        if drawn is not None:
            return drawn
