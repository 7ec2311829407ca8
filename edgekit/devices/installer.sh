# A model's versions side by side on a device without Python, one of them current: installer.py in POSIX sh.
#
#     sh installer.sh install FOLDER VERSION KEEP (NAME FILE)...   put files into FOLDER/VERSION, and make it current
#     sh installer.sh rollback FOLDER                              make the version before current
#
# `current` and `previous` are symbolic links, replaced in one step: so does ln of toybox and of coreutils. It says "current NAME", "previous NAME", "version
# NAME" for each version, the oldest first, and "problem TEXT"; a link that names nothing is not said.

named() {
    if [ -e "$1/$2" ]; then
        readlink "$1/$2"
    fi
}

to_disk() {
    fsync "$1" 2> /dev/null || sync "$1"
}

point() {
    ln -sfn "$3" "$1/$2"
    to_disk "$1"
}

versions() {
    ls -tr "$1" 2> /dev/null | while read -r name; do
        if [ -d "$1/$name" ] && [ ! -L "$1/$name" ]; then
            echo "$name"
        fi
    done
}

sweep() {
    current=$(named "$1" current) previous=$(named "$1" previous) kept=0
    set -- "$1" "$2" $(versions "$1" | sort_newest_first)
    root=$1 keep=$2
    shift 2
    for name in "$@"; do
        if [ "$name" = "$current" ] || [ "$name" = "$previous" ]; then
            continue
        fi
        kept=$((kept + 1))
        if [ "$kept" -gt "$keep" ]; then
            rm -rf "${root:?}/$name"
        fi
    done
    rm -rf "${root:?}"/.*.part
}

sort_newest_first() {
    newest=
    while read -r name; do
        newest="$name $newest"
    done
    echo "$newest"
}

install() {
    root=$1 version=$2 keep=$3
    shift 3
    mkdir -p "$root"
    if [ ! -e "$root/$version" ]; then
        scratch=$root/.$version.part
        rm -rf "$scratch"
        mkdir "$scratch"
        while [ $# -gt 0 ]; do
            cp "$2" "$scratch/$1"
            to_disk "$scratch/$1"
            shift 2
        done
        to_disk "$scratch"
        mv "$scratch" "$root/$version"
        to_disk "$root"
    fi
    before=$(named "$root" current)
    if [ "$before" != "$version" ]; then
        if [ -n "$before" ]; then
            point "$root" previous "$before"
        fi
        point "$root" current "$version"
    fi
    sweep "$root" "$keep"
    tell "$root"
}

rollback() {
    before=$(named "$1" previous) now=$(named "$1" current)
    if [ -z "$before" ] || [ -z "$now" ]; then
        echo "problem there is no version before"
        return
    fi
    point "$1" current "$before"
    point "$1" previous "$now"
    tell "$1"
}

tell() {
    for link in current previous; do
        name=$(named "$1" "$link")
        if [ -n "$name" ]; then
            echo "$link $name"
        fi
    done
    versions "$1" | while read -r name; do echo "version $name"; done
}

set -e
verb=$1
shift
"$verb" "$@"
