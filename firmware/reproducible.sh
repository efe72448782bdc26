#!/bin/bash
# Builds the guest images twice, from copies of the work tree in directories of different names and depths and with
# different target directories, and compares them byte by byte. Prints their SHA-256. Slow: two full guest builds.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

build() { # copy, target directory, output
    mkdir -p "$1" "$3"
    # What git tracks or would track, without build output.
    (cd "$root" && git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' f; do
        [ -e "$f" ] && printf '%s\0' "$f"
    done | tar --null -T - -cf -) | tar -xf - -C "$1"
    (cd "$1" && CARGO_TARGET_DIR="$2" cargo build --quiet --locked -p bulla-firmware)
    for image in firmware.img bootloader.img tenant.elf; do
        cp "$2"/debug/build/bulla-firmware-*/out/$image "$3/"
    done
}

build "$work/a" "$work/ta" "$work/1"
build "$work/a-longer/name/of/a/directory" "$work/another-target-directory" "$work/2"
for image in firmware.img bootloader.img tenant.elf; do
    cmp "$work/1/$image" "$work/2/$image"
done
cd "$work/1" && sha256sum firmware.img bootloader.img tenant.elf
