"""The catalogue of edits: each one possible, none that changes nothing, none that fails on an odd study."""

from __future__ import annotations

import copy
import pickle
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctg_assets.simulator import identity
from ctg_assets.simulator.draws import Draw
from ctg_assets.simulator.edits.catalog import EDITS, EditError, edit_at_random, edit_by_name
from ctg_assets.simulator.edits.desk import Desk
from ctg_assets.simulator.edits.posting import post_update
from ctg_assets.simulator.generate import study
from ctg_assets_tests.simulator import in_memory

_DAY = identity.FIRST_DATA_DAY + 1


def desk(seed: int) -> Desk:
    """A desk with dice of this seed."""
    return Desk(Draw(seed), _DAY)


@cache
def _studies() -> list[dict[str, Any]]:
    """Generated studies, among them those that have everything optional."""
    return [study(1, index) for index in (*range(20), 67, 127, 187, 247, 307, 367, 547, 667, 847)]


@cache
def _small_studies() -> list[dict[str, Any]]:
    """Those without results, which would only take time to copy."""
    return [item for item in _studies() if "resultsSection" not in item]


@cache
def _pickled() -> list[bytes]:
    """To be copied in a fifth of the time that `deepcopy` takes."""
    return [pickle.dumps(item) for item in _studies()]


@pytest.mark.parametrize("name", EDITS)
def test_every_edit_is_possible_and_changes_the_study(name: str) -> None:
    """Some generated study can be edited so; the edit says so only if the study differs afterwards."""
    done = 0
    for number, (original, pickled) in enumerate(zip(_studies(), _pickled(), strict=True)):
        edited = pickle.loads(pickled)
        if EDITS[name](edited, desk(number)):
            assert edited != original
            done += 1
        else:
            assert edited == original
    assert done


_ODD: st.SearchStrategy[object] = (
    st.none() | st.text(max_size=3) | st.integers() | st.just([]) | st.just([None, 1]) | st.just({})
)


@pytest.mark.slow
@settings(max_examples=40)
@given(data=st.data(), seed=st.integers(0, 1000))
def test_no_edit_fails_on_odd_studies(data: st.DataObject, seed: int) -> None:
    """Modules and lists of another shape than expected are left alone, and something can be edited always."""
    odd = copy.deepcopy(data.draw(st.sampled_from(_small_studies())))
    protocol = odd["protocolSection"]
    for module in sorted(protocol.keys() - {"identificationModule"}):
        shape = data.draw(st.sampled_from(["same", "odd", "odd inside"]))
        if shape == "odd":
            protocol[module] = data.draw(_ODD)
        elif shape == "odd inside":
            protocol[module] = {key: data.draw(_ODD) for key in protocol[module]}
    odd["derivedSection"] = data.draw(_ODD)
    for name in EDITS:
        EDITS[name](copy.deepcopy(odd), desk(seed))
    for by_registry in (False, True):
        edited = copy.deepcopy(odd)
        assert edit_at_random(edited, desk(seed), by_registry=by_registry)
    edited = copy.deepcopy(odd)
    assert post_update(edited, _DAY) is isinstance(odd["protocolSection"]["statusModule"], dict)


def test_results_come_and_go_with_their_dates() -> None:
    """Posted results set the flag and the posting date; withdrawn ones leave neither."""
    edited = study(1, 367)
    assert "resultsSection" not in edited
    edit_by_name(edited, desk(1), ["results_posted"])
    status = edited["protocolSection"]["statusModule"]
    assert (edited["hasResults"], "outcomeMeasuresModule" in edited["resultsSection"]) == (
        True,
        True,
    )
    assert status["resultsFirstPostDateStruct"]["date"] == "2026-03-03"
    edit_by_name(edited, desk(1), ["results_withdrawn"])
    assert (edited["hasResults"], "resultsSection" in edited) == (False, False)
    assert "resultsFirstPostDateStruct" not in status


def test_an_arm_is_renamed_wherever_it_is_named() -> None:
    """The arm's label changes in the arm and in the interventions given in it."""
    edited = study(1, 367)
    edit_by_name(edited, desk(1), ["arm_renamed"])
    module = edited["protocolSection"]["armsInterventionsModule"]
    labels = {arm["label"] for arm in module["armGroups"]}
    assert any("revised" in label for label in labels)
    for intervention in module["interventions"]:
        assert labels.issuperset(intervention.get("armGroupLabels", ()))


@pytest.mark.parametrize(
    ("name", "message"), [("magic", "no edit 'magic'; there are"), ("site_removed", "not possible")]
)
def test_edits_that_cannot_be_applied_are_refused(name: str, message: str) -> None:
    """An unknown edit and one that the study gives no place for are refused by name."""
    with pytest.raises(EditError, match=message):
        edit_by_name(in_memory.study(1), desk(1), [name])
