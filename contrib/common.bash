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

# Runs a command as root: as we are, or through sudo, which asks for a password only where there is somebody to ask.
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

# need PROGRAM=PACKAGE ...: installs with apt the packages of the programs that are missing, and only those.
need() {
    local pair missing=() programs=() packages=()
    for pair; do
        command -v "${pair%%=*}" >/dev/null || missing+=("$pair")
    done
    ((${#missing[@]})) || return 0
    programs=("${missing[@]%%=*}")
    # A package may bring a companion along: program=package+package.
    read -ra packages <<<"$(printf '%s\n' "${missing[@]#*=}" | tr '+' '\n' | sort -u | tr '\n' ' ')"
    command -v apt-get >/dev/null ||
        fail "missing: ${programs[*]}; install them (on Debian: ${packages[*]}) and run this again"
    can_be_root || fail "missing: ${programs[*]}; as root: apt-get install ${packages[*]}"
    say "installing ${packages[*]} (missing: ${programs[*]})"
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0)
    local install=("${apt[@]}" install -y --no-install-recommends "${packages[@]}")
    # A fresh machine has no package lists, an old one has stale ones.
    as_root "${install[@]}" >/dev/null 2>&1 </dev/null || {
        as_root "${apt[@]}" update </dev/null
        as_root "${install[@]}" >/dev/null </dev/null
    }
    hash -r
    for pair in "${missing[@]}"; do
        command -v "${pair%%=*}" >/dev/null || fail "${pair%%=*} is still missing after installing ${pair#*=}"
    done
}

# Makes sure that there is a Rust toolchain that is new enough; it is not ours to install.
need_rust() {
    [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]] && PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    local wanted have how='get it from https://rustup.rs or your distribution'
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
    if ! command -v cargo >/dev/null; then
        ((EUID != 0)) || [[ -z ${SUDO_USER:-} ]] || how="run this as $SUDO_USER instead of under sudo, or $how"
        fail "cargo is missing, and Rust $wanted or newer with it: $how"
    fi
    have=$(rustc --version | cut -d' ' -f2)
    [[ $(printf '%s\n' "$wanted" "$have" | sort -V | head -n 1) == "$wanted" ]] ||
        fail "rustc is $have, needed is $wanted or newer: $how"
}

# The folder that cargo builds into.
target_folder() {
    local folder=${CARGO_TARGET_DIR:-$root/target}
    # Cargo takes a relative one from where it is run, and we run it in $root.
    case $folder in /*) printf '%s\n' "$folder" ;; *) printf '%s\n' "$root/$folder" ;; esac
}

# strongswan FOLDER: unpacks the Debian package with strongSwan's own script into a folder, unless it is there, and sets
# `strongswan_script` and `strongswan_version`. Nothing is installed.
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

# libreswan FOLDER VERSION: unpacks libreswan's own script of this version out of Debian's package into a folder, unless it is
# there, and sets `libreswan_script` and `libreswan_version`. Nothing is installed, and it does not matter which Debian this is.
# DEBIAN_MIRROR is where the package comes from, http://deb.debian.org/debian unless set.
libreswan() {
    local work suite
    case $2 in
    4.10) suite=bookworm ;;
    5.2) suite=trixie ;;
    *) fail "no Debian is known to have libreswan $2" ;;
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

# call FILE CONNECTION VERB [N]: the environment of the Nth such call in a captures file, a variable a line.
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
