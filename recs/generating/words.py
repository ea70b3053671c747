"""The words of generated titles.  Leaves say the topic, theme words say the theme; places are real cities with their zones."""
from __future__ import annotations

# theme -> words that tell it; in English, so that a pretrained text encoder finds them related
THEMES: dict[str, tuple[str, ...]] = {
    "outdoor": ("trail", "mountain", "forest", "river", "camping", "wild"),
    "retro": ("vintage", "classic", "nostalgic", "antique", "seventies", "old-school"),
    "luxury": ("premium", "elegant", "golden", "silk", "exclusive", "deluxe"),
    "thrift": ("budget", "simple", "basic", "affordable", "everyday", "bargain"),
    "family": ("kids", "playful", "family", "cosy", "baby", "bedtime"),
    "tech": ("smart", "digital", "wireless", "electronic", "robotic", "automated"),
    "health": ("fitness", "organic", "vitamin", "yoga", "healthy", "mindful"),
    "dark": ("mystery", "noir", "midnight", "gothic", "haunted", "shadow"),
    "romance": ("romantic", "wedding", "love", "flower", "heart", "tender"),
    "ocean": ("beach", "surf", "island", "tropical", "sailing", "coral"),
    "city": ("urban", "street", "subway", "skyline", "neon", "downtown"),
    "science": ("space", "galaxy", "physics", "laboratory", "rocket", "quantum"),
}

BRANDS = (
    "Norvik", "Aldermoor", "Tessaro", "Kinby", "Oakline", "Verano", "Halden", "Mirto", "Castell", "Fjordal", "Brightwell", "Sorrel",
    "Quillon", "Marisol", "Ostara", "Pemberly", "Lumen", "Dovetail", "Harrow", "Zephyr", "Corvina", "Elmstead", "Tarn", "Wicket",
)

# (city, degrees north, degrees east, zone, share of the users)
CITIES = (
    ("Amsterdam", 52.372, 4.894, "Europe/Amsterdam", 0.26),
    ("London", 51.507, -0.128, "Europe/London", 0.18),
    ("New York", 40.713, -74.006, "America/New_York", 0.16),
    ("Los Angeles", 34.052, -118.244, "America/Los_Angeles", 0.10),
    ("Sao Paulo", -23.551, -46.633, "America/Sao_Paulo", 0.10),
    ("Mumbai", 19.076, 72.878, "Asia/Kolkata", 0.08),
    ("Tokyo", 35.690, 139.692, "Asia/Tokyo", 0.08),
    ("Sydney", -33.869, 151.209, "Australia/Sydney", 0.04),
)

SEGMENTS = ("students", "families", "professionals", "seniors")

# preset -> top-level category -> leaves
TOPICS: dict[str, dict[str, tuple[str, ...]]] = {
    "shop": {
        "kitchen": ("kettle", "frying pan", "coffee beans", "knife", "baking tin"),
        "garden": ("lawn mower", "seeds", "watering can", "fertiliser", "garden chair"),
        "sports": ("running shoes", "tennis racket", "protein bar", "swim goggles", "bicycle tyre"),
        "home": ("lamp", "cushion", "curtain", "candle", "wall paint"),
        "care": ("shampoo", "toothpaste", "sunscreen", "razor blades", "hand soap"),
        "office": ("notebook", "printer ink", "desk", "headphones", "phone case"),
    },
    "news": {
        "politics": ("elections", "parliament", "diplomacy", "local council", "taxes"),
        "economy": ("markets", "housing", "jobs", "energy", "trade"),
        "sport": ("football", "tennis", "cycling", "athletics", "chess"),
        "culture": ("cinema", "books", "theatre", "exhibitions", "television"),
        "knowledge": ("climate", "medicine", "archaeology", "astronomy", "education"),
        "living": ("recipes", "travel", "gardening", "parenting", "weather"),
    },
    "video": {
        "drama": ("courtroom drama", "hospital drama", "period drama", "family saga", "war drama"),
        "comedy": ("sitcom", "sketch show", "satire", "stand-up special", "mockumentary"),
        "factual": ("nature documentary", "cooking show", "travel show", "history documentary", "interview"),
        "crime": ("detective series", "heist film", "true crime", "spy thriller", "prison drama"),
        "children": ("cartoon", "puppet show", "fairy tale", "school series", "science show"),
        "events": ("concert film", "match replay", "talent contest", "game show", "award show"),
    },
    "music": {
        "rock": ("guitar rock", "punk", "metal", "indie rock", "blues rock"),
        "electronic": ("house", "techno", "ambient", "drum and bass", "synth pop"),
        "classical": ("symphony", "string quartet", "opera", "piano sonata", "choir"),
        "jazz": ("swing", "bebop", "fusion", "bossa nova", "soul jazz"),
        "urban": ("hip hop", "rhythm and blues", "grime", "reggaeton", "afrobeat"),
        "folk": ("country", "bluegrass", "celtic", "singer-songwriter", "flamenco"),
    },
    "checkins": {
        "food": ("coffee shop", "bakery", "noodle bar", "pizzeria", "salad bar"),
        "night": ("cocktail bar", "pub", "night club", "jazz club", "karaoke bar"),
        "daily": ("office", "train station", "supermarket", "gym", "laundry"),
        "culture": ("museum", "cinema", "library", "theatre", "gallery"),
        "open air": ("park", "playground", "market square", "beach", "dog run"),
        "learning": ("university", "school", "language school", "workshop", "bookshop"),
    },
    "ads": {
        "cars": ("electric car", "leasing offer", "car insurance", "tyres", "car sharing"),
        "telecom": ("phone plan", "fibre internet", "handset", "roaming pass", "streaming bundle"),
        "finance": ("savings account", "mortgage", "credit card", "broker account", "travel insurance"),
        "fashion": ("sneakers", "winter coat", "handbag", "watch", "jeans"),
        "travel": ("city trip", "cruise", "flight sale", "holiday park", "train pass"),
        "food": ("meal box", "grocery delivery", "coffee subscription", "restaurant deal", "wine club"),
    },
    "social": {
        "makers": ("woodworker", "ceramist", "knitter", "painter", "photographer"),
        "movers": ("runner", "climber", "cyclist", "dancer", "swimmer"),
        "thinkers": ("programmer", "historian", "mathematician", "journalist", "teacher"),
        "hosts": ("cook", "baker", "brewer", "gardener", "barista"),
        "players": ("gamer", "chess player", "guitarist", "singer", "drummer"),
        "carers": ("nurse", "vet", "parent", "coach", "volunteer"),
    },
}

# preset -> title; a, b: theme words, leaf: topic word
TITLES = {
    "shop": "{a} {leaf} {brand} {n}",
    "news": "{leaf}: the {a} week, part {n}",
    "video": "The {a} {leaf} {n}",
    "music": "{a} {b} ({leaf}) {n}",
    "checkins": "{a} {leaf} {brand} {n}",
    "ads": "{brand} {leaf}: {a} offer {n}",
    "social": "{a} {leaf} {n}",
}
DESCRIPTION = "{leaf} in {top}, from {brand}. For those who like {a}, {b} and {c}."
