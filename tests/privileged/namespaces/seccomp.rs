//! A filter of system calls like the one that libreswan puts on itself and on all that it starts (`seccomp=enabled`).

use nix::libc;
use pluto_updown::netfilter::Backend;

use crate::support::binary::{Call, Hook};
use crate::support::captures::{find_call, libreswan_up};
use crate::support::namespace::{Namespace, VARIANTS, tool};

/// What libreswan lets itself and its hooks do (`init_seccomp`, the part named "main"), of what there is on this machine.
const LIBRESWANS: [i64; 92] = [
    libc::SYS_accept,
    libc::SYS_access,
    libc::SYS_arch_prctl,
    libc::SYS_bind,
    libc::SYS_brk,
    libc::SYS_chdir,
    libc::SYS_clock_gettime,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_close,
    libc::SYS_connect,
    libc::SYS_dup,
    libc::SYS_dup2,
    libc::SYS_dup3,
    libc::SYS_epoll_create,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_wait,
    libc::SYS_execve,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getcwd,
    libc::SYS_getdents,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getgroups,
    libc::SYS_getpgid,
    libc::SYS_getpgrp,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getrlimit,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_ioctl,
    libc::SYS_lseek,
    libc::SYS_lstat,
    libc::SYS_madvise,
    libc::SYS_mkdir,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_newfstatat,
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_pipe,
    libc::SYS_pipe2,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_prctl,
    libc::SYS_pread64,
    libc::SYS_prlimit64,
    libc::SYS_pselect6,
    libc::SYS_read,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_setparam,
    libc::SYS_select,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_setsockopt,
    libc::SYS_sigaltstack,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_stat,
    libc::SYS_statfs,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_wait4,
    libc::SYS_write,
];

/// What we and iptables need beyond that. The manual page names them too.
const NEEDED: [(&str, i64); 9] = [
    // Every program that glibc 2.35 or later starts: the stock script's shell too.
    ("rseq", libc::SYS_rseq),
    // Rust's standard library, at start-up and to look at files.
    ("sched_getaffinity", libc::SYS_sched_getaffinity),
    ("statx", libc::SYS_statx),
    // The record: its lock, and files that are replaced whole.
    ("flock", libc::SYS_flock),
    ("rename", libc::SYS_rename),
    ("rmdir", libc::SYS_rmdir),
    // iptables-restore: its input, and its process group, which can be ended whole.
    ("memfd_create", libc::SYS_memfd_create),
    ("setpgid", libc::SYS_setpgid),
    // iptables-legacy waits for its lock so.
    ("alarm", libc::SYS_alarm),
];

/// What is needed only when iptables-restore takes its time, or too long.
const NEEDED_AT_TIMES: [i64; 2] = [libc::SYS_clock_nanosleep, libc::SYS_kill];

/// What is needed to write a peer's name servers into a file.
const NEEDED_FOR_NAMES: (&str, i64) = ("ftruncate", libc::SYS_ftruncate);

/// Starts what stands behind its two arguments under a filter: the number of prctl(2), and the filter's instructions in hexadecimal.
const FILTERED: &str = r#"
my ($prctl, $hex, @program) = @ARGV;
my $filter = pack "H*", $hex;
my $whole = pack "S x6 P", length($filter) / 8, $filter;
syscall($prctl, 38, 1, 0, 0, 0) == 0 or die "no_new_privs: $!";
syscall($prctl, 22, 2, $whole, 0, 0) == 0 or die "seccomp: $!";
exec { $program[0] } @program or die "$program[0]: $!";
"#;

/// An instruction of the filter (seccomp(2), linux/filter.h).
fn instruction(code: u16, if_true: u8, if_false: u8, operand: u32) -> String {
    let bytes = [&code.to_ne_bytes()[..], &[if_true, if_false], &operand.to_ne_bytes()].concat();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A filter that lets these pass, and ends the process at any other.
fn filter(allowed: &[i64]) -> String {
    const KILL_PROCESS: u32 = 0x8000_0000;
    const ALLOW: u32 = 0x7fff_0000;
    let load_number = instruction(0x20, 0, 0, 0);
    let or_next = |number: &i64| {
        let number = u32::try_from(*number).expect("a number of a system call");
        instruction(0x15, 0, 1, number) + &instruction(0x06, 0, 0, ALLOW)
    };
    let each: String = allowed.iter().map(or_next).collect();
    load_number + &each + &instruction(0x06, 0, 0, KILL_PROCESS)
}

/// The program under a filter of libreswan's list, what is needed at times, and these.
fn under(machine: &Namespace, more: impl IntoIterator<Item = i64>) -> Hook {
    let allowed: Vec<_> = LIBRESWANS.into_iter().chain(NEEDED_AT_TIMES).chain(more).collect();
    let perl = tool("perl").display().to_string();
    machine.started_by(&[&perl, "-e", FILTERED, &libc::SYS_prctl.to_string(), &filter(&allowed)])
}

fn needed() -> impl Iterator<Item = i64> {
    NEEDED.into_iter().map(|(_, number)| number)
}

/// The whole life of a tunnel.
fn calls_of_a_tunnel() -> [Call; 5] {
    ["prepare", "route", "up", "down", "unroute"].map(|verb| libreswan_up().with_verb(&format!("{verb}-client")))
}

#[test]
fn the_manual_page_names_what_we_need_of_a_filter() {
    let page = include_str!("../../../contrib/man/pluto-updown.8");
    let times = ["clock_nanosleep", "kill"];
    for name in NEEDED
        .iter()
        .map(|(name, _)| *name)
        .chain(times)
        .chain([NEEDED_FOR_NAMES.0])
    {
        assert!(
            page.lines().any(|line| line.starts_with(&format!(".Li {name}"))),
            "{name}"
        );
    }
}

#[test]
#[ignore = "needs root, iptables and perl: run by contrib/test"]
fn libreswans_filter_and_what_the_manual_page_names_are_enough() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        let before = machine.listing();
        let hook = under(&machine, needed());
        for call in calls_of_a_tunnel() {
            hook.expect_success(&call);
        }
        machine.assert_as_before(&before);
    }
}

#[test]
#[ignore = "needs root, iptables and perl: run by contrib/test"]
fn a_call_that_a_filter_ends_leaves_nothing_that_the_next_does_not_put_right() {
    for (name, number) in NEEDED {
        // Which backend needs it, and the others' calls go through.
        let backend = if name == "alarm" { Backend::Legacy } else { Backend::Nft };
        let machine = Namespace::new(backend);
        let before = machine.listing();
        let hook = under(&machine, needed().filter(|other| *other != number));
        let ended: Vec<_> = calls_of_a_tunnel().iter().map(|call| hook.call(call)).collect();
        assert!(
            ended.iter().any(|ending| ending.code != Some(0)),
            "{name} is needed for nothing"
        );
        for call in calls_of_a_tunnel() {
            machine.hook().expect_success(&call);
        }
        machine.assert_as_before(&before);
    }
}

#[test]
#[ignore = "needs root, iptables and perl: run by contrib/test"]
fn name_servers_need_one_more() {
    let machine = Namespace::new(Backend::Nft);
    let resolv_conf = machine.path("root/etc/resolv.conf");
    std::fs::create_dir_all(machine.path("root/etc")).expect("a folder");
    std::fs::write(&resolv_conf, "nameserver 192.0.2.1\n").expect("a resolv.conf");
    let content = || std::fs::read_to_string(&resolv_conf).expect("a resolv.conf");
    let up = find_call("libreswan-4.10", "rw", "up-client");
    let hook = under(&machine, needed().chain([NEEDED_FOR_NAMES.1])).option("--root", machine.path("root"));
    hook.expect_success(&up);
    assert!(content().contains("10.2.0.53"));
    hook.expect_success(&up.opposite());
    assert_eq!(content(), "nameserver 192.0.2.1\n");
}
