//! Programs that stand in for iptables, and a gateway made of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::binary::{Call, Ending, Hook, write_program};
use crate::support::emulator::{Emulator, Kind};
use crate::support::scratch::scratch;

/// Notes how it was called and what it was given, then does what the test wants done: `restore` and `save` beside it are shell
/// commands. The listing that it prints is the test's too.
const FAKE: &str = r#"#!/bin/sh
name=${0##*/}
dir=${0%/*}/..
echo "$name $*" >>"$dir/log"
number=$(wc -l <"$dir/log")
case $name in
*-restore) cat >"$dir/input.$number" && . "$dir/restore" ;;
*-save) cat "$dir/listing.$name.$2" && . "$dir/save" ;;
esac
"#;

const FAMILIES: [&str; 2] = ["iptables", "ip6tables"];

/// A gateway whose iptables are scripts.
pub(crate) struct Fakes {
    folder: TempDir,
    /// The tables as they are after everything that a script has accepted.
    pub(crate) tables: [Emulator; 2],
    seen: usize,
}

impl Fakes {
    pub(crate) fn new() -> Self {
        let folder = scratch();
        let fakes = Self {
            folder,
            tables: Default::default(),
            seen: 0,
        };
        fs::create_dir(fakes.programs()).expect("a folder for the programs");
        write_program(&fakes.path("fake"), FAKE.as_bytes());
        for name in FAMILIES
            .iter()
            .flat_map(|family| [format!("{family}-restore"), format!("{family}-save")])
        {
            symlink("../fake", fakes.programs().join(name)).expect("a link to the program");
        }
        fakes.settings("[tunnel]\nnat = \"leave\"\non-error = \"refuse\"\n");
        fakes.restore_does("exit 0");
        fakes.save_does("exit 0");
        fakes.lay_out_listings();
        fakes
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn programs(&self) -> PathBuf {
        self.path("programs")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// The only namespace folder in the record.
    pub(crate) fn namespace(&self) -> PathBuf {
        let mut folders = fs::read_dir(self.state())
            .expect("a record")
            .map(|entry| entry.expect("an entry").path());
        folders.next().expect("a namespace in the record")
    }

    /// What the administrator has set: unless a test says otherwise, that failures are reported to the daemon, and that the nat table is left
    /// alone.
    pub(crate) fn settings(&self, text: &str) {
        fs::write(self.path("settings.toml"), text).expect("writing the settings");
    }

    /// What a restore does when it has read its input: a line of shell.
    pub(crate) fn restore_does(&self, script: &str) {
        fs::write(self.path("restore"), script).expect("writing the restore's script");
    }

    pub(crate) fn save_does(&self, script: &str) {
        fs::write(self.path("save"), script).expect("writing the save's script");
    }

    /// The hook, which leaves this machine's own routes alone.
    pub(crate) fn hook(&self) -> Hook {
        Hook::new()
            .word("--no-routes")
            .option("--state-dir", self.state())
            .option("--config", self.path("settings.toml"))
            .option("--programs", self.programs())
    }

    /// Makes a call whose restores, if any, the kernel takes.
    pub(crate) fn call(&mut self, call: &Call) -> Ending {
        let ending = self.call_in_vain(call);
        self.take();
        ending
    }

    /// Makes a call whose restores never reach the kernel.
    pub(crate) fn call_in_vain(&mut self, call: &Call) -> Ending {
        self.seen = self.started().len();
        self.lay_out_listings();
        self.hook().call(call)
    }

    /// Gives a command whose restores, if any, the kernel takes.
    pub(crate) fn operate(&mut self, words: &[&str]) -> Ending {
        self.seen = self.started().len();
        self.lay_out_listings();
        let ending = self.hook().option("--root", self.path("root")).operate(words);
        self.take();
        ending
    }

    /// Writes down what a save shall print.
    fn lay_out_listings(&self) {
        for (family, table) in FAMILIES.iter().zip(&self.tables) {
            for kind in Kind::ALL {
                let path = self.path(&format!("listing.{family}-save.{}", kind.name()));
                fs::write(path, table.table(kind).save()).expect("writing the listing");
            }
            // Without a table, as `-c` alone asks for them: all.
            let all: String = Kind::ALL.iter().map(|kind| table.table(*kind).save()).collect();
            fs::write(self.path(&format!("listing.{family}-save.")), all).expect("writing the listing");
        }
    }

    /// Makes a call that must go well.
    pub(crate) fn expect_success(&mut self, call: &Call) {
        self.call(call).assert_done();
    }

    /// Lets the kernel take what the last call's restores were given.
    pub(crate) fn take(&mut self) {
        for (program, text) in self.inputs() {
            let family = usize::from(program.starts_with("ip6"));
            let taken = self.tables[family].restore(&text);
            assert_eq!(taken, Ok(()), "the emulator refuses:\n{text}");
        }
    }

    /// Every program that was started so far, with its arguments.
    pub(crate) fn started(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// The programs that the last call started.
    pub(crate) fn started_by_last(&self) -> Vec<String> {
        self.started().split_off(self.seen)
    }

    /// What the last call gave to its restores.
    pub(crate) fn inputs(&self) -> Vec<(String, String)> {
        let started = self.started().into_iter().enumerate().skip(self.seen);
        let restores = started.filter(|(_, line)| line.contains("-restore "));
        restores
            .map(|(index, line)| {
                let text = fs::read_to_string(self.path(&format!("input.{}", index + 1)));
                (line, text.expect("the input of a restore"))
            })
            .collect()
    }

    /// Our chains in a family's table.
    pub(crate) fn chains(&self, family: usize) -> Vec<&str> {
        let chains = self.tables[family].chains().into_iter();
        chains.filter(|chain| chain.starts_with("PLUTO")).collect()
    }

    /// The recorded tunnels.
    pub(crate) fn recorded(&self) -> BTreeSet<String> {
        let folder = self.namespace().join("plain-ipv4/tunnels");
        let entries = fs::read_dir(folder).into_iter().flatten();
        entries
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .into_string()
                    .expect("a plain name")
            })
            .collect()
    }

    /// The file of the only recorded tunnel.
    pub(crate) fn record(&self) -> PathBuf {
        let name = self.recorded().pop_first().expect("a tunnel on record");
        self.namespace().join("plain-ipv4/tunnels").join(name)
    }

    /// Every file and folder of the record, with what is in it, but for what is noted of an `up` that failed under charon.
    pub(crate) fn everything(&self) -> BTreeMap<PathBuf, String> {
        let mut everything = contents(&self.state());
        everything.retain(|path, _| !path.to_string_lossy().contains("/failed-ups"));
        everything
    }

    #[track_caller]
    pub(crate) fn assert_nothing_started(&self) {
        assert_eq!(self.started_by_last(), Vec::<String>::new());
    }

    /// Makes a `down` that fails. It is noted, and else nothing has changed; the note is deleted.
    #[track_caller]
    pub(crate) fn assert_owes(&mut self, down: &Call, named: &[&str]) {
        let before = self.everything();
        self.call_in_vain(down).assert_refused(1, named);
        let is_note = |path: &Path| path.to_string_lossy().contains("downs/0");
        let (notes, others): (Vec<_>, Vec<_>) = self.everything().into_iter().partition(|(path, _)| is_note(path));
        assert_eq!(others, Vec::from_iter(before));
        assert_ne!(notes, []);
        for (path, _) in notes {
            fs::remove_file(path).expect("a note");
        }
    }

    #[track_caller]
    pub(crate) fn assert_forgotten(&self) {
        assert!(!self.state().exists(), "left behind: {:?}", self.everything());
    }
}

/// Every file and folder below a folder, and what is in it: of a long or binary file a summary.
pub(crate) fn contents(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let Ok(kind) = fs::symlink_metadata(folder).map(|metadata| metadata.file_type()) else {
        return found;
    };
    let mut content = format!("{kind:?}");
    if kind.is_dir() {
        for entry in fs::read_dir(folder).expect("a readable folder") {
            found.extend(contents(&entry.expect("an entry").path()));
        }
    } else if kind.is_file() {
        let bytes = fs::read(folder).expect("a readable file");
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        content = format!("{} bytes, {:x}", bytes.len(), hasher.finish());
    } else if kind.is_symlink() {
        content = format!("{:?}", fs::read_link(folder).expect("a link"));
    }
    found.insert(folder.to_owned(), content);
    found
}
