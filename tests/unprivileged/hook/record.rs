//! A record that is not what this program wrote.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::fakes::Fakes;
use crate::support::binary::Call;
use crate::support::captures::{libreswan_up, strongswan_up};

/// A gateway with one tunnel.
fn with_a_tunnel(up: &Call) -> Fakes {
    let mut fakes = Fakes::new();
    fakes.expect_success(up);
    fakes
}

/// Nothing is done for this call, for the sake of this file.
#[track_caller]
fn assert_stops(fakes: &mut Fakes, call: &Call, named: &[&str]) {
    let before = fakes.everything();
    fakes.call(call).assert_refused(1, named);
    fakes.assert_nothing_started();
    assert_eq!(fakes.everything(), before);
}

fn pipe(path: &Path) {
    mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).expect("a named pipe");
}

/// Puts something else in the place of a file of ours.
fn replace(path: &Path, how: &str) {
    let content = fs::read(path).expect("the file as it was");
    let write = |bytes: &[u8]| fs::write(path, bytes).expect("writing the file");
    let text = String::from_utf8_lossy(&content).into_owned();
    let format = format!("\"format\":{}", pluto_updown::state::FORMAT);
    match how {
        "truncated" => write(&content[..content.len() / 2]),
        "empty" => write(b""),
        "binary" => write(&[0, 0xff, 0x1b, b'\n']),
        "newer" => write(text.replacen(&format, "\"format\":999", 1).as_bytes()),
        "without its format" => write(text.replacen(&format!("{format},"), "", 1).as_bytes()),
        "hostile" => write(
            text.replacen("PLUTO-", "PLUTO \\n-A INPUT -j ACCEPT\\u001b", 1)
                .as_bytes(),
        ),
        "huge" => write(&[&[b' '; 1 << 24], text.as_bytes()].concat()),
        "writable by others" => fs::set_permissions(path, Permissions::from_mode(0o666)).expect("permissions"),
        "a link" => {
            fs::rename(path, path.with_extension("moved")).expect("moving the file");
            symlink(path.with_extension("moved"), path).expect("a link to it");
        }
        _ => {
            fs::remove_file(path).expect("removing the file");
            match how {
                "a pipe" => pipe(path),
                "a folder" => fs::create_dir(path).expect("a folder"),
                _ => panic!("{how}"),
            }
        }
    }
}

const WAYS: [(&str, &str); 11] = [
    ("truncated", "not a record"),
    ("empty", "not a record"),
    ("binary", "not a record"),
    ("newer", "newer version (format 999"),
    ("without its format", "not a record"),
    ("hostile", "not a record"),
    ("huge", "bytes, expected"),
    ("writable by others", "writable by others"),
    ("a link", "symbolic link"),
    ("a pipe", "not a file"),
    ("a folder", "not a file"),
];

#[test]
fn a_tunnels_record_that_cannot_be_believed_stops_its_calls() {
    for up in [libreswan_up(), strongswan_up()] {
        for (how, named) in WAYS {
            let mut fakes = with_a_tunnel(&up);
            let record = fakes.record();
            replace(&record, how);
            let name = record.file_name().and_then(|name| name.to_str()).expect("a name");
            assert_stops(&mut fakes, &up, &[name, named]);
            fakes.assert_owes(&up.clone().opposite(), &[name, named]);
        }
    }
}

#[test]
fn a_pending_change_that_cannot_be_believed_stops_all_but_routes() {
    for (how, named) in WAYS.into_iter().filter(|(how, _)| *how != "hostile") {
        let mut fakes = with_a_tunnel(&libreswan_up());
        fakes.restore_does("kill -9 $$");
        fakes
            .call_in_vain(&libreswan_up().of_tunnel(9))
            .assert_refused(1, &["signal 9"]);
        fakes.restore_does("exit 0");
        replace(&fakes.namespace().join("pending"), how);
        assert_stops(&mut fakes, &libreswan_up().of_tunnel(7), &["pending", named]);
        fakes.assert_owes(&libreswan_up().opposite(), &["pending", named]);
        fakes
            .call(&libreswan_up().with_verb("route-client"))
            .assert_refused(0, &["pending", named]);
        fakes.assert_nothing_started();
    }
}

#[test]
fn folders_that_others_can_change_stop_the_call() {
    let mut fakes = with_a_tunnel(&libreswan_up());
    let (state, namespace) = (fakes.state(), fakes.namespace());
    for folder in [state, namespace] {
        let path = folder.to_str().expect("a plain path");
        let mode = |mode| fs::set_permissions(&folder, Permissions::from_mode(mode)).expect("permissions");
        for open in [0o777, 0o722, 0o720] {
            mode(open);
            assert_stops(&mut fakes, &libreswan_up().of_tunnel(9), &["writable by others"]);
            assert_stops(&mut fakes, &libreswan_up().opposite(), &["writable by others"]);
        }
        mode(0o700);
        let aside = folder.with_extension("aside");
        fs::rename(&folder, &aside).expect("moving the folder");
        symlink(&aside, &folder).expect("a link to it");
        let last = &path[path.len().min(80)..];
        assert_stops(&mut fakes, &libreswan_up().of_tunnel(9), &["symbolic link", last]);
        assert_stops(&mut fakes, &libreswan_up().opposite(), &["symbolic link"]);
        fs::remove_file(&folder).expect("removing the link");
        fs::rename(&aside, &folder).expect("moving the folder back");
    }
    fakes.expect_success(&libreswan_up().opposite());
    fakes.assert_forgotten();
}

#[test]
fn a_state_dir_that_is_no_folder_stops_the_call() {
    for how in ["a file", "a pipe", "a link to nothing"] {
        let mut fakes = Fakes::new();
        match how {
            "a file" => fs::write(fakes.state(), "mine").expect("a file"),
            "a pipe" => pipe(&fakes.state()),
            _ => symlink("/nonexistent", fakes.state()).expect("a link"),
        }
        assert_stops(&mut fakes, &libreswan_up(), &["state"]);
        assert_stops(&mut fakes, &libreswan_up().opposite(), &["state"]);
    }
    let mut fakes = Fakes::new();
    let missing = fakes.path("missing/state");
    let nowhere = Call {
        arguments: vec!["--state-dir".into(), missing.into()],
        ..libreswan_up()
    };
    fakes.call(&nowhere).assert_refused(1, &["missing/state"]);
    assert!(!fakes.path("missing").exists());
}

#[test]
fn a_lock_that_is_something_else_stops_the_call() {
    for how in ["a link", "a folder"] {
        let mut fakes = with_a_tunnel(&libreswan_up());
        replace(&fakes.namespace().join("lock"), how);
        assert_stops(&mut fakes, &libreswan_up().of_tunnel(9), &["lock"]);
        fakes.assert_owes(&libreswan_up().opposite(), &["lock"]);
    }
}

#[test]
fn a_lock_that_is_never_released_stops_the_call_in_the_end() {
    let fakes = with_a_tunnel(&libreswan_up());
    let before = fakes.everything();
    let file = File::open(fakes.namespace().join("lock")).expect("the lock");
    let held = Flock::lock(file, FlockArg::LockExclusive).expect("holding it");
    let call = libreswan_up().of_tunnel(9);
    fakes
        .hook()
        .option("--wait", "1")
        .call(&call)
        .assert_refused(1, &["lock", "another call"]);
    assert_eq!((fakes.everything(), fakes.started().len()), (before, 1));
    drop(held);
    fakes.hook().expect_success(&call);
}

#[test]
fn files_that_are_none_of_ours_are_left_alone_while_a_tunnel_is_up() {
    let mut fakes = with_a_tunnel(&libreswan_up());
    let strange = fakes.namespace().join("daemons");
    fs::create_dir(&strange).expect("a folder");
    for name in ["x", "1-2", "99999999999-1-1", "..x", "1-2-3-4"] {
        fs::write(strange.join(name), "").expect("a file");
    }
    fakes.expect_success(&libreswan_up().of_tunnel(9));
    fakes.expect_success(&libreswan_up().of_tunnel(9).opposite());
    fakes.expect_success(&libreswan_up().opposite());
    assert_eq!(fakes.chains(0), Vec::<&str>::new());
}

#[test]
fn another_namespaces_record_is_not_touched() {
    let mut fakes = Fakes::new();
    fs::create_dir(fakes.state()).expect("a folder");
    fs::set_permissions(fakes.state(), Permissions::from_mode(0o700)).expect("permissions");
    fs::create_dir(fakes.state().join("1")).expect("a folder");
    fs::write(fakes.state().join("1/pending"), "nonsense").expect("a file");
    let before = fakes.everything();
    fakes.expect_success(&libreswan_up());
    fakes.expect_success(&libreswan_up().opposite());
    assert_eq!(fakes.everything(), before);
}
