//! Users that come and go, on a machine that is a folder.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tempfile::TempDir;

use super::env::{DnsConfig, DnsMeans, DnsRequest, NameService, ResolverAction, ResolverUser};
use super::record::ResolverRecord;
use super::*;
use crate::apply::Preview;
use crate::daemon::ConnectionName;
use crate::state::{DaemonProcess, Store};

/// A machine, and what is said to it.
struct Machine {
    folder: TempDir,
}

/// What an administrator's file says.
const HOME: &[u8] = b"# by hand\nsearch home.example\nnameserver 192.0.2.1\nnameserver 192.0.2.2\noptions edns0\n\xff";

impl Machine {
    fn new(resolv_conf: &[u8]) -> Self {
        let machine = Self {
            folder: TempDir::new().unwrap(),
        };
        fs::create_dir_all(machine.path("etc")).unwrap();
        fs::create_dir(machine.path("proc")).unwrap();
        machine.write_file(resolv_conf);
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self) -> PathBuf {
        self.path("etc/resolv.conf")
    }

    fn write_file(&self, content: &[u8]) {
        fs::write(self.file(), content).unwrap();
    }

    fn content(&self) -> Vec<u8> {
        fs::read(self.file()).unwrap()
    }

    fn store(&self) -> Store {
        Store::open_locked(&self.path("state"), 1, Instant::now() + Duration::from_secs(5)).unwrap()
    }

    fn system(&self) -> System {
        System {
            root: self.folder.path().to_owned(),
            programs: vec![self.path("programs")],
            deadline: Instant::now() + Duration::from_secs(5),
        }
    }

    /// A call that asks this; returns what went wrong.
    fn call(&self, user: usize, request: DnsRequest, daemon: Option<DaemonProcess>) -> Vec<String> {
        let names = NameService {
            user: identity(user),
            request,
        };
        let action = ResolverAction {
            names: Some(names),
            notice: None,
            faults: Vec::new(),
        };
        let store = self.store();
        let errors = add_request(&action, &store, daemon);
        store.remove_unused().unwrap();
        drop(store);
        let mut messages: Vec<_> = errors.iter().map(ToString::to_string).collect();
        messages.extend(self.housekeep());
        messages
    }

    fn up(&self, user: usize) -> Vec<String> {
        self.call(user, DnsRequest::Use(offer(user)), None)
    }

    fn down(&self, user: usize) -> Vec<String> {
        self.call(user, DnsRequest::GiveBack, None)
    }

    /// A call that asks nothing, as `route` does.
    fn housekeep(&self) -> Vec<String> {
        let errors = work_on_requests(&self.peek(), &self.system(), &BTreeSet::new());
        self.store().remove_unused().unwrap();
        errors.iter().map(ToString::to_string).collect()
    }

    fn peek(&self) -> Store {
        Store::open_unlocked(&self.path("state"), 1)
    }

    #[track_caller]
    fn assert_forgotten(&self) {
        assert!(!self.path("state").exists());
    }
}

fn identity(user: usize) -> ResolverUser {
    ResolverUser {
        connection: ConnectionName::new(format!("road/{user}x1").as_bytes()).unwrap(),
        local_client: "10.9.0.10/32".parse().unwrap(),
        remote_client: "0.0.0.0/0".parse().unwrap(),
    }
}

fn offer(user: usize) -> DnsConfig {
    DnsConfig {
        servers: vec![
            format!("10.{user}.0.53").parse().unwrap(),
            "10.99.0.53".parse().unwrap(),
        ],
        domains: vec![format!("corp{user}.example").parse().unwrap()],
        means: DnsMeans::File("eth0".parse().ok()),
    }
}

fn names(user: usize) -> DnsNames {
    let DnsConfig { servers, domains, .. } = offer(user);
    DnsNames { servers, domains }
}

fn names_of(users: &[usize]) -> Vec<DnsNames> {
    users.iter().map(|user| names(*user)).collect()
}

fn nobody() -> Vec<String> {
    Vec::new()
}

/// A daemon that has exited.
fn dead_daemon() -> DaemonProcess {
    DaemonProcess {
        pid: 0x7fff_fff0,
        started: 1,
        namespace: fs::metadata("/proc/self/ns/pid").unwrap().ino(),
    }
}

#[derive(Debug, Clone)]
enum Step {
    Up(usize),
    Down(usize),
    /// Another program writes the file.
    Rewrite(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    let line = prop_oneof![
        Just("nameserver 192.0.2.7".to_owned()),
        Just("search home.example corp1.example".to_owned()),
        Just("domain home.example".to_owned()),
        "[a-z#; ]{0,12}",
    ];
    let text = (prop::collection::vec(line, 0..4), any::<bool>());
    let written =
        text.prop_map(|(lines, end)| Step::Rewrite((lines.join("\n") + if end { "\n" } else { "" }).into_bytes()));
    prop_oneof![4 => (0..4usize).prop_map(Step::Up), 4 => (0..4usize).prop_map(Step::Down), 1 => written]
}

proptest! {
    #![proptest_config(crate::property::cases(128))]

    #[test]
    fn in_any_order_the_file_says_what_its_users_need_and_comes_back(steps in prop::collection::vec(step(), 0..16)) {
        let machine = Machine::new(HOME);
        let (mut original, mut users, mut is_ours) = (HOME.to_vec(), Vec::new(), false);
        let rest = (0..4).map(Step::Down);
        for step in steps.into_iter().chain(rest) {
            match step {
                Step::Up(user) => {
                    prop_assert_eq!(machine.up(user), nobody());
                    if !users.contains(&user) {
                        users.push(user);
                    }
                    is_ours = true;
                }
                Step::Down(user) => {
                    prop_assert_eq!(machine.down(user), nobody());
                    users.retain(|other| *other != user);
                    is_ours = is_ours && !users.is_empty();
                }
                Step::Rewrite(text) => {
                    machine.write_file(&text);
                    (original, is_ours) = (text, false);
                }
            }
            let expected = if is_ours { merge_users(&original, &names_of(&users)) } else { original.clone() };
            prop_assert_eq!(machine.content(), expected);
        }
        machine.assert_forgotten();
    }
}

#[test]
fn a_second_up_with_another_offer_replaces_the_first() {
    let machine = Machine::new(HOME);
    assert_eq!(machine.up(1), nobody());
    assert_eq!(machine.up(2), nobody());
    assert_eq!(machine.call(1, DnsRequest::Use(offer(3)), None), nobody());
    assert_eq!(machine.content(), merge_users(HOME, &[names(3), names(2)]));
    assert_eq!((machine.down(1), machine.down(2)), (nobody(), nobody()));
    assert_eq!(machine.content(), HOME);
}

#[test]
fn mode_and_link_of_the_file_stay() {
    let machine = Machine::new(b"");
    fs::remove_file(machine.file()).unwrap();
    fs::create_dir_all(machine.path("run/NetworkManager")).unwrap();
    symlink("/run/NetworkManager/resolv.conf", machine.file()).unwrap();
    let target = machine.path("run/NetworkManager/resolv.conf");
    fs::write(&target, HOME).unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(machine.up(1), nobody());
    assert_eq!(fs::read(&target).unwrap(), merge_users(HOME, &[names(1)]));
    assert!(machine.file().is_symlink());
    assert_eq!(machine.down(1), nobody());
    assert_eq!(fs::read(&target).unwrap(), HOME);
    assert_eq!(fs::metadata(&target).unwrap().mode() & 0o7777, 0o640);
    let beside: Vec<_> = fs::read_dir(machine.path("run/NetworkManager")).unwrap().collect();
    assert_eq!(beside.len(), 1, "{beside:?}");
}

#[test]
fn a_link_that_leads_elsewhere_meanwhile_leaves_no_file_changed() {
    let machine = Machine::new(HOME);
    let (old, new) = (machine.path("etc/old"), machine.path("etc/new"));
    fs::rename(machine.file(), &old).unwrap();
    fs::write(&new, "nameserver 192.0.2.9\n").unwrap();
    symlink("old", machine.file()).unwrap();
    assert_eq!((machine.up(1), machine.up(2)), (nobody(), nobody()));
    fs::remove_file(machine.file()).unwrap();
    symlink("../etc/new", machine.file()).unwrap();
    assert_eq!(machine.down(1), nobody());
    assert_eq!(fs::read(&old).unwrap(), HOME);
    assert_eq!(machine.content(), merge_users(b"nameserver 192.0.2.9\n", &[names(2)]));
    assert_eq!(machine.down(2), nobody());
    assert_eq!(fs::read(&new).unwrap(), b"nameserver 192.0.2.9\n");
    machine.assert_forgotten();
}

#[test]
fn where_there_is_no_file_none_is_made() {
    let machine = Machine::new(b"");
    fs::remove_file(machine.file()).unwrap();
    let messages = "no /etc/resolv.conf: the peer's name servers are not used";
    assert_eq!(machine.up(1), [messages]);
    symlink("/run/nowhere", machine.file()).unwrap();
    assert_eq!(machine.up(1), [messages]);
    fs::remove_file(machine.file()).unwrap();
    symlink("resolv.conf", machine.file()).unwrap();
    assert!(machine.up(1)[0].contains("loop of symbolic links"));
    fs::remove_file(machine.file()).unwrap();
    fs::create_dir(machine.file()).unwrap();
    assert!(machine.up(1)[0].contains("not a regular file"));
    assert_eq!(machine.down(1), nobody());
    machine.assert_forgotten();
}

#[test]
fn a_file_that_vanishes_meanwhile_does_not_come_back() {
    let machine = Machine::new(HOME);
    assert_eq!(machine.up(1), nobody());
    fs::remove_file(machine.file()).unwrap();
    assert_eq!(machine.down(1), nobody());
    assert!(!machine.file().exists());
    machine.assert_forgotten();
}

#[test]
fn a_read_only_file_is_left_alone_and_restored_once_it_may_be_written() {
    let machine = Machine::new(HOME);
    let mode = |mode| fs::set_permissions(machine.file(), fs::Permissions::from_mode(mode)).unwrap();
    mode(0o444);
    assert!(machine.up(1)[0].contains("read-only by its mode"));
    assert_eq!(machine.content(), HOME);
    assert_eq!(machine.down(1), nobody());
    machine.assert_forgotten();
    mode(0o644);
    assert_eq!(machine.up(1), nobody());
    mode(0o444);
    assert!(machine.down(1)[0].contains("read-only by its mode"));
    assert!(machine.housekeep()[0].contains("read-only by its mode"));
    mode(0o644);
    assert_eq!(machine.housekeep(), nobody());
    assert_eq!(machine.content(), HOME);
    machine.assert_forgotten();
}

#[test]
fn a_file_that_a_script_left_comes_back_as_it_was_and_is_reported() {
    for (text, whose) in [
        (
            "# Generated by Libreswan (IPsec)\nnameserver 10.2.0.53\n",
            "a stock script",
        ),
        (
            "# Generated by pluto-updown (IPsec)\nnameserver 10.2.0.53\n",
            "no record of it",
        ),
    ] {
        let machine = Machine::new(text.as_bytes());
        let messages = machine.up(1);
        assert!(messages.len() == 1 && messages[0].contains(whose), "{messages:?}");
        assert_eq!(machine.content(), merge_users(text.as_bytes(), &[names(1)]));
        assert_eq!(machine.down(1), nobody());
        assert_eq!(machine.content(), text.as_bytes());
    }
}

#[test]
fn what_a_dead_daemon_left_is_restored() {
    let machine = Machine::new(HOME);
    assert_eq!(
        machine.call(1, DnsRequest::Use(offer(1)), Some(dead_daemon())),
        nobody()
    );
    assert_eq!(machine.content(), merge_users(HOME, &[names(1)]));
    assert!(
        Store::open_unlocked(&machine.path("state"), 1)
            .resolver()
            .needs_attention()
            .unwrap()
    );
    assert_eq!(machine.up(2), nobody());
    assert_eq!(machine.content(), merge_users(HOME, &[names(2)]));
    assert_eq!(machine.down(2), nobody());
    assert_eq!(machine.content(), HOME);
}

#[test]
fn a_call_that_died_is_made_up_for() {
    let machine = Machine::new(HOME);
    assert_eq!((machine.up(1), machine.up(2)), (nobody(), nobody()));
    let record = machine.peek().resolver().read_state().unwrap();
    for (kept, expected) in [
        (&record.users[..1], merge_users(HOME, &[names(1)])),
        (&record.users[..], merge_users(HOME, &names_of(&[1, 2]))),
        (&[], HOME.to_vec()),
    ] {
        let shall = ResolverRecord {
            users: kept.to_vec(),
            ..record.clone()
        };
        machine.peek().resolver().begin_change(&shall).unwrap();
        assert!(
            Store::open_unlocked(&machine.path("state"), 1)
                .resolver()
                .needs_attention()
                .unwrap()
        );
        assert_eq!(machine.housekeep(), nobody());
        assert_eq!(machine.content(), expected);
    }
    machine.assert_forgotten();
}

#[test]
fn an_original_that_was_lost_is_reported_once() {
    let machine = Machine::new(HOME);
    assert_eq!(machine.up(1), nobody());
    let merged = machine.content();
    fs::remove_file(machine.path("state/1/resolver/original")).unwrap();
    let messages = machine.down(1);
    assert!(
        messages.len() == 1 && messages[0].contains("resolver/original: cannot read"),
        "{messages:?}"
    );
    assert_eq!(machine.content(), merged);
    machine.assert_forgotten();
}

#[test]
fn systemd_resolveds_file_is_left_alone_where_it_does_not_run() {
    let machine = Machine::new(b"");
    fs::remove_file(machine.file()).unwrap();
    fs::create_dir_all(machine.path("run/systemd/resolve")).unwrap();
    for name in ["stub-resolv.conf", "resolv.conf"] {
        fs::write(machine.path("run/systemd/resolve").join(name), HOME).unwrap();
        let _ = fs::remove_file(machine.file());
        symlink(format!("../run/systemd/resolve/{name}"), machine.file()).unwrap();
        let messages = machine.up(1);
        assert!(
            messages.len() == 1 && messages[0].contains("belongs to systemd-resolved, which does not run"),
            "{messages:?}"
        );
        assert_eq!(machine.content(), HOME);
        machine.assert_forgotten();
    }
}

#[test]
fn a_preview_changes_nothing_and_shows_the_file() {
    let machine = Machine::new(b"nameserver 192.0.2.1\n");
    let action = |request| ResolverAction {
        names: Some(NameService {
            user: identity(1),
            request,
        }),
        notice: None,
        faults: Vec::new(),
    };
    let shown = |request| {
        let store = Store::open_unlocked(&machine.path("state"), 1);
        let mut shown = Preview::new("a-verb");
        preview(&action(request), &store, &machine.system(), &mut shown);
        shown.full_text()
    };
    let file = machine.file().canonicalize().unwrap();
    assert_eq!(
        shown(DnsRequest::Use(offer(1))),
        format!(
            "# a-verb: would write {}:\n# Generated by pluto-updown (IPsec)\nsearch corp1.example\nnameserver 10.1.0.53\n\
             nameserver 10.99.0.53\nnameserver 192.0.2.1\n",
            file.display()
        )
    );
    assert_eq!(machine.content(), b"nameserver 192.0.2.1\n");
    assert_eq!(shown(DnsRequest::GiveBack), "# a-verb: nothing to do\n");
    machine.assert_forgotten();
    assert_eq!(machine.up(1), nobody());
    assert_eq!(
        shown(DnsRequest::GiveBack),
        format!("# a-verb: would write {}:\nnameserver 192.0.2.1\n", file.display())
    );
}

#[test]
fn an_edit_while_a_tunnel_is_up_is_kept_and_ours_goes() {
    // An editor keeps this program's first line; one that rewrites all lines need not.
    for (changed, into) in [
        (
            "nameserver 192.0.2.2\n",
            "nameserver 192.0.2.2\nnameserver 192.0.2.3\noptions timeout:1\n",
        ),
        ("# Generated by pluto-updown (IPsec)\n", "# edited\n"),
        (
            "search corp1.example home.example",
            "search corp1.example lab.example home.example",
        ),
    ] {
        let machine = Machine::new(&HOME[..HOME.len() - 2]);
        assert_eq!((machine.up(1), machine.up(2)), (nobody(), nobody()));
        let text = String::from_utf8(machine.content())
            .unwrap()
            .replace("corp2.example ", "");
        let edited = text.replace(changed, into);
        assert_ne!(edited, text, "{changed}");
        machine.write_file(edited.as_bytes());
        let messages = machine.down(2);
        assert!(
            messages.len() == 1 && messages[0].contains("the edit is kept"),
            "{messages:?}"
        );
        let still = String::from_utf8(machine.content()).unwrap();
        assert!(still.contains("10.1.0.53") && !still.contains("10.2.0.53"), "{still}");
        assert_eq!(machine.down(1), nobody());
        let last = String::from_utf8(machine.content()).unwrap();
        for added in ["10.1.0.53", "10.99.0.53", "corp1", "Generated by pluto"] {
            assert!(!last.contains(added), "{added}: {last}");
        }
        for line in [
            "# by hand",
            "nameserver 192.0.2.1",
            "nameserver 192.0.2.2",
            "options edns0",
        ] {
            assert!(last.contains(line), "{line}: {last}");
        }
        let word = into.split([' ', '\n']).find(|word| !changed.contains(*word)).unwrap();
        assert!(last.contains(word), "{word}: {last}");
        machine.assert_forgotten();
    }
}

#[test]
fn a_write_that_was_interrupted_anywhere_loses_nothing_of_the_original() {
    let long = [HOME, b"\noptions timeout:1\n", &b"sortlist 10.0.0.0/8\n".repeat(20)].concat();
    for home in [HOME, &long] {
        let (before, merged) = (home.to_vec(), merge_users(home, &[names(1)]));
        for (from, to, users) in [(&before, &merged, 1), (&merged, &before, 0)] {
            let next = resolv_conf_file::padded(to, from.len());
            for cut in (0..=next.len()).step_by(next.len() / 24) {
                let torn: Vec<_> = [&next[..cut], from.get(cut..).unwrap_or(&[])].concat();
                let machine = Machine::new(home);
                assert_eq!(machine.up(1), nobody());
                let resolver = machine.peek().resolver();
                let mut record = resolver.read_state().unwrap();
                record.users.truncate(users);
                resolver.begin_change(&record).unwrap();
                resolver.keep_written(from).unwrap();
                resolver.keep_next(to).unwrap();
                machine.write_file(&torn);
                assert_eq!(machine.housekeep(), nobody(), "cut at {cut}");
                assert_eq!(&machine.content(), to, "cut at {cut}");
                assert_eq!(machine.down(1), nobody());
                assert_eq!(machine.content(), home);
                machine.assert_forgotten();
            }
        }
    }
}

#[test]
fn links_to_the_file_and_its_inode_stay() {
    let machine = Machine::new(HOME);
    let link = machine.path("etc/other-name");
    fs::hard_link(machine.file(), &link).unwrap();
    let inode = fs::metadata(machine.file()).unwrap().ino();
    let leftover = machine.path("etc/.resolv.conf.pluto-updown");
    fs::write(&leftover, "of an older version").unwrap();
    assert_eq!(machine.up(1), nobody());
    assert_eq!(fs::read(&link).unwrap(), merge_users(HOME, &[names(1)]));
    assert!(!leftover.exists());
    assert_eq!(machine.down(1), nobody());
    assert_eq!(fs::metadata(machine.file()).unwrap().ino(), inode);
    assert_eq!(fs::read(&link).unwrap(), HOME);
}

#[test]
fn another_mount_namespace_leaves_a_file_that_was_not_changed_there() {
    let machine = Machine::new(HOME);
    assert_eq!(machine.up(1), nobody());
    let resolver = machine.peek().resolver();
    let mut record = resolver.read_state().unwrap();
    let there = |inode| {
        let mut identity = record.identity.unwrap();
        identity.mount_namespace += 1;
        identity.inode += inode;
        Some(identity)
    };
    let (same, other) = (there(0), there(1));
    record.identity = other;
    resolver.write_state(&record).unwrap();
    let merged = machine.content();
    for messages in [machine.down(1), machine.housekeep()] {
        assert!(
            messages.len() == 1 && messages[0].contains("changed in the mount namespace"),
            "{messages:?}"
        );
        assert_eq!(machine.content(), merged);
    }
    // The same file, found through another mount: `ip netns exec` makes a namespace for every
    // command.
    let mut record = resolver.read_state().unwrap();
    record.identity = same;
    resolver.write_state(&record).unwrap();
    assert_eq!(machine.housekeep(), nobody());
    assert_eq!(machine.content(), HOME);
    machine.assert_forgotten();
}

#[test]
fn what_is_asked_while_another_call_works_is_done_by_the_next_one() {
    let machine = Machine::new(HOME);
    assert_eq!(machine.up(1), nobody());
    let deadline = Instant::now() + Duration::from_secs(5);
    let held = machine.peek().resolver().locked(deadline).unwrap().unwrap();
    let system = System {
        deadline: Instant::now() + Duration::from_millis(50),
        ..machine.system()
    };
    for user in [2, 3] {
        let action = ResolverAction {
            names: Some(NameService {
                user: identity(user),
                request: DnsRequest::Use(offer(user)),
            }),
            notice: None,
            faults: Vec::new(),
        };
        assert!(add_request(&action, &machine.peek(), None).is_empty());
        let messages = work_on_requests(&machine.peek(), &system, &BTreeSet::new());
        assert!(
            messages.len() == 1 && messages[0].to_string().contains("that call or the next one completes"),
            "{messages:?}"
        );
    }
    assert_eq!(machine.content(), merge_users(HOME, &[names(1)]));
    drop(held);
    assert_eq!(machine.housekeep(), nobody());
    assert_eq!(machine.content(), merge_users(HOME, &names_of(&[1, 2, 3])));
}
