"""Invented workshops that write to the demo tenant's support, and the particulars of one conversation."""

import random
from decimal import Decimal

_NAMES = (
    "Maren", "Tobias", "Aoife", "Ilse", "Joao", "Siobhan", "Piet", "Greta", "Luca", "Noor", "Emil", "Hanna",
    "Oskar", "Zofia", "Ciaran", "Marta", "Anselm", "Birgit", "Davit", "Elin", "Fergus", "Ines", "Kaja",
    "Levan",
)  # fmt: skip

_WORKSHOPS = (
    "Copper & Pine", "Harbour Street Frames", "Quayside Cycles", "Blue Kiln Pottery", "The Violin Bench",
    "Rook & Rasp", "Second Spring Clocks", "Ember Glassworks", "North Lane Upholstery", "Fernhill Saddlery",
    "Tin Whistle Repairs", "Oak & Awl", "Saltmarsh Boats", "Paper Mill Bindery", "Little Forge",
    "Canal Road Motorcycles", "Thimble & Thread", "Willow Yard Baskets", "Lantern Light Studio",
    "Gable End Joinery", "Brass Monkey Instruments", "Stone Court Ceramics", "Pedal & Chain",
    "Old Dairy Printmakers", "Kite Hill Leather", "Millrace Guitars", "Foxglove Dyers",
    "Anchor Row Tailors", "Hazel & Hone", "Corner Shop Cobblers", "Silver Birch Jewellery",
    "Weathervane Metalwork", "Plum Tree Picture Framing", "Loom & Ladder", "Three Gates Ironwork",
    "Riverbank Restorations", "Candle Lane Wax", "Juniper Soap House", "Drumlin Drums", "Slate Roof Signs",
    "Tall Ship Models", "Marble Arch Mosaics", "Clover Field Quilts", "Pendulum House",
)  # fmt: skip

_ITEMS = (
    "beeswax polish 250 ml", "brake cable 1.6 mm", "stoneware clay 10 kg", "walnut veneer",
    "brass hinge 40 mm", "linen thread no. 18", "violin E string", "cobalt glaze 500 ml", "sandpaper P180",
    "museum glass 60 x 80", "saddle soap", "copper wire 0.8 mm",
)  # fmt: skip

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_PLANS = ("Starter", "Workshop", "Studio", "Workshop", "Starter", "Trial")
_LETTERS = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
_CENT = Decimal("0.01")


def invent_particulars(rng: random.Random, plan: str | None = None) -> dict[str, str]:
    """Return what fills the placeholders of a conversation with a customer on that plan, or on any paid one.

    Sums of money agree with each other.
    """
    number = rng.choice([number for number in range(len(_WORKSHOPS)) if _is_on(number, plan)])
    domain = "".join(filter(str.isalpha, _WORKSHOPS[number].replace("&", "and"))).lower()
    # A workshop has the same contact, number and plan in every conversation.
    name = _NAMES[number % len(_NAMES)]
    colleague = _NAMES[(number + rng.randrange(1, len(_NAMES))) % len(_NAMES)]
    digits = str(rng.randrange(103_800, 104_700))
    sms = rng.randrange(150, 340)
    sms_cost = (sms * Decimal("0.07")).quantize(_CENT)
    months = rng.randrange(3, 11)
    hour = rng.randrange(9, 15)
    return {
        "name": name,
        "colleague": colleague,
        "workshop": _WORKSHOPS[number],
        "email": f"{name.lower()}@{domain}.example",
        "customer": f"cust-{1001 + number * 7}",
        "plan": _plan_of(number),
        "digits": digits,
        "invoice": f"LK-{digits}",
        "credit": f"CN-{rng.randrange(20_100, 20_900)}",
        "ticket": f"T-{rng.randrange(47_000, 49_000)}",
        "message": f"m-{rng.getrandbits(32):08x}",
        "booking": f"bk_{_code(rng)}",
        "check": f"CHK-{_code(rng)}",
        "sms": str(sms),
        "sms_cost": str(sms_cost),
        "amount": str((sms_cost * Decimal("1.23")).quantize(_CENT)),
        "months": str(months),
        "big": str((months * Decimal(490) / 12).quantize(_CENT)),
        "few": str(rng.randrange(3, 12)),
        "count": str(rng.randrange(120, 1900)),
        "item": rng.choice(_ITEMS),
        "day": rng.choice(_DAYS),
        "hour": f"{hour}:00",
        "later": f"{hour + 2}:30",
    }


def _is_on(number: int, plan: str | None) -> bool:
    return _plan_of(number) != "Trial" if plan is None else _plan_of(number) == plan


def _plan_of(number: int) -> str:
    return _PLANS[number % len(_PLANS)]


def _code(rng: random.Random) -> str:
    return "".join(rng.choices(_LETTERS, k=4))
