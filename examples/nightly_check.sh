#!/bin/sh
# Every night, from cron or a systemd timer: does each peer still answer over TLS, and what is about to expire?
#
#     sh nightly_check.sh FOLDER PEER...        (PEER as in PACS@pacs.example:2762)
#
# FOLDER has me.crt, me.key and trusted.crt. Where all is well nothing is printed, so that cron mails nothing, and the
# exit code is 0. Else it is that of the first trouble (docs/exit-codes.md): 40 where all peers answer, but one of the
# certificates wants attention within WARN_DAYS (30).
set -u
folder=$1
shift
worst=0

tell() { # CODE HEADLINE DETAILS
    echo "$2"
    echo "$3" | sed 's/^/    /'
    [ "$worst" -ne 0 ] || worst=$1
}

for peer in "$@"; do
    why=$(dicomtls echoscu -q --connect-timeout 5 --tls-timeout 5 --cert "$folder/me.crt" --key "$folder/me.key" \
        --trust "$folder/trusted.crt" "$peer" 2>&1)
    code=$?
    case $code in
    0) ;;
    10) tell $code "$peer: it is down, or the network to it is" "$why" ;;
    11) tell $code "$peer: we do not trust it any more" "$why" ;;
    12) tell $code "$peer: it refuses us" "$why" ;;
    13) tell $code "$peer: no common TLS, its configuration was changed" "$why" ;;
    20 | 21 | 22 | 30) tell $code "$peer: it speaks TLS with us, but answers no C-ECHO" "$why" ;;
    *) tell $code "this check itself is not set up right" "$why" ;;
    esac
done

for file in me.crt trusted.crt; do
    why=$(dicomtls bundle --check --warn-days "${WARN_DAYS:-30}" "$folder/$file" 2>&1)
    code=$?
    [ $code -eq 0 ] || tell $code "$file: a certificate wants attention" "$why"
done
exit "$worst"
