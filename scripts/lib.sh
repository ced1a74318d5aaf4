# shellcheck shell=bash
# What the scripts share; sourced, never run. It sets the shell's options and the working directory (the
# repository's root), installs what is missing on a Debian machine, and undoes what a script set up, also on
# failure. A machine where everything is installed is not touched, and no network is used.

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
export PATH="$PATH:$HOME/.cargo/bin:/usr/local/sbin:/usr/sbin:/sbin"

say() { printf '%s\n' "$*" >&2; }

die() {
    say "$(basename "$0"): $*"
    exit 1
}

need_root() {
    [ "$(id -u)" = 0 ] || die "run as root: it needs loop devices, mounts and apt (e.g. sudo $0)"
}

# missing_packages THING=PACKAGE...: prints the packages whose thing (a command, or a file if it begins with
# a slash) is not there.
missing_packages() {
    local pair
    for pair in "$@"; do
        case $pair in
        /*) [ -e "${pair%%=*}" ] || printf '%s\n' "${pair#*=}" ;;
        *) command -v "${pair%%=*}" >/dev/null || printf '%s\n' "${pair#*=}" ;;
        esac
    done
}

# install_missing THING=PACKAGE...: installs the packages of the things that are missing. A package that is
# there in another version (qemu-utils from backports, say) is left alone, and nothing is ever removed.
install_missing() {
    local packages
    mapfile -t packages < <(missing_packages "$@" | sort -u)
    [ "${#packages[@]}" -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "please install what corresponds to Debian's: ${packages[*]}"
    [ "$(id -u)" = 0 ] || die "not root, so please install: apt-get install ${packages[*]}"
    say "installing ${packages[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update >&2 || say "apt-get update failed; trying with the lists that are there"
    apt-get -qq install -y --no-remove --no-install-recommends "${packages[@]}" >&2 ||
        die "apt-get could not install: ${packages[*]}"
}

# has_package NAME: whether apt could install it.
has_package() {
    case $(apt-cache policy "$1" 2>/dev/null) in
    *"Candidate: (none)"* | "") return 1 ;;
    esac
}

# install_rust: a C compiler and linker, and the toolchain that rust-toolchain.toml pins.
install_rust() {
    install_missing cc=gcc /usr/include/stdio.h=libc6-dev
    if ! command -v cargo >/dev/null; then
        [ "$(id -u)" != 0 ] || has_package rustup || apt-get -qq update >&2 || true
        has_package rustup ||
            die "there is no cargo, and this Debian has no package rustup (13 has): install rustup as its" \
                "documentation says, then run this again"
        install_missing rustup=rustup /etc/ssl/certs/ca-certificates.crt=ca-certificates
    fi
    local pinned found
    pinned=$(sed -n 's/^channel *= *"\(.*\)"/\1/p' rust-toolchain.toml)
    cargo --version >/dev/null 2>&1 || use_toolchain "$pinned"
    found=$(rustc --version | cut -d' ' -f2)
    [ "$(printf '%s\n' "$pinned" "$found" | sort -V | head -n1)" = "$pinned" ] ||
        die "rustc $found is older than $pinned of rust-toolchain.toml: install rustup, or a newer Rust"
}

# use_toolchain VERSION: rustup's cargo installs the pinned toolchain by itself; where that is switched off or
# fails, takes a toolchain of another name (stable, say) that has this version, or asks rustup for it.
use_toolchain() {
    command -v rustup >/dev/null || die "cargo does not run: $(cargo --version 2>&1)"
    local name
    for name in $(rustup toolchain list | cut -d' ' -f1); do
        if [ "$(RUSTUP_TOOLCHAIN=$name rustc --version 2>/dev/null | cut -d' ' -f2)" = "$1" ]; then
            export RUSTUP_TOOLCHAIN=$name
            return
        fi
    done
    rustup toolchain install "$1" --profile minimal --component clippy,rustfmt >&2 ||
        die "Rust $1 of rust-toolchain.toml is not installed: run 'rustup toolchain install $1'"
}

# defer COMMAND: runs COMMAND (shell text) when the script ends, however it ends; last deferred, first run.
deferred=()
defer() { deferred=("$*" "${deferred[@]}"); }

run_deferred() {
    local status=$? command
    trap - EXIT
    trap '' INT TERM HUP
    set +e
    for command in "${deferred[@]}"; do eval "$command"; done
    exit "$status"
}
trap run_deferred EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# make_work_directory NAME: makes a directory of its own for the script in $work, removed at the end. Not
# below /tmp, which is often memory.
make_work_directory() {
    work=$(mktemp -d "${TMPDIR:-/var/tmp}/treering-$1.XXXXXX")
    defer "rm -rf --one-file-system '$work'"
}

# unmount_if_mounted DIRECTORY and detach_loop DEVICE: for cleaning up, silent where there is nothing to do.
unmount_if_mounted() {
    if mountpoint -q "$1"; then umount "$1" || umount -l "$1"; fi
}

detach_loop() {
    if [ -n "$(losetup -n -O BACK-FILE "$1" 2>/dev/null)" ]; then losetup -d "$1"; fi
}
