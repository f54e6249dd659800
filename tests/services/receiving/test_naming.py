"""Names that stay where they belong, whatever the template and whatever the values."""

from __future__ import annotations

import os
import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dicomtls_cli.errors import UsageError
from dicomtls_cli.services.receiving.dcmtk_names import DcmtkNaming
from dicomtls_cli.services.receiving.naming import (
    DEFAULT_LAYOUT,
    PATIENT_NAME,
    STUDY_INSTANCE,
    Naming,
    Place,
    Subject,
    parse_layout,
    safe_component,
)
from tests.support.names import HOSTILE, WINDOWS_DEVICE, is_harmless
from tests.support.scripted import CT, MR

MOMENT = datetime(2024, 2, 3, 4, 5, 6, 789_000)
PATIENT, STUDY_DATE, STUDY_TIME, MODALITY = 0x00100020, 0x00080020, 0x00080030, 0x00080060

texts = st.text(max_size=80) | st.sampled_from(HOSTILE) | st.text("./\\-_ab1 \0", max_size=12)
uids = st.lists(st.integers(0, 10**9), min_size=1, max_size=6).map(lambda parts: ".".join(map(str, parts)))


def subject(values: dict[int, str] | None = None, sop_instance: str = "1.2.3", **more: str) -> Subject:
    who = {"sop_class": CT, "calling_aet": "SCU", "called_aet": "SCP", **more}
    return Subject(sop_instance=sop_instance, values=values or {}, moment=MOMENT, **who)


def path_of(naming: Naming, of: Subject) -> str:
    place = naming.place(of)
    return "/".join((*place.folders, place.name()))


# --- one component ---------------------------------------------------------------------------------------


@given(texts)
@example("a" * 64)
@example("a" * 65)
def test_a_name_is_one_visible_component_whatever_the_text(text) -> None:
    name = safe_component(text)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name)
    assert not name.endswith(".")
    assert not WINDOWS_DEVICE.fullmatch(name)
    directory = Path("/some/where")
    assert Path(os.path.normpath(directory / name)).parent == directory
    assert name == safe_component(text)


@given(texts, texts)
@example("", "unknown")
@example("a/b", "a_b")
@example("x" * 300, "x" * 299)
@example("\udcff", "\udcfe")
def test_different_texts_have_different_names(one, other) -> None:
    assert (safe_component(one) == safe_component(other)) == (one == other)


@given(uids)
@example("1.2.840.10008." + "1" * 50)
def test_a_uid_stays_as_it_is(uid) -> None:
    assert safe_component(uid) == uid


def test_a_name_of_a_name_is_no_other_texts_name() -> None:
    """A peer that knows how names are made cannot ask for the name another text has."""
    made = [safe_component(text) for text in HOSTILE]
    assert len(set(made)) == len(HOSTILE)
    assert not set(made) & {safe_component(name) for name in made if "_" in name}


# --- templates -------------------------------------------------------------------------------------------

VALUES = {
    PATIENT: "P 1",
    PATIENT_NAME: "Doe^Jane",
    STUDY_INSTANCE: "1.2.9",
    STUDY_DATE: "20231224",
    STUDY_TIME: "235958.123",
    MODALITY: "CT",
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{StudyInstanceUID}/{SOPInstanceUID}.dcm", "1.2.9/1.2.3.dcm"),
        ("{0020000D}/{0020000d}_{00080018}", "1.2.9/1.2.9_1.2.3"),
        ("{received}/{SOPInstanceUID}.dcm", "20240203/1.2.3.dcm"),
        ("{received:%Y}/{received:%m-%d}/{SOPInstanceUID}.dcm", "2024/02-03/1.2.3.dcm"),
        ("{received:%j}/{received:%H%M%S}_{SOPInstanceUID}.dcm", "034/040506_1.2.3.dcm"),
        ("{StudyDate:%Y}/{StudyDate:%j}/{SOPInstanceUID}.dcm", "2023/358/1.2.3.dcm"),
        ("{StudyTime:%H}h{StudyTime:%M}/{SOPInstanceUID}.dcm", "23h59/1.2.3.dcm"),
        ("{StudyDate}/{Modality}.{SOPInstanceUID}", "20231224/CT.1.2.3"),
        ("{SeriesInstanceUID}/{SOPInstanceUID}.dcm", "unknown/1.2.3.dcm"),
        ("{SeriesDate:%Y}/{SOPInstanceUID}.dcm", "unknown/1.2.3.dcm"),
        ("{calling_aet}-to-{called_aet}/{SOPClassUID}/{SOPInstanceUID}.dcm", f"SCU-to-SCP/{CT}/1.2.3.dcm"),
        ("in/Empfänger 1/{SOPInstanceUID}.dcm", "in/Empfänger 1/1.2.3.dcm"),
    ],
)
def test_a_template(template, expected) -> None:
    assert path_of(parse_layout(template), subject(VALUES)) == expected


def test_a_value_that_has_to_be_changed_stays_recognisable_and_apart() -> None:
    naming = parse_layout("{PatientID}/{PatientName}.dcm")
    one = path_of(naming, subject(VALUES))
    assert re.fullmatch(r"P_1_[0-9a-f]{12}/Doe_Jane_[0-9a-f]{12}\.dcm", one)
    assert path_of(naming, subject({**VALUES, PATIENT: "P/1"})) != one


@pytest.mark.parametrize(
    "value",
    ["", "2023", "20231345", "99999999", "00000101", "2023122\N{FULLWIDTH DIGIT FOUR}", "today", "0" * 40],
)
def test_a_date_that_is_none_is_a_visible_unknown(value) -> None:
    naming = parse_layout("{StudyDate:%Y-%m-%d}/{SOPInstanceUID}.dcm")
    assert path_of(naming, subject({STUDY_DATE: value})) == "unknown/1.2.3.dcm"


def test_the_default_is_what_its_template_says() -> None:
    parsed = parse_layout("{StudyInstanceUID}/{SOPInstanceUID}.dcm")
    assert parsed.place(subject(VALUES)) == DEFAULT_LAYOUT.place(subject(VALUES))
    assert parsed.tags == DEFAULT_LAYOUT.tags


def test_a_template_asks_for_what_it_needs_and_no_more() -> None:
    assert parse_layout("{calling_aet}/{PatientID}.dcm").tags == {PATIENT}


FIELDS = [
    "PatientID",
    "PatientName",
    "StudyDate:%Y",
    "SOPInstanceUID",
    "calling_aet",
    "received:%d",
    "0020000D",
]
literals = st.text("ab.-_ 1cnoul", max_size=6)
pieces = st.tuples(literals, st.sampled_from(FIELDS)).map(lambda pair: f"{pair[0]}{{{pair[1]}}}")
components = st.tuples(st.lists(pieces, max_size=4), literals).map(lambda pair: "".join(pair[0]) + pair[1])
templates = st.lists(components, min_size=1, max_size=4).map("/".join)


def parsed(template: str) -> Naming | None:
    """Parse it, or be told why it cannot be."""
    try:
        return parse_layout(template)
    except UsageError as error:
        told = error
    assert (told.slug, told.hint != "") == ("usage.layout", True)
    return None


@given(templates, texts, texts, texts, texts, uids)
@example("{PatientID}{PatientName}", "co", "n", "", "", "1")
@example("c{PatientID}.{PatientName}", "on", "x", "", "", "1")
@example("{PatientID}{PatientName}{calling_aet}{0020000D}", "x" * 64, "y" * 64, "z" * 64, "w" * 64, "1.2")
def test_whatever_template_and_values_a_path_is_visible_and_stays_inside(
    template, patient, name, study, calling, uid
) -> None:
    naming = parsed(template)
    if naming is None:
        return
    values = {PATIENT: patient, PATIENT_NAME: name, STUDY_INSTANCE: study, STUDY_DATE: patient}
    place = naming.place(subject(values, uid, calling_aet=calling))
    names = [place.name(addition) for addition in ("", naming.addition(2), f"_{uid}", f"_{uid}_999")]
    for part in (*place.folders, *names):
        assert is_harmless(part), part
    assert names[0] not in names[1:]
    assert place.folders[:1] != (".incoming",)


@given(st.text(max_size=60))
def test_no_text_is_more_than_a_template_or_a_usage_error(text) -> None:
    naming = parsed(text)
    assert naming is None or all(map(is_harmless, path_of(naming, subject()).split("/")))


@pytest.mark.parametrize(
    "template",
    [
        "",
        "/{SOPInstanceUID}",
        "a//{SOPInstanceUID}",
        "../{SOPInstanceUID}",
        ".incoming/{SOPInstanceUID}",
        "-x/{SOPInstanceUID}",
        "x./{SOPInstanceUID}",
        "a:b/{SOPInstanceUID}",
        "a\\b/{SOPInstanceUID}",
        "a\nb/{SOPInstanceUID}",
        "a\0b/{SOPInstanceUID}",
        "$HOME/{SOPInstanceUID}",
        "CON/{SOPInstanceUID}",
        "lpt1.txt/{SOPInstanceUID}",
        "x" * 100 + "/{SOPInstanceUID}",
        "/".join("abcdefghij") + "/{SOPInstanceUID}",
        "{SOPInstanceUID}/",
        "{SOPInstanceUID}/image.dcm",  # every file would be the same
        "image",
        "{SOPInstanceUID",
        "SOPInstanceUID}",
        "{}",
        "{{SOPInstanceUID}}",
        "{sopinstanceuid}",
        "{SOPInstanceUId}",
        "{NoSuchKeyword}",
        "{00091001}",  # private
        "{00020010}",  # of the file meta information
        "{PixelData}",
        "{Rows}",
        "{ReferencedStudySequence}",
        "{ReferencedStudySequence[0].SOPInstanceUID}",
        "{00080020,date,yyyy}",  # dcm4che
        "{00100020,hash}",
        "{now,date,yyyy}",
        "{received:}",
        "{received:%Y/%m}",
        "{received:%c}",
        "{received:%Q}",
        "{received:%}",
        "{StudyDate:%H}",
        "{StudyTime:%Y}",
        "{PatientID:%Y}",
        "{calling_aet:%Y}",
    ],
)  # fmt: skip
def test_a_template_that_cannot_be(template) -> None:
    with pytest.raises(UsageError) as caught:
        parse_layout(template)
    assert caught.value.slug == "usage.layout"
    assert caught.value.hint


@pytest.mark.parametrize(
    ("typed", "meant"), [("StudyInstanceUid", "StudyInstanceUID"), ("recieved", "received")]
)
def test_a_misspelled_keyword_is_told_the_right_one(typed, meant) -> None:
    with pytest.raises(UsageError, match=typed) as caught:
        parse_layout(f"{{{typed}}}/{{SOPInstanceUID}}.dcm")
    assert f"`{{{meant}}}`" in caught.value.hint


# --- DCMTK's names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("naming", "expected"),
    [
        (DcmtkNaming(), "CT.1.2.3"),
        (DcmtkNaming(extension=".dcm"), "CT.1.2.3.dcm"),
        (DcmtkNaming("study", "st"), "st_1.2.9/CT.1.2.3"),
        (DcmtkNaming("study"), "1.2.9/CT.1.2.3"),
        (DcmtkNaming("time", "st"), "st_20240203_040506789/CT.1.2.3"),
        (DcmtkNaming("time"), "20240203_040506789/CT.1.2.3"),
        (DcmtkNaming("patient"), "Doe_Jane_20240203_040506789/CT.1.2.3"),
        (DcmtkNaming(files="time"), "20240203040506789.CT"),
        (DcmtkNaming(files="time", extension=".dcm"), "20240203040506789.CT.dcm"),
    ],
)  # fmt: skip
def test_dcmtks_names(naming, expected) -> None:
    assert path_of(naming, subject(VALUES)) == expected


def test_dcmtks_time_names_get_a_number_where_one_time_has_several() -> None:
    naming = DcmtkNaming(files="time", extension=".dcm")
    place = naming.place(subject(VALUES))
    assert naming.always_new
    assert [place.name(naming.addition(n)) for n in (1, 2, 3)] == [
        "20240203040506789.CT.dcm",
        "20240203040506789_0000.CT.dcm",
        "20240203040506789_0001.CT.dcm",
    ]


def test_dcmtks_unique_names() -> None:
    naming = DcmtkNaming(files="unique", extension=".dcm")
    one, other = (path_of(naming, subject(VALUES)) for _ in range(2))
    assert naming.always_new
    assert one != other
    assert all(re.fullmatch(r"CT\.X\.2\.25\.\d+\.dcm", name) for name in (one, other))


def test_a_class_dcmtk_does_not_know() -> None:
    assert path_of(DcmtkNaming(), subject(sop_class="1.2.3")) == "UNKNOWN.1.2.3"
    assert path_of(DcmtkNaming(), subject(sop_class=MR)) == "MR.1.2.3"


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("", "ANONYMOUS"),
        ("^", "ANONYMOUS"),
        ("Müller^Jörg", "Mueller_Joerg"),
        ("../../x", "x"),
        ("a\0b", "a_b"),
        ("x" * 300, "x" * 64),
        ("\N{GRINNING FACE}", "ANONYMOUS"),
    ],
)
def test_a_patients_folder(name, folder) -> None:
    path = path_of(DcmtkNaming("patient"), subject({PATIENT_NAME: name}))
    assert path == f"{folder}_20240203_040506789/CT.1.2.3"


@pytest.mark.parametrize("folders", ["time", "patient"])
def test_a_study_stays_in_its_folder_and_two_never_share_one(folders) -> None:
    naming = DcmtkNaming(folders)
    one, other = subject({STUDY_INSTANCE: "1.1"}), subject({STUDY_INSTANCE: "1.2"})
    first = path_of(naming, one)
    assert path_of(naming, other) != first  # in the same millisecond
    assert path_of(naming, one._replace(moment=MOMENT + timedelta(days=1))) == first


def test_a_study_that_was_quiet_begins_a_new_folder_where_a_time_is_given() -> None:
    naming = DcmtkNaming("time", quiet=10)
    moments = [MOMENT + timedelta(seconds=seconds) for seconds in (0, 9, 18, 29)]
    found = [path_of(naming, subject()._replace(moment=moment)) for moment in moments]
    assert found[0] == found[1] == found[2] != found[3]


def test_a_clock_that_goes_back_makes_no_folder_twice() -> None:
    naming = DcmtkNaming("time")
    moments = [MOMENT, MOMENT - timedelta(hours=1), MOMENT, MOMENT + timedelta(seconds=1)]
    found = [
        path_of(naming, subject({STUDY_INSTANCE: f"1.{n}"})._replace(moment=moment))
        for n, moment in enumerate(moments)
    ]
    assert len(set(found)) == len(found)


@given(st.sampled_from(["study", "time", "patient"]), texts, texts, uids)
def test_dcmtks_names_are_harmless_whatever_the_values(folders, study, name, uid) -> None:
    place = DcmtkNaming(folders, "st", extension=".dcm").place(
        subject({STUDY_INSTANCE: study, PATIENT_NAME: name}, uid)
    )
    assert all(map(is_harmless, (*place.folders, place.name(), place.name(f"_{uid}"))))


@pytest.mark.parametrize("word", ["../x", "a/b", ".", "a\nb", "-x", "a:b", "\0", "x" * 200])
def test_a_prefix_or_extension_that_cannot_be(word) -> None:
    assume_extension = word != "-x"  # it begins no name
    with pytest.raises(UsageError):
        DcmtkNaming("study", word)
    if assume_extension:
        with pytest.raises(UsageError):
            DcmtkNaming(extension=word)


def test_many_studies_are_not_remembered_for_ever() -> None:
    naming = DcmtkNaming("time")
    for number in range(10_050):
        naming.place(subject({STUDY_INSTANCE: f"1.{number}"}))
    assert len(naming._open) == 10_000


def test_a_place_has_names_of_one_stem() -> None:
    assert Place((), "1.2.3", ".dcm").name("_2") == "1.2.3_2.dcm"
