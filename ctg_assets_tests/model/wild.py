"""Studies of any shape that the field tree allows, whether or not the registry would send them."""

from __future__ import annotations

from random import Random
from typing import Any

from ctg_assets.model.fields import FieldNode, enum_values, field_tree

Study = dict[str, Any]

_TEXTS = (
    *(
        "",
        " ",
        "A",
        "a",
        "Drug: A",
        "x\0y",
        "ÄÖÅ",
        "a/b",
        "OG000",
        "OG001",
        "1,234",
        "<0.001",
        "NA",
    ),
    *(
        "2021",
        "2021-02",
        "2020-02-29",
        "2021-02-31",
        "0000-00-00",
        "9999-12-31",
        "2020-09-29T21:40",
    ),
    *("6 Months", "18 Years", "CONTACT", "PRINCIPAL_INVESTIGATOR", "United States", '"\\\n\t'),
)
_WHOLE_NUMBERS = (0, 1, -1, 99_999_999, 2**53 + 1, 2**63 - 1)
_NUMBERS = (0.0, -1.5, 38.6270025, 1e-300, 1e300)


def wild_study(seed: int, number: int, texts: tuple[str, ...] = ()) -> Study:
    """Study NCT<number>, with `texts` among its texts; how full it is depends on the seed, too.

    At any place something may be missing, null, empty, repeated, or a field that the model does not
    know. Lists have up to three items.
    """
    draw = _Draw(Random(f"{seed} {number}"), texts)
    study = {node.name: draw.value(node) for node in field_tree() if draw.is_there()}
    protocol = study["protocolSection"] = study.get("protocolSection") or {}
    identification = protocol["identificationModule"] = protocol.get("identificationModule") or {}
    identification["nctId"] = f"NCT{number:08}"
    return study


class _Draw:
    def __init__(self, random: Random, texts: tuple[str, ...]) -> None:
        self._random = random
        self._texts = (*_TEXTS, *texts)
        self._fullness = random.choice((0.6, 0.9, 1.0, 1.0))

    def is_there(self) -> bool:
        return self._random.random() < self._fullness

    def value(self, node: FieldNode) -> Any:
        if self._random.random() < 0.03:
            return None
        if node.is_list:
            return [self._item(node) for _ in range(self._random.randrange(4))]
        return self._item(node)

    def _item(self, node: FieldNode) -> Any:
        if node.is_list and self._random.random() < 0.05:
            return None
        if not node.children:
            return self._leaf(node)
        found = {child.name: self.value(child) for child in node.children if self.is_there()}
        if self._random.random() < 0.01:
            found["notInTheModel"] = "x"
        return found

    def _leaf(self, node: FieldNode) -> Any:
        match node.base_type:
            case "boolean":
                return self._random.random() < 0.5
            case "integer" | "long":
                return self._random.choice(_WHOLE_NUMBERS)
            case "number":
                return self._random.choice(_NUMBERS)
            case "GeoPoint":
                return {
                    name: self._random.choice(_NUMBERS)
                    for name in ("lat", "lon")
                    if self.is_there()
                }
            case name if name in enum_values() and self._random.random() < 0.8:
                return self._random.choice(enum_values()[name]).value
            case _:
                text = self._random.choice(self._texts)
                # The one thing about enumerated values that is relied on.
                return text.replace("/", "-") if node.is_enum else text
