#!/bin/sh
# An authority and the broker's certificate, with openssl: certificates.sh FOLDER HOST
set -eu
folder=${1:?usage: certificates.sh FOLDER HOST}
host=${2:?usage: certificates.sh FOLDER HOST}
case $host in *[!0-9.]*) name=DNS:$host ;; *) name=IP:$host ;; esac
umask 077
mkdir -p "$folder"
cd "$folder"
openssl req -x509 -newkey ed25519 -nodes -days 3650 -subj "/CN=Ringfence broker authority" -keyout broker-ca.key -out broker-ca.pem \
  -addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign,cRLSign
openssl req -newkey ed25519 -nodes -subj "/CN=$host" -keyout broker.key -out broker.csr
printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n' "$name" >broker.ext
openssl x509 -req -in broker.csr -CA broker-ca.pem -CAkey broker-ca.key -CAcreateserial -days 365 -extfile broker.ext -out broker.pem
rm broker.csr broker.ext
chmod 644 broker-ca.pem broker.pem
echo "broker.pem and broker.key are the broker's; agents get broker-ca.pem; keep broker-ca.key away from both."
