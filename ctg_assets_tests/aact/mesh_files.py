"""Small files of MeSH in NLM's two forms, of our own making: a few descriptors, with what else NLM's have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

DESCRIPTORS: Mapping[str, tuple[str, Sequence[str]]] = {
    "D009369": ("Neoplasms", ["C04"]),
    "D003560": ("Cysts", ["C04.182"]),
    "D001847": ("Bone Cysts", ["C04.182.089", "C05.116.070"]),
    "D005260": ("Female", []),
    "D009140": ("Musculoskeletal Diseases", ["C05"]),
    "D001847x": ("Bone & Joint Diseases", ["C05.116"]),
    "D000068": ("Sjögren's Things", ["Z01"]),
}
"""Number, name and places in the tree of each."""


def mesh_xml(descriptors: Mapping[str, tuple[str, Sequence[str]]] = DESCRIPTORS) -> str:
    """A file of descriptors as XML, with a document type that lies elsewhere."""
    return (
        '<?xml version="1.0"?>\n'
        '<!DOCTYPE DescriptorRecordSet SYSTEM "https://mesh.example/nlmdescriptorrecordset.dtd">\n'
        '<DescriptorRecordSet LanguageCode="eng">\n'
        + "".join(_record(number, name, places) for number, (name, places) in descriptors.items())
        + "</DescriptorRecordSet>\n"
    )


def _record(number: str, name: str, places: Sequence[str]) -> str:
    listed = "".join(f"<TreeNumber>{place}</TreeNumber>" for place in places)
    tree = f"<TreeNumberList>{listed}</TreeNumberList>" if places else ""
    # Other names and numbers lie deeper, or beside: of qualifiers, concepts and terms.
    return (
        f'<DescriptorRecord DescriptorClass="1">\n <DescriptorUI>{number}</DescriptorUI>\n'
        f" <DescriptorName>\n  <String>{escape(name)}</String>\n </DescriptorName>\n"
        " <AllowableQualifiersList><AllowableQualifier><QualifierReferredTo>"
        "<QualifierUI>Q1</QualifierUI><QualifierName><String>analysis</String></QualifierName>"
        "</QualifierReferredTo></AllowableQualifier></AllowableQualifiersList>\n"
        " <PharmacologicalActionList><PharmacologicalAction><DescriptorReferredTo>"
        "<DescriptorUI>D1</DescriptorUI><DescriptorName><String>Agents</String></DescriptorName>"
        f"</DescriptorReferredTo></PharmacologicalAction></PharmacologicalActionList>\n {tree}\n"
        "</DescriptorRecord>\n"
    )


def mesh_ascii(descriptors: Mapping[str, tuple[str, Sequence[str]]] = DESCRIPTORS) -> str:
    """The same in NLM's ASCII form."""
    return "".join(
        f"*NEWRECORD\nRECTYPE = D\nMH = {name}\nAQ = AN BL\nENTRY = {name} Old|T1|NON\n"
        + "".join(f"MN = {place}\n" for place in places)
        + f"MS = A note = with an equals sign.\nUI = {number}\n\n"
        for number, (name, places) in descriptors.items()
    )
