#!/usr/bin/env bash
# Sees to what the build needs beyond the Rust toolchain and a C++ compiler: libclang, which generates RocksDB's binding.
# Sourced by the make targets: leaves LIBCLANG_PATH (and, where it must, BINDGEN_EXTRA_CLANG_ARGS) set.
# Looks for an installed libclang first; then installs one with the system's package manager (as root); then
# fetches the `libclang` wheel into .toolchain/ (no root needed). Fails in at most three lines otherwise.

millstream_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

millstream_say() { printf 'setup: %s\n' "$*" >&2; }

millstream_find_libclang() {
    local directory file
    for directory in "${LIBCLANG_PATH:-}" "$millstream_root"/.toolchain/libclang/clang/native \
        $(ls -d /usr/lib/llvm-*/lib /usr/lib64/llvm*/lib 2>/dev/null | sort -rV) /usr/lib/x86_64-linux-gnu /usr/lib/aarch64-linux-gnu \
        /usr/lib64 /usr/lib /usr/local/lib /opt/homebrew/opt/llvm/lib /usr/local/opt/llvm/lib /Library/Developer/CommandLineTools/usr/lib; do
        [ -n "$directory" ] || continue
        for file in "$directory"/libclang.so* "$directory"/libclang-*.so* "$directory"/libclang.dylib; do
            if [ -e "$file" ]; then
                printf '%s' "$directory"
                return 0
            fi
        done
    done
    return 1
}

millstream_install_libclang() {
    if [ "$(id -u)" = 0 ]; then
        if command -v apt-get >/dev/null; then
            millstream_say "libclang is missing (RocksDB's binding needs it): installing libclang-dev with apt-get"
            apt-get install -y -qq libclang-dev >/dev/null 2>&1 ||
                { apt-get update -qq >/dev/null 2>&1 && apt-get install -y -qq libclang-dev >/dev/null 2>&1; } && return 0
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
    if command -v python3 >/dev/null; then
        millstream_say "libclang is missing (RocksDB's binding needs it): fetching the libclang wheel into .toolchain/"
        python3 -m pip install --quiet --disable-pip-version-check --target "$millstream_root/.toolchain/libclang" libclang==18.1.1 >/dev/null 2>&1 && return 0
    fi
    return 1
}

millstream_setup() {
    command -v cargo >/dev/null || { millstream_say "cargo not found: install Rust 1.95 or newer from https://rustup.rs"; return 1; }
    command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null ||
        { millstream_say "no C++ compiler found: RocksDB is C++; install g++ (Debian: apt-get install g++) or clang"; return 1; }
    local found
    if ! found="$(millstream_find_libclang)"; then
        millstream_install_libclang && found="$(millstream_find_libclang)" || {
            millstream_say "libclang could not be installed. RocksDB's binding is generated with it."
            millstream_say "Install it (Debian: apt-get install libclang-dev; macOS: brew install llvm) or set LIBCLANG_PATH to its folder."
            return 1
        }
    fi
    export LIBCLANG_PATH="$found"
    case "$found" in
    *"/.toolchain/"*)
        # The wheel has no compiler headers of its own: borrow the installed compiler's.
        export BINDGEN_EXTRA_CLANG_ARGS="${BINDGEN_EXTRA_CLANG_ARGS:-} -I$(${CC:-cc} -print-file-name=include)" ;;
    esac
}

millstream_setup
