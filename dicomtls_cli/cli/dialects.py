"""DCMTK's and dcm4che's spellings that are no options of ours, by command: stated, or refused with a hint.

Those that are aliases are declared with the options themselves. Nothing is shared between commands unless it
means the same in each: `-xs`, `-sp`, `-r`, `-su`, `-u` and others do not. DCMTK's spellings are those of
3.6.7 to 3.7.0 (`echoscu --help` and so on), dcm4che's those of 5.x.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from dicomtls_cli.cli.words import Dialect, Refused, Stated

_T = TypeVar("_T")


def _table(entries: Mapping[str, _T]) -> dict[str, _T]:
    """Return `entries` with each key, spellings with blanks between them, split into its spellings."""
    return {spelling: entry for spellings, entry in entries.items() for spelling in spellings.split()}


_DEFAULT_PROFILE = "leave it out: the default is PS3.15 B.12 (BCP 195, RFC 9325: TLS 1.2 and 1.3)"
_OLD_VERSION = Refused("TLS 1.0, TLS 1.1 and SSL are broken and forbidden by RFC 8996", _DEFAULT_PROFILE)
_OLD_CIPHER = Refused("3DES is broken (Sweet32), and OpenSSL is built without its suites", _DEFAULT_PROFILE)
_NO_ENCRYPTION = Refused("the TLS suites without encryption send patient data in the clear", _DEFAULT_PROFILE)
_SEED = Refused("the random numbers are OpenSSL's, seeded by the operating system", "leave it out")
_INSPECT = Refused(
    "it checks files and connects to nobody", "`openssl x509 -noout -text -in FILE` shows a certificate"
)
_NEGOTIATION_TEST = Refused(
    "echo proposes Verification alone, as a test of negotiation it says little",
    "leave it out; `-d` shows what was proposed and accepted",
)

_ALL_REFUSED = _table(
    {
        "-tls": Refused(
            "DCMTK's `-tls` turns TLS off, dcm4che's `--tls` turns it on",
            "write `--no-tls` for a plain connection; TLS needs no option",
        ),
        "-lc --log-config": Refused("log configuration files are not read", "write `-v`, `-d` or `-q`"),
        "--arguments": Refused("the words are not rewritten, so there is nothing to print", "leave it out"),
        "+cra --enable-crl-all": Refused(
            "every certificate of a chain below its anchor is looked up, whichever option asks for it",
            "write `--crl FILE`, or `+crv` where the lists are among the trusted certificates",
        ),
        "+dp --dhparam": Refused(
            "suites with finite-field DH parameters of one's own are not offered",
            "leave it out: ECDHE needs no parameters",
        ),
        "+pm --profile-8996-mod": Refused(
            "B.13 asks for AES-CCM in TLS 1.3, which Python before 3.15 cannot enable", _DEFAULT_PROFILE
        ),
        "+pb --profile-basic --tls-3des": _OLD_CIPHER,
        "+pn --profile-null --tls-null": _NO_ENCRYPTION,
        "--tls11 --tls1 --ssl3 --ssl2Hello": _OLD_VERSION,
        "--tls-protocol": Refused(
            "the versions of TLS have options of their own",
            "leave it out for TLS 1.2 and 1.3, or write `--tls12` or `--tls13`",
        ),
        "+rs --seed +ws --write-seed +wf --write-seed-file": _SEED,
        "--proxy": Refused(
            "HTTP proxies are not spoken to", "leave it out, or tunnel: `ssh -L 2762:PEER:2762 GATEWAY`"
        ),
        "--tcp-delay": Refused(
            "waiting to fill a packet costs 40 ms a message with many peers",
            "leave it out: TCP_NODELAY is set",
        ),
        "--sosnd-buffer --sorcv-buffer": Refused(
            "the operating system sizes its buffers better", "leave it out"
        ),
    }
)

_ALL_STATED = _table(
    {
        "-pw --null-passwd": Stated("a key without passphrase needs no password"),
        "-pem --pem-keys -der --der-keys": Stated("whether a file is PEM or DER is seen from the file"),
        "-i0 --ip-auto": Stated("IPv4 and IPv6 are used as the name resolves"),
        "+v --verbose-pc": Stated("`-d` shows the presentation contexts"),
        "--not-pack-pdv": Stated("command and data set go in PDUs of their own"),
        "--key-store-type --trust-store-type": Stated(
            "the type of a key store is seen from the file",
            nargs=1,
            only=("PKCS12",),
            otherwise="convert it: `keytool -importkeystore -srckeystore OLD -destkeystore NEW.p12 "
            "-deststoretype PKCS12`",
        ),
    }
)

_OTHER_USER_IDENTITY = Refused(
    "of the kinds of user identity, a name with or without a passcode is sent",
    "write `--user NAME`, or leave it out: the certificate says who we are",
)

_SCU_REFUSED = _ALL_REFUSED | _table(
    {
        "--request-sni": Refused(
            "the name asked for is always the name connected to",
            "write that name as PEER; /etc/hosts may map it",
        ),
        "--tls-noauth": Refused(
            "it is for the server; a client that does not check the server talks to anybody",
            "write `--peer-cert ignore` if that is what you want",
        ),
        "--abort": Refused("an association of ours ends in order", "leave it out"),
        "--user-saml --user-jwt": _OTHER_USER_IDENTITY,
    }
)

_SCU_STATED = _ALL_STATED | _table(
    {
        "--no-sni": Stated("the name connected to is told; a server that has no use for it ignores it"),
        "--max-ops-performed": Stated("no operations are performed for the peer, whatever it asks", nargs=1),
        "--idle-timeout": Stated("an association is released as soon as there is no more to do", nargs=1),
        "--soclose-delay": Stated("the connection is closed when the release is answered", nargs=1),
    }
)

ECHOSCU = Dialect(
    refused=_SCU_REFUSED
    | _table(
        {
            "-pts --propose-ts -ppc --propose-pc": _NEGOTIATION_TEST,
            "+vc --verify-cert +rc --is-root-cert": _INSPECT,
        }
    ),
    stated=_SCU_STATED,
)

DOCTOR = ECHOSCU

_PROPOSED_AS_NEEDED = "the transfer syntax of each file is proposed, and no other"
_NO_TRANSFER_SYNTAX = Refused(
    "the files decide: each SOP class is proposed with the transfer syntaxes its files have", "leave it out"
)
_UIDS_STAY = Refused(
    "what is sent is what is in the file, UIDs included", "change them beforehand: `dcmodify -gin FILE`"
)
_NO_TEMPORARY_FILES = Refused("no temporary files are made of those that are sent", "leave it out")
_NO_RELATED_GENERAL = Refused("SOP class relationship negotiation is not offered", "leave it out")

STORESCU = Dialect(
    refused=_SCU_REFUSED
    | _table(
        {
            "-x= --propose-uncompr -xe --propose-little": _NO_TRANSFER_SYNTAX,
            "-xb --propose-big -xi --propose-implicit": _NO_TRANSFER_SYNTAX,
            "+C --combine": Refused(
                "one transfer syntax goes in each presentation context, so that files go as they are",
                "leave it out",
            ),
            "--repeat": Refused(
                "each file is sent once",
                "name the files again for each time; `--generate N` makes any number of test images",
            ),
            "-u --disable-new-vr": Refused(
                "files are sent as they are", "change them beforehand: `dcmconv -u IN OUT`"
            ),
            "+cl --compression-level": Refused("data sets are not compressed anew", "leave it out"),
            "+rn --rename": Refused(
                "files that were read are never renamed",
                "leave it out; `--report FILE` tells what became of each",
            ),
            "-xf --config-file": Refused(
                "association profiles are not read: the files decide", "leave it out"
            ),
            "-up --uid-padding": _UIDS_STAY,
            "+II --invent-instance +IR --invent-series +IS --invent-study +IP --invent-patient": _UIDS_STAY,
            "-kt --kerberos --saml --jwt": _OTHER_USER_IDENTITY,
            "-s": Refused(
                "files are sent as they are", "change them beforehand: `dcmodify -i TAG=VALUE FILE`"
            ),
            "--uid-suffix": _UIDS_STAY,
            "--rel-ext-neg --rel-sop-classes": _NO_RELATED_GENERAL,
            "--store-tc --store-tcs": _NO_TRANSFER_SYNTAX,
            "--tmp-file-dir --tmp-file-prefix --tmp-file-suffix": _NO_TEMPORARY_FILES,
        }
    ),
    stated=_SCU_STATED
    | _table(
        {
            "+u --enable-new-vr": Stated("files are sent as they are"),
            "--no-evrle --no-ivrle": Stated(_PROPOSED_AS_NEEDED),
            "+sd --scan-directories": Stated("directories are always scanned"),
            "+r --recurse": Stated("directories are always descended into"),
            "-R --required": Stated("only the presentation contexts that are needed are proposed"),
            "-nh --no-halt": Stated("a file that fails does not stop the others"),
            "-rn --no-rename": Stated("files are never renamed"),
            "+f --read-file +fo --read-file-only -f --read-dataset": Stated(
                "DICOM files and bare data sets are both read, and told apart by their content"
            ),
            "-xs --propose-lossless -xy --propose-jpeg8 -xx --propose-jpeg12": Stated(_PROPOSED_AS_NEEDED),
            "-xv --propose-j2k-lossless -xw --propose-j2k-lossy": Stated(_PROPOSED_AS_NEEDED),
            "-xt --propose-jls-lossless -xu --propose-jls-lossy": Stated(_PROPOSED_AS_NEEDED),
            "-xm --propose-mpeg2 -xh --propose-mpeg2-high": Stated(_PROPOSED_AS_NEEDED),
            "-xn --propose-mpeg4 -xl --propose-mpeg4-bd": Stated(_PROPOSED_AS_NEEDED),
            "-x2 --propose-mpeg4-2-2d -x3 --propose-mpeg4-2-3d -xo --propose-mpeg4-2-st": Stated(
                _PROPOSED_AS_NEEDED
            ),
            "-x4 --propose-hevc -x5 --propose-hevc10": Stated(_PROPOSED_AS_NEEDED),
            "-xr --propose-rle -xd --propose-deflated": Stated(_PROPOSED_AS_NEEDED),
        }
    ),
    no_command_files_from=1,
)

_STORED_AS_SENT = "data sets are stored byte for byte as they were sent"
_NO_CONVERSION = Refused(_STORED_AS_SENT, "leave it out; convert afterwards: `dcmconv --help`")


def _preferred(*keywords: str) -> Refused:
    """Return why a transfer syntax is not preferred, and how it, and no other, is accepted."""
    only = " ".join(f"--accept-ts {keyword}" for keyword in keywords)
    return Refused(
        "of several transfer syntaxes for a presentation context, the sender's first is accepted",
        f"leave it out; `{only}` accepts no others",
    )


_ONE_AT_A_TIME = "one operation at a time is performed in each association"

STORESCP = Dialect(
    refused=_ALL_REFUSED
    | _table(
        {
            "--expect-sni": Refused("the server answers to any name", "leave it out"),
            "--single-process": Refused(
                "one peer must not keep the others waiting", "write `--max-associations 1`"
            ),
            "-B --normal": _NO_CONVERSION,
            "-F --write-dataset": Refused(
                "a data set without file meta does not say its transfer syntax",
                "leave it out: files have file meta",
            ),
            "+te --write-xfer-little +tb --write-xfer-big": _NO_CONVERSION,
            "+ti --write-xfer-implicit +td --write-xfer-deflated": _NO_CONVERSION,
            "+u --enable-new-vr -u --disable-new-vr": _NO_CONVERSION,
            "+g= --group-length-recalc +g --group-length-create -g --group-length-remove": _NO_CONVERSION,
            "+e --length-explicit -e --length-undefined": _NO_CONVERSION,
            "-p --padding-off +p --padding-create": _NO_CONVERSION,
            "-uc --retain-un +uc --convert-un": _NO_CONVERSION,
            "+cl --compression-level": _NO_CONVERSION,
            "-id --inetd": Refused(
                "one process serves any number of associations",
                "leave it out; systemd may hand over the socket that listens (examples/storescp.socket)",
            ),
            "+ac --access-control": Refused(
                "`/etc/hosts.allow` is not read, and an address proves nobody",
                "write `--allow AET` or `--ae-map FILE`; `--bind` and a firewall keep networks out",
            ),
            "--release-timeout": Refused(
                "the release is waited for as long as the association", "write `--acse-timeout 30s`"
            ),
            "--soclose-delay": Refused(
                "a peer that is rejected or aborted gets up to 1 s to read why", "leave it out"
            ),
            "-xf --config-file": Refused(
                "association profiles are not read: everything is accepted", "leave it out"
            ),
            "-up --uid-padding": _NO_CONVERSION,
            "+x= --prefer-uncompr": _preferred(
                "ExplicitVRLittleEndian", "ExplicitVRBigEndian", "ImplicitVRLittleEndian"
            ),
            "+xe --prefer-little": _preferred("ExplicitVRLittleEndian"),
            "+xb --prefer-big": _preferred("ExplicitVRBigEndian"),
            "+xi --implicit": Refused(
                "which transfer syntaxes are accepted is said by name",
                "write `--accept-ts ImplicitVRLittleEndian`",
            ),
            "+xs --prefer-lossless": _preferred("JPEGLosslessSV1"),
            "+xy --prefer-jpeg8": _preferred("JPEGBaseline8Bit"),
            "+xx --prefer-jpeg12": _preferred("JPEGExtended12Bit"),
            "+xv --prefer-j2k-lossless": _preferred("JPEG2000Lossless"),
            "+xw --prefer-j2k-lossy": _preferred("JPEG2000"),
            "+xt --prefer-jls-lossless": _preferred("JPEGLSLossless"),
            "+xu --prefer-jls-lossy": _preferred("JPEGLSNearLossless"),
            "+xm --prefer-mpeg2": _preferred("MPEG2MPML"),
            "+xh --prefer-mpeg2-high": _preferred("MPEG2MPHL"),
            "+xn --prefer-mpeg4": _preferred("MPEG4HP41"),
            "+xl --prefer-mpeg4-bd": _preferred("MPEG4HP41BD"),
            "+x2 --prefer-mpeg4-2-2d": _preferred("MPEG4HP422D"),
            "+x3 --prefer-mpeg4-2-3d": _preferred("MPEG4HP423D"),
            "+xo --prefer-mpeg4-2-st": _preferred("MPEG4HP42STEREO"),
            "+x4 --prefer-hevc": _preferred("HEVCMP51"),
            "+x5 --prefer-hevc10": _preferred("HEVCM10P51"),
            "+xr --prefer-rle": _preferred("RLELossless"),
            "+xd --prefer-deflated": _preferred("DeflatedExplicitVRLittleEndian"),
            "--rename-retries --rename-retry-jitter": Refused(
                "a file gets its name in one step, which is not tried again", "leave it out"
            ),
            "--sop-classes": Refused("every SOP class of storage is accepted", "leave it out"),
        }
    ),
    stated=_ALL_STATED
    | _table(
        {
            "--no-sni": Stated("the server answers to any name"),
            "--max-pdulen-snd": Stated("what is sent are responses, smaller than any limit", nargs=1),
            "--max-ops-invoked": Stated("a receiver invokes no operations", nargs=1),
            "--max-ops-performed": Stated(_ONE_AT_A_TIME, nargs=1),
            "--not-async": Stated(_ONE_AT_A_TIME),
            "+xa --accept-all": Stated("every transfer syntax of the standard is accepted"),
            "-pm --promiscuous --accept-unknown": Stated(
                "private SOP classes and unknown ones of storage are accepted"
            ),
            "+B --bit-preserving": Stated(_STORED_AS_SENT),
            "+t= --write-xfer-same": Stated(_STORED_AS_SENT),
            "+F --write-file": Stated("files have file meta"),
            "-ac --access-full": Stated("certificates decide who comes in, not addresses"),
            "--fork": Stated("any number of associations are served at once, in one process"),
            "-dhl --disable-host-lookup": Stated("addresses of peers are not looked up"),
            "-rns --rename-on-eostudy": Stated("files get their final name when they are complete"),
        }
    ),
    no_command_files_from=0,
)
