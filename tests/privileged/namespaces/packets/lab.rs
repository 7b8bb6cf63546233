//! A gateway between two machines, who send it packets, and what happened to them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::IpAddr;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pluto_updown::net::Family;
use pluto_updown::netfilter::Backend;

use super::wire::{Content, Names};
use crate::support::binary::Call;
use crate::support::captures::{libreswan_up, strongswan_up};
use crate::support::namespace::{Namespace, tool};

/// The way of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PacketPath {
    In,
    LanIn,
    Out,
    Back,
    Through,
}

impl PacketPath {
    pub(super) fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "in" => Self::In,
            "lanin" => Self::LanIn,
            "out" => Self::Out,
            "back" => Self::Back,
            "through" => Self::Through,
            _ => return None,
        })
    }

    /// The hook of the filter table that it comes through.
    fn hook(self) -> &'static str {
        match self {
            Self::In | Self::LanIn => "input",
            Self::Out => "output",
            Self::Back | Self::Through => "forward",
        }
    }
}

/// What happened to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It came through the filter table, and not to the administrator's rules.
    Passes,
    /// It did not come through.
    Dropped,
    /// It came through, by the administrator's rules.
    Left,
}

impl Outcome {
    pub(super) fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "passes" => Self::Passes,
            "dropped" => Self::Dropped,
            "left" => Self::Left,
            _ => return None,
        })
    }
}

/// Sends the lines that it gets: an address, and a packet in hexadecimal. What a firewall refuses is no error.
const SENDER: &str = "use Socket qw(:DEFAULT inet_pton pack_sockaddr_in6 AF_INET6); $| = 1;
socket(my $four, AF_INET, SOCK_RAW, 255) or die $!; socket(my $six, AF_INET6, SOCK_RAW, 255) or die $!;
while (<STDIN>) { my ($to, $hex) = split;
    my $at = $to =~ /:/ ? pack_sockaddr_in6(0, inet_pton(AF_INET6, $to)) : pack_sockaddr_in(0, inet_aton($to));
    send($to =~ /:/ ? $six : $four, pack('H*', $hex), 0, $at); print \"sent\\n\" }";

/// Somebody in a machine who sends packets.
struct Sender {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Sender {
    fn for_machine(machine: &Namespace) -> Self {
        let perl = tool("perl").display().to_string();
        let mut command = machine.command([&perl, "-e", SENDER]);
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starting perl");
        let input = process.stdin.take().expect("its input");
        let output = BufReader::new(process.stdout.take().expect("its output"));
        Self { process, input, output }
    }

    fn send(&mut self, to: &str, packet: &[u8]) {
        let hex: String = packet.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(self.input, "{to} {hex}").expect("telling the sender");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("its answer");
        assert_eq!(line, "sent\n");
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The gateway and its neighbours.
pub(super) struct Lab {
    gateway: Namespace,
    family: Family,
    mark: ForeignMark,
    senders: [Sender; 3],
    /// Only to keep them.
    _neighbours: [Namespace; 2],
    last: Option<usize>,
    sent: BTreeMap<u16, PacketPath>,
    next: u16,
    /// The zone of connection tracking: each knows only its own connections.
    zone: u16,
}

/// What the administrator has, but for what a case adds: everything that comes to his rules is marked, and connections go on.
const ADMINISTRATOR: &str = "*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -j MARK --set-mark 1
-A INPUT -s FRIEND -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -j MARK --set-mark 1
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A OUTPUT -j MARK --set-mark 1
-A OUTPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
";

const OWN_JUMPS: &str = "*filter
:PLUTO-INPUT - [0:0]
:PLUTO-FORWARD - [0:0]
:PLUTO-OUTPUT - [0:0]
-I INPUT -i eth1 -j PLUTO-INPUT
-I FORWARD -i eth1 -j PLUTO-FORWARD
COMMIT
";

/// The lengths of packets of the gateway itself are from here on: no error that it sends is so long.
const FIRST_OUT: u16 = 1300;

/// What somebody before us does to the mark of every packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ForeignMark {
    Nothing,
    /// Sets every bit of it, before the filter table.
    AllBits,
}

const ALL_BITS: &str = "*mangle
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -j MARK --set-xmark 0xffffffff/0xffffffff
-A OUTPUT -j MARK --set-xmark 0xffffffff/0xffffffff
COMMIT
";

impl Lab {
    pub(super) fn new(backend: Backend, family: Family, mark: ForeignMark) -> Self {
        let [gateway, outside, inside] = [(); 3].map(|()| Namespace::bare(backend));
        let names = Names::for_family(family);
        let (flag, nodad, length) = match family {
            Family::Ipv4 => ("-4", "", 32),
            Family::Ipv6 => ("-6", "nodad", 128),
        };
        gateway.shell(&format!(
            "ip link set lo up
             ip link add eth1 address 02:00:00:00:00:01 type veth peer name eth0 address 02:00:00:00:00:01 netns {}
             ip link add lan0 address 02:00:00:00:00:02 type veth peer name eth0 address 02:00:00:00:00:02 netns {}
             sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.netfilter.nf_conntrack_checksum=0
             for device in all eth1 lan0; do sysctl -qw net.ipv4.conf.$device.rp_filter=0; done
             for device in eth1 lan0; do ip link set $device arp off addrgenmode none; ip link set $device up; done
             ip addr add {}/{length} dev eth1 {nodad}; ip addr add {}/{length} dev lan0 {nodad}
             ip {flag} route add default dev eth1; ip {flag} route add {} dev lan0",
            outside.pid(),
            inside.pid(),
            names.address("gate"),
            names.address("gatelan"),
            names.address("lannet"),
        ));
        for (machine, own) in [(&outside, "known"), (&inside, "lan")] {
            machine.shell(&format!(
                "ip link set lo up; ip link set eth0 arp off addrgenmode none; ip link set eth0 up
                 ip addr add {}/{length} dev eth0 {nodad}; ip {flag} route add default dev eth0
                 nft add table inet quiet
                 nft add chain inet quiet in '{{ type filter hook input priority 0; policy drop; }}'",
                names.address(own)
            ));
        }
        let senders = [&gateway, &outside, &inside].map(Sender::for_machine);
        Self {
            gateway,
            family,
            mark,
            senders,
            _neighbours: [outside, inside],
            last: None,
            sent: BTreeMap::new(),
            next: 0,
            zone: 0,
        }
    }

    /// Leaves nothing of the case before, and begins another, with these settings. Connections of the former are not known to it.
    pub(super) fn begin(&mut self, settings: &str) {
        let downs = [
            self.up().opposite(),
            self.up().opposite(),
            self.up_by_interface().opposite(),
            self.up_second().opposite(),
        ];
        downs.iter().for_each(|down| self.gateway.hook().expect_success(down));
        self.make_action("stop");
        self.make_action("unblock");
        self.gateway.tables(self.family, &["-t", "nat", "-F", "PREROUTING"]);
        let none = ["ip", "ip6"].map(|family| format!("table {family} rewriting\ndelete table {family} rewriting\n"));
        self.gateway.run(["nft", "-f", "-"], &none.concat());
        assert!(!self.gateway.state().exists(), "left behind before {settings}");
        self.gateway.settings(settings);
        self.make_action("loose 1");
        self.next = 0;
        self.sent.clear();
        let friend = Names::for_family(self.family).address("friend");
        let marks = match self.mark {
            ForeignMark::Nothing => "",
            ForeignMark::AllBits => ALL_BITS,
        };
        let rules = ADMINISTRATOR.replace("FRIEND", friend) + marks;
        self.gateway.load(self.family, &[], &rules);
        self.gateway.run(["nft", "-f", "-"], &watch());
        self.forget();
    }

    /// From now on no connection is known.
    fn forget(&mut self) {
        self.zone += 1;
        self.gateway.run(["nft", "-f", "-"], &zone(self.zone));
    }

    /// A tunnel with the known peer.
    fn up(&self) -> Call {
        let names = Names::for_family(self.family);
        let up = strongswan_up()
            .with("PLUTO_ME", names.address("gate"))
            .with("PLUTO_PEER", names.address("known"))
            .with("PLUTO_MY_CLIENT", names.address("lannet"))
            .with("PLUTO_PEER_CLIENT", names.address("farnet"));
        match self.family {
            Family::Ipv4 => up,
            Family::Ipv6 => up.with_verb("up-client-v6"),
        }
    }

    /// A tunnel whose interface is the one to the outside: what comes in by it came out of the tunnel.
    fn up_by_interface(&self) -> Call {
        let names = Names::for_family(self.family);
        let up = libreswan_up()
            .with("PLUTO_CONNECTION", "by-interface")
            .with("VTI_IFACE", "eth1")
            .with("PLUTO_ME", names.address("gate"))
            .with("PLUTO_PEER", names.address("known"))
            .with("PLUTO_MY_CLIENT", names.address("lannet"))
            .with("PLUTO_PEER_CLIENT", names.address("farnet"));
        match self.family {
            Family::Ipv4 => up,
            Family::Ipv6 => up.with("PLUTO_CLIENT_FAMILY", "ipv6").with_verb("up-client-v6"),
        }
    }

    /// A tunnel whose interface is the one to the inside, to the network of the machine that is published.
    fn up_second(&self) -> Call {
        let names = Names::for_family(self.family);
        let up = self.up_by_interface();
        let up = up.with("PLUTO_CONNECTION", "second").with("VTI_IFACE", "lan0");
        let length = match self.family {
            Family::Ipv4 => 32,
            Family::Ipv6 => 128,
        };
        up.with("PLUTO_MY_CLIENT", names.address("farnet"))
            .with("PLUTO_PEER_CLIENT", format!("{}/{length}", names.address("published")))
    }

    /// A rule of the administrator's that replaces the destination of TCP to port 8082 before connection tracking, and knows nothing of a
    /// connection.
    fn rewrite(&self) {
        let family = match self.family {
            Family::Ipv4 => "ip",
            Family::Ipv6 => "ip6",
        };
        let names = Names::for_family(self.family);
        self.route_published();
        self.gateway.run(
            ["nft", "-f", "-"],
            &format!(
                "table {family} rewriting
                delete table {family} rewriting
                table {family} rewriting {{
                    chain before {{
                        type filter hook prerouting priority raw - 1
                        tcp dport 8082 {family} daddr set {}
                        tcp dport 8083 {family} daddr set {}
                    }}
                }}",
                names.address("published"),
                names.address("gate"),
            ),
        );
    }

    /// The way to the machine that is published.
    fn route_published(&self) {
        let flag = match self.family {
            Family::Ipv4 => "-4",
            Family::Ipv6 => "-6",
        };
        let machine = Names::for_family(self.family).address("published");
        self.gateway
            .shell(&format!("ip {flag} route replace {machine} dev lan0"));
    }

    /// A connection to port 2121 lets the other side open one to port 2120, as a conntrack helper of the administrator's would.
    fn expect(&self) {
        let family = match self.family {
            Family::Ipv4 => "ip",
            Family::Ipv6 => "ip6",
        };
        self.gateway.run(
            ["nft", "-f", "-"],
            &format!(
                "table {family} expecting {{
                    ct expectation data {{ protocol tcp; dport 2120; timeout 1m; size 8; l3proto {family}; }}
                    chain forward {{
                        type filter hook forward priority -150
                        ct state new tcp dport 2121 ct expectation set \"data\"
                    }}
                }}"
            ),
        );
    }

    /// A rule of the administrator's by which a TCP port is translated.
    fn nat_rule(&self, port: &str, target: &[&str]) {
        let words = ["-t", "nat", "-A", "PREROUTING", "-p", "tcp", "--dport", port, "-j"];
        self.gateway.tables(self.family, &[&words, target].concat());
    }

    /// Publishes port 80 of a machine behind the gateway as 8081, as Docker does. It lies in no network of a tunnel.
    fn publish(&self) {
        let machine = Names::for_family(self.family).address("published");
        let to = match self.family {
            Family::Ipv4 => format!("{machine}:80"),
            Family::Ipv6 => format!("[{machine}]:80"),
        };
        self.route_published();
        self.nat_rule("8081", &["DNAT", "--to-destination", &to]);
    }

    /// Makes a call while its interface is away. An ordinary interface is none of a tunnel's, and kernels of test machines have no other.
    fn without(&self, interface: &str, up: &Call) {
        self.gateway.shell(&format!("ip link set {interface} name away"));
        self.gateway.hook().expect_success(up);
        self.gateway.shell(&format!("ip link set away name {interface}"));
    }

    pub(super) fn make_action(&mut self, action: &str) {
        let hook = self.gateway.hook();
        match action {
            "start" | "stop" | "unblock" => {
                let all = (action == "unblock").then_some("--all");
                let words: Vec<_> = [action].into_iter().chain(all).collect();
                let ending = hook.operate(&words);
                assert_eq!(
                    (ending.code, ending.err_but_own_jumps()),
                    (Some(0), String::new()),
                    "{action}"
                );
            }
            "up" => hook.expect_success(&self.up()),
            "down" => hook.expect_success(&self.up().opposite()),
            "policy DROP" => {
                for chain in ["INPUT", "FORWARD", "OUTPUT"] {
                    self.gateway.tables(self.family, &["-P", chain, "DROP"]);
                }
            }
            "up by interface" => self.without("eth1", &self.up_by_interface()),
            "up second" => self.without("lan0", &self.up_second()),
            "rewrite" => self.rewrite(),
            "forget" => self.forget(),
            "loose 0" | "loose 1" => {
                let value = &action["loose ".len()..];
                let key = "net.netfilter.nf_conntrack_tcp_loose";
                self.gateway.shell(&format!("sysctl -qw {key}={value}"));
            }
            "expect" => self.expect(),
            "redirect" => self.nat_rule("8080", &["REDIRECT", "--to-ports", "3128"]),
            "publish" => self.publish(),
            restrict if restrict.starts_with("set ") => {
                self.gateway.settings(&restrict["set ".len()..].replace("; ", "\n"));
                self.make_action("start");
            }
            "own jumps" => self.gateway.load(self.family, &["--noflush"], OWN_JUMPS),
            other => panic!("{other}"),
        }
    }

    /// Sends a packet, and returns its length, which no other has.
    pub(super) fn send(&mut self, path: PacketPath, from: &str, to: &str, content: &Content) -> u16 {
        let (sender, base) = match path {
            PacketPath::Out => (0, FIRST_OUT),
            PacketPath::In | PacketPath::Back => (1, 200),
            PacketPath::LanIn | PacketPath::Through => (2, 200),
        };
        if self.last.is_some_and(|last| last != sender) {
            self.wait();
        }
        self.last = Some(sender);
        self.next += 1;
        let length = base + self.next;
        self.sent.insert(length, path);
        let address = |text: &str| -> IpAddr { text.parse().expect("an address") };
        self.senders[sender].send(to, &content.packet(address(from), address(to), length));
        length
    }

    /// Waits until everything that was sent has come to the gateway.
    pub(super) fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(2);
        let missing = || -> Vec<u16> {
            let seen = self.counted().remove("seen").unwrap_or_default();
            self.sent
                .keys()
                .filter(|length| !seen.contains(length))
                .copied()
                .collect()
        };
        while !missing().is_empty() && Instant::now() < deadline {
            sleep(Duration::from_millis(5));
        }
        assert_eq!(missing(), [0; 0], "never came to the gateway");
    }

    /// What happened to the packets of these lengths.
    pub(super) fn outcomes(&self, packets: &[(u16, PacketPath)]) -> Vec<Option<Outcome>> {
        if packets.is_empty() {
            return Vec::new();
        }
        self.wait();
        // Those that came in last may be on their way yet.
        sleep(Duration::from_millis(5));
        let counted = self.counted();
        let outcomes = packets.iter().map(|(length, path)| {
            let is_in = |set: &str| counted.get(set).is_some_and(|set| set.contains(length));
            match (is_in(path.hook()), is_in("marked")) {
                (true, true) => Some(Outcome::Left),
                (true, false) => Some(Outcome::Passes),
                (false, false) => Some(Outcome::Dropped),
                (false, true) => None,
            }
        });
        outcomes.collect()
    }

    /// The lengths that nft has counted, set by set.
    fn counted(&self) -> BTreeMap<String, BTreeSet<u16>> {
        let listing = self.gateway.run(["nft", "list", "table", "inet", "watch"], "");
        let mut counted = BTreeMap::new();
        for set in listing.split("\tset ").skip(1) {
            let set = set.split("\n\t}").next().expect("a set");
            let (name, rest) = set.split_once(' ').expect("a name");
            let elements = rest.split_once("elements = {").map_or("", |(_, elements)| elements);
            let numbers = elements.split(|c: char| !c.is_ascii_digit());
            counted.insert(
                name.to_owned(),
                numbers.filter_map(|number| number.parse().ok()).collect(),
            );
        }
        counted
    }
}

/// Rules of nft that note the lengths of packets.
fn watch() -> String {
    let mut text = "table inet watch\ndelete table inet watch\ntable inet watch {\n".to_owned();
    for set in ["seen", "marked", "input", "forward", "output"] {
        text += &format!("set {set} {{\ntypeof meta length\nsize 4096\nflags dynamic\n}}\n");
    }
    for hook in ["prerouting", "output"] {
        text += &format!(
            "chain before_{hook} {{\ntype filter hook {hook} priority -300\nadd @seen {{ meta length }}\n}}\n"
        );
    }
    for hook in ["input", "forward", "output"] {
        text += &format!(
            "chain behind_{hook} {{\ntype filter hook {hook} priority 100\nadd @{hook} {{ meta length }}\n\
             meta mark 1 add @marked {{ meta length }}\n}}\n"
        );
    }
    text + "}\n"
}

/// Rules that keep the connections of a zone apart from others.
fn zone(number: u16) -> String {
    let mut text = "table inet zone\ndelete table inet zone\ntable inet zone {\n".to_owned();
    for hook in ["prerouting", "output"] {
        text += &format!("chain {hook} {{\ntype filter hook {hook} priority -300\nct zone set {number}\n}}\n");
    }
    text + "}\n"
}
