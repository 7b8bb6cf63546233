//! Calls to test with.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::{Call, EnvError, FirewallAction, RawEnv, Tunnel, read_call};

/// A call to vary.
#[derive(Debug, Clone)]
pub(crate) struct SampleCall(BTreeMap<OsString, OsString>);

impl SampleCall {
    pub(crate) fn from_lines(text: &str) -> Self {
        let pair = |line: &str| {
            line.trim()
                .split_once('=')
                .map(|(name, value)| (name.into(), value.into()))
        };
        Self(text.lines().filter_map(pair).collect())
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    pub(crate) fn with_bytes(mut self, name: &str, value: &[u8]) -> Self {
        self.0.insert(name.into(), OsStr::from_bytes(value).into());
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.remove(OsStr::new(name));
        self
    }

    pub(crate) fn down(self) -> Self {
        self.with("PLUTO_VERB", "down-client")
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.keys().map(|name| name.to_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn raw_env(&self) -> RawEnv {
        RawEnv::new([], self.0.clone())
    }

    pub(crate) fn parse_call(&self) -> Result<Call, EnvError> {
        read_call(&self.raw_env())
    }

    /// The tunnel of an `up` or a `down`.
    pub(crate) fn tunnel(&self) -> Tunnel {
        match self.parse_call().unwrap().firewall {
            FirewallAction::Open(tunnel) | FirewallAction::Close(tunnel) => *tunnel,
            FirewallAction::Nothing => panic!("no tunnel"),
        }
    }

    /// The text of the error.
    pub(crate) fn error(&self) -> String {
        self.parse_call().unwrap_err().to_string()
    }
}

/// What all daemons give.
const COMMON: &str = "
    PATH=/usr/sbin:/usr/bin
    PLUTO_VERB=up-client
    PLUTO_CONNECTION=net-net
    PLUTO_ME=192.0.2.1
    PLUTO_MY_ID=@west
    PLUTO_MY_CLIENT=10.1.0.0/24
    PLUTO_MY_PORT=0
    PLUTO_MY_PROTOCOL=0
    PLUTO_PEER=198.51.100.1
    PLUTO_PEER_ID=@east
    PLUTO_PEER_CLIENT=10.2.0.0/24
    PLUTO_PEER_PORT=0
    PLUTO_PEER_PROTOCOL=0";

pub(crate) fn strongswan() -> SampleCall {
    SampleCall::from_lines(&format!(
        "{COMMON}
        PLUTO_VERSION=1.1
        PLUTO_INTERFACE=eth0
        PLUTO_REQID=7
        PLUTO_PROTO=esp
        PLUTO_UNIQUEID=3"
    ))
}

/// libreswan 4.4 to 4.15.
pub(crate) fn libreswan4() -> SampleCall {
    SampleCall::from_lines(&format!(
        "{COMMON}
        PLUTO_STACK=xfrm
        PLUTO_INTERFACE=eth0
        PLUTO_VIRT_INTERFACE=NULL
        PLUTO_XFRMI_ROUTE=
        PLUTO_CONN_KIND=CK_PERMANENT
        PLUTO_SA_REQID=16388
        PLUTO_SA_TYPE=ESP
        SPI_IN=0xed8ebc33
        SPI_OUT=0xab3fce08
        VTI_IFACE=
        VTI_ROUTING=no
        VTI_SHARED=no"
    ))
}

pub(crate) fn libreswan5() -> SampleCall {
    libreswan4()
        .with("PLUTO_SA_REQID", "16389")
        .with("PLUTO_CLIENT_FAMILY", "ipv4")
}

pub(crate) fn libreswan54() -> SampleCall {
    libreswan5().with("PLUTO_DNS_RESOLVER", "file")
}

/// libreswan 4.1 to 4.3, which still give a version, and the outer interface twice.
pub(crate) fn libreswan43() -> SampleCall {
    libreswan4()
        .with("PLUTO_VERSION", "2.0")
        .with("PLUTO_VIRT_INTERFACE", "eth0")
}

/// libreswan 3.17 under KLIPS.
pub(crate) fn libreswan3_klips() -> SampleCall {
    SampleCall::from_lines(&format!(
        "{COMMON}
        PLUTO_VERSION=2.0
        PLUTO_STACK=klips
        PLUTO_INTERFACE=ipsec0
        PLUTO_SA_REQID=16388
        PLUTO_SA_TYPE=ESP"
    ))
}

pub(crate) fn vti() -> SampleCall {
    libreswan4()
        .with("VTI_IFACE", "vti01")
        .with("CONNMARK_IN", "5/0xffffffff")
        .with("CONNMARK_OUT", "6/0xffffffff")
}

pub(crate) fn xfrm_interface() -> SampleCall {
    libreswan54()
        .with("PLUTO_VIRT_INTERFACE", "ipsec5")
        .with("PLUTO_XFRMI_ROUTE", "yes")
}

pub(crate) fn openswan() -> SampleCall {
    SampleCall::from_lines(&format!(
        "{COMMON}
        PLUTO_VERSION=2.0
        PLUTO_STACK=netkey
        PLUTO_INTERFACE=eth0"
    ))
}

pub(crate) fn openswan_klips() -> SampleCall {
    openswan()
        .with("PLUTO_STACK", "klips")
        .with("PLUTO_INTERFACE", "ipsec0")
}

/// A mode-config client.
pub(crate) fn config_client(call: SampleCall) -> SampleCall {
    call.with("PLUTO_CFG_CLIENT", "1")
        .with("PLUTO_CFG_SERVER", "0")
        .with("PLUTO_NM_CONFIGURED", "0")
        .with("PLUTO_PEER_DNS_INFO", "10.2.0.53 2001:db8::53")
        .with("PLUTO_PEER_DOMAIN_INFO", "example.test corp.example.test")
        .with("PLUTO_PEER_BANNER", "")
}

/// A client of Cisco's, for which Openswan has its own verb.
pub(crate) fn cisco_client() -> SampleCall {
    openswan()
        .with("PLUTO_VERB", "updateresolvconf-client")
        .with("PLUTO_IS_PEER_CISCO", "1")
        .with("PLUTO_NM_CONFIGURED", "0")
        .with("PLUTO_CISCO_DNS_INFO", "10.2.0.53 10.2.0.54")
        .with("PLUTO_CISCO_DOMAIN_INFO", "example.test")
        .with("PLUTO_PEER_BANNER", "")
}

pub(crate) fn freeswan() -> SampleCall {
    SampleCall::from_lines(&format!(
        "{COMMON}
        PLUTO_VERSION=1.1
        PLUTO_INTERFACE=ipsec0"
    ))
}

/// A call of each kind.
pub(crate) fn every_kind() -> Vec<(&'static str, SampleCall)> {
    vec![
        ("strongSwan", strongswan()),
        ("libreswan 3 klips", libreswan3_klips()),
        ("libreswan 4.3", libreswan43()),
        ("libreswan 4", libreswan4()),
        ("libreswan 5", libreswan5()),
        ("libreswan 5.4", libreswan54()),
        ("vti", vti()),
        ("xfrm interface", xfrm_interface()),
        ("Openswan netkey", openswan()),
        ("Openswan klips", openswan_klips()),
        ("FreeS/WAN", freeswan()),
        ("config client", config_client(libreswan4())),
        (
            "config client by systemd-resolved",
            config_client(libreswan54()).with("PLUTO_DNS_RESOLVER", "systemd"),
        ),
        (
            "config client by NetworkManager",
            config_client(libreswan5()).with("PLUTO_NM_CONFIGURED", "1"),
        ),
    ]
}
