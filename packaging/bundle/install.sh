#!/bin/sh
# Installs Ringfence on a Debian server without a network: sh install.sh --key RELEASE-KEY.pub [agent] [hub] [leaf]
# Nothing of this folder is used before the release key's signature over SHA256SUMS, and every file against it, was checked.
set -eu
usage="usage: sh install.sh --key RELEASE-KEY.pub [agent] [hub] [leaf]   (agent by default)"
key= parts=
while [ $# -gt 0 ]; do
    case $1 in
        --key) key=${2-}; shift ;;
        agent | hub | leaf) parts="$parts $1" ;;
        *) echo "$usage" >&2; exit 2 ;;
    esac
    shift
done
fail() { echo "$1" >&2; exit 2; }
[ -n "$key" ] || fail "$usage"
[ -r "$key" ] || fail "The release key $key cannot be read: it must come to this server by another way than this folder."
for tool in openssl sha256sum dpkg; do command -v $tool >/dev/null || fail "There is no $tool here: this script needs it."; done
cd "$(dirname "$0")"
openssl pkeyutl -verify -pubin -inkey "$key" -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig >/dev/null 2>&1 ||
    fail "SHA256SUMS is not signed by that key: nothing was installed."
sha256sum --strict --quiet -c SHA256SUMS >/dev/null 2>&1 || fail "A file is not the one that SHA256SUMS names ('sha256sum -c SHA256SUMS' says which): nothing was installed."
find . -type f ! -name SHA256SUMS ! -name SHA256SUMS.sig | sed 's#^\./##' | while read -r name; do
    cut -c67- SHA256SUMS | grep -qxF -- "$name" || { echo "$name is here and not in SHA256SUMS: nothing was installed." >&2; exit 2; }
done
echo "The signature and every file are good."
[ "$(id -u)" = 0 ] || fail "Run this as root to install."
for part in ${parts:-agent}; do
    dpkg -i "ringfence-${part}"_*.deb
done
case " ${parts:-agent} " in *" agent "*)
    if [ -d models ]; then
        cp -rn models/. /var/lib/ringfence/models/
        chown -R ringfence-agent:ringfence-agent /var/lib/ringfence/models
    fi
    echo "Next: ringfence-agent enrol --request request.json --name NAME; bring it to the hub, and the answer back."
    for policy in policy/*.parcel; do
        [ -e "$policy" ] && echo "Then: ringfence-agent bundle import $PWD/$policy"
    done ;;
esac
exit 0
