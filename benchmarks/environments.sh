#!/bin/sh
# Build an environment of its own for each peer of `vitrail bench translate --peers FOLDER` and `vitrail bench latency --peers FOLDER`.
#
#   benchmarks/environments.sh FOLDER [NAME...]        # ctranslate2 huggingface opennmt joeynmt; all where none is named
#
# Everything comes from the package registry that pip is set to. PYTHON names the interpreter (python3). torch comes first and stays, so
# that nothing brings a build for a GPU. Where a peer cannot be installed, FOLDER/NAME/missing.txt says why, and the benchmark tells it.
set -u

TORCH=${TORCH:-torch==2.13.0}
PYTHON=${PYTHON:-python3}
READING="sentencepiece safetensors numpy"

packages() { # the packages of a peer; those with torch say so
    case $1 in
    ctranslate2) echo "ctranslate2" ;;
    huggingface) echo "torch transformers" ;;
    opennmt) echo "torch OpenNMT-py" ;;
    joeynmt) echo "torch joeynmt importlib_metadata" ;; # which it imports and does not name
    esac
}

build() { # FOLDER NAME
    place=$1/$2 log=$1/$2.log wanted=$(packages "$2")
    [ -n "$wanted" ] || { echo "no peer $2: ctranslate2, huggingface, opennmt or joeynmt" >&2; return 2; }
    rm -rf "$place"
    "$PYTHON" -m venv "$place" || return 1
    pip="$place/bin/python -m pip install --quiet --disable-pip-version-check"
    : >"$log"
    case $wanted in
    torch*) # shellcheck disable=SC2086
        $pip "$TORCH" >>"$log" 2>&1 && echo "$TORCH" >"$place/constraints.txt" ;;
    *) : >"$place/constraints.txt" ;;
    esac
    # shellcheck disable=SC2086
    if [ -f "$place/constraints.txt" ] && $pip --constraint "$place/constraints.txt" ${wanted#torch } $READING >>"$log" 2>&1; then
        echo "$2: ready"
    else
        grep -E '^ *(ERROR|error)' "$log" | tail -n 1 >"$place/missing.txt"
        echo "$2: cannot be installed: $(cat "$place/missing.txt") (all of it: $log)" >&2
        return 1
    fi
}

[ $# -ge 1 ] || { sed -n '2,7p' "$0" >&2; exit 2; }
folder=$1
shift
mkdir -p "$folder" || exit 1
failed=0
for name in ${*:-ctranslate2 huggingface opennmt joeynmt}; do
    build "$folder" "$name" || failed=1
done
exit $failed
