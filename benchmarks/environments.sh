#!/bin/sh
# Build an environment of its own for each peer of `vitrail bench translate --peers FOLDER` and `vitrail bench latency --peers FOLDER`.
#
#   benchmarks/environments.sh FOLDER [NAME...]        # ctranslate2 huggingface opennmt joeynmt; all where none is named
#
# By name alone it also builds those of programs that exits of `vitrail export` are tested with (VITRAIL_PROGRAMS=FOLDER pytest -m slow
# tests/export): argos libretranslate lens (TransformerLens and bertviz); by npm, onnxruntime-web and bergamot (bergamot-translator).
#
# Everything comes from the package registries that pip and npm are set to. PYTHON names the interpreter (python3). torch comes first and stays, so
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
    argos) echo "argos-translate-lt" ;;
    libretranslate) echo "libretranslate" ;;
    lens) echo "torch transformer-lens>=4.3 bertviz" ;;
    joeynmt) echo "torch joeynmt importlib_metadata" ;; # which it imports and does not name
    esac
}

build_web() { # FOLDER NAME PACKAGE
    rm -rf "${1:?}/$2"
    npm install --silent --ignore-scripts --no-audit --no-fund --prefix "$1/$2" "$3" >"$1/$2.log" 2>&1 && echo "$2: ready"
}

build() { # FOLDER NAME
    place=$1/$2 log=$1/$2.log wanted=$(packages "$2")
    [ -n "$wanted" ] || { echo "no peer or program $2" >&2; return 2; }
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

[ $# -ge 1 ] || { sed -n '2,10p' "$0" >&2; exit 2; }
folder=$1
shift
mkdir -p "$folder" || exit 1
failed=0
for name in ${*:-ctranslate2 huggingface opennmt joeynmt}; do
    case $name in
    onnxruntime-web) build_web "$folder" "$name" "$name" || failed=1 ;;
    bergamot) build_web "$folder" "$name" "@browsermt/bergamot-translator" || failed=1 ;;
    *) build "$folder" "$name" || failed=1 ;;
    esac
done
exit $failed
