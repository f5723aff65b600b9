"""A synchronous grammar: each phrase is built in English and in French at once, so that the word alignment is known.

Every word has keys for its meanings; words of the two sides that share a key are aligned. A clause is

    English  (auxiliary) subject (auxiliary) (not) main rest
    French   (est-ce que) subject (ne) clitics finite (pas) tail rest

Agreement is settled while a phrase is built; elision (le + eau -> l'eau) and contraction (de + le -> du) when it is spelled out.
Conventions: "you" is tu, and I, you and we are masculine, as in a grammar book; they is ils, unless its noun says elles.
Apostrophes are ASCII. Before ? and ! there is an ordinary space: what people type, and what SentencePiece's NFKC makes of the
no-break spaces of printed French.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from vitrail.phrasebook import lexicon
from vitrail.phrasebook.lexicon import Adjective, Gender, Noun, Verb

Tense = Literal["present", "progressive", "past", "future"]
Degree = Literal["", "very", "too"]
Determiner = Literal[
    # "bare" and "generic" have no English word: "she eats apples" (des pommes), "she likes apples" (les pommes).
    "the", "a", "some", "bare", "generic", "this", "none",
    "my", "your", "his", "her", "our", "their",
    "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
]  # fmt: skip

ELIDED = frozenset(("le", "la", "je", "me", "te", "se", "ne", "de", "que"))
CONTRACTED = {("de", "le"): "du", ("de", "les"): "des", ("à", "le"): "au", ("à", "les"): "aux"}
VOWELS = frozenset("aeiouàâéèêëîïôöùûœ")
TOKEN = re.compile(r"aujourd['’]hui|o['’]clock|(?:qu|[cdjlmnst])['’](?=\w)|['’]s\b|\w+(?:-\w+)*|[^\w\s]", re.IGNORECASE)


class Word(NamedTuple):
    """A word of one side and the keys of its meanings."""

    text: str
    keys: tuple[str, ...]


Words = tuple[Word, ...]


class Phrase(NamedTuple):
    """The same phrase on both sides."""

    english: Words = ()
    french: Words = ()


class Nominal(NamedTuple):
    """A noun phrase or a pronoun, with its features for agreement."""

    phrase: Phrase
    person: int
    """The form of the verb with this subject: 0 je, 1 tu, 2 il/elle, 3 nous, 4 ils/elles."""
    gender: Gender

    @property
    def plural(self) -> bool:
        return self.person >= 3


class VerbGroup(NamedTuple):
    """A verb group, split where subjects and negations are inserted."""

    english_auxiliary: Words
    english_main: Words
    clitics: Words
    finite: Words
    tail: Words


class PhrasebookPair(NamedTuple):
    """A sentence, its translation and the gold links (source token, target token) over `tokenise` of each."""

    source: str
    target: str
    alignment: tuple[tuple[int, int], ...]


def tokenise(text: str) -> list[str]:
    """Cut a sentence of either language into words, elided words (l', qu'), possessive endings ('s) and punctuation marks.

    Joined without spaces, the tokens are the text without its spaces.
    """
    return TOKEN.findall(text)


def make_words(text: str, *keys: str) -> Words:
    """The words of a text, each meaning all the keys."""
    return tuple(Word(part, keys) for part in text.split())


def both(english: str, french: str, key: str) -> Phrase:
    """A phrase whose words all translate each other."""
    return Phrase(make_words(english, key), make_words(french, key))


def join_phrases(*phrases: Phrase) -> Phrase:
    """Phrases one after another, in the same order on both sides."""
    return Phrase(sum((p.english for p in phrases), ()), sum((p.french for p in phrases), ()))


def begins_with_vowel(word: str) -> bool:
    """Whether le becomes l' before a French word: a vowel or a silent h, but not haricot or onze."""
    lowered = word.casefold()
    return (lowered[0] in VOWELS or lowered[0] == "h") and lowered not in lexicon.ASPIRATED


# Noun phrases


def agree(adjective: Adjective, gender: Gender, *, plural: bool, following: str = "") -> str:
    """The French form of an adjective; `following` is the word right after it, if that is its noun."""
    index = (gender == "f") + 2 * plural
    if index == 0 and adjective.before_vowel and following and begins_with_vowel(following):
        return adjective.before_vowel
    return adjective.french.split()[index]


def agree_participle(participle: str, gender: Gender, *, plural: bool) -> str:
    """The French form of a past participle: vu, vue, vus, vues; pris stays pris in the plural."""
    form = participle + ("e" if gender == "f" else "")
    return form if not plural or form.endswith("s") else form + "s"


def french_determiner(determiner: Determiner, noun: Noun, *, plural: bool, following: str, adjective_first: bool, negated: bool) -> str:
    """The French determiner as separate words, before elision and contraction (de la, de le)."""
    feminine = noun.gender == "f"
    definite = "les" if plural else "la" if feminine else "le"
    if determiner in lexicon.POSSESSIVES:
        masculine_form, feminine_form, plural_form = lexicon.POSSESSIVES[determiner]
        return plural_form if plural else feminine_form if feminine and not begins_with_vowel(following) else masculine_form
    match determiner:
        case "the" | "generic":
            return definite
        case "none":
            return ""
        case "this":
            singular = "cette" if feminine else "cet" if begins_with_vowel(following) else "ce"
            return "ces" if plural else singular
        case "a" | "some" | "bare":
            if negated or (plural and adjective_first):
                return "de"
            if plural:
                return "des"
            return f"de {definite}" if "mass" in lexicon.tags(noun) else "une" if feminine else "un"
        case _:
            return lexicon.NUMBERS[determiner]


def english_determiner(determiner: Determiner, *, plural: bool, following: str, negated: bool) -> str:
    """The English determiner; empty where there is none."""
    match determiner:
        case "bare" | "generic" | "none":
            return ""
        case "a":
            return "an" if following[0] in "aeiou" else "a"
        case "this":
            return "these" if plural else "this"
        case "some":
            return "any" if negated else "some"
        case _:
            return determiner


def noun_phrase(
    noun: Noun,
    determiner: Determiner,
    *,
    key: str,
    plural: bool = False,
    adjective: Adjective | None = None,
    negated: bool = False,
) -> Nominal:
    """A determiner, perhaps an adjective, and a noun; `negated`: the object of a negated verb, where du, un, des become de."""
    english = [noun.english_plural if plural else noun.english]
    french = [noun.french_plural if plural else noun.french]
    english_words, french_words = make_words(english[0], key), make_words(french[0], key)
    first = adjective is not None and adjective.place in ("before", "attribute")
    if adjective is not None:
        form = make_words(agree(adjective, noun.gender, plural=plural, following=french[0] if first else ""), f"{key}.adjective")
        english_words = make_words(adjective.english, f"{key}.adjective") + english_words
        french_words = form + french_words if first else french_words + form
    determiner_key = key if determiner in ("bare", "generic") else f"{key}.determiner"
    ours = english_determiner(determiner, plural=plural, following=english_words[0].text, negated=negated)
    theirs = french_determiner(determiner, noun, plural=plural, following=french_words[0].text, adjective_first=first, negated=negated)
    phrase = Phrase(make_words(ours, determiner_key) + english_words, make_words(theirs, determiner_key) + french_words)
    return Nominal(phrase, 4 if plural else 2, noun.gender)


def possession(owner: Nominal, noun: Noun, *, key: str, plural: bool = False) -> Nominal:
    """A possessive phrase: "my brother's dog", le chien de mon frère."""
    thing = noun_phrase(noun, "none", key=key, plural=plural)
    link = f"{key}.of"
    article = "les" if plural else "la" if noun.gender == "f" else "le"
    english = owner.phrase.english + make_words("'s", link) + thing.phrase.english
    french = make_words(article, link) + thing.phrase.french + make_words("de", link) + owner.phrase.french
    return Nominal(Phrase(english, french), thing.person, noun.gender)


def pronoun(english: str, *, key: str, gender: Gender = "m") -> Nominal:
    """A subject pronoun; `gender` is for it and they."""
    person = {"I": 0, "you": 1, "we": 3, "they": 4}.get(english, 2)
    genders: dict[str, Gender] = {"he": "m", "she": "f"}
    gender = genders.get(english, gender)
    singular = "elle" if gender == "f" else "il"
    french = ("je", "tu", singular, "nous", singular + "s")[person]
    return Nominal(both(english, french, key), person, gender)


OBJECT_PRONOUNS: tuple[tuple[str, str, int, Gender], ...] = (
    ("me", "me", 0, "m"),
    ("you", "te", 1, "m"),
    ("him", "le", 2, "m"),
    ("her", "la", 2, "f"),
    ("us", "nous", 3, "m"),
    ("them", "les", 4, "m"),
)


# Verb groups


def verb_group(verb: Verb, subject: Nominal, tense: Tense, *, key: str, support: bool, clitic: Nominal | None = None) -> VerbGroup:
    """The forms of a verb; `support`: English needs do, because the clause is negated or a question.

    A clitic is an object pronoun: it precedes the French verb, and a participle after avoir agrees with it.
    """
    person = subject.person
    auxiliary_key = f"{key}.auxiliary" if tense == "past" and support else key
    english_auxiliary: Words = ()
    match tense:
        case _ if "modal" in verb.traits:
            english_auxiliary, english_main = make_words(verb.english, key), ()
        case "progressive":
            english_auxiliary, english_main = make_words(lexicon.BE["present"].split()[person], key), make_words(verb.ing, key)
        case "future":
            english_auxiliary, english_main = make_words("will", key), make_words(verb.english, key)
        case "past" if support:
            english_auxiliary, english_main = make_words("did", auxiliary_key), make_words(verb.english, key)
        case "past":
            english_main = make_words(verb.past, key)
        case "present" if support:
            english_auxiliary, english_main = make_words("does" if person == 2 else "do", key), make_words(verb.english, key)
        case "present":
            english_main = make_words(verb.third if person == 2 else verb.english, key)
    clitics = clitic.phrase.french if clitic else reflexive(verb, person, key)
    match tense:
        case "past":
            governor = subject if "etre" in verb.traits else clitic
            auxiliary = lexicon.ETRE if "etre" in verb.traits else lexicon.AVOIR
            finite = make_words(auxiliary["present"].split()[person], auxiliary_key)
            form = agree_participle(verb.participle, governor.gender, plural=governor.plural) if governor else verb.participle
            return VerbGroup(english_auxiliary, english_main, clitics, finite, make_words(form, key))
        case "future":
            finite = make_words(verb.future + lexicon.FUTURE_ENDINGS[person], key)
        case _:
            finite = make_words(verb.present.split()[person], key)
    return VerbGroup(english_auxiliary, english_main, clitics, finite, ())


def reflexive(verb: Verb, person: int, key: str) -> Words:
    """The reflexive pronoun of a verb such as se reposer; nothing for other verbs."""
    return make_words(("me", "te", "se", "nous", "se")[person], key) if "reflexive" in verb.traits else ()


def with_infinitive(group: VerbGroup, verb: Verb, subject: Nominal, *, key: str, to: bool) -> VerbGroup:
    """A verb group that governs another verb: "wants to sleep", veut dormir."""
    english = make_words("to", key) * to + make_words(verb.english, key)
    tail = reflexive(verb, subject.person, key) + make_words(verb.infinitive, key)
    return group._replace(english_main=group.english_main + english, tail=group.tail + tail)


def be_group(subject: Nominal, tense: Tense, complement: Phrase, *, key: str, with_avoir: bool = False) -> VerbGroup:
    """To be something, or to have it where French uses avoir."""
    french = (lexicon.AVOIR if with_avoir else lexicon.ETRE)[tense].split()[subject.person]
    if tense == "future":
        return VerbGroup(
            make_words("will", key), make_words("be", key) + complement.english, (), make_words(french, key), complement.french
        )
    english = lexicon.BE[tense].split()[subject.person]
    return VerbGroup(make_words(english, key), complement.english, (), make_words(french, key), complement.french)


def said(adjective: Adjective, subject: Nominal, *, key: str, degree: Degree = "") -> Phrase:
    """An adjective that is said of a subject, agreeing with it."""
    form = agree(adjective, subject.gender, plural=subject.plural)
    how = both(degree, {"": "", "very": "très", "too": "trop"}[degree], f"{key}.degree")
    return join_phrases(how, both(adjective.english, form, key))


def clause(
    subject: Nominal, group: VerbGroup, *, key: str, rest: Phrase | None = None, negative: bool = False, question: bool = False
) -> Phrase:
    """A clause: a subject and a verb group, perhaps negated or a question, and the rest."""
    rest = rest or Phrase()
    deny_english, ne, pas = (make_words(word, f"{key}.not") * negative for word in ("not", "ne", "pas"))
    auxiliary = group.english_auxiliary
    if question:
        asking = tuple(Word(text, (*keys, f"{key}.ask")) for text, keys in auxiliary)
        english = asking + subject.phrase.english + deny_english
    else:
        english = subject.phrase.english + auxiliary + deny_english
    french = make_words("est-ce que", f"{key}.ask") * question + subject.phrase.french
    french += ne + group.clitics + group.finite + pas + group.tail
    return Phrase(english + group.english_main + rest.english, french + rest.french)


# From words to text


def elide(words: Sequence[Word]) -> list[Word]:
    """Drop the e or a of le, la, je, que, ... before a vowel."""
    following = [*words[1:], Word(".", ())]
    return [
        Word(word.text[:-1] + "'", word.keys) if word.text in ELIDED and begins_with_vowel(after.text) else word
        for word, after in zip(words, following, strict=True)
    ]


def contract_words(words: Sequence[Word], merged: dict[tuple[str, str], str]) -> list[Word]:
    """Replace two words by one where the table says so: de + le by du. The one word has the meanings of both."""
    result: list[Word] = []
    for word in words:
        if result and (result[-1].text, word.text) in merged:
            before = result.pop()
            word = Word(merged[before.text, word.text], before.keys + word.keys)
        result.append(word)
    return result


def text_of(tokens: Iterable[str], *, space_before: str) -> str:
    """Join tokens into a sentence with a capital; `space_before` lists the marks that take a space before them."""
    text = ""
    for token in tokens:
        glued = not text or text.endswith("'") or token == "'s" or (token in ".,?!" and token not in space_before)
        text += token if glued else " " + token
    return text[:1].upper() + text[1:]


def sentence(phrase: Phrase, mark: Literal[".", "?", "!"]) -> PhrasebookPair:
    """Spell a phrase out on both sides, with its final mark and its alignment."""
    end = make_words(mark, "end")
    english = contract_words(phrase.english + end, {("can", "not"): "cannot"})
    french = contract_words(elide(phrase.french + end), CONTRACTED)
    source = text_of((word.text for word in english), space_before="")
    target = text_of((word.text for word in french), space_before="?!")
    by_key: dict[str, list[int]] = {}
    for j, word in enumerate(french):
        for key in word.keys:
            by_key.setdefault(key, []).append(j)
    links = {(i, j) for i, word in enumerate(english) for key in word.keys for j in by_key.get(key, ())}
    return PhrasebookPair(source, target, tuple(sorted(links)))
