#!/usr/bin/env bash
# Sees to what the build needs beyond the Rust toolchain and a C++ compiler: libclang, which generates RocksDB's binding.
# Sourced by the make targets. Looks for an installed libclang first; then installs one with the system's package manager
# (as root); then fetches the `libclang` wheel into .toolchain/ (no root needed). Fails in at most three lines otherwise.

millstream_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

millstream_say() { printf 'setup: %s\n' "$*" >&2; }

# Whether one of these folders holds libclang. libclang-cpp, which a machine may have alone, is another library.
millstream_holds_libclang() {
    local directory file
    for directory in "$@"; do
        for file in "$directory"/libclang.so* "$directory"/libclang-*.so* "$directory"/libclang.dylib; do
            case "$file" in */libclang-cpp*) continue ;; esac
            [ -e "$file" ] && return 0
        done
    done
    return 1
}

# Whether the build finds libclang by itself: where systems install it, or where LIBCLANG_PATH says.
millstream_has_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && { millstream_holds_libclang "$LIBCLANG_PATH"; return; }
    millstream_holds_libclang /usr/lib/llvm-*/lib /usr/lib*/llvm*/lib /usr/lib/*-linux-gnu /usr/lib64 /usr/lib /usr/local/lib \
        /opt/homebrew/opt/llvm/lib /usr/local/opt/llvm/lib /Library/Developer/CommandLineTools/usr/lib
}

millstream_install_libclang() {
    if [ "$(id -u)" = 0 ]; then
        if command -v apt-get >/dev/null; then
            millstream_say "libclang is missing (RocksDB's binding needs it): installing libclang-dev with apt-get"
            if apt-get install -y -qq libclang-dev >/dev/null 2>&1; then return 0; fi
            if apt-get update -qq >/dev/null 2>&1 && apt-get install -y -qq libclang-dev >/dev/null 2>&1; then return 0; fi
        elif command -v dnf >/dev/null; then
            millstream_say "libclang is missing (RocksDB's binding needs it): installing clang-devel with dnf"
            dnf install -y -q clang-devel >/dev/null 2>&1 && return 0
        elif command -v apk >/dev/null; then
            millstream_say "libclang is missing (RocksDB's binding needs it): installing clang-dev with apk"
            apk add -q clang-dev >/dev/null 2>&1 && return 0
        elif command -v pacman >/dev/null; then
            millstream_say "libclang is missing (RocksDB's binding needs it): installing clang with pacman"
            pacman -S --noconfirm --quiet clang >/dev/null 2>&1 && return 0
        fi
    fi
    millstream_fetch_wheel
}

# The Python package `libclang` is the library alone: no root needed. Its place goes into .cargo/config.toml, so that a
# plain `cargo build` sees the same surroundings as the make targets (a changed LIBCLANG_PATH recompiles RocksDB).
millstream_fetch_wheel() {
    local wheel="$millstream_root/.toolchain/libclang"
    if ! millstream_holds_libclang "$wheel/clang/native"; then
        command -v python3 >/dev/null || return 1
        millstream_say "libclang is missing (RocksDB's binding needs it): fetching the libclang wheel into .toolchain/"
        python3 -m pip install --quiet --disable-pip-version-check --target "$wheel" libclang==18.1.1 >/dev/null 2>&1 || return 1
    fi
    mkdir -p "$millstream_root/.cargo"
    # The wheel has no compiler headers of its own: borrow the installed compiler's.
    cat >"$millstream_root/.cargo/config.toml" <<CONFIG
# Written by xtask/setup.sh: this machine has no libclang of its own.
[env]
LIBCLANG_PATH = "$wheel/clang/native"
BINDGEN_EXTRA_CLANG_ARGS = "-I$(${CC:-cc} -print-file-name=include)"
CONFIG
}

millstream_setup() {
    command -v cargo >/dev/null || { millstream_say "cargo not found: install Rust 1.95 or newer from https://rustup.rs"; return 1; }
    command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null ||
        { millstream_say "no C++ compiler found: RocksDB is C++; install g++ (Debian: apt-get install g++) or clang"; return 1; }
    millstream_has_libclang || [ -e "$millstream_root/.cargo/config.toml" ] || millstream_install_libclang || {
        millstream_say "libclang could not be installed. RocksDB's binding is generated with it."
        millstream_say "Install it (Debian: apt-get install libclang-dev; macOS: brew install llvm) or set LIBCLANG_PATH to its folder."
        return 1
    }
}

millstream_setup
