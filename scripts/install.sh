#!/usr/bin/env bash
# install.sh install|uninstall: gst-face for the current user or, with PREFIX, below that folder for all.
# With DESTDIR, files go below DESTDIR/PREFIX, to be packaged.
# installed.txt next to the models lists the installed files; uninstalling removes only those.
# Files are replaced by renaming, because a running program may have the old ones mapped.
set -euo pipefail
shopt -s nullglob

cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    printf '%s: error: %s\n' "${action:-install}" "$*" >&2
    exit 1
}

action=${1:-}
bin=${BIN_DIR:-${CARGO_TARGET_DIR:-target}/release}
prefix=${PREFIX:-}
root=${DESTDIR:-}
[ -z "$root" ] || [ -n "$prefix" ] || prefix=/usr/local

if [ -n "$prefix" ]; then
    case $prefix in /*) ;; *) fail "PREFIX must be an absolute path, not $prefix" ;; esac
    # Two slashes in a row would hide a path from the manifest's check.
    prefix=$(realpath -ms "$prefix")
    [ -z "$root" ] || root=$(realpath -ms "$root")
    [ "$prefix" != / ] || fail 'PREFIX must not be /'
    # GStreamer's folder below that prefix, such as lib/x86_64-linux-gnu/gstreamer-1.0.
    plugins=$(pkg-config --define-variable=prefix="$prefix" --variable=pluginsdir gstreamer-1.0) ||
        fail 'pkg-config does not find gstreamer-1.0; run `make setup` first'
    case $plugins in "$prefix"/*) ;; *) plugins=$prefix/lib/gstreamer-1.0 ;; esac
    own=$prefix/share/gst-face
    libraries=$prefix/lib/gst-face
    programs=$prefix/bin
else
    : "${HOME:?HOME must be set}"
    # Relative values must be ignored (XDG Base Directory Specification).
    data=${XDG_DATA_HOME:-}
    case $data in /*) ;; *) data=$HOME/.local/share ;; esac
    data=${data%/}
    plugins=$data/gstreamer-1.0/plugins
    own=$data/gst-face
    libraries=$own/lib
    programs=$HOME/.local/bin
fi
models=$own/models
manifest=$own/installed.txt
folders=("$plugins" "$own" "$libraries" "$programs")
[ -z "$prefix" ] || folders+=("$prefix/lib/systemd" "$prefix/lib/sysusers.d")

sources=()
targets=()
modes=()
add() {
    [ -f "$1" ] || fail "$1 is not there; run \`make build\` first"
    sources+=("$1")
    targets+=("$2")
    modes+=("$3")
}

put() { # SOURCE TARGET MODE
    local dir=${2%/*} tmp
    mkdir -p "$dir" || fail "cannot create $dir"
    tmp=$(mktemp "$dir/.gst-face.XXXXXX") || fail "cannot write to $dir"
    if ! { cp "$1" "$tmp" && chmod "$3" "$tmp" && mv -f "$tmp" "$2"; }; then
        rm -f "$tmp"
        fail "cannot write $2"
    fi
}

# Prints the files of the manifest, one per line, limited to our folders.
installed() {
    local path folder
    [ -f "$manifest" ] || return 0
    while IFS= read -r path; do
        case $path in */../* | */./*) continue ;; esac
        for folder in "${folders[@]}"; do
            case $path in "$folder"/*) printf '%s\n' "$path" ;; esac
        done
    done <"$manifest"
}

# Sets sources, targets and modes to everything to install.
list_all() {
    local name file model before
    for name in facedetect facetrack facerecog agegender facemeta; do
        add "$bin/libgst$name.so" "$plugins/libgst$name.so" 644
    done
    before=${#sources[@]}
    for file in runtime/libonnxruntime.so.*; do
        add "$file" "$libraries/${file##*/}" 644
    done
    [ "${#sources[@]}" -gt "$before" ] || fail 'ONNX Runtime is not there; run `make setup` first'
    add runtime/LICENSE "$libraries/LICENSE.onnxruntime" 644
    add runtime/ThirdPartyNotices.txt "$libraries/ThirdPartyNotices.onnxruntime.txt" 644
    for model in models/*.json; do
        # Optional models may not be there. Their descriptors say in errors how to fetch them.
        add "$model" "$models/${model##*/}" 644
        model=${model%.json}.onnx
        grep -q '"registry": "npm"' "${model%.onnx}.json" && [ ! -e "$model" ] && continue
        add "$model" "$models/${model##*/}" 644
    done
    # Those that somebody has fetched.
    for model in models/optional/*.onnx; do
        [ -e "$model" ] || continue
        add "${model%.onnx}.json" "$models/$(basename "${model%.onnx}").json" 644
        add "$model" "$models/${model##*/}" 644
    done
    add "$bin/facepipe" "$programs/facepipe" 755
    if [ -n "$prefix" ]; then
        sed "s|/usr/local/bin/|$programs/|" docs/facepipe.service >"$work/facepipe.service"
        add "$work/facepipe.service" "$prefix/lib/systemd/system/facepipe.service" 644
        add scripts/debian/facepipe.sysusers "$prefix/lib/sysusers.d/facepipe.conf" 644
    fi
}

install_all() {
    local i new old=
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    list_all
    if [ -n "$root" ]; then
        for i in "${!targets[@]}"; do put "${sources[i]}" "$root${targets[i]}" "${modes[i]}"; done
        printf 'install: %d files are below %s\n' "${#targets[@]}" "$root"
        return
    fi

    # List old and new files first: an interrupted install can then be undone.
    new=$(printf '%s\n' "${targets[@]}")
    old=$(installed | grep -vxF -e "$new" || true)
    mkdir -p "$own" || fail "cannot create $own"
    printf '%s\n' "$new" ${old:+"$old"} >"$manifest.tmp" && mv -f "$manifest.tmp" "$manifest" ||
        fail "cannot write $manifest"
    for i in "${!targets[@]}"; do
        put "${sources[i]}" "${targets[i]}" "${modes[i]}"
        printf 'install: %s\n' "${targets[i]}"
    done
    if [ -n "$old" ]; then
        while IFS= read -r path; do
            rm -f "$path"
            printf 'install: removed %s of an earlier version\n' "$path"
        done <<<"$old"
        printf '%s\n' "$new" >"$manifest.tmp" && mv -f "$manifest.tmp" "$manifest"
    fi

    case ":$PATH:" in
    *":$programs:"*) ;;
    *) printf 'install: note: %s is not on PATH\n' "$programs" ;;
    esac
    if [ -n "$prefix" ] && [ "$plugins" != "$(pkg-config --variable=pluginsdir gstreamer-1.0)" ]; then
        printf 'install: done; tell GStreamer where the plugins are:  export GST_PLUGIN_PATH=%s\n' "$plugins"
    else
        printf 'install: done; GStreamer finds the plugins there (try: gst-inspect-1.0 facedetector)\n'
    fi
}

uninstall_all() {
    local path count=0
    [ -z "$root" ] || fail 'nothing is listed below DESTDIR; remove that folder'
    if [ ! -f "$manifest" ]; then
        printf 'uninstall: nothing is installed (no %s)\n' "$manifest"
        return
    fi
    while IFS= read -r path; do
        if [ -e "$path" ]; then
            rm -f "$path"
            printf 'uninstall: removed %s\n' "$path"
            count=$((count + 1))
        fi
    done < <(installed)
    rm -f "$manifest"
    # Only our own directories, and only if they contain nothing else.
    for path in "$libraries" "$models" "$own"; do
        if [ -d "$path" ]; then rmdir --ignore-fail-on-non-empty "$path"; fi
    done
    printf 'uninstall: %d files removed\n' "$count"
}

case $action in
install) install_all ;;
uninstall) uninstall_all ;;
*)
    printf 'usage: %s install|uninstall\n' "$0" >&2
    exit 2
    ;;
esac
