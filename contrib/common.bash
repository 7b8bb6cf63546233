# Shared by the scripts in this folder; sourced, not run.
# shellcheck shell=bash

# The daemons' PATH has these, a plain user's often has not.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

# The name that our lines begin with.
self=contrib/${0##*/}

say() { printf '%s: %s\n' "$self" "$*"; }

fail() {
    printf '%s: %s\n' "$self" "$*" >&2
    exit 1
}

# Prints the comment that the script begins with. Every script in this folder does so for --help,
# before it does anything: see the last line of this file.
usage() {
    sed -n '2,/^[^#]/{/^#/!d;s/^# \{0,1\}//;p}' "$0"
    exit 0
}

# Runs a command as root: as we are, or through sudo, which asks for a password only where there is
# somebody to ask.
as_root() {
    if ((EUID == 0)); then
        "$@"
    elif [[ -t 0 ]]; then
        sudo -- "$@"
    else
        sudo -n -- "$@"
    fi
}

# Whether as_root can work.
can_be_root() {
    ((EUID == 0)) && return 0
    command -v sudo >/dev/null || return 1
    if [[ -t 0 ]]; then sudo -v; else sudo -n true 2>/dev/null; fi
}

# A machine that has just booted may be upgrading itself: we wait for that.
apt=(env DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300)

# need WORD...: makes sure that programs are there. PROGRAM=PACKAGE is a program and the Debian
# package that has it; a package may bring a companion along, PROGRAM=PACKAGE+PACKAGE. The word
# `rust` is a Rust toolchain that is new enough.
#
# Installs with apt what is missing, all at once, and never removes a package for it. Privileges are
# checked before anything else, and nothing is installed before it is known that a toolchain is
# available.
need() {
    local word missing=() rust=no package=''
    for word; do
        if [[ $word == rust ]]; then
            find_rust || rust=yes
        else
            has "${word%%=*}" || missing+=("$word")
        fi
    done
    [[ $rust == yes ]] || ((${#missing[@]})) || return 0
    command -v apt-get >/dev/null ||
        fail "missing: $(missing_programs); install them (Debian's packages: $(missing_packages)) and run this again"
    can_be_root ||
        fail "missing: $(missing_programs), and there is neither root nor sudo to install them: run this once as root, or install $(missing_packages)"
    [[ $rust == no ]] || choose_rust
    say "installing $(missing_packages) (missing: $(missing_programs)); this usually takes $([[ $rust == yes ]] && echo 'a minute or two' || echo 'a few seconds')"
    local install
    read -ra install <<<"$(missing_packages)"
    install=("${apt[@]}" install -y --no-install-recommends --no-remove "${install[@]}")
    # A fresh machine has no package lists, an old one has stale ones.
    as_root "${install[@]}" >/dev/null 2>&1 </dev/null || {
        as_root "${apt[@]}" update </dev/null
        as_root "${install[@]}" >/dev/null </dev/null
    } || fail "apt-get cannot install $(missing_packages); see its output above"
    hash -r
    for word in "${missing[@]}"; do
        has "${word%%=*}" || fail "${word%%=*} is still missing after installing ${word#*=}"
    done
    [[ $rust == no ]] || find_rust || fail "Rust $rust_wanted is still missing after installing $package"
}

# has PROGRAM: whether it is there; the C compiler only with the headers and libraries that it
# needs.
has() {
    command -v "$1" >/dev/null || return 1
    [[ $1 != cc ]] || cc -E -include stdio.h -x c /dev/null >/dev/null 2>&1
}

# For need: what is missing, and the packages that provide it; for people.
missing_programs() {
    local words=("${missing[@]%%=*}") text
    [[ $rust == no ]] || words=("Rust $rust_wanted or newer${rust_found:+ (here is $rust_found)}" "${words[@]}")
    text=$(printf ', %s' "${words[@]}")
    printf '%s\n' "${text:2}"
}

missing_packages() {
    local words=("${missing[@]#*=}") text
    text=$(printf '%s\n' "${words[@]}" | tr '+' '\n' | sort -u | tr '\n' ' ')
    text=${text% }
    # cargo's package does not depend on the certificates that it checks crates.io's with.
    [[ -z $package ]] || text="$package ca-certificates${text:+ }$text"
    [[ $rust == no || $package ]] || text+="${text:+ and }Rust (Debian's cargo-web, or https://rustup.rs)"
    printf '%s\n' "$text"
}

# Puts the first toolchain that is new enough in front of PATH. Sets rust_wanted, and rust_found,
# the version of the first that there is.
find_rust() {
    local cargo version
    rust_wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml") rust_found=''
    while IFS= read -r cargo; do
        [[ -x $cargo ]] || continue
        version=$(PATH=${cargo%/*}:$PATH rustc --version 2>/dev/null | cut -d' ' -f2)
        rust_found=${rust_found:-$version}
        if [[ $version ]] && new_enough "$version"; then
            PATH=${cargo%/*}:$PATH
            return 0
        fi
    done < <(type -ap cargo; printf '%s\n' "${CARGO_HOME:-$HOME/.cargo}/bin/cargo")
    return 1
}

new_enough() { [[ $(printf '%s\n' "$rust_wanted" "$1" | sort -V | head -n 1) == "$rust_wanted" ]]; }

# Sets package to one with a toolchain that is new enough, by apt's lists as they are. It must not
# take the place of another package: Debian's cargo-web conflicts with its cargo and with its
# rustup.
rust_package() {
    local version
    for package in cargo cargo-web; do
        version=$(LC_ALL=C apt-cache policy "$package" 2>/dev/null | sed -n 's/^ *Candidate: \([0-9]*:\)\{0,1\}\([0-9.]*\).*/\2/p')
        [[ $version ]] && new_enough "$version" || continue
        ! "${apt[@]}" -s --no-remove install "$package" >/dev/null 2>&1 || return 0
    done
    package=''
    return 1
}

# The same; where the lists know none, with new ones.
choose_rust() {
    rust_package && return
    say "asking Debian's archive for Rust $rust_wanted or newer"
    as_root "${apt[@]}" update </dev/null || true
    rust_package && return
    local how='get it from https://rustup.rs and run this again'
    ((EUID != 0)) || [[ -z ${SUDO_USER:-} ]] || how="run this as $SUDO_USER instead of under sudo, or $how"
    fail "missing: $(missing_programs); apt has no Rust that new, or would remove a package for it: $how"
}

# The folder that cargo builds into.
target_folder() {
    local folder=${CARGO_TARGET_DIR:-$root/target}
    # Cargo takes a relative one from where it is run, and we run it in $root.
    case $folder in /*) printf '%s\n' "$folder" ;; *) printf '%s\n' "$root/$folder" ;; esac
}

# strongswan FOLDER: unpacks the Debian package with strongSwan's own script into a folder, unless
# it is there, and sets `strongswan_script` and `strongswan_version`. Nothing is installed.
strongswan() {
    local work
    if [[ ! -f $1/version ]]; then
        need apt-get=apt dpkg=dpkg
        say "getting strongSwan's script"
        work=$(mktemp -d)
        unpack_strongswan "$work" 2>/dev/null || {
            # The package lists are missing or stale.
            can_be_root && as_root apt-get -qq update </dev/null
            unpack_strongswan "$work"
        } || {
            rm -rf -- "$work"
            fail "cannot get the package strongswan-libcharon from Debian"
        }
        mkdir -p -- "$1"
        install -m 755 -- "$work/usr/lib/ipsec/_updown" "$1/_updown"
        dpkg-deb -f "$work"/*.deb Version >"$1/version"
        rm -rf -- "$work"
    fi
    # shellcheck disable=SC2034 # for those who call this
    strongswan_script=$1/_updown strongswan_version=$(<"$1/version")
}

unpack_strongswan() (cd "$1" && apt-get -qq download strongswan-libcharon && dpkg -x strongswan-libcharon_*.deb .)

# libreswan FOLDER VERSION: unpacks libreswan's own script of this version out of Debian's package
# into a folder, unless it is there, and sets `libreswan_script` and `libreswan_version`. Nothing is
# installed, and it does not matter which Debian this is. DEBIAN_MIRROR is where the package comes
# from, http://deb.debian.org/debian unless set.
libreswan() {
    local work suite
    case $2 in
    4.10) suite=bookworm ;;
    5.2) suite=trixie ;;
    *) fail "no known Debian release has libreswan $2" ;;
    esac
    if [[ ! -f $1/version ]]; then
        need apt-get=apt dpkg=dpkg
        [[ -e $debian_keys ]] || fail "$debian_keys is missing: install debian-archive-keyring"
        say "getting libreswan's script out of $suite"
        work=$(mktemp -d)
        unpack_libreswan "$work" "$suite" || {
            rm -rf -- "$work"
            fail "cannot get the package libreswan of $suite from Debian"
        }
        libreswan_version=$(dpkg-deb -f "$work"/*.deb Version)
        [[ $libreswan_version == "$2"[.-]* ]] || {
            rm -rf -- "$work"
            fail "$suite has libreswan $libreswan_version, not $2"
        }
        mkdir -p -- "$1"
        install -m 755 -- "$work/usr/libexec/ipsec/_updown.xfrm" "$1/_updown.xfrm"
        printf '%s\n' "$libreswan_version" >"$1/version"
        rm -rf -- "$work"
    fi
    # shellcheck disable=SC2034 # for those who call this
    libreswan_script=$1/_updown.xfrm libreswan_version=$(<"$1/version")
}

debian_keys=/usr/share/keyrings/debian-archive-keyring.gpg

# With an apt of its own: this machine's lists are of another Debian, and root's.
unpack_libreswan() (
    cd "$1" && mkdir -p lists/partial cache/archives/partial && : >status
    printf 'deb [signed-by=%s] %s %s main\n' "$debian_keys" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" "$2" >sources.list
    apt=(apt-get -qq -o "Dir::Etc::sourcelist=$1/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$1/lists"
        -o "Dir::State::status=$1/status" -o "Dir::Cache=$1/cache" -o Acquire::Languages=none -o Acquire::Retries=3)
    # Root's apt would become another user, who may not write here.
    ((EUID != 0)) || apt+=(-o APT::Sandbox::User=root)
    "${apt[@]}" update </dev/null && "${apt[@]}" download libreswan </dev/null && dpkg -x libreswan_*.deb .
)

# debian SUITE [OPTION...]: sets image, the packed root of a fresh Debian with the archives that an
# installed one has. mmdebstrap makes it, with these options of its own, and it is kept in
# ${XDG_CACHE_HOME:-$HOME/.cache}/pluto-updown. DEBIAN_MIRROR and DEBIAN_SECURITY_MIRROR are where
# its packages come from, deb.debian.org unless set.
debian() {
    local suite=$1 key cache=${XDG_CACHE_HOME:-$HOME/.cache}/pluto-updown archive=${DEBIAN_MIRROR:-http://deb.debian.org/debian} lines
    shift
    lines=("deb $archive $suite main" "deb $archive $suite-updates main"
        "deb ${DEBIAN_SECURITY_MIRROR:-http://deb.debian.org/debian-security} $suite-security main")
    key=$(printf '%s\n' "$suite" "${lines[@]}" "$@" | sha256sum | cut -c1-12)
    image=$cache/system-$suite-$key.tar
    [[ ! -e $image ]] || return 0
    need mmdebstrap=mmdebstrap
    say "making a fresh $suite; this usually takes half a minute"
    mkdir -p -- "$cache"
    mmdebstrap --quiet --format=tar --variant=minbase --aptopt='Acquire::Retries "3"' "$@" "$suite" "$image.new.$$" "${lines[@]}"
    mv -- "$image.new.$$" "$image"
}

# mount_system FOLDER: makes an unpacked root one that programs run in, in a mount and pid namespace
# of our own.
mount_system() {
    local system=$1 name
    mount --bind "$system" "$system"
    mount -t proc proc "$system/proc"
    mount -t sysfs -o ro sys "$system/sys" 2>/dev/null || true
    mount -t tmpfs -o mode=755 run "$system/run"
    mount -t tmpfs -o mode=755 dev "$system/dev"
    ln -s /proc/self/fd "$system/dev/fd"
    for name in null zero urandom random tty; do
        : >"$system/dev/$name"
        mount --bind "/dev/$name" "$system/dev/$name"
    done
}

# call FILE CONNECTION VERB [N]: the environment of the Nth such call in a captures file, a variable
# a line.
call() {
    awk -v RS= -v connection="$2" -v verb="$3" -v wanted="${4:-1}" '
        /^>/ && index($0 "\n", "\nPLUTO_CONNECTION=" connection "\n") && index($0 "\n", "\nPLUTO_VERB=" verb "\n") {
            if (++seen < wanted) next
            sub(/^>[^\n]*\n/, "")
            print
            found = 1
            exit
        }
        END { exit !found }' "$1"
}

# Sets machine, and target: what a static program is built for. That is musl where the toolchain has
# it, whose programs start faster.
static_target() {
    machine=$(uname -m)
    target=$machine-unknown-linux-musl
    # rustup gives a target's library a folder; that of a target that is not installed is not there.
    compgen -G "$(rustc --print target-libdir --target "$target")/libstd-*.rlib" >/dev/null || target=$machine-unknown-linux-gnu
}

# build_static: builds the program as it is released, for machines with other libraries than this
# one. Sets binary.
build_static() {
    need rust cc=gcc+libc6-dev readelf=binutils
    static_target
    say "building pluto-updown; this usually takes a minute or two"
    (cd "$root" && CARGO_ENCODED_RUSTFLAGS=-Ctarget-feature=+crt-static cargo build --locked --quiet --release --target "$target")
    binary=$(target_folder)/$target/release/pluto-updown
    is_static "$binary" || fail "$binary is not static"
}

# is_static PROGRAM: whether it is an ELF program that asks for no loader. What is in its text says
# nothing: glibc names its loader in static programs too.
is_static() {
    local headers
    headers=$(LC_ALL=C readelf --program-headers --wide -- "$1" 2>/dev/null) && [[ $headers == *LOAD* && $headers != *INTERP* ]]
}

# The words of the script that reads this file.
for word; do [[ $word != -h && $word != --help ]] || usage; done
unset word
