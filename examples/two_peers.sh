#!/bin/sh
# Two identities, a receiver, an echo and a store over mutual TLS, in an empty folder of your choice:
#
#     sh examples/two_peers.sh FOLDER IMAGE...
#
# Exits with the code of the first command that fails; docs/exit-codes.md says what each means.
set -eu
folder=$1
shift
mkdir -p "$folder"

dicomtls gencert pacs scanner --out-dir "$folder"
dicomtls bundle "$folder/pacs.crt" "$folder/scanner.crt" -o "$folder/trusted.crt"

dicomtls storescp --port 0 --bind 127.0.0.1 --ready-file "$folder/ready" --output "$folder/received" \
    --cert "$folder/pacs.crt" --key "$folder/pacs.key" --trust "$folder/trusted.crt" &
receiver=$!
trap 'kill $receiver; wait $receiver' EXIT
while [ ! -e "$folder/ready" ]; do
    kill -0 $receiver
    sleep 0.1
done
port=$(sed 's/.*"port": \([0-9]*\).*/\1/' "$folder/ready")

set -- "$@" --cert "$folder/scanner.crt" --key "$folder/scanner.key" --trust "$folder/trusted.crt"
dicomtls storescu localhost "$port" "$@"
