#!/bin/sh
# The Orthanc book's chapter on DICOM TLS from start to end, in an empty folder of your choice: certificates for both
# sides, the bundle they trust, an Orthanc with TLS, an echo and a store.
# https://orthanc.uclouvain.be/book/faq/dicom-tls.html
#
#     sh examples/orthanc_book.sh FOLDER IMAGE...
#
# Orthanc listens on 4242 and 8042 unless DICOM_PORT and HTTP_PORT say otherwise, and ends with this script.
set -eu
folder=$1
shift
dicom_port=${DICOM_PORT:-4242}
http_port=${HTTP_PORT:-8042}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd) # Orthanc takes relative paths from its own working folder
PATH=$PATH:/usr/sbin          # Debian's place for Orthanc

dicomtls gencert orthanc dcmtk --out-dir "$folder"
dicomtls bundle "$folder/orthanc.crt" "$folder/dcmtk.crt" -o "$folder/trusted.crt"

cat >"$folder/orthanc.json" <<END
{
  "DicomPort" : $dicom_port,
  "HttpPort" : $http_port,
  "StorageDirectory" : "$folder/db",
  "Plugins" : [],
  "DicomTlsEnabled" : true,
  "DicomTlsCertificate" : "$folder/orthanc.crt",
  "DicomTlsPrivateKey" : "$folder/orthanc.key",
  "DicomTlsTrustedCertificates" : "$folder/trusted.crt",
  "DicomTlsRemoteCertificateRequired" : true
}
END
Orthanc "$folder/orthanc.json" >"$folder/orthanc.log" 2>&1 </dev/null &
orthanc=$!
trap 'kill -9 $orthanc 2>/dev/null || true; wait $orthanc 2>/dev/null || true' EXIT

set -- "$@" +tls "$folder/dcmtk.key" "$folder/dcmtk.crt" +cf "$folder/trusted.crt"
code=10 # nothing listens there yet
while [ $code -eq 10 ] && kill -0 $orthanc 2>/dev/null; do
    sleep 0.1
    code=0
    dicomtls echoscu -q -aet DCMTK localhost "$dicom_port" \
        +tls "$folder/dcmtk.key" "$folder/dcmtk.crt" +cf "$folder/trusted.crt" 2>"$folder/echo.log" || code=$?
done
if [ $code -ne 0 ]; then
    tail "$folder/orthanc.log" "$folder/echo.log" >&2
    exit $code
fi

dicomtls echoscu -v -aet DCMTK localhost "$dicom_port" \
    +tls "$folder/dcmtk.key" "$folder/dcmtk.crt" +cf "$folder/trusted.crt"
dicomtls storescu -aet DCMTK localhost "$dicom_port" "$@"
