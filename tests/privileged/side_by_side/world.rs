//! What there is around the hook: links, addresses, routes, as lines of shell.

/// What stands for an XFRM interface here is an Ethernet, on which a new IPv6 address would be probed for a second.
const NO_DAD: &str =
    "echo 0 >/proc/sys/net/ipv6/conf/all/accept_dad; echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad";

/// The kernel tells of a link's carrier when it finds the time.
const SETTLE: &str = "tries=0
while ip -o link show type veth | grep -qv 'state UP' && [ $tries -lt 200 ]; do tries=$((tries+1)); sleep 0.02; done";

/// What our side is like. All of it is the same on both machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct World {
    pub site: Site,
    pub default_route: DefaultRoute,
    /// Lines of shell more.
    pub more: &'static str,
}

/// Whose links and addresses there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Site {
    /// 192.1.2.45 on an Ethernet `w0`, 10.1.0.0/24 behind `lan0`.
    Ethernet,
    /// The same addresses on a point-to-point `w0`.
    PointToPoint,
    /// 192.0.2.1 on `west-o`, and the addresses that it moves to; 10.1.0.0/24 inside.
    West,
    /// 192.0.2.2 on `east-o`, 10.2.0.0/24 inside.
    East,
}

/// Whether the machine reaches the rest of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DefaultRoute {
    Present,
    Absent,
}

impl World {
    /// An Ethernet and a default route.
    pub const ORDINARY: Self = Self {
        site: Site::Ethernet,
        default_route: DefaultRoute::Present,
        more: "",
    };

    /// The lines of shell that build it.
    pub fn lines(self) -> String {
        let (outer, inner) = (self.site.outer(), self.site.inner());
        let mut batch = String::from("link set lo up\n");
        match self.site {
            Site::PointToPoint => batch += "tuntap add dev w0 mode tun\nlink set w0 addrgenmode none\nlink set w0 up\n",
            Site::Ethernet | Site::West | Site::East => batch += &ethernet(outer.0, 1),
        }
        batch += &ethernet(inner.0, 2);
        batch += &ethernet("ipsec5", 5);
        for (interface, addresses) in [outer, inner] {
            for address in addresses {
                let flag = if address.contains(':') { " nodad" } else { "" };
                batch += &format!("address add {address} dev {interface}{flag}\n");
            }
        }
        let routes = match (self.default_route, self.site) {
            (DefaultRoute::Absent, _) => "",
            (DefaultRoute::Present, Site::PointToPoint) => {
                "ip route add default dev w0; ip -6 route add default dev w0"
            }
            (DefaultRoute::Present, Site::Ethernet) => {
                "ip route add default via 192.1.2.254; ip -6 route add default via 2001:db8:1:2::fe"
            }
            (DefaultRoute::Present, Site::West | Site::East) => "ip route add default via 192.0.2.254",
        };
        format!(
            "{NO_DAD}\nip -batch - <<'EOF'\n{batch}EOF\n{SETTLE}\n{routes}\n{}",
            self.more
        )
    }
}

impl Site {
    pub fn outer_device(self) -> &'static str {
        self.outer().0
    }

    fn outer(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Ethernet => ("w0", &["192.1.2.45/24", "2001:db8:1:2::45/64"]),
            Self::PointToPoint => ("w0", &["192.1.2.45 peer 192.1.2.23", "2001:db8:1:2::45/64"]),
            Self::West => ("west-o", &["192.0.2.1/24", "192.0.2.101/24", "192.168.77.2/24"]),
            Self::East => ("east-o", &["192.0.2.2/24"]),
        }
    }

    fn inner(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Ethernet | Self::PointToPoint => ("lan0", &["10.1.0.1/24", "2001:db8:0:1::1/64"]),
            Self::West => ("west-i", &["10.1.0.1/24", "2001:db8:1::1/64"]),
            Self::East => ("east-i", &["10.2.0.1/24", "2001:db8:2::1/64"]),
        }
    }
}

/// An Ethernet whose other end nobody is at; no addresses but those that are given, so that nothing depends on the time.
fn ethernet(name: &str, number: u8) -> String {
    format!(
        "link add {name} address 02:00:00:00:00:0{number} type veth peer name {name}-p address 02:00:00:00:01:0{number}\n\
         link set {name} addrgenmode none\nlink set {name}-p addrgenmode none\nlink set {name}-p up\nlink set {name} up\n"
    )
}
