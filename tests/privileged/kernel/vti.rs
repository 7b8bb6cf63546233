//! Virtual tunnel interfaces, where the kernel has them.

use pluto_updown::netlink::{Deleted, InstallResult, NetObject, VtiInterface};

use super::{configuration, gateway, install_item, take_out};
use crate::support::namespace::Namespace;

fn vti(name: &str) -> VtiInterface {
    VtiInterface {
        interface: name.parse().unwrap(),
        local: "192.0.2.1".parse().unwrap(),
        remote: Some("198.51.100.1".parse().unwrap()),
        output_key: 5,
        input_key: 6,
        address: Some("10.9.0.1/30".parse().unwrap()),
    }
}

fn kernel_has_them(machine: &Namespace) -> bool {
    let probe =
        "ip link add probe type vti local 192.0.2.1 remote 192.0.2.2 key 1 && ip link delete probe && echo yes || true";
    machine.shell(probe) == "yes\n"
}

/// The configuration, with the tunnels and their kernel variables.
fn with_variables(machine: &Namespace) -> String {
    let variables = "ip -d tunnel show; grep -r . /proc/sys/net/ipv4/conf/*/disable_policy \
        /proc/sys/net/ipv4/conf/*/rp_filter /proc/sys/net/ipv4/conf/*/forwarding";
    configuration(machine) + &machine.shell(variables)
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_vti_is_what_its_lines_make() {
    let [by_program, by_shell] = [gateway(), gateway()];
    let whole = NetObject::VtiInterface(vti("vti01"));
    if !kernel_has_them(&by_program) {
        let line = &whole.install_commands()[0];
        assert_eq!(
            install_item(&by_program, &whole),
            Err(format!("cannot install {line:?}: Operation not supported"))
        );
        assert_eq!(take_out(&by_program, &whole), Ok(Deleted::Absent));
        return;
    }
    assert!(kernel_has_them(&by_shell));
    let shared = NetObject::VtiInterface(VtiInterface {
        remote: None,
        address: None,
        ..vti("vti.1")
    });
    for item in [whole, shared] {
        let before = with_variables(&by_program);
        assert_eq!(install_item(&by_program, &item), Ok(InstallResult::New));
        by_shell.shell(&item.install_commands().join("\n"));
        assert_eq!(with_variables(&by_program), with_variables(&by_shell), "{item:?}");
        assert_eq!(install_item(&by_program, &item), Ok(InstallResult::Existed));
        assert_eq!(take_out(&by_program, &item), Ok(Deleted::Out));
        by_shell.shell(&item.delete_command());
        assert_eq!(with_variables(&by_program), with_variables(&by_shell), "{item:?}");
        assert_eq!(with_variables(&by_program), before, "{item:?}");
        assert_eq!(take_out(&by_program, &item), Ok(Deleted::Absent));
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_vti_that_cannot_be_finished_is_not_left_half_made() {
    let machine = gateway();
    let refused = match kernel_has_them(&machine) {
        true => "ip -4 address add 0.0.0.0/0 dev vti01 scope global",
        false => "ip tunnel add vti01 mode vti local 192.0.2.1 remote 198.51.100.1 okey 5 ikey 6",
    };
    let before = with_variables(&machine);
    let broken = VtiInterface {
        address: Some("0.0.0.0/0".parse().unwrap()),
        ..vti("vti01")
    };
    let error = install_item(&machine, &NetObject::VtiInterface(broken)).unwrap_err();
    assert!(error.starts_with(&format!("cannot install {refused:?}: ")), "{error}");
    assert_eq!(with_variables(&machine), before);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn an_interface_that_is_no_vti_is_not_removed_as_one() {
    let machine = gateway();
    let before = configuration(&machine);
    assert_eq!(
        take_out(&machine, &NetObject::VtiInterface(vti("eth0"))),
        Ok(Deleted::Absent)
    );
    assert_eq!(configuration(&machine), before);
}
