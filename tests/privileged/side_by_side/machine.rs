//! A machine for a hook to work on: network, mount and /run of its own, and a shell in it that does the lines that it gets.
//!
//! The same lines build the same machine: addresses of the links are given, numbers of the links follow from their order, and no
//! neighbour ever answers. So two machines differ only by what the hooks have done to them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::state::State;
use crate::support::namespace::tool;

/// Everything that a hook could read or write and that is not the network's: a fresh /run, a /sys of this network namespace (the
/// scripts look up the Ethernet addresses there), and an /etc with no more than the system's programs need.
const ROOMS: &str = "
set -e
mount -t tmpfs -o mode=755 tmpfs /run
mount -t sysfs sysfs /sys
mkdir /run/pluto /run/etc /run/etc/default
for name in alternatives ld.so.cache ld.so.conf ld.so.conf.d iproute2 protocols services nsswitch.conf; do
    [ ! -e /etc/$name ] || cp -a /etc/$name /run/etc/
done
echo nameserver 192.0.2.53 >/run/etc/resolv.conf
mount --bind /run/etc /etc
cd /run/pluto
printf 'link show\\naddress show\\nroute show table all\\nrule show\\nneighbour show proxy\\n' >/run/listings
set +e
";

/// `ip`, but it waits until the kernel is through with a new IPv6 address, which it is a moment after `ip address add`. Until then no
/// route can have that address as its source, and whether the next command of a script is too early is chance.
const PATIENT_IP: &str = r#"
mkdir /run/patient
cat >/run/patient/ip <<'EOF'
#!/bin/sh
PATH=${PATH#*:}
ip "$@"
status=$?
tries=0
[ "$1 $2" != "addr add" ] || while [ -n "$(ip -6 address show tentative)" ] && [ $tries -lt 100 ]; do
    tries=$((tries + 1)); sleep 0.01
done
exit $status
EOF
chmod 755 /run/patient/ip
"#;

/// The folder with it, for PATH.
pub const PATIENCE: &str = "/run/patient";

/// Ends an answer of the shell.
const END: &str = "=end=";

/// The listings of both families, and those of the interfaces' settings that decide what happens to packets; not those of the remote ends
/// of the links, which are called NAME-p.
const LISTINGS: &str = "ip -4 -d -o -batch /run/listings; echo =v6=; ip -6 -d -o -batch /run/listings; echo =sysctl=
cd /proc/sys/net
grep . ipv[46]/conf/*[!p]/accept_* ipv[46]/conf/*[!p]/disable_* ipv[46]/conf/*[!p]/forwarding ipv[46]/conf/*[!p]/proxy_* \\
    ipv4/conf/*[!p]/rp_filter ipv4/conf/*[!p]/arp_* ipv4/conf/*[!p]/*_redirects ipv4/conf/*[!p]/src_valid_mark
cd /run/pluto
";

/// What a machine did after it got lines.
#[derive(Debug)]
pub struct Answer {
    /// What the lines printed.
    pub said: Vec<String>,
    /// What the machine is like now.
    pub state: State,
}

/// A machine. It is gone when this is dropped, or when the test's process dies.
#[derive(Debug)]
pub struct Machine {
    shell: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

impl Machine {
    /// A machine that these lines of shell have set up.
    pub fn new(lines: &str) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test needs root; contrib/test runs it"
        );
        let mut shell = Command::new(tool("unshare"))
            .args(["--net", "--mount", "--propagation", "private", "/bin/sh"])
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starting unshare");
        let orders = shell.stdin.take().expect("its input");
        let answers = BufReader::new(shell.stdout.take().expect("its output"));
        let mut machine = Self { shell, orders, answers };
        machine.send_lines(&format!("exec 2>&1\n{ROOMS}{PATIENT_IP}"));
        let said = machine.read_answer().said;
        assert_eq!(said, [""; 0], "no private network, mounts and /run here");
        machine.send_lines(&format!("set -e\n{lines}\nset +e"));
        assert_eq!(machine.read_answer().said, [""; 0], "{lines}");
        machine
    }

    /// Has these lines of shell carried out, and the state listed; the answer is to be heard.
    pub fn send_lines(&mut self, lines: &str) {
        let order = format!("{lines}\necho =listings=\n{LISTINGS}echo {END}\n");
        self.orders.write_all(order.as_bytes()).expect("a shell that listens");
    }

    /// Waits for the end of the lines that it got.
    pub fn read_answer(&mut self) -> Answer {
        let (mut said, mut listing) = (Vec::new(), String::new());
        let mut listed = false;
        loop {
            let mut bytes = Vec::new();
            let read = self
                .answers
                .read_until(b'\n', &mut bytes)
                .expect("a shell that answers");
            let line = String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned();
            assert!(read > 0, "the machine's shell has ended, after: {said:?} {listing}");
            match line.as_str() {
                END => break,
                "=listings=" => listed = true,
                _ if listed => listing += &(line + "\n"),
                _ => said.push(line),
            }
        }
        let state = State::parse(&listing);
        Answer { said, state }
    }
}

/// A word for the shell, whatever is in it.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}
