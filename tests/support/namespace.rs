//! A machine of its own for a test: a network namespace with real iptables, and a /run that nobody else sees.
//!
//! The latter for the xtables lock of iptables-legacy, which is one file for all network namespaces: without it a test that
//! holds the lock would stop every other one.

#![allow(dead_code, reason = "each test binary uses its part of this module")]
#![expect(clippy::disallowed_methods, reason = "tests start programs")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sched::{CloneFlags, setns};
use pluto_updown::net::Family;
use pluto_updown::netfilter::{Backend, Table};
use tempfile::TempDir;

use super::binary::{Call, Hook};

/// Both backends that a distribution has.
pub const VARIANTS: [Backend; 2] = [Backend::Nft, Backend::Legacy];

/// Rules that an administrator has installed before the first tunnel, in all three built-in chains; for both families.
const BASE: &str = "*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:ADMIN - [0:0]
:PLUTOCRATS - [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -p tcp -m tcp --dport 22 -j ADMIN
-A INPUT -j PLUTOCRATS
-A FORWARD -i eth1 -o eth0 -j ACCEPT
-A FORWARD -j ADMIN
-A OUTPUT -o eth9 -j DROP
-A OUTPUT -j PLUTOCRATS
-A ADMIN -i eth1 -j ACCEPT
COMMIT
";

const MOST_ARE_ABOUT_THE_FILTER_TABLE: &str = "[tunnel]\nnat = \"leave\"\non-error = \"refuse\"\n";

/// The names of a family's programs begin with this.
pub fn prefix(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "iptables",
        Family::Ipv6 => "ip6tables",
    }
}

/// A program of the system; without it there is no test.
pub fn tool(name: &str) -> PathBuf {
    let folders = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    let mut paths = folders.iter().map(|folder| Path::new(folder).join(name));
    paths
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{name} is missing; contrib/test installs what the tests need"))
}

/// A machine. It is gone when this is dropped, or when the test's process dies.
pub struct Namespace {
    holder: Child,
    folder: TempDir,
    pub backend: Backend,
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl Namespace {
    /// A machine whose `iptables` is this backend and which has an administrator's rules.
    pub fn new(backend: Backend) -> Self {
        let namespace = Self::bare(backend);
        for family in Family::ALL {
            namespace.reload(family);
        }
        namespace
    }

    /// A machine without any rules.
    pub fn bare(backend: Backend) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test needs root; contrib/test runs it"
        );
        let folder = TempDir::new().expect("a temporary folder");
        let namespace = Self {
            holder: hold_namespace(),
            folder,
            backend,
        };
        link_programs(&namespace.programs(), backend);
        namespace.settings(MOST_ARE_ABOUT_THE_FILTER_TABLE);
        namespace
    }

    /// The file of what the administrator has set.
    pub fn config(&self) -> PathBuf {
        self.path("settings.toml")
    }

    /// What the administrator has set: unless a test says otherwise, that failures are reported to the daemon, and that the nat table is left
    /// alone.
    pub fn settings(&self, text: &str) {
        fs::write(self.config(), text).expect("writing the settings");
        fs::set_permissions(self.config(), fs::Permissions::from_mode(0o644)).expect("permissions");
    }

    /// A path in the folder of this test, which is the same inside and outside.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    pub fn programs(&self) -> PathBuf {
        self.path("programs")
    }

    /// The words that go before a command to run it in here.
    pub fn entry(&self) -> Vec<String> {
        let pid = self.holder.id().to_string();
        let nsenter = tool("nsenter").display().to_string();
        [&nsenter, "--target", &pid, "--net", "--mount", "--"]
            .map(str::to_owned)
            .to_vec()
    }

    /// The program, to be called in here as the daemon would, with a record and an iptables of this test's own, and only for the
    /// firewall: in here there are no routes.
    pub fn hook(&self) -> Hook {
        self.started_by(&[])
    }

    /// The same, but started by another program in here.
    pub fn started_by(&self, words: &[&str]) -> Hook {
        self.whole_hook(words).word("--no-routes")
    }

    /// The whole program, started by another program in here.
    pub fn whole_hook(&self, words: &[&str]) -> Hook {
        let hook = Hook::new().through(self.entry()).through(words);
        hook.option("--state-dir", self.state())
            .option("--config", self.config())
            .option("--programs", self.programs())
    }

    /// A command in here.
    pub fn command<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Command {
        let entry = self.entry();
        let mut command = Command::new(&entry[0]);
        command.args(&entry[1..]).args(words);
        command
    }

    /// Runs a command in here that must succeed, and returns what it prints.
    pub fn run<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>, input: &str) -> String {
        let mut command = self.command(words);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let written = child.stdin.take().map(|mut pipe| pipe.write_all(input.as_bytes()));
        let output = child.wait_with_output().expect("the end of the command");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {stderr}");
        assert!(matches!(written, Some(Ok(()))), "{command:?} did not read its input");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs our own code in here. Netlink and `/proc/sys/net` act on the network namespace of the thread that uses them, so it gets
    /// a thread of its own.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let network = File::open(format!("/proc/{}/ns/net", self.holder.id())).expect("the namespace");
        let enter_and_work = || {
            setns(network, CloneFlags::CLONE_NEWNET).expect("entering the namespace");
            work()
        };
        std::thread::scope(|scope| match scope.spawn(enter_and_work).join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Runs lines of shell in here.
    pub fn shell(&self, script: &str) -> String {
        self.run(["/bin/sh", "-euc", script], "")
    }

    /// The iptables of this machine: `iptables -F` and the like.
    pub fn tables(&self, family: Family, arguments: &[&str]) -> String {
        let program = tool(&format!("{}-{}", prefix(family), self.backend));
        let words = arguments.iter().map(OsStr::new);
        self.run(std::iter::once(program.as_os_str()).chain(words), "")
    }

    /// A program of this backend: `iptables-nft-restore` and the like.
    pub fn program(&self, family: Family, action: &str) -> PathBuf {
        tool(&format!("{}-{}-{action}", prefix(family), self.backend))
    }

    /// `iptables-restore` with these words.
    pub fn load(&self, family: Family, words: &[&str], text: &str) {
        let program = self.program(family, "restore");
        self.run(
            [program.as_os_str()].into_iter().chain(words.iter().map(OsStr::new)),
            text,
        );
    }

    /// `iptables-save` with these words.
    pub fn save(&self, family: Family, words: &[&str]) -> String {
        let program = self.program(family, "save");
        self.run(
            [program.as_os_str()].into_iter().chain(words.iter().map(OsStr::new)),
            "",
        )
    }

    /// Has the hook start this program by a name: `iptables-restore` and the like.
    pub fn replace_program(&self, name: &str, by: &Path) {
        let link = self.programs().join(name);
        fs::remove_file(&link).expect("removing the link");
        symlink(by, link).expect("a link");
    }

    /// The process that holds it, by which links find their way into it.
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// Calls that must go well.
    pub fn call_all<'c>(&self, calls: impl IntoIterator<Item = &'c Call>) {
        calls.into_iter().for_each(|call| self.hook().expect_success(call));
    }

    /// The `down`s of these `up`s, which must go well.
    pub fn down_all<'c>(&self, ups: impl IntoIterator<Item = &'c Call>) {
        ups.into_iter()
            .for_each(|up| self.hook().expect_success(&up.clone().opposite()));
    }

    /// A command for people, which must go well and warn of nothing. Returns what it says.
    #[track_caller]
    pub fn done(&self, words: &[&str]) -> String {
        self.hook().operate(words).said()
    }

    /// What a firewall's reload does: all rules and chains of the table are replaced by the administrator's own.
    pub fn reload(&self, family: Family) {
        self.load(family, &[], BASE);
    }

    /// The filter table of this machine's backend, without what changes by itself.
    pub fn saved(&self, family: Family) -> String {
        self.saved_by(self.backend, family)
    }

    /// That of another backend.
    pub fn saved_by(&self, backend: Backend, family: Family) -> String {
        self.saved_table(backend, family, Table::Filter)
    }

    /// A table of a backend. To look at one of legacy's is to load it into the kernel.
    pub fn saved_table(&self, backend: Backend, family: Family, table: Table) -> String {
        let program = tool(&format!("{}-{backend}-save", prefix(family)));
        without_counters(&self.run([program.as_os_str(), OsStr::new("-t"), OsStr::new(table.name())], ""))
    }

    /// Every table of both families, as this backend lists it.
    pub fn everything(&self) -> Vec<String> {
        let both = Family::ALL
            .into_iter()
            .flat_map(|family| Table::ALL.map(|table| (family, table)));
        both.map(|(family, table)| self.saved_table(self.backend, family, table))
            .collect()
    }

    /// The filter tables of both families.
    pub fn listing(&self) -> [String; 2] {
        Family::ALL.map(|family| self.saved(family))
    }

    /// Our chains of both families, and how many rules each has; of a built-in chain how many lead to us.
    pub fn own_chains(&self) -> [BTreeMap<String, usize>; 2] {
        self.listing().map(|text| own_chain_sizes(&text))
    }

    /// The only namespace folder in the record.
    pub fn record(&self) -> PathBuf {
        let mut folders = fs::read_dir(self.state())
            .expect("a record")
            .map(|entry| entry.expect("an entry").path());
        folders.next().expect("a namespace in the record")
    }

    /// Whether the record has this file.
    pub fn record_exists(&self, name: &str) -> bool {
        self.state().exists() && self.record().join(name).exists()
    }

    /// The record of a tunnel of this connection, if it has one whose rules are installed.
    pub fn recorded(&self, connection: &str) -> Option<String> {
        let backend = self.backend;
        let folder = |family: Family| self.record().join(format!("{backend}-{family}/tunnels"));
        let is_meant = |name: &str| name.starts_with(&format!("{connection}-")) && !name.ends_with(".new");
        let families = Family::ALL.into_iter().filter(|_| self.state().exists());
        let entries = families
            .filter_map(|family| fs::read_dir(folder(family)).ok())
            .flatten();
        let mut paths = entries.map(|entry| entry.expect("an entry").path());
        let path = paths.find(|path| path.file_name().and_then(OsStr::to_str).is_some_and(is_meant))?;
        Some(fs::read_to_string(path).expect("a readable record"))
    }

    /// The kernel is as it was, and the record is gone.
    #[track_caller]
    pub fn assert_as_before(&self, before: &[String; 2]) {
        assert_eq!(&self.listing(), before);
        assert!(!self.state().exists(), "left behind in {}", self.state().display());
    }
}

/// Keeps a namespace, until its standard input is closed: also when this process is killed.
fn hold_namespace() -> Child {
    // It opens nothing once it is ready: `>/dev/null` in a /dev that a test has mounted meanwhile would make a file of that name.
    const SCRIPT: &str =
        "mount -t tmpfs -o mode=755 tmpfs /run && exec 3>&1 >/dev/null && echo ready >&3 && exec cat 3>&-";
    let mut holder = Command::new(tool("unshare"))
        .args(["--net", "--mount", "--propagation", "private", "/bin/sh", "-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starting unshare");
    let mut line = String::new();
    let output = holder.stdout.take().expect("its output");
    BufReader::new(output).read_line(&mut line).expect("reading its output");
    assert_eq!(line, "ready\n", "no private network and mount namespaces here");
    holder
}

/// Fills a folder with links by the plain names, so that the program finds this backend under them.
pub fn link_programs(folder: &Path, backend: Backend) {
    fs::create_dir(folder).expect("a folder for the programs");
    for prefix in Family::ALL.map(prefix) {
        for action in ["restore", "save"] {
            let program = tool(&format!("{prefix}-{backend}-{action}"));
            symlink(program, folder.join(format!("{prefix}-{action}"))).expect("a link to the program");
        }
    }
}

/// A listing without comments and counters.
fn without_counters(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.split(" [").next().unwrap_or(line).to_owned() + "\n")
        .collect()
}

/// Our chains in a listing, and how many rules each has; of a built-in chain how many lead to us.
pub fn own_chain_sizes(listing: &str) -> BTreeMap<String, usize> {
    let mut chains = BTreeMap::new();
    for line in listing.lines() {
        if let Some(chain) = line.strip_prefix(':').and_then(|rest| rest.split(' ').next()) {
            chains.insert(chain.to_owned(), 0);
        } else if let Some((chain, rule)) = line.strip_prefix("-A ").and_then(|rest| rest.split_once(' ')) {
            let counts = chain.starts_with("PLUTO-") || rule.contains("-j PLUTO-") || rule.contains("-g PLUTO-");
            *chains.entry(chain.to_owned()).or_default() += usize::from(counts);
        }
    }
    chains.retain(|chain, rules| chain.starts_with("PLUTO-") || *rules > 0);
    chains
}

/// What in a listing is the administrator's, in its order.
pub fn the_administrators(listing: &str) -> String {
    let is_ours = |line: &&str| line.contains(":PLUTO-") || line.contains("-A PLUTO-") || line.contains("-j PLUTO-");
    listing
        .lines()
        .filter(|line| !is_ours(line))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// A listing with the rules of each dispatcher and bucket of the filter table sorted, so that listings with the same rules in another
/// order are equal. It hides a wrong order: tests of the order compare the listings themselves. The jumps to the blocked pairs keep their
/// positions.
pub fn order_independent(listing: &str) -> String {
    let mut lines: Vec<_> = listing.lines().collect();
    let chain = |line: &str| {
        line.strip_prefix("-A ")
            .and_then(|rest| rest.split(' ').next())
            .unwrap_or_default()
            .to_owned()
    };
    let is_sorted = |chain: &str| {
        let stem = chain.strip_prefix("PLUTO-").and_then(|rest| rest.split('-').next());
        matches!(stem, Some("I" | "O" | "FI" | "FO"))
    };
    let leads_to_blocks = |line: &str| line.ends_with("-j PLUTO-BI") || line.ends_with("-j PLUTO-BO");
    for group in lines.chunk_by_mut(|a, b| chain(a) == chain(b) && leads_to_blocks(a) == leads_to_blocks(b)) {
        if is_sorted(&chain(group[0])) {
            group.sort_unstable();
        }
    }
    lines.into_iter().map(|line| format!("{line}\n")).collect()
}
