"""The words of the phrasebook as data: English and French side by side, every irregular form written out.

`tags` are separated by spaces: a noun's tags are its kinds (an animal, something to drink, something that opens); an adjective's or a
verb's are the kinds of noun that it goes with. So chairs do not eat and soup is never jealous. Each English word has exactly one French
rendering; two English words may share a French one.
"""

from functools import cache
from typing import Literal, NamedTuple

Gender = Literal["m", "f"]
Place = Literal["before", "after", "attribute", "predicate"]


class Noun(NamedTuple):
    """A noun with its plurals; a mass noun (tag `mass`) and a name (tag `name`) have none."""

    english: str
    english_plural: str
    french: str
    french_plural: str
    gender: Gender
    tags: str


class Adjective(NamedTuple):
    """An adjective; `french` lists masculine, feminine, masculine plural, feminine plural."""

    english: str
    french: str
    place: Place
    """Its French position beside a noun; `attribute`: before it, and nowhere else; `predicate`: never beside a noun here."""
    tags: str
    before_vowel: str = ""
    """The masculine singular before a vowel, where it differs: bel, nouvel, vieil."""
    with_avoir: bool = False
    """True where French *has* what English *is*: avoir faim."""


class Verb(NamedTuple):
    """A verb; `present` lists the forms of je, tu, il, nous, ils (the phrasebook says tu, never vous)."""

    english: str
    third: str
    past: str
    ing: str
    infinitive: str
    present: str
    participle: str
    future: str
    """The stem of the future, to which -ai, -as, -a, -ons, -ont are added without exception; empty: not used."""
    subjects: str
    objects: str
    traits: str = ""
    """`etre`: passé composé with être. `reflexive`: with se. `state`: neither progressive nor past. `still`: no progressive."""


class VerbFrame(NamedTuple):
    """An action on something, and its reasons: the state of the subject or of the object.

    `own_*` are said of the subject, `object_*` of the object, in affirmative (`yes`) and negative (`no`) sentences. No adjective is in
    both, so that the adjective alone determines what "it" is.
    """

    verb: str
    subjects: str
    objects: str
    own_yes: str
    own_no: str
    object_yes: str
    object_no: str


class Fixed(NamedTuple):
    """A phrase that is not translated word by word, with its word alignment."""

    english: str
    french: str
    alignment: str


@cache
def tags(word: Noun | Adjective) -> frozenset[str]:
    """The tags of a word as a set."""
    return frozenset(word.tags.split())


@cache
def nouns(wanted: str) -> tuple[Noun, ...]:
    """The nouns that have at least one of the wanted tags, in the order of the lexicon."""
    return tuple(noun for noun in NOUNS if tags(noun) & frozenset(wanted.split()))


@cache
def nouns_of_gender(wanted: str, gender: Gender) -> tuple[Noun, ...]:
    """Those with this gender in French."""
    return tuple(noun for noun in nouns(wanted) if noun.gender == gender)


@cache
def adjectives(noun: Noun) -> tuple[Adjective, ...]:
    """The adjectives that fit this noun; names and relatives ("my mother") take none."""
    if tags(noun) & {"name", "single"}:
        return ()
    return tuple(adjective for adjective in ADJECTIVES if adjective.place != "predicate" and tags(adjective) & tags(noun))


@cache
def predicates(noun: Noun) -> tuple[Adjective, ...]:
    """The adjectives that can be said of this noun."""
    return tuple(adjective for adjective in ADJECTIVES if adjective.place != "attribute" and tags(adjective) & tags(noun))


@cache
def adjective(english: str, with_avoir: bool | None = None) -> Adjective:
    """The adjective of that English form ("cold" is one with être and, said of people, another with avoir)."""
    return next(a for a in ADJECTIVES if a.english == english and with_avoir in (None, a.with_avoir))


@cache
def gradable(adjective: Adjective) -> bool:
    """Whether one can be very so."""
    return adjective.english in GRADABLE.split()


@cache
def verb(english: str) -> Verb:
    """The verb of that English base form."""
    return next(v for v in VERBS if v.english == english)


# fmt: off
NOUNS = (
    # People. Names have no article.
    Noun("man", "men", "homme", "hommes", "m", "person adult"),
    Noun("woman", "women", "femme", "femmes", "f", "person adult"),
    Noun("boy", "boys", "garçon", "garçons", "m", "person aged"),
    Noun("girl", "girls", "fille", "filles", "f", "person aged"),
    Noun("child", "children", "enfant", "enfants", "m", "person aged"),
    Noun("friend", "friends", "ami", "amis", "m", "person aged kin"),
    Noun("neighbour", "neighbours", "voisin", "voisins", "m", "person kin adult"),
    Noun("teacher", "teachers", "professeur", "professeurs", "m", "person adult"),
    Noun("student", "students", "étudiant", "étudiants", "m", "person adult"),
    Noun("doctor", "doctors", "médecin", "médecins", "m", "person adult"),
    Noun("nurse", "nurses", "infirmière", "infirmières", "f", "person adult"),
    Noun("king", "kings", "roi", "rois", "m", "person adult"),
    Noun("queen", "queens", "reine", "reines", "f", "person adult"),
    Noun("princess", "princesses", "princesse", "princesses", "f", "person aged"),
    Noun("actress", "actresses", "actrice", "actrices", "f", "person adult"),
    Noun("father", "", "père", "", "m", "person kin adult single"),
    Noun("mother", "", "mère", "", "f", "person kin adult single"),
    Noun("brother", "brothers", "frère", "frères", "m", "person aged kin single"),
    Noun("sister", "sisters", "sœur", "sœurs", "f", "person aged kin single"),
    Noun("uncle", "uncles", "oncle", "oncles", "m", "person kin single adult"),
    Noun("aunt", "aunts", "tante", "tantes", "f", "person kin single adult"),
    Noun("grandmother", "", "grand-mère", "", "f", "person kin adult single"),
    Noun("Paul", "", "Paul", "", "m", "name"),
    Noun("Louis", "", "Louis", "", "m", "name"),
    Noun("Marie", "", "Marie", "", "f", "name"),
    Noun("Alice", "", "Alice", "", "f", "name"),
    Noun("Emma", "", "Emma", "", "f", "name"),
    # Animals, with what they eat and whether they drink from a bowl, take things in their mouth or push.
    Noun("dog", "dogs", "chien", "chiens", "m", "animal pet eats-meat eats-dish laps grabs breaks"),
    Noun("cat", "cats", "chat", "chats", "m", "animal pet eats-meat eats-dish laps grabs breaks"),
    Noun("wolf", "wolves", "loup", "loups", "m", "animal eats-meat laps grabs"),
    Noun("fox", "foxes", "renard", "renards", "m", "animal eats-meat eats-dish laps grabs breaks"),
    Noun("bear", "bears", "ours", "ours", "m", "animal eats-meat eats-plant eats-dish laps grabs pushes breaks"),
    Noun("monkey", "monkeys", "singe", "singes", "m", "animal eats-plant eats-dish laps grabs pushes breaks"),
    Noun("horse", "horses", "cheval", "chevaux", "m", "animal tame eats-plant laps pushes breaks"),
    Noun("donkey", "donkeys", "âne", "ânes", "m", "animal eats-plant laps pushes breaks"),
    Noun("pig", "pigs", "cochon", "cochons", "m", "animal eats-plant eats-dish laps pushes"),
    Noun("rabbit", "rabbits", "lapin", "lapins", "m", "animal pet eats-plant laps"),
    Noun("bird", "birds", "oiseau", "oiseaux", "m", "animal pet eats-plant laps"),
    Noun("elephant", "elephants", "éléphant", "éléphants", "m", "animal eats-plant laps pushes breaks"),
    Noun("cow", "cows", "vache", "vaches", "f", "animal tame eats-plant laps pushes breaks"),
    Noun("goat", "goats", "chèvre", "chèvres", "f", "animal tame eats-plant eats-dish laps grabs pushes breaks"),
    Noun("mouse", "mice", "souris", "souris", "f", "animal pet eats-plant eats-dish laps grabs"),
    Noun("hen", "hens", "poule", "poules", "f", "animal tame eats-plant eats-dish laps"),
    Noun("goose", "geese", "oie", "oies", "f", "animal eats-plant laps"),
    Noun("mare", "mares", "jument", "juments", "f", "animal tame eats-plant laps pushes breaks"),
    Noun("lioness", "lionesses", "lionne", "lionnes", "f", "animal eats-meat laps pushes"),
    Noun("hedgehog", "hedgehogs", "hérisson", "hérissons", "m", "animal eats-plant eats-dish laps"),
    Noun("otter", "otters", "loutre", "loutres", "f", "animal eats-meat laps grabs breaks"),
    Noun("turtle", "turtles", "tortue", "tortues", "f", "animal pet eats-plant laps"),
    Noun("magpie", "magpies", "pie", "pies", "f", "animal eats-meat eats-dish laps grabs breaks"),
    # Food and drink.
    Noun("food", "", "nourriture", "", "f", "food dish meat plant pasture mass cooked rots"),
    Noun("soup", "", "soupe", "", "f", "food dish mass cooked salted"),
    Noun("bread", "", "pain", "", "m", "food dish mass burns fresh"),
    Noun("cheese", "", "fromage", "", "m", "food dish mass salted fresh"),
    Noun("rice", "", "riz", "", "m", "food dish mass cooked salted burns"),
    Noun("cake", "cakes", "gâteau", "gâteaux", "m", "food dish sweets burns"),
    Noun("tart", "tarts", "tarte", "tartes", "f", "food dish cooked sweets burns"),
    Noun("pizza", "pizzas", "pizza", "pizzas", "f", "food dish cooked salted burns"),
    Noun("jam", "", "confiture", "", "f", "food dish mass sweets"),
    Noun("egg", "eggs", "œuf", "œufs", "m", "food dish meat cooked"),
    Noun("meat", "", "viande", "", "f", "food meat mass cooked salted raw burns rots"),
    Noun("chicken", "", "poulet", "", "m", "food meat mass cooked salted raw burns"),
    Noun("fish", "", "poisson", "", "m", "food meat mass cooked salted raw burns rots"),
    Noun("ham", "", "jambon", "", "m", "food meat mass salted"),
    Noun("sausage", "sausages", "saucisse", "saucisses", "f", "food meat cooked salted burns"),
    Noun("apple", "apples", "pomme", "pommes", "f", "food plant sweets rots"),
    Noun("pear", "pears", "poire", "poires", "f", "food plant sweets rots"),
    Noun("orange", "oranges", "orange", "oranges", "f", "food plant sweets rots bitter"),
    Noun("banana", "bananas", "banane", "bananes", "f", "food plant sweets rots"),
    Noun("carrot", "carrots", "carotte", "carottes", "f", "food plant raw rots"),
    Noun("tomato", "tomatoes", "tomate", "tomates", "f", "food plant raw rots"),
    Noun("cabbage", "cabbages", "chou", "choux", "m", "food plant raw rots bitter"),
    Noun("bean", "beans", "haricot", "haricots", "m", "food plant raw"),
    Noun("mushroom", "mushrooms", "champignon", "champignons", "m", "food plant raw rots bitter"),
    Noun("melon", "melons", "melon", "melons", "m", "food plant sweets rots"),
    Noun("grass", "", "herbe", "", "f", "pasture mass bitter"),
    Noun("water", "", "eau", "", "f", "drink bowl mass"),
    Noun("milk", "", "lait", "", "m", "drink bowl mass sweets fresh"),
    Noun("juice", "", "jus", "", "m", "drink bowl mass sweets bitter fresh"),
    Noun("lemonade", "", "limonade", "", "f", "drink bowl mass sweets bitter"),
    Noun("tea", "", "thé", "", "m", "drink mass sweets bitter"),
    Noun("coffee", "", "café", "", "m", "drink mass sweets bitter"),
    Noun("beer", "", "bière", "", "f", "drink mass bitter"),
    # Things.
    Noun("book", "books", "livre", "livres", "m", "thing made goods portable reading heavy"),
    Noun("newspaper", "newspapers", "journal", "journaux", "m", "thing goods portable reading"),
    Noun("letter", "letters", "lettre", "lettres", "f", "thing portable reading writing"),
    Noun("key", "keys", "clé", "clés", "f", "thing made portable toy"),
    Noun("bag", "bags", "sac", "sacs", "m", "thing made goods portable inside opens heavy toy pushed fills washable"),
    Noun("box", "boxes", "boîte", "boîtes", "f", "thing made portable inside opens heavy toy pushed fills"),
    Noun("bottle", "bottles", "bouteille", "bouteilles", "f", "thing goods portable opens breakable fills toy"),
    Noun("glass", "glasses", "verre", "verres", "m", "thing portable breakable fills washable"),
    Noun("cup", "cups", "tasse", "tasses", "f", "thing portable breakable fills washable"),
    Noun("plate", "plates", "assiette", "assiettes", "f", "thing portable breakable washable"),
    Noun("knife", "knives", "couteau", "couteaux", "m", "thing made goods portable washable"),
    Noun("vase", "vases", "vase", "vases", "m", "thing goods portable breakable fills washable heavy"),
    Noun("lamp", "lamps", "lampe", "lampes", "f", "thing goods breakable"),
    Noun("clock", "clocks", "horloge", "horloges", "f", "thing goods breakable heavy"),
    Noun("chair", "chairs", "chaise", "chaises", "f", "thing goods surface heavy pushed breakable"),
    Noun("table", "tables", "table", "tables", "f", "thing goods surface heavy pushed"),
    Noun("bed", "beds", "lit", "lits", "m", "thing goods surface heavy"),
    Noun("basket", "baskets", "panier", "paniers", "m", "thing made goods portable inside heavy toy pushed fills"),
    Noun("ball", "balls", "balle", "balles", "f", "thing made goods portable toy pushed"),
    Noun("present", "presents", "cadeau", "cadeaux", "m", "thing portable opens heavy toy"),
    Noun("toy", "toys", "jouet", "jouets", "m", "thing goods portable toy breakable washable pushed"),
    Noun("flower", "flowers", "fleur", "fleurs", "f", "thing goods portable toy"),
    Noun("computer", "computers", "ordinateur", "ordinateurs", "m", "thing goods heavy breakable"),
    Noun("door", "doors", "porte", "portes", "f", "thing opens pushed heavy"),
    Noun("window", "windows", "fenêtre", "fenêtres", "f", "thing opens breakable"),
    Noun("car", "cars", "voiture", "voitures", "f", "thing goods vehicle opens washable"),
    Noun("bicycle", "bicycles", "vélo", "vélos", "m", "thing goods vehicle washable pushed heavy"),
    Noun("boat", "boats", "bateau", "bateaux", "m", "thing goods vehicle pushed heavy"),
    Noun("train", "trains", "train", "trains", "m", "thing vehicle awaited"),
    Noun("house", "houses", "maison", "maisons", "f", "thing building place left"),
    Noun("hat", "hats", "chapeau", "chapeaux", "m", "thing goods clothes portable toy washable"),
    Noun("coat", "coats", "manteau", "manteaux", "m", "thing goods clothes portable toy washable heavy"),
    Noun("dress", "dresses", "robe", "robes", "f", "thing goods clothes portable washable"),
    Noun("shirt", "shirts", "chemise", "chemises", "f", "thing goods clothes portable washable"),
    Noun("shoe", "shoes", "chaussure", "chaussures", "f", "thing made goods portable toy washable"),
    Noun("scarf", "scarves", "écharpe", "écharpes", "f", "thing goods clothes portable toy washable"),
    # Places: `goal` takes "à" after verbs of motion, `inside` takes "dans".
    Noun("market", "", "marché", "", "m", "place goal single"),
    Noun("school", "", "école", "", "f", "place goal building left visited"),
    Noun("station", "", "gare", "", "f", "place goal building left single"),
    Noun("hospital", "", "hôpital", "", "m", "place goal building left visited"),
    Noun("hotel", "", "hôtel", "", "m", "place goal building left"),
    Noun("restaurant", "", "restaurant", "", "m", "place goal building left"),
    Noun("museum", "", "musée", "", "m", "place goal building left visited"),
    Noun("church", "", "église", "", "f", "place goal building left visited"),
    Noun("beach", "", "plage", "", "f", "place goal left single"),
    Noun("castle", "", "château", "", "m", "place goal building left visited"),
    Noun("garden", "", "jardin", "", "m", "place room left visited single"),
    Noun("kitchen", "", "cuisine", "", "f", "place room left single"),
    Noun("bedroom", "", "chambre", "", "f", "place room left single"),
    Noun("street", "", "rue", "", "f", "place room single"),
    Noun("village", "", "village", "", "m", "place room left visited"),
    Noun("forest", "", "forêt", "", "f", "place room left"),
)

ADJECTIVES = (
    Adjective("big", "grand grande grands grandes", "before", "animal thing place"),
    Adjective("small", "petit petite petits petites", "before", "animal thing place"),
    Adjective("good", "bon bonne bons bonnes", "before", "food drink reading"),
    Adjective("bad", "mauvais mauvaise mauvais mauvaises", "before", "food drink reading"),
    Adjective("beautiful", "beau belle beaux belles", "before", "animal clothes vehicle building toy adult", before_vowel="bel"),
    Adjective("new", "nouveau nouvelle nouveaux nouvelles", "attribute", "thing building", before_vowel="nouvel"),
    Adjective("new", "neuf neuve neufs neuves", "predicate", "breakable clothes vehicle building surface made"),
    Adjective("old", "vieux vieille vieux vieilles", "before", "thing building adult animal", before_vowel="vieil"),
    Adjective("young", "jeune jeune jeunes jeunes", "before", "animal adult"),
    Adjective("red", "rouge rouge rouges rouges", "after", "thing"),
    Adjective("blue", "bleu bleue bleus bleues", "after", "thing"),
    Adjective("green", "vert verte verts vertes", "after", "clothes vehicle toy"),
    Adjective("white", "blanc blanche blancs blanches", "after", "pet tame thing building"),
    Adjective("black", "noir noire noirs noires", "after", "pet tame clothes vehicle"),
    Adjective("grey", "gris grise gris grises", "after", "pet tame clothes"),
    Adjective("cold", "froid froide froids froides", "after", "cooked drink"),
    Adjective("hot", "chaud chaude chauds chaudes", "after", "cooked drink"),
    Adjective("fresh", "frais fraîche frais fraîches", "after", "plant meat pasture fresh"),
    Adjective("sweet", "sucré sucrée sucrés sucrées", "after", "sweets"),
    Adjective("salty", "salé salée salés salées", "after", "salted"),
    Adjective("delicious", "délicieux délicieuse délicieux délicieuses", "after", "food drink"),
    Adjective("bitter", "amer amère amers amères", "after", "bitter"),
    Adjective("burnt", "brûlé brûlée brûlés brûlées", "after", "burns"),
    Adjective("rotten", "pourri pourrie pourris pourries", "after", "rots"),
    Adjective("raw", "cru crue crus crues", "after", "raw"),
    Adjective("heavy", "lourd lourde lourds lourdes", "after", "heavy"),
    Adjective("light", "léger légère légers légères", "after", "portable"),
    Adjective("empty", "vide vide vides vides", "after", "fills"),
    Adjective("full", "plein pleine pleins pleines", "after", "fills"),
    Adjective("dirty", "sale sale sales sales", "predicate", "washable"),
    Adjective("clean", "propre propre propres propres", "predicate", "washable"),
    Adjective("fragile", "fragile fragile fragiles fragiles", "after", "breakable"),
    Adjective("expensive", "cher chère chers chères", "predicate", "goods"),
    Adjective("interesting", "intéressant intéressante intéressants intéressantes", "after", "reading"),
    Adjective("open", "ouvert ouverte ouverts ouvertes", "predicate", "opens"),
    Adjective("tired", "fatigué fatiguée fatigués fatiguées", "predicate", "person name animal"),
    Adjective("sick", "malade malade malades malades", "after", "person name animal"),
    Adjective("happy", "heureux heureuse heureux heureuses", "after", "person name animal"),
    Adjective("sad", "triste triste tristes tristes", "after", "person name animal"),
    Adjective("angry", "fâché fâchée fâchés fâchées", "predicate", "person name animal"),
    Adjective("curious", "curieux curieuse curieux curieuses", "after", "person name animal"),
    Adjective("clumsy", "maladroit maladroite maladroits maladroites", "after", "person name animal"),
    Adjective("jealous", "jaloux jalouse jaloux jalouses", "predicate", "person name animal"),
    Adjective("greedy", "gourmand gourmande gourmands gourmandes", "after", "person name animal"),
    Adjective("careful", "prudent prudente prudents prudentes", "after", "person name animal"),
    Adjective("lazy", "paresseux paresseuse paresseux paresseuses", "after", "person name animal"),
    Adjective("weak", "faible faible faibles faibles", "predicate", "animal person"),
    Adjective("strong", "fort forte forts fortes", "predicate", "animal person"),
    Adjective("hungry", "faim faim faim faim", "predicate", "person name animal", with_avoir=True),
    Adjective("thirsty", "soif soif soif soif", "predicate", "person name animal", with_avoir=True),
    Adjective("afraid", "peur peur peur peur", "predicate", "person name animal", with_avoir=True),
    Adjective("cold", "froid froid froid froid", "predicate", "person name", with_avoir=True),
    Adjective("right", "raison raison raison raison", "predicate", "person name", with_avoir=True),
    Adjective("wrong", "tort tort tort tort", "predicate", "person name", with_avoir=True),
)

# fmt: on
# Of what there is more or less: "very" and "too" go with these.
GRADABLE = (
    "big small good beautiful old young cold hot fresh sweet salty bitter heavy light dirty fragile expensive interesting tired sick"
    " happy sad angry curious clumsy jealous greedy careful lazy weak strong hungry thirsty afraid"
)

# fmt: off
VERBS = (
    # What is done to something.
    Verb("eat", "eats", "ate", "eating", "manger", "mange manges mange mangeons mangent", "mangé", "manger", "person name", "food"),
    Verb("drink", "drinks", "drank", "drinking", "boire", "bois bois boit buvons boivent", "bu", "boir", "person name", "drink"),
    Verb("buy", "buys", "bought", "buying",
         "acheter", "achète achètes achète achetons achètent", "acheté", "achèter", "person name", "goods food"),
    Verb("sell", "sells", "sold", "selling", "vendre", "vends vends vend vendons vendent", "vendu", "", "person name", "goods"),
    Verb("prepare", "prepares", "prepared", "preparing",
         "préparer", "prépare prépares prépare préparons préparent", "préparé", "", "person name", "dish cooked drink"),
    Verb("see", "sees", "saw", "seeing",
         "voir", "vois vois voit voyons voient", "vu", "verr", "person name animal", "person animal thing", "still"),
    Verb("find", "finds", "found", "finding",
         "trouver", "trouve trouves trouve trouvons trouvent", "trouvé", "", "person name", "portable", "still"),
    Verb("lose", "loses", "lost", "losing", "perdre", "perds perds perd perdons perdent", "perdu", "", "person name", "portable", "still"),
    Verb("look for", "looks for", "looked for", "looking for",
         "chercher", "cherche cherches cherche cherchons cherchent", "cherché", "", "person name", "person animal portable"),
    Verb("like", "likes", "", "",
         "aimer", "aime aimes aime aimons aiment", "", "", "person name",
         "person animal clothes reading vehicle building food drink", "state"),
    Verb("hate", "hates", "", "",
         "détester", "déteste détestes déteste détestons détestent", "", "", "person name", "food drink animal", "state"),
    Verb("want", "wants", "", "", "vouloir", "veux veux veut voulons veulent", "", "", "person name", "food drink goods pet tame", "state"),
    Verb("have", "has", "", "", "avoir", "ai as a avons ont", "", "aur", "person name", "pet tame goods portable", "state"),
    Verb("read", "reads", "read", "reading", "lire", "lis lis lit lisons lisent", "lu", "", "person name", "reading"),
    Verb("write", "writes", "wrote", "writing", "écrire", "écris écris écrit écrivons écrivent", "écrit", "", "person name", "writing"),
    Verb("open", "opens", "opened", "opening", "ouvrir", "ouvre ouvres ouvre ouvrons ouvrent", "ouvert", "", "person name", "opens"),
    Verb("close", "closes", "closed", "closing", "fermer", "ferme fermes ferme fermons ferment", "fermé", "", "person name", "opens"),
    Verb("wash", "washes", "washed", "washing", "laver", "lave laves lave lavons lavent", "lavé", "", "person name", "washable"),
    Verb("wear", "wears", "wore", "wearing", "porter", "porte portes porte portons portent", "porté", "", "person name", "clothes"),
    Verb("carry", "carries", "carried", "carrying", "porter", "porte portes porte portons portent", "porté", "", "person name", "portable"),
    Verb("take", "takes", "took", "taking",
         "prendre", "prends prends prend prenons prennent", "pris", "prendr", "person name", "portable", "still"),
    Verb("break", "breaks", "broke", "breaking",
         "casser", "casse casses casse cassons cassent", "cassé", "", "person name", "breakable", "still"),
    Verb("push", "pushes", "pushed", "pushing",
         "pousser", "pousse pousses pousse poussons poussent", "poussé", "", "person name", "pushed"),
    Verb("steal", "steals", "stole", "stealing", "voler", "vole voles vole volons volent", "volé", "", "person name", "portable"),
    Verb("hide", "hides", "hid", "hiding", "cacher", "cache caches cache cachons cachent", "caché", "", "person name", "portable"),
    Verb("watch", "watches", "watched", "watching",
         "regarder", "regarde regardes regarde regardons regardent", "regardé", "", "person name animal", "person animal vehicle"),
    Verb("hear", "hears", "heard", "",
         "entendre", "entends entends entend entendons entendent", "entendu", "", "person name animal", "person animal vehicle", "still"),
    Verb("know", "knows", "", "", "connaître", "connais connais connaît connaissons connaissent", "", "", "person name", "person", "state"),
    Verb("help", "helps", "helped", "helping", "aider", "aide aides aide aidons aident", "aidé", "", "person name", "person"),
    Verb("follow", "follows", "followed", "following",
         "suivre", "suis suis suit suivons suivent", "suivi", "", "person name animal", "person animal"),
    Verb("wait for", "waits for", "waited for", "waiting for",
         "attendre", "attends attends attend attendons attendent", "attendu", "", "person name", "person awaited"),
    Verb("visit", "visits", "visited", "visiting",
         "visiter", "visite visites visite visitons visitent", "visité", "", "person name", "visited"),
    Verb("leave", "leaves", "left", "leaving", "quitter", "quitte quittes quitte quittons quittent", "quitté", "", "person name", "left"),
    # What is given or shown to somebody.
    Verb("give", "gives", "gave", "giving", "donner", "donne donnes donne donnons donnent", "donné", "", "person name", ""),
    Verb("show", "shows", "showed", "showing", "montrer", "montre montres montre montrons montrent", "montré", "", "person name", ""),
    # What is simply done.
    Verb("sleep", "sleeps", "slept", "sleeping", "dormir", "dors dors dort dormons dorment", "dormi", "dormir", "person name animal", ""),
    Verb("sing", "sings", "sang", "singing", "chanter", "chante chantes chante chantons chantent", "chanté", "", "person name", ""),
    Verb("dance", "dances", "danced", "dancing", "danser", "danse danses danse dansons dansent", "dansé", "", "person name", ""),
    Verb("run", "runs", "ran", "running", "courir", "cours cours court courons courent", "couru", "", "person name animal", ""),
    Verb("work", "works", "worked", "working",
         "travailler", "travaille travailles travaille travaillons travaillent", "travaillé", "travailler", "person name", ""),
    Verb("play", "plays", "played", "playing", "jouer", "joue joues joue jouons jouent", "joué", "", "person name", ""),
    Verb("cry", "cries", "cried", "crying", "pleurer", "pleure pleures pleure pleurons pleurent", "pleuré", "", "person name", ""),
    Verb("laugh", "laughs", "laughed", "laughing", "rire", "ris ris rit rions rient", "ri", "", "person name", ""),
    # Coming and going: passé composé with être.
    Verb("go", "goes", "went", "going", "aller", "vais vas va allons vont", "allé", "ir", "person name", "", "etre"),
    Verb("come", "comes", "came", "coming", "venir", "viens viens vient venons viennent", "venu", "viendr", "person name", "", "etre"),
    Verb("arrive", "arrives", "arrived", "arriving",
         "arriver", "arrive arrives arrive arrivons arrivent", "arrivé", "arriver", "person name", "", "etre"),
    Verb("stay", "stays", "stayed", "staying", "rester", "reste restes reste restons restent", "resté", "", "person name", "", "etre"),
    Verb("fall", "falls", "fell", "falling",
         "tomber", "tombe tombes tombe tombons tombent", "tombé", "", "person name animal", "", "etre still"),
    Verb("wake up", "wakes up", "woke up", "",
         "réveiller", "réveille réveilles réveille réveillons réveillent", "réveillé", "", "person name animal", "",
         "etre reflexive still"),
    Verb("get dressed", "gets dressed", "got dressed", "getting dressed",
         "habiller", "habille habilles habille habillons habillent", "habillé", "", "person name", "", "etre reflexive"),
    Verb("rest", "rests", "rested", "resting",
         "reposer", "repose reposes repose reposons reposent", "reposé", "", "person name animal", "", "etre reflexive"),
    Verb("have fun", "has fun", "had fun", "having fun",
         "amuser", "amuse amuses amuse amusons amusent", "amusé", "", "person name", "", "etre reflexive"),
    # With an infinitive; never with "do".
    Verb("can", "can", "", "", "pouvoir", "peux peux peut pouvons peuvent", "", "", "person name", "", "modal"),
    Verb("must", "must", "", "", "devoir", "dois dois doit devons doivent", "", "", "person name", "", "modal"),
)

# fmt: on
BE = {"present": "am are is are are", "past": "was were was were were"}
ETRE = {"present": "suis es est sommes sont", "past": "étais étais était étions étaient", "future": "serai seras sera serons seront"}
AVOIR = {"present": "ai as a avons ont", "past": "avais avais avait avions avaient", "future": "aurai auras aura aurons auront"}
FUTURE_ENDINGS = ("ai", "as", "a", "ons", "ont")

POSSESSIVES = {
    "my": ("mon", "ma", "mes"),
    "your": ("ton", "ta", "tes"),
    "his": ("son", "sa", "ses"),
    "her": ("son", "sa", "ses"),
    "our": ("notre", "notre", "nos"),
    "their": ("leur", "leur", "leurs"),
}
NUMBERS = {
    "two": "deux",
    "three": "trois",
    "four": "quatre",
    "five": "cinq",
    "six": "six",
    "seven": "sept",
    "eight": "huit",
    "nine": "neuf",
    "ten": "dix",
    "eleven": "onze",
    "twelve": "douze",
}
# When: English, French and the tenses it goes with.
TIMES = (
    ("today", "aujourd'hui", "progressive past future"),
    ("yesterday", "hier", "past"),
    ("tomorrow", "demain", "future"),
    ("now", "maintenant", "progressive"),
    ("every day", "tous les jours", "present"),
    ("this morning", "ce matin", "past"),
    ("on Monday", "lundi", "past future"),
    ("on Saturday", "samedi", "past future"),
    ("on Sunday", "dimanche", "past future"),
)
CITIES = (("Paris", "Paris"), ("London", "Londres"), ("Rome", "Rome"))

# Words that begin with a silent h or a vowel letter, before which nothing is elided: le haricot, le onze.
ASPIRATED = frozenset(("haricot", "haricots", "hérisson", "hérissons", "huit", "onze"))

FIXED = (
    Fixed("I am good.", "Je vais bien.", "0-0 1-1 2-2 3-3"),
    Fixed("I am very good.", "Je vais très bien.", "0-0 1-1 2-2 3-3 4-4"),
    Fixed("I am good too.", "Je vais bien aussi.", "0-0 1-1 2-2 3-3 4-4"),
    Fixed("I am good, thank you.", "Je vais bien, merci.", "0-0 1-1 2-2 3-3 4-4 5-4 6-5"),
    Fixed("I am good, and you?", "Je vais bien, et toi ?", "0-0 1-1 2-2 3-3 4-4 5-5 6-6"),
    Fixed("Yes, I am good.", "Oui, je vais bien.", "0-0 1-1 2-2 3-3 4-4 5-5"),
    Fixed("Hello, I am good.", "Bonjour, je vais bien.", "0-0 1-1 2-2 3-3 4-4 5-5"),
    Fixed("We are good.", "Nous allons bien.", "0-0 1-1 2-2 3-3"),
    Fixed("I am fine, thank you.", "Je vais bien, merci.", "0-0 1-1 2-2 3-3 4-4 5-4 6-5"),
    Fixed("How are you?", "Comment vas-tu ?", "0-0 1-1 2-1 3-2"),
    Fixed("Thank you.", "Merci.", "0-0 1-0 2-1"),
    Fixed("Thank you very much!", "Merci beaucoup !", "0-0 1-0 2-1 3-1 4-2"),
    Fixed("Hello!", "Bonjour !", "0-0 1-1"),
    Fixed("Good evening!", "Bonsoir !", "0-0 1-0 2-1"),
    Fixed("Good night!", "Bonne nuit !", "0-0 1-1 2-2"),
    Fixed("Goodbye!", "Au revoir !", "0-0 0-1 1-2"),
    Fixed("See you tomorrow!", "À demain !", "0-0 1-0 2-1 3-2"),
    Fixed("See you soon!", "À bientôt !", "0-0 1-0 2-1 3-2"),
    Fixed("Welcome!", "Bienvenue !", "0-0 1-1"),
    Fixed("Please.", "S'il te plaît.", "0-0 0-1 0-2 0-3 1-4"),
    Fixed("You are welcome.", "De rien.", "0-0 1-0 2-1 3-2"),
    Fixed("I am sorry.", "Je suis désolé.", "0-0 1-1 2-2 3-3"),
    Fixed("Excuse me.", "Excuse-moi.", "0-0 1-0 2-1"),
    Fixed("Yes, please.", "Oui, s'il te plaît.", "0-0 1-1 2-2 2-3 2-4 2-5 3-6"),
    Fixed("No, thank you.", "Non, merci.", "0-0 1-1 2-2 3-2 4-3"),
    Fixed("What is your name?", "Comment t'appelles-tu ?", "0-0 1-2 2-1 2-2 3-2 4-3"),
    Fixed("How old are you?", "Quel âge as-tu ?", "0-0 1-1 2-2 3-2 4-3"),
    Fixed("Where do you live?", "Où habites-tu ?", "0-0 1-1 2-1 3-1 4-2"),
    Fixed("I live in Paris.", "J'habite à Paris.", "0-0 1-1 2-2 3-3 4-4"),
    Fixed("What time is it?", "Quelle heure est-il ?", "0-0 1-1 2-2 3-2 4-3"),
    Fixed("I love you.", "Je t'aime.", "0-0 1-2 2-1 3-3"),
    Fixed("I understand.", "Je comprends.", "0-0 1-1 2-2"),
    Fixed("I do not understand.", "Je ne comprends pas.", "0-0 1-2 2-1 2-3 3-2 4-4"),
    Fixed("I do not know.", "Je ne sais pas.", "0-0 1-2 2-1 2-3 3-2 4-4"),
    Fixed("Do you speak English?", "Est-ce que tu parles anglais ?", "0-0 0-1 1-2 2-3 3-4 4-5"),
    Fixed("I speak French.", "Je parle français.", "0-0 1-1 2-2 3-3"),
    Fixed("Happy birthday!", "Joyeux anniversaire !", "0-0 1-1 2-2"),
    Fixed("Good luck!", "Bonne chance !", "0-0 1-1 2-2"),
    Fixed("It is raining.", "Il pleut.", "0-0 1-1 2-1 3-2"),
    Fixed("It is snowing.", "Il neige.", "0-0 1-1 2-1 3-2"),
    Fixed("It is cold.", "Il fait froid.", "0-0 1-1 2-2 3-3"),
    Fixed("It is hot.", "Il fait chaud.", "0-0 1-1 2-2 3-3"),
    Fixed("It is late.", "Il est tard.", "0-0 1-1 2-2 3-3"),
    Fixed("Let us go!", "Allons-y !", "0-0 1-0 2-0 3-1"),
    Fixed("Of course!", "Bien sûr !", "0-0 1-1 2-2"),
)

TASTY, NASTY = "cold hot fresh delicious sweet good", "cold hot bitter salty burnt rotten bad"
MEALS = ("hungry greedy", "sick tired afraid sad", TASTY, NASTY)
PREY = ("curious jealous happy greedy", "tired sick afraid lazy careful")
BOOTY = ("new beautiful small light clean", "heavy big dirty old")
FRAMES = (
    VerbFrame("eat", "eats-meat", "meat", *MEALS),
    VerbFrame("eat", "eats-dish", "dish", *MEALS),
    VerbFrame("eat", "eats-plant", "plant pasture", *MEALS),
    VerbFrame("drink", "laps", "bowl", "thirsty greedy", "sick tired afraid", TASTY, "cold hot bitter bad sweet"),
    VerbFrame("break", "breaks", "breakable", "angry clumsy jealous afraid", "careful tired", "fragile old small", "heavy new big"),
    VerbFrame("push", "pushes", "pushed", "strong angry curious", "tired sick weak lazy", "light empty small", "heavy full big"),
    VerbFrame("take", "grabs", "toy", *PREY, *BOOTY),
    VerbFrame("steal", "grabs", "toy", *PREY, *BOOTY),
    VerbFrame("hide", "grabs", "toy", *PREY, *BOOTY),
)
PEOPLE_FRAMES = (
    VerbFrame("eat", "person name", "food", *MEALS),
    VerbFrame("drink", "person name", "drink", "thirsty", "sick tired", TASTY, "cold hot bitter bad sweet"),
    VerbFrame("buy", "person name", "goods", "happy greedy jealous", "careful sad", "beautiful new interesting", "expensive old dirty big"),
    VerbFrame("sell", "person name", "goods", "sad angry", "jealous happy", "old small big", "new beautiful"),
    VerbFrame("carry", "person name", "portable", "strong happy", "tired sick weak lazy", "light small", "heavy big"),
    VerbFrame("wash", "person name", "washable", "careful happy", "tired sick lazy", "dirty", "clean new"),
    VerbFrame("read", "person name", "reading", "curious happy", "tired sick lazy", "interesting good", "bad old"),
    VerbFrame("break", "person name", "breakable", "clumsy angry", "careful", "fragile old", "new heavy"),
)
# What can be missing: "did not eat because it was not hungry".
DENIABLE = "hungry thirsty curious strong fresh good empty interesting sweet clean"
# Why people do something, or do not.
REASONS = (
    ("sleep", False, "tired sick lazy"),
    ("sleep", True, "hungry thirsty cold afraid sad angry"),
    ("rest", False, "tired sick lazy"),
    ("cry", False, "sad tired afraid hungry cold"),
    ("laugh", False, "happy wrong right"),
    ("sing", False, "happy sad"),
    ("sing", True, "sad sick angry tired"),
    ("dance", False, "happy cold"),
    ("dance", True, "sad sick clumsy tired"),
    ("work", True, "sick lazy tired"),
    ("play", True, "sad sick angry jealous"),
    ("come", True, "sick tired afraid lazy angry"),
    ("run", False, "afraid cold curious"),
    ("fall", False, "tired clumsy weak sick"),
)
