//! `contrib/apparmor/pluto-updown` allows what the hook and its iptables open and run, as strace sees it. No kernel with AppArmor is
//! needed for that: the profile is read here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::support::binary::{Call, PROGRAM, write_program};
use crate::support::captures::{find_call, libreswan_up, strongswan_up};
use crate::support::namespace::{Namespace, VARIANTS, tool};

const PROFILE: &str = include_str!("../../../contrib/apparmor/pluto-updown");

/// What `abstractions/base` allows of what programs do anyway: libraries, locales, what the C library asks of the machine.
const BASE: [&str; 15] = [
    "/{usr/,}lib{,32,64}/** mr",
    "/etc/ld.so.{cache,conf,preload} mr",
    "/etc/locale/** r",
    "/etc/localtime r",
    "/usr/share/{locale,zoneinfo}/** r",
    "/usr/share/locale-langpack/** r",
    "/dev/{null,zero,full,random,urandom,log} rw",
    "/run/systemd/journal/{dev-log,socket,stdout} rw",
    "/proc/[0-9]*/{maps,auxv,status} r",
    "/proc/self/{maps,auxv,status} r",
    "/proc/{meminfo,stat,cpuinfo,filesystems} r",
    "/proc/sys/kernel/{ngroups_max,version,cap_last_cap} r",
    "/proc/sys/vm/overcommit_memory r",
    "/sys/devices/system/cpu/{,online,possible} r",
    "/sys/fs/cgroup/** r",
];

/// What is allowed: patterns with the letters of their rights.
struct Profile {
    rules: Vec<(String, String)>,
}

impl Profile {
    fn read_profile() -> Self {
        let lines = PROFILE
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with(['/', '@']));
        let lines = lines.map(|line| line.trim_end_matches(',').to_owned());
        let base = BASE.iter().map(|line| (*line).to_owned());
        let rules = lines.chain(base).flat_map(|line| {
            let (path, rights) = line.rsplit_once(' ').expect("a path and its rights");
            let path = path
                .trim()
                .replace("@{PROC}", "/proc")
                .replace("@{pid}", "{[0-9]*,self,thread-self}");
            braces(&path)
                .into_iter()
                .map(move |path| (path, rights.to_owned()))
                .collect::<Vec<_>>()
        });
        Self { rules: rules.collect() }
    }

    fn allows(&self, path: &str, right: char) -> bool {
        let mut rules = self.rules.iter().filter(|(_, rights)| rights.contains(right));
        rules.any(|(pattern, _)| path_fits(pattern.as_bytes(), path.as_bytes()))
    }

    /// Whether a program leaves the profile.
    fn releases(&self, path: &str) -> bool {
        self.allows(path, 'U')
    }
}

/// Every spelling that a pattern with `{a,b}` stands for.
fn braces(pattern: &str) -> Vec<String> {
    let Some(open) = pattern.find('{') else {
        return vec![pattern.to_owned()];
    };
    let mut depth = 0;
    let mut parts = vec![String::new()];
    let mut rest = "";
    for (index, letter) in pattern[open..].char_indices() {
        match letter {
            '{' if depth == 0 => depth = 1,
            ',' if depth == 1 => parts.push(String::new()),
            '}' if depth == 1 => {
                rest = &pattern[open + index + 1..];
                break;
            }
            _ => {
                depth += i32::from(letter == '{') - i32::from(letter == '}');
                parts.last_mut().expect("a part").push(letter);
            }
        }
    }
    let spellings = parts.iter().map(|part| format!("{}{part}{rest}", &pattern[..open]));
    spellings.flat_map(|spelling| braces(&spelling)).collect()
}

/// Whether a path fits a pattern of `*`, `**` and `[0-9]`.
fn path_fits(pattern: &[u8], path: &[u8]) -> bool {
    match pattern {
        [] => path.is_empty(),
        [b'*', b'*', rest @ ..] => (0..=path.len()).any(|taken| path_fits(rest, &path[taken..])),
        [b'*', rest @ ..] => {
            let end = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
            (0..=end).any(|taken| path_fits(rest, &path[taken..]))
        }
        [b'[', b'0', b'-', b'9', b']', rest @ ..] => {
            path.first().is_some_and(u8::is_ascii_digit) && path_fits(rest, &path[1..])
        }
        [byte, rest @ ..] => path.first() == Some(byte) && path_fits(rest, &path[1..]),
    }
}

/// A machine whose programs for name servers are there, and what was seen of its hook.
struct Watched {
    machine: Namespace,
    seen: BTreeMap<String, BTreeSet<char>>,
}

const NAME_PROGRAMS: [(&str, &str); 3] = [
    ("unbound-control", "/usr/sbin"),
    ("resolvectl", "/usr/bin"),
    ("nm-libreswan-service-helper", "/usr/libexec"),
];

impl Watched {
    fn new(machine: Namespace) -> Self {
        for folder in ["root/etc", "root/proc/1", "root/run/systemd/resolve", "root/var/lib"] {
            fs::create_dir_all(machine.path(folder)).expect("a folder");
        }
        fs::write(machine.path("root/etc/resolv.conf"), "nameserver 192.0.2.1\n").expect("a file");
        for (name, _) in NAME_PROGRAMS {
            write_program(&machine.programs().join(name), b"#!/bin/sh\necho \"Link 3 (w0):\"\n");
        }
        Self {
            machine,
            seen: BTreeMap::new(),
        }
    }

    fn process_is(&self, name: &str) {
        for (file, text) in [
            ("comm", format!("{name}\n")),
            ("status", "Uid:\t0\t0\t0\t0\nNSpid:\t1\n".to_owned()),
            ("stat", format!("1 ({name}) S{} 0 7 0 0\n", " 0".repeat(17))),
        ] {
            fs::write(self.machine.path("root/proc/1").join(file), text).expect("a process");
        }
    }

    fn traced(&self) -> crate::support::binary::Hook {
        let log = self.machine.path("strace").display().to_string();
        let strace = tool("strace").display().to_string();
        let words = [
            &strace,
            "-f",
            "-qq",
            "-s",
            "4096",
            "-e",
            "trace=%file",
            "-o",
            &log,
            "--",
        ];
        self.machine
            .whole_hook(&words)
            .option("--root", self.machine.path("root"))
    }

    fn call(&mut self, call: &Call) {
        let ending = self.traced().call(call);
        assert_eq!(ending.signal, None, "{call}");
        self.take_in();
    }

    fn operate(&mut self, words: &[&str]) {
        self.traced().operate(words);
        self.take_in();
    }

    /// What was opened and run, but by programs that leave the profile.
    fn take_in(&mut self) {
        let profile = Profile::read_profile();
        let text = fs::read_to_string(self.machine.path("strace")).expect("what strace saw");
        let mut released = BTreeSet::new();
        for line in text.lines() {
            let Some((process, call)) = line.split_once(' ') else {
                continue;
            };
            let call = call.trim_start();
            if released.contains(process) || !call.contains(" = ") || call.contains(" = -1 ") {
                continue;
            }
            let Some(path) = call.split('"').nth(1) else { continue };
            let name = call.split('(').next().unwrap_or_default();
            if path == PROGRAM || !path.starts_with('/') {
                continue;
            }
            let path = self.installed(path);
            let rights: &[char] = match name {
                "execve" if profile.releases(&path) => {
                    released.insert(process.to_owned());
                    &['U']
                }
                "execve" => &['x'],
                "open" | "openat" if call.contains("O_DIRECTORY") => &['d'],
                "open" | "openat" if call.contains("O_RDWR") => &['r', 'w'],
                "open" | "openat" if call.contains("O_WRONLY") || call.contains("O_CREAT") => &['w'],
                "open" | "openat" => &['r'],
                "unlink" | "unlinkat" | "mkdir" | "rename" | "rmdir" | "truncate" => &['w'],
                _ => &[],
            };
            let is_folder = ["mkdir", "rmdir"].contains(&name) || call.contains("AT_REMOVEDIR") || rights == ['d'];
            let path = if is_folder && !path.ends_with('/') {
                path + "/"
            } else {
                path
            };
            let rights = rights.iter().map(|right| if *right == 'd' { 'r' } else { *right });
            self.seen.entry(path).or_default().extend(rights);
        }
    }

    /// Where it would be on a machine on which the program is installed.
    fn installed(&self, path: &str) -> String {
        let below = |folder: std::path::PathBuf| path.strip_prefix(folder.to_str()?).map(str::to_owned);
        for (name, folder) in NAME_PROGRAMS {
            if below(self.machine.programs()).is_some_and(|rest| rest == format!("/{name}")) {
                return format!("{folder}/{name}");
            }
        }
        if let Some(rest) = below(self.machine.path("root")) {
            return rest;
        }
        if let Some(rest) = below(self.machine.state()) {
            return format!("/run/pluto-updown{rest}");
        }
        if below(self.machine.config()).is_some() {
            return "/etc/pluto-updown.toml".to_owned();
        }
        let real = fs::canonicalize(path).ok().filter(|_| !path.starts_with("/proc/self"));
        real.and_then(|real| real.to_str().map(str::to_owned))
            .unwrap_or_else(|| path.to_owned())
    }
}

#[test]
#[ignore = "needs root, iptables and strace: run by contrib/test"]
fn the_profile_allows_what_a_hook_opens_and_runs() {
    let profile = Profile::read_profile();
    for backend in VARIANTS {
        let mut watched = Watched::new(Namespace::new(backend));
        watched.operate(&["start"]);
        for verb in ["prepare", "route", "up", "down", "unroute"] {
            watched.call(&libreswan_up().with_verb(&format!("{verb}-client")));
        }
        watched.call(&strongswan_up());
        watched.call(&strongswan_up().opposite());
        let client = find_call("libreswan-4.10", "rw", "up-client");
        let by_systemd = find_call("libreswan-5.4", "rw", "up-client").with("PLUTO_DNS_RESOLVER", "systemd");
        for (process, up) in [
            ("init", client.clone()),
            ("unbound", client.clone()),
            ("init", by_systemd),
            ("init", client.with("PLUTO_NM_CONFIGURED", "1")),
        ] {
            watched.process_is(process);
            watched.call(&up);
            watched.call(&up.opposite());
        }
        watched.operate(&["stop"]);
        for (name, folder) in NAME_PROGRAMS {
            assert!(
                watched.seen.contains_key(&format!("{folder}/{name}")),
                "{name} was not run"
            );
        }
        let refused: Vec<_> = watched
            .seen
            .iter()
            .flat_map(|(path, rights)| rights.iter().map(move |right| (path, *right)))
            .filter(|(path, right)| !profile.allows(path, *right))
            .map(|(path, right)| format!("{path} {right}"))
            .collect();
        assert!(refused.is_empty(), "{backend}: not allowed:\n{}", refused.join("\n"));
    }
}

#[test]
fn patterns_are_read_as_apparmor_reads_them() {
    for (pattern, path, expected) in [
        ("/usr/{,local/}{s,}bin/ip{,6}tables", "/usr/local/bin/ip6tables", true),
        ("/proc/[0-9]*/stat", "/proc/12/stat", true),
        ("/proc/[0-9]*/stat", "/proc/self/stat", false),
        ("/run/pluto-updown/** r", "/run/pluto-updown/1/lock r", true),
        ("/etc/* r", "/etc/a/b r", false),
    ] {
        let is_fit = braces(pattern)
            .iter()
            .any(|one| path_fits(one.as_bytes(), path.as_bytes()));
        assert_eq!(is_fit, expected, "{pattern} {path}");
    }
}
