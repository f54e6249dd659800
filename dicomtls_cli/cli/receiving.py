"""What `storescp` does with an instance: options in sets, each a decorator that hands the command one object.

`storing_options` gives `storing` and `rules`, `hook_options` gives `hooks`, `fault_options` gives `faults`.
They stand between `output_options`, whose `terminal` they warn on, and `association_options`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from dicomtls_cli.cli.options import with_options
from dicomtls_cli.cli.values import FILE_MODE, SECONDS, SECONDS_WITH_UNIT, SIZE, STATUS
from dicomtls_cli.errors import UsageError
from dicomtls_cli.services.receiving.faults import Faults
from dicomtls_cli.services.receiving.reception import OnDuplicate, StorageOptions
from dicomtls_cli.upperlayer.negotiation import AcceptRules

if TYPE_CHECKING:
    from dicomtls_cli.services.receiving.hooks import HookOptions
    from dicomtls_cli.services.receiving.naming import Naming

# ---------------------------------------------------------------------- storing

_STORING = [
    click.option("--layout", "--filepath", metavar="TEMPLATE",
                 help="Where in OUTPUT: keywords or tags in braces, {received:%Y-%m-%d}, {calling_aet}, {called_aet} "
                 "[{StudyInstanceUID}/{SOPInstanceUID}.dcm] (DCMTK: -su -ss -sp -uf +uf -tn -fe)."),
    click.option("-su", "--sort-on-study-uid", metavar="PREFIX", hidden=True,
                 help="DCMTK's folders PREFIX_StudyInstanceUID."),
    click.option("-ss", "--sort-conc-studies", metavar="PREFIX", hidden=True,
                 help="DCMTK's folders PREFIX_DATE_TIME, one per study."),
    click.option("-sp", "--sort-on-patientname", is_flag=True, hidden=True,
                 help="DCMTK's folders PATIENTNAME_DATE_TIME, one per study."),
    click.option("-uf", "--default-filenames", is_flag=True, hidden=True, help="DCMTK's names MODALITY.UID."),
    click.option("+uf", "--unique-filenames", is_flag=True, hidden=True, help="DCMTK's names MODALITY.X.UID."),
    click.option("-tn", "--timenames", is_flag=True, hidden=True, help="DCMTK's names DATETIME.MODALITY."),
    click.option("-fe", "--filename-extension", metavar="EXTENSION", hidden=True,
                 help="Appended to DCMTK's names."),
    click.option("--on-duplicate", type=click.Choice([mode.value for mode in OnDuplicate]),
                 help="An instance that is there already: replace it [overwrite], keep the first [skip], keep both "
                 "[suffix], or answer 0111 [refuse]."),
    click.option("--fsync", is_flag=True, help="Acknowledge what also a power failure cannot take any more."),
    click.option("--file-mode", type=FILE_MODE, help="Mode of the files, whatever the umask [0640]."),
    click.option("--min-free", type=SIZE, help="Answer A700 while less than this is free, as 5G [0]."),
    click.option("--sha256", is_flag=True, help="Tell the SHA-256 of each stored file."),
    click.option("--accept-ts", multiple=True, metavar="SYNTAX",
                 help="Accept this transfer syntax only (keyword or UID); may be repeated [all of the standard]."),
]  # fmt: skip
_FOLDERS = {"sort_on_study_uid": "study", "sort_conc_studies": "time", "sort_on_patientname": "patient"}
_FILES = {"default_filenames": "uid", "unique_filenames": "unique", "timenames": "time"}
_NOT_WHEN_IGNORING = (
    "layout", *_FOLDERS, *_FILES, "filename_extension", "on_duplicate", "fsync", "file_mode", "min_free", "sha256",
)  # fmt: skip


def storing_options(function: Callable[..., Any]) -> Any:
    """Add the options about where and how instances are stored, and which are accepted."""
    return with_options(function, _STORING, _prepare_storing)


def _prepare_storing(values: dict[str, Any]) -> dict[str, Any]:
    if values["ignore"]:
        _refuse(
            [name for name in _NOT_WHEN_IGNORING if values[name]], "there is nothing to store with `--ignore`"
        )
    naming = _naming(values)
    for name in ("layout", *_FOLDERS, *_FILES, "filename_extension", "study_timeout"):
        del values[name]
    options = StorageOptions(
        on_duplicate=OnDuplicate(values.pop("on_duplicate") or "overwrite"),
        fsync=values.pop("fsync"),
        file_mode=values.pop("file_mode"),
        min_free=values.pop("min_free") or 0,
        digest=values.pop("sha256"),
    )
    values["storing"] = options if naming is None else options._replace(naming=naming)
    values["rules"] = AcceptRules(_syntaxes(values.pop("accept_ts")))
    return values


def _naming(values: dict[str, Any]) -> Naming | None:
    """Return how instances are named where the words say so."""
    from dicomtls_cli.services.receiving.dcmtk_names import DcmtkNaming
    from dicomtls_cli.services.receiving.naming import parse_layout

    folders = [kind for name, kind in _FOLDERS.items() if values[name] not in (None, False)]
    files = [kind for name, kind in _FILES.items() if values[name]]
    extension, layout = values["filename_extension"], values["layout"]
    is_dcmtk = bool(folders or files or extension is not None)
    if len(folders) > 1 or len(files) > 1 or (layout is not None and is_dcmtk):
        raise UsageError(
            "contradicting options name the files (`--layout`, `-su -ss -sp`, `-uf +uf -tn -fe`)",
            "give `--layout`, or one of each of the other groups",
            slug="usage.contradiction",
        )
    if not is_dcmtk:
        return None if layout is None else parse_layout(layout)
    return DcmtkNaming(
        folders[0] if folders else "",
        values["sort_on_study_uid"] or values["sort_conc_studies"] or "",
        files[0] if files else "uid",
        extension or "",
        values["study_timeout"],
    )


def _syntaxes(names: tuple[str, ...]) -> tuple[str, ...] | None:
    if not names:
        return None
    from dicomtls_cli.services.files.syntax import transfer_syntax_named

    return tuple(transfer_syntax_named(name) for name in names)


def _refuse(names: list[str], why: str) -> None:
    if names:
        spelled = ", ".join(f"`--{name.replace('_', '-')}`" for name in names)
        raise UsageError(f"{spelled} would change nothing: {why}", "leave it out", slug="usage.contradiction")


# ---------------------------------------------------------------------- hooks

_HOOKS = [
    click.option("-xcr", "--exec", "--exec-on-reception", "exec_instance", metavar="'PROGRAM WORD...'",
                 help="Run this for each stored instance, without a shell. Placeholders: {path} {dir} {file} {sop_uid} "
                 "{study_uid} {peer_ip}, DCMTK's #p #f #a #c #r; all in the environment as DICOM_EVENT_..."),
    click.option("-xcs", "--exec-study", "--exec-on-eostudy", "exec_study", metavar="'PROGRAM WORD...'",
                 help="Run this for each study once no more of it came for --study-timeout."),
    click.option("-tos", "--study-timeout", "--eostudy-timeout", "study_timeout", type=SECONDS,
                 help="Seconds without an instance after which a study is complete [60]."),
    click.option("--exec-timeout", type=SECONDS, help="Seconds a command may take before it is killed [300]."),
    click.option("-xs", "--exec-sync", "exec_sync", is_flag=True,
                 help="One command at a time, and its sender waits for it."),
]  # fmt: skip


def hook_options(function: Callable[..., Any]) -> Any:
    """Add the options about commands that run; stands above `storing_options`, which reads `study_timeout`."""
    return with_options(function, _HOOKS, _prepare_hooks)


def _prepare_hooks(values: dict[str, Any]) -> dict[str, Any]:
    instance, study = values.pop("exec_instance"), values.pop("exec_study")
    timeout, sync = values.pop("exec_timeout"), values.pop("exec_sync")
    quiet = values["study_timeout"]
    has_folders = values["sort_conc_studies"] is not None or values["sort_on_patientname"]
    _refuse(
        ["study_timeout"] if quiet and not (study or has_folders) else [], "nothing waits for a study's end"
    )
    values["hooks"] = None
    if instance is None and study is None:
        unused = [name for name, value in (("exec_timeout", timeout), ("exec_sync", sync)) if value]
        _refuse(unused, "no command is to run")
        return values
    values["hooks"] = _hooks(instance, study, values["ignore"])._replace(sync=sync)
    if timeout:
        values["hooks"] = values["hooks"]._replace(timeout=timeout)
    if quiet:
        values["hooks"] = values["hooks"]._replace(study_timeout=quiet)
    return values


def _hooks(instance: str | None, study: str | None, ignore: bool) -> HookOptions:
    from dicomtls_cli.services.receiving.hook_words import OF_FILE, OF_INSTANCE, OF_STUDY, Command
    from dicomtls_cli.services.receiving.hooks import HookOptions

    of_instance = None if instance is None else Command(instance, OF_INSTANCE, "--exec")
    of_study = None if study is None else Command(study, OF_STUDY, "--exec-study")
    if ignore and (of_study or (of_instance and of_instance.needs & OF_FILE)):
        raise UsageError(
            "with `--ignore` there are neither files nor studies for a command",
            "leave `--ignore` out, or give `--exec` without {path}, {dir} and {file}",
            slug="usage.contradiction",
        )
    return HookOptions(of_instance, of_study)


# ---------------------------------------------------------------------- faults

_FAULTS = [
    click.option("--status", type=STATUS, default="0000",
                 help="Answer every C-STORE with this; a failure stores nothing. For tests of a sender, as the next."),
    click.option("--delay", type=SECONDS, help="Seconds to wait before each answer to a C-STORE."),
    click.option("--response-delay", type=SECONDS_WITH_UNIT, hidden=True, help="The same in dcm4che's words."),
    click.option("--sleep-after", type=SECONDS, help="Seconds to wait after each answer."),
    click.option("--sleep-during", type=SECONDS, help="Seconds to wait in the middle of each data set."),
    click.option("--refuse", is_flag=True, help="Reject every association."),
    click.option("--reject", is_flag=True, help="Reject associations without an implementation class UID."),
    click.option("--abort-during", is_flag=True, help="Abort in the middle of a data set."),
    click.option("--abort-after", is_flag=True, help="Abort when a data set was received; it is not stored."),
    click.option("--abort-on", type=click.IntRange(1), metavar="N",
                 help="Abort at the Nth C-STORE of each association [1]."),
]  # fmt: skip


def fault_options(function: Callable[..., Any]) -> Any:
    """Add what a test receiver does wrong on purpose."""
    return with_options(function, _FAULTS, _prepare_faults)


def _prepare_faults(values: dict[str, Any]) -> dict[str, Any]:
    delay, response_delay = values.pop("delay"), values.pop("response_delay")
    if delay and response_delay:
        raise UsageError(
            "`--delay` and `--response-delay` are the same", "give one of them", slug="usage.contradiction"
        )
    number = values.pop("abort_on")
    faults = Faults(
        refuse=values.pop("refuse"),
        reject_nameless=values.pop("reject"),
        status=values.pop("status"),
        delay=delay or response_delay or 0.0,
        sleep_after=values.pop("sleep_after") or 0.0,
        sleep_during=values.pop("sleep_during") or 0.0,
        abort_during=values.pop("abort_during"),
        abort_after=values.pop("abort_after"),
        abort_on=number or 1,
    )
    if number and not (faults.abort_during or faults.abort_after):
        _refuse(["abort_on"], "neither `--abort-during` nor `--abort-after` is given")
    if faults != Faults():
        on = ", ".join(f"--{name.replace('_', '-')}" for name in faults.told())
        values["terminal"].warning(f"this is a test receiver: it misbehaves on purpose ({on})")
    values["faults"] = faults
    return values
